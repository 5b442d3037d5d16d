"""Signal models of quantitative MRI: linear in amplitudes, non-linear in one rate.

    S(t) = sum_k a_k phi_k(t, R),   R = 1 / T

==============  ===================================================  ==================
model           S(t)                                                 parameters
==============  ===================================================  ==================
t2, t2star      s0 exp(-t/T)                                         s0, t2 (t2star)
t2_offset       s0 exp(-t/T) + offset                                s0, t2, offset
t2_epg          echoes of a train, see `signal_t2_epg`               s0, t2, angle
t1_ir           s0 (1 - 2 exp(-t/T1))                                s0, t1
t1_ir3          s0 (1 - 2 efficiency exp(-t/T1))                     s0, t1, efficiency
t1_look_locker  s0 (T1*/T1 - (1 + T1*/T1) exp(-t/T1*))               s0, t1star, t1
t1_sr           s0 (1 - exp(-t/T1))                                  s0, t1
t1_vfa          s0 sin(a) (1 - E) / (1 - cos(a) E), E = exp(-TR/T1)  s0, t1
==============  ===================================================  ==================

Times are seconds, flip angles a radians, s0 and offset in the unit of the image. A full
inversion has efficiency 1; with a repetition time TR, 1 - 2 e exp(-t/T1) + exp(-TR/T1)
has the shape of t1_ir3 as well.

t1_look_locker is for several readouts after one inversion (Look-Locker, MOLLI), which
pull the recovery to s0 T1*/T1, at the rate 1/T1*. With A - B exp(-t/T1*) it is

    T1 = T1* (B/A - 1),   s0 = B - A

(Deichmann and Haase 1992, J Magn Reson 96:608; Messroghli et al. 2004, Magn Reson Med
52:141). That holds for a full inversion (one of efficiency e gives T1 (2 e - 1)) and
for readouts of small angles, evenly spaced from the inversion on. Spoiled echoes leave
+0.2 % at 5 degrees, +0.5 % at 8, +1.8 % at 15, and +1.3 % at 5 where the first of them
comes four spacings late. Balanced readouts of MOLLI 5(3)3 at 35 degrees leave -8 % at
T1 = 1 s and T2 = 45 ms, -1 % at T2 = 250 ms.

t1_vfa is the spoiled gradient echo, without T2*; its TR may differ between angles.
"""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from medjax.checks import check_arrays, check_static
from medjax.mri.epg import (
    echo_train,
    epg_model,
    spacing_of,
    squared_cosine,
    train_echoes,
)
from medjax.mri.model import SignalModel, Value, check_contrasts, check_model
from medjax.mri.parameters import (
    as_dtype,
    ordered_parameters,
    real_dtype,
    series,
    voxel_shape,
)
from medjax.mri.times import Times


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


def _offset(amplitudes, rate):
    first, recovered = amplitudes
    return -recovered, 1 / rate, first + recovered


def _from_offset(s0, t2, offset):
    return (s0 + offset, -s0), 1 / t2


def _efficiency(amplitudes, rate):
    first, recovered = amplitudes
    s0 = first + recovered
    return s0, 1 / rate, jnp.real(recovered / (2 * s0))


def _correction(amplitudes, rate):
    first, recovered = amplitudes  # A - B, the signal at time 0; B
    t1star = 1 / rate
    return -first, t1star, t1star * jnp.real(-first / (first + recovered))


def _from_correction(s0, t1star, t1):
    return (-s0, s0 + s0 * (t1star / t1).astype(s0.dtype)), 1 / t1star


def _from_efficiency(s0, t1, efficiency):
    recovered = 2 * efficiency.astype(s0.dtype) * s0
    return (s0 - recovered, recovered), 1 / t1


T2 = SignalModel(
    name="t2",
    parameters=("s0", "t2"),
    units=("image", "s"),
    basis=_decay,
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
    from_parameters=_from_offset,
    exponential=False,
)
T1_IR = SignalModel(
    name="t1_ir",
    parameters=("s0", "t1"),
    units=("image", "s"),
    basis=_inversion,
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
T1_LOOK_LOCKER = T1_IR._replace(
    name="t1_look_locker",
    parameters=("s0", "t1star", "t1"),
    units=("image", "s", "s"),
    basis=_offset_recovery,
    to_parameters=_correction,
    from_parameters=_from_correction,
)
T1_SR = T1_IR._replace(name="t1_sr", basis=_recovery, crosses_zero=False)

T2_EPG = epg_model()

MODELS = {
    m.name: m
    for m in (T2, T2STAR, T2_OFFSET, T2_EPG, T1_IR, T1_IR3, T1_LOOK_LOCKER, T1_SR)
}


def vfa_model(repetition_time: float | Sequence[float]) -> SignalModel:
    """The model t1_vfa at a repetition time, or at one for each flip angle.

        S(a) = s0 sin(a) (1 - E) / (1 - cos(a) E),   E = exp(-TR/T1)

    The parameters are s0, in the unit of the image, and t1 in seconds. The model's
    "times" are flip angles a in radians, 0 to pi. RF spoiling is taken as perfect, and
    T2* is not modelled.

    Args:
        repetition_time: Seconds, above 0 and at most 10 (more looks like milliseconds):
            a Python number for all flip angles, or as many as there are, in their
            order. Static.

    Returns:
        A record of functions and numbers for `fit_map`, `signal` and
        `cramer_rao_bound`; models of equal repetition times are equal.

    Raises:
        ValueError: a repetition time that is not positive, not in seconds, or traced;
            an empty list of them.
    """
    check_static("vfa_model", repetition_time=repetition_time)
    several = isinstance(repetition_time, Sequence | np.ndarray)
    given = [float(t) for t in (repetition_time if several else [repetition_time])]
    if not given or not all(0 < t <= 10 for t in given):
        raise ValueError(
            f"repetition time {repetition_time}: expected 0 to 10 seconds, one for all "
            "flip angles or one for each; divide milliseconds by 1000"
        )
    return T1_SR._replace(
        name="t1_vfa",
        basis=_ernst,
        longest=math.pi,
        constants=(tuple(given) if several else given[0],),
    )


def signal_model(
    name: str,
    *,
    repetition_time: float | Sequence[float] | None = None,
    t1: float | None = None,
) -> SignalModel:
    """A model by its name. One of your own is a `SignalModel`.

    Args:
        name: One of

            ==============  ======================================  ==================
            name            signal at time t (flip angle a)         parameters
            ==============  ======================================  ==================
            t2, t2star      s0 exp(-t/T)                            s0, t2 (t2star)
            t2_offset       s0 exp(-t/T) + offset                   s0, t2, offset
            t2_epg          echoes of a train: `signal_t2_epg`      s0, t2, angle
            t1_ir           s0 (1 - 2 exp(-t/T1))                   s0, t1
            t1_ir3          s0 (1 - 2 efficiency exp(-t/T1))        s0, t1, efficiency
            t1_look_locker  s0 (Ts/T1 - (1 + Ts/T1) exp(-t/Ts))     s0, t1star, t1
            t1_sr           s0 (1 - exp(-t/T1))                     s0, t1
            t1_vfa          s0 sin a (1 - E) / (1 - E cos a)        s0, t1
            ==============  ======================================  ==================

            with E = exp(-TR/T1) and Ts = t1star. Times and time constants are in
            seconds, angles in radians; s0 and offset have the unit of the image,
            efficiency has none; angle is that of the refocusing pulses.
        repetition_time: TR in seconds, above 0 and at most 10, one for all flip angles
            or one for each; for t1_vfa, and for it alone.
        t1: T1 that t2_epg assumes, in seconds, above 0 and at most 20; for it alone.
            None = 1. A wrong one moves T2 little: see docs/mri.md.

    Returns:
        A record of functions and numbers: hashable, equal to any other of that name
        (and numbers), and it can be pickled.

    Raises:
        ValueError: an unknown name, a repetition time missing or without a use, a T1
            without one, or one of the two outside its range or traced.
    """
    known = [*MODELS, "t1_vfa"]
    if name not in known:
        raise ValueError(f"model {name!r}: expected one of {', '.join(known)}")
    if t1 is not None and name != "t2_epg":
        raise ValueError(f"model {name} has no t1 of its own; t2_epg assumes one")
    if (repetition_time is None) == (name == "t1_vfa"):
        verb = "needs" if repetition_time is None else "has no"
        raise ValueError(f"model {name} {verb} repetition_time")
    if t1 is not None:
        return epg_model(t1)
    return MODELS[name] if repetition_time is None else vfa_model(repetition_time)


def signal(
    model: SignalModel, parameters: dict[str, Value], times: Times
) -> Inexact[Array, "E *N"]:
    """S(t) = sum_k a_k phi_k(t, R) of any model, whose record holds the functions phi.

    The amplitudes a and the rate R = 1 / T follow from the parameters; for "t2" this is
    s0 exp(-t / t2).

    Args:
        model: As `signal_model` gives it, or a `SignalModel` of your own.
        parameters: By name, exactly the model's: Python numbers, or arrays of floats or
            integers that broadcast to the voxels [*N]. Time constants are seconds, and
            above 0 (0, a negative or non-finite one is not refused: the formula gives
            NaN, Inf or a curve without a meaning); s0 and offset are in the unit of the
            image and may be complex, the others are real.
        times: Seconds (flip angles: radians), in any order and not checked; one list
            for all voxels, or one for each where they differ (actual flip angles, say).
            None at all gives an empty result.

    Returns:
        The signal in the unit of s0, in the dtype that JAX promotes the parameters to
        (Python numbers adapt to the arrays); times are converted to it. Complex if a
        parameter is.

    Raises:
        ValueError: something else than a SignalModel, a parameter that is missing or
            not one of the model's, a complex one that must be real, shapes that do not
            broadcast.
    """
    check_model("signal", model)
    given = ordered_parameters("signal", model, parameters)
    dtype = real_dtype(*given)
    values = [as_dtype(v, dtype) for v in given]
    with_values, times = times, jnp.asarray(times)
    check_arrays("signal", times=(times, "E ...", (float, int)))
    check_contrasts("signal", model, len(times))
    shapes = {k: v.shape for k, v in zip(model.parameters, values, strict=True)}
    shape = voxel_shape("signal", shapes | {"times": times.shape[1:]})
    values = [jnp.broadcast_to(v, shape) for v in values]
    times = series(times, len(shape)).astype(dtype)
    if model.train:
        echoes = train_echoes("signal", model, with_values) if len(times) else ()
        return _train_signal(model._replace(echoes=echoes), values, times)
    amplitudes, rate = model.from_parameters(*values)
    constants = (
        series(jnp.asarray(c, dtype), len(shape)) if isinstance(c, tuple) else c
        for c in model.constants
    )
    basis = model.basis(rate[None], times, *constants)
    if len(amplitudes) != len(basis):
        raise ValueError(
            f"signal: model {model.name}: expected one amplitude from from_parameters "
            f"for each function of basis; found {len(amplitudes)} and {len(basis)}"
        )
    terms = (
        a[None] * phi.astype(a.dtype) for a, phi in zip(amplitudes, basis, strict=True)
    )
    return functools.reduce(jnp.add, terms)


def _train_signal(
    model: SignalModel, values: list[Array], times: Float[Array, "E *#N"]
) -> Inexact[Array, "E *N"]:
    s0, t2, angle = values
    if not model.echoes:
        return jnp.zeros((0, *s0.shape), s0.dtype)
    spacing, _ = spacing_of(list(times), model.echoes)
    count = max(model.echoes)
    x = squared_cosine(angle)
    echoes = echo_train(1 / t2, x, spacing, count, *model.constants)
    return jnp.stack([s0 * echoes[n - 1].astype(s0.dtype) for n in model.echoes])


def signal_t2_epg(
    s0: Value, t2: Value, angle: Value, times: Times, *, t1: float = 1.0
) -> Inexact[Array, "E *N"]:
    """Echoes of a spin-echo train, with stimulated ones: the extended phase graph.

    At 180 degrees it is s0 exp(-t/T2). Differentiable to any order by all but `t1`;
    the derivative by the angle at 180 degrees is 0, as the signal is even about it.

    Args:
        s0: Signal at time 0, in the unit of the image; real or complex, a number or an
            array that broadcasts with the others to the voxels [*N].
        t2: T2 in seconds, above 0: not checked.
        angle: Refocusing angle in radians, the same for all pulses and everywhere in
            the voxel; any real number: a, -a and 2 pi - a give the same echoes, 0 none.
        times: Echo times n * spacing in seconds, n = 1, 2, .., of which some may be
            missing, in any order; traced ones are taken for n = 1 to E. One list for
            all voxels, or one for each with the same n.
        t1: T1 in seconds, above 0 and at most 20; static.

    Returns:
        Contrasts first, in the dtype that the parameters are promoted to; complex if s0
        is.

    Raises:
        ValueError: times that are not those of one train, a T1 out of its range, a
            complex T2 or angle, or shapes that do not broadcast.

    Source: Weigel 2015, J Magn Reson Imaging 41:266; see `medjax.mri.epg`.

    >>> angle = 2.0944  # 120 degrees
    >>> [round(float(x), 3) for x in signal_t2_epg(1.0, 0.08, angle, [0.01, 0.02])]
    [0.662, 0.73]
    """
    return signal(epg_model(t1), {"s0": s0, "t2": t2, "angle": angle}, times)


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

    Returns:
        Contrasts first, in the dtype that the parameters are promoted to; complex if s0
        or offset is.

    Raises:
        ValueError: a complex T2, or shapes that do not broadcast.

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

    Returns:
        Contrasts first, in the dtype that the parameters are promoted to; complex if s0
        is. The repetition time is not in the model: it has to be long beside T1.

    Raises:
        ValueError: a complex T1 or efficiency, or shapes that do not broadcast.
    """
    if efficiency is None:
        return signal(T1_IR, {"s0": s0, "t1": t1}, times)
    return signal(T1_IR3, {"s0": s0, "t1": t1, "efficiency": efficiency}, times)


def signal_saturation_recovery(
    s0: Value, t1: Value, times: Times
) -> Inexact[Array, "E *N"]:
    """s0 (1 - exp(-t/T1)): recovery from a full saturation.

    Args:
        s0: Signal when all has recovered, in the unit of the image; real or complex, a
            number or an array that broadcasts with `t1` to the voxels [*N].
        t1: T1 in seconds, above 0: not checked, 0 gives NaN at time 0.
        times: Times from saturation to excitation in seconds, for all voxels or for
            each.

    Returns:
        Contrasts first, in the dtype that the parameters are promoted to; complex if s0
        is.

    Raises:
        ValueError: a complex T1, or shapes that do not broadcast.
    """
    return signal(T1_SR, {"s0": s0, "t1": t1}, times)


def signal_vfa(
    s0: Value, t1: Value, angles: Times, *, repetition_time: float | Sequence[float]
) -> Inexact[Array, "E *N"]:
    """Ernst's signal of the spoiled gradient echo, without T2*.

        s0 sin(a) (1 - E) / (1 - cos(a) E),   E = exp(-TR/T1)

    Args:
        s0: Signal after 90 degrees from full recovery, in the unit of the image; real
            or complex, a number or an array that broadcasts with `t1` to the voxels.
        t1: T1 in seconds, above 0: not checked.
        angles: Flip angles in radians, any real number; with a B1 map the actual ones,
            one list for each voxel. 0 gives 0.
        repetition_time: TR in seconds, above 0 and at most 10; one for all angles, or
            one for each.

    Returns:
        Angles first, in the dtype that the parameters are promoted to; complex if s0
        is.

    Raises:
        ValueError: a repetition time out of its range or another number of them, a
            complex T1, or shapes that do not broadcast.

    Source: Ernst and Anderson, Rev. Sci. Instrum. 37 (1966).
    """
    return signal(vfa_model(repetition_time), {"s0": s0, "t1": t1}, angles)
