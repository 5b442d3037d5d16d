"""Signal models of quantitative MRI: linear in amplitudes, non-linear in one rate.

    S(t) = sum_k a_k phi_k(t, R),   R = 1 / T

===========  ======================================================  ==================
model        S(t)                                                    parameters
===========  ======================================================  ==================
t2, t2star   s0 exp(-t/T)                                            s0, t2 (t2star)
t2_offset    s0 exp(-t/T) + offset                                   s0, t2, offset
t1_ir        s0 (1 - 2 exp(-t/T1))                                   s0, t1
t1_ir3       s0 (1 - 2 efficiency exp(-t/T1))                        s0, t1, efficiency
t1_sr        s0 (1 - exp(-t/T1))                                     s0, t1
t1_vfa       s0 sin(a) (1 - E) / (1 - cos(a) E), E = exp(-TR/T1)     s0, t1
===========  ======================================================  ==================

Times are seconds, flip angles a radians, s0 and offset in the unit of the image. A full
inversion has efficiency 1; with a repetition time TR, 1 - 2 e exp(-t/T1) + exp(-TR/T1)
has the shape of t1_ir3 as well. t1_vfa is the spoiled gradient echo, without T2*.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Inexact

Times = Float[Array | np.ndarray, "E *#N"] | Sequence[float]
Value = Inexact[Array, "*#N"] | float
Amplitudes = tuple[Inexact[Array, "*N"], ...]


class Basis(Protocol):
    """The functions of time that a signal is made of; d/dR comes from jax.jvp."""

    def __call__(self, rate: Value, time: Value, *constants: float) -> Amplitudes:
        """(phi_1, ...), elementwise; the constants are the model's own."""
        ...


class FromParameters(Protocol):
    """Amplitudes and rate of a model's parameters."""

    def __call__(self, *values: Value) -> tuple[Amplitudes, Array]:
        """One value a parameter, in the model's order."""
        ...


class SignalModel(NamedTuple):
    """What fits, bounds and simulations need to know of a model; hashable.

    `signal_model` and `vfa_model` make them.
    """

    name: str
    parameters: tuple[str, ...]
    units: tuple[str, ...]  # one a parameter: "image", "s" or "1"
    basis: Basis
    to_parameters: Callable[[Amplitudes, Array], tuple[Array, ...]]
    from_parameters: FromParameters
    bounds: tuple[float, float]  # of the time constant [s], where the caller sets none
    longest: float  # a time above it is in another unit
    crosses_zero: bool = False  # absolute values hide a sign
    exponential: bool = False  # log S is a line
    constants: tuple[float, ...] = ()

    @property
    def time_constant(self) -> str:
        """The parameter that is 1 / R."""
        return self.parameters[self.units.index("s")]


def _decay(rate, time):
    return (jnp.exp(-time * rate),)


def _offset_recovery(rate, time):
    # Not (1, exp): those are parallel to the last digits where t R is small.
    recovered = -jnp.expm1(-time * rate)
    return jnp.ones_like(recovered), recovered


def _inversion(rate, time):
    return (1 - 2 * jnp.exp(-time * rate),)


def _recovery(rate, time):
    return (-jnp.expm1(-time * rate),)


def _ernst(rate, angle, repetition_time):
    recovered = -jnp.expm1(-repetition_time * rate)  # 1 - E without cancellation
    turned = 2 * jnp.sin(angle / 2) ** 2  # 1 - cos(a), likewise
    return (jnp.sin(angle) * recovered / (turned + jnp.cos(angle) * recovered),)


def _one(amplitudes, rate):
    return amplitudes[0], 1 / rate


def _offset(amplitudes, rate):
    first, recovered = amplitudes
    return -recovered, 1 / rate, first + recovered


def _efficiency(amplitudes, rate):
    first, recovered = amplitudes
    s0 = first + recovered
    return s0, 1 / rate, jnp.real(recovered / (2 * s0))


def _from_efficiency(s0, t1, efficiency):
    recovered = 2 * efficiency.astype(s0.dtype) * s0
    return (s0 - recovered, recovered), 1 / t1


T2 = SignalModel(
    name="t2",
    parameters=("s0", "t2"),
    units=("image", "s"),
    basis=_decay,
    to_parameters=_one,
    from_parameters=lambda s0, t2: ((s0,), 1 / t2),
    bounds=(1e-3, 10.0),
    longest=5.0,
    exponential=True,
)
T2STAR = T2._replace(
    name="t2star", parameters=("s0", "t2star"), bounds=(1e-4, 10), longest=1
)
T2_OFFSET = T2._replace(
    name="t2_offset",
    parameters=("s0", "t2", "offset"),
    units=("image", "s", "image"),
    basis=_offset_recovery,
    to_parameters=_offset,
    from_parameters=lambda s0, t2, offset: ((s0 + offset, -s0), 1 / t2),
    exponential=False,
)
T1_IR = SignalModel(
    name="t1_ir",
    parameters=("s0", "t1"),
    units=("image", "s"),
    basis=_inversion,
    to_parameters=_one,
    from_parameters=lambda s0, t1: ((s0,), 1 / t1),
    bounds=(1e-2, 20.0),
    longest=60.0,
    crosses_zero=True,
)
T1_IR3 = T1_IR._replace(
    name="t1_ir3",
    parameters=("s0", "t1", "efficiency"),
    units=("image", "s", "1"),
    basis=_offset_recovery,
    to_parameters=_efficiency,
    from_parameters=_from_efficiency,
)
T1_SR = T1_IR._replace(name="t1_sr", basis=_recovery, crosses_zero=False)

MODELS = {m.name: m for m in (T2, T2STAR, T2_OFFSET, T1_IR, T1_IR3, T1_SR)}


def vfa_model(repetition_time: float) -> SignalModel:
    """The model t1_vfa at a repetition time.

    Args:
        repetition_time: Seconds, above 0 and at most 10 (more looks like milliseconds).

    Raises:
        ValueError: a repetition time that is not positive, or not in seconds.
    """
    if not 0 < repetition_time <= 10:
        raise ValueError(
            f"repetition time {repetition_time}: expected 0 to 10 seconds; divide "
            "milliseconds by 1000"
        )
    return T1_SR._replace(
        name="t1_vfa",
        basis=_ernst,
        longest=math.pi,
        constants=(float(repetition_time),),
    )


def signal_model(name: str, *, repetition_time: float | None = None) -> SignalModel:
    """A model by its name.

    Args:
        name: t2, t2star, t2_offset, t1_ir, t1_ir3, t1_sr or t1_vfa: see the table of
            the module.
        repetition_time: Seconds, above 0 and at most 10; for t1_vfa, and for it alone.

    Raises:
        ValueError: an unknown name, a repetition time missing or without a use.
    """
    known = [*MODELS, "t1_vfa"]
    if name not in known:
        raise ValueError(f"model {name!r}: expected one of {', '.join(known)}")
    if (repetition_time is None) == (name == "t1_vfa"):
        verb = "needs" if repetition_time is None else "has no"
        raise ValueError(f"model {name} {verb} repetition_time")
    return MODELS[name] if repetition_time is None else vfa_model(repetition_time)


def signal(
    model: SignalModel, parameters: dict[str, Value], times: Times
) -> Inexact[Array, "E *N"]:
    """S(t) of any model, in the dtype of the parameters that are arrays.

    Args:
        model: As `signal_model` gives it.
        parameters: By name, exactly the model's: numbers or arrays that broadcast to
            the voxels [*N]. Time constants are seconds, and above 0 (0, a negative or
            non-finite one is not refused: the formula gives NaN, Inf or a curve without
            a meaning); s0 and offset are in the unit of the image and may be complex.
        times: Seconds (flip angles: radians), in any order and not checked; one list
            for all voxels, or one for each where they differ (actual flip angles, say).

    Raises:
        ValueError: a parameter is missing or not one of the model's.
    """
    if set(parameters) != set(model.parameters):
        raise ValueError(
            f"model {model.name} has the parameters {', '.join(model.parameters)}; "
            f"found {', '.join(parameters)}"
        )
    given = [parameters[name] for name in model.parameters]
    arrays = [jnp.asarray(v) for v in given if not isinstance(v, int | float)]
    dtype = jnp.result_type(*(a.real for a in arrays)) if arrays else float
    values = [
        jnp.asarray(v, dtype if isinstance(v, int | float) else None) for v in given
    ]
    shape = jnp.broadcast_shapes(*(v.shape for v in values))
    values = [jnp.broadcast_to(v, shape) for v in values]
    amplitudes, rate = model.from_parameters(*values)
    times = jnp.asarray(times).astype(rate.dtype)
    if times.ndim == 1:
        times = times.reshape((-1,) + (1,) * len(shape))
    basis = model.basis(rate[None], times, *model.constants)
    terms = (
        a[None] * phi.astype(a.dtype) for a, phi in zip(amplitudes, basis, strict=True)
    )
    return functools.reduce(jnp.add, terms)


def signal_t2(
    s0: Value, t2: Value, times: Times, *, offset: Value | None = None
) -> Inexact[Array, "E *N"]:
    """s0 exp(-t/T2) + offset, for T2* as well.

    Args:
        s0: Signal at time 0, in the unit of the image; real or complex, a number or an
            array that broadcasts with the others to the voxels [*N].
        t2: T2 in seconds, above 0: not checked, 0 gives NaN at time 0.
        times: Echo times in seconds, for all voxels or for each.
        offset: What remains at late times, in the unit of s0; None = 0.

    >>> [round(float(x), 3) for x in signal_t2(1.0, 0.08, [0.0, 0.08])]
    [1.0, 0.368]
    """
    if offset is None:
        return signal(T2, {"s0": s0, "t2": t2}, times)
    return signal(T2_OFFSET, {"s0": s0, "t2": t2, "offset": offset}, times)


def signal_t1_ir(
    s0: Value, t1: Value, times: Times, *, efficiency: Value | None = None
) -> Inexact[Array, "E *N"]:
    """s0 (1 - 2 efficiency exp(-t/T1)): inversion recovery, signed.

    Args:
        s0: Signal when all has recovered, in the unit of the image; real or complex, a
            number or an array that broadcasts with the others to the voxels [*N].
        t1: T1 in seconds, above 0: not checked, 0 gives NaN at time 0.
        times: Inversion times in seconds, for all voxels or for each.
        efficiency: Without a unit: 1 is a full inversion, 0.5 a saturation, 0 neither.
            None = 1.
    """
    if efficiency is None:
        return signal(T1_IR, {"s0": s0, "t1": t1}, times)
    return signal(T1_IR3, {"s0": s0, "t1": t1, "efficiency": efficiency}, times)


def signal_saturation_recovery(
    s0: Value, t1: Value, times: Times
) -> Inexact[Array, "E *N"]:
    """s0 (1 - exp(-t/T1)).

    Args:
        s0: Signal when all has recovered, in the unit of the image; real or complex, a
            number or an array that broadcasts with `t1` to the voxels [*N].
        t1: T1 in seconds, above 0: not checked, 0 gives NaN at time 0.
        times: Times from saturation to excitation in seconds, for all voxels or for
            each.
    """
    return signal(T1_SR, {"s0": s0, "t1": t1}, times)


def signal_vfa(
    s0: Value, t1: Value, angles: Times, *, repetition_time: float
) -> Inexact[Array, "E *N"]:
    """Ernst's signal of the spoiled gradient echo, without T2*.

        s0 sin(a) (1 - E) / (1 - cos(a) E),   E = exp(-TR/T1)

    Args:
        s0: Signal after 90 degrees from full recovery, in the unit of the image; real
            or complex, a number or an array that broadcasts with `t1` to the voxels.
        t1: T1 in seconds, above 0: not checked.
        angles: Flip angles in radians; with a B1 map the actual ones, one list for each
            voxel. 0 gives 0.
        repetition_time: TR in seconds, above 0 and at most 10.

    Raises:
        ValueError: a repetition time out of its range.
    """
    return signal(vfa_model(repetition_time), {"s0": s0, "t1": t1}, angles)


def check_times(times: Times, *, model: SignalModel, count: int | None = None) -> None:
    """Refuse times that cannot be the model's: unit, sign, number.

    What is traced has no values to check.

    Args:
        times: Seconds, or radians for t1_vfa: finite, at least 0, at most
            `model.longest` (more looks like milliseconds or degrees), and as many
            different ones as the model has parameters. For all voxels or for each.
        model: As `signal_model` gives it.
        count: How many contrasts the images have; None = not compared.

    Raises:
        ValueError: with what was expected, what was found and the way out.
    """
    angles = model.name == "t1_vfa"
    what, unit = ("flip angles", "radians") if angles else ("times", "seconds")
    traced = isinstance(times, Tracer)
    values: Any = times if traced else np.asarray(times, float)
    found = values.shape
    if not found:
        raise ValueError(f"{what}: expected one a contrast, found a scalar")
    if count is not None and found[0] != count:
        raise ValueError(f"{what}: expected {count}, one a contrast; found {found[0]}")
    if traced:
        return
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ValueError(
            f"{what}: expected finite {unit}, none negative; found {values.tolist()}"
        )
    if values.max() > model.longest:
        small = (
            "degrees: use numpy.deg2rad" if angles else "milliseconds: divide by 1000"
        )
        raise ValueError(
            f"{what}: expected {unit}, at most {model.longest:.3g} for {model.name}; "
            f"found {values.max():.6g}, which looks like {small}"
        )
    different, needed = len(np.unique(values, axis=0)), len(model.parameters)
    if different < needed:
        raise ValueError(
            f"{what}: {model.name} has {needed} parameters and needs as many different "
            f"{what}; found {different}"
        )
