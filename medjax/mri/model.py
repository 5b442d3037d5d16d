"""What a signal model is, of ours or of your own, and whether it is one."""

import contextlib
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

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


def first_amplitude(amplitudes: Amplitudes, rate: Array) -> tuple[Array, ...]:
    """(s0, T) of S(t) = s0 phi(t, 1 / T): the first amplitude, and 1 / rate."""
    return amplitudes[0], 1 / rate


def from_first_amplitude(*values: Value) -> tuple[Amplitudes, Array]:
    """((s0,), 1 / T) from (s0, T): the inverse of `first_amplitude`."""
    s0, time_constant = values
    return (jnp.asarray(s0),), 1 / jnp.asarray(time_constant)


class SignalModel(NamedTuple):
    """S(t) = sum_k a_k phi_k(t, R) with one rate R = 1 / T, for fits and simulations.

    `signal_model` and `vfa_model` make those of the library. One of your own with one
    amplitude needs a function and numbers, and `fit_map`, `signal` and
    `cramer_rao_bound` take it like any other:

        def stretched(rate, time, power):
            return (jnp.exp(-(time**power) * rate**power),)

        model = SignalModel(
            name="stretched", parameters=("s0", "t2"), units=("image", "s"),
            basis=stretched, constants=(0.8,), bounds=(1e-3, 10.0), longest=5.0,
        )

    Models are equal where their functions are the same and their numbers are equal, and
    equal models share a compilation. So write the functions at the top level of a
    module (lambdas and functools.partial objects that are made twice differ, and cannot
    be pickled), and give their numbers as `constants`.

    Attributes:
        name: For messages; any text.
        parameters: Names of the results, P of them, all different; P is 2 or more.
        units: One for each parameter: "image" for an amplitude (it scales with the
            images, and is complex where they are), "s" for a time (at least one; the
            first is the time constant 1 / R, others follow from it and the amplitudes),
            "1" for a number without a unit (real).
        basis: basis(rate, time, c_1, ..), with the constants after the time, gives the
            P - 1 functions phi_k, as a tuple of arrays, each of the shape of
            rate * time (`rate` in 1/s; an offset is `jnp.ones_like(rate * time)`). It
            is elementwise, keeps their dtype, is made of jax.numpy, and is finite, with
            a finite derivative by the rate, for every rate between the bounds and time
            up to `longest`, a time of 0 included if it is measured with a weight above
            0: `(time * rate) ** 0.8` is not, and makes voxels UNDETERMINED. phi_1 is
            kept where rounding cannot tell the functions apart.
        bounds: Shortest and longest time constant in seconds, above 0, where the caller
            of a fit sets none.
        longest: The largest time that can be meant, in the unit of the times: above it
            they are in another unit and are refused.
        to_parameters: to_parameters(amplitudes, rate) gives the P parameters in their
            order, elementwise and differentiable. The default, for P = 2, is
            (a_1, 1 / R).
        from_parameters: The inverse: from_parameters(p_1, ..., p_P) gives
            ((a_1, ...), R). The default is that of the default above.
        crosses_zero: Whether the signal rises through 0 once, so that magnitudes hide
            its sign and `fit_map(magnitude=True)` has to search for it.
        exponential: Whether log S is a line, for `fit_map(start="log-linear")`.
        constants: Numbers that the basis takes after `time`. One that differs between
            contrasts (a repetition time, say) is a tuple of one number a contrast, in
            the order of the times; the basis then gets the contrast's own, which may be
            an array that broadcasts with `time`.
        train: Whether the times are the echoes of a train, as of t2_epg alone: the
            extended phase graph then takes the place of `basis`, which is the signal at
            180 degrees, and the last parameter is the refocusing angle.
        echoes: Which of the train's echoes the times are, from 1; () takes times with
            values for what they are, and traced ones for 1, 2, .., E.
    """

    name: str
    parameters: tuple[str, ...]
    units: tuple[str, ...]
    basis: Basis
    bounds: tuple[float, float]
    longest: float
    to_parameters: Callable[[Amplitudes, Array], tuple[Array, ...]] = first_amplitude
    from_parameters: FromParameters = from_first_amplitude
    crosses_zero: bool = False
    exponential: bool = False
    constants: tuple[float | tuple[float, ...], ...] = ()
    train: bool = False
    echoes: tuple[int, ...] = ()

    def constants_of(self, contrast: int) -> tuple[float, ...]:
        """The numbers that the basis takes for one contrast, from 0."""
        return tuple(c[contrast] if isinstance(c, tuple) else c for c in self.constants)

    @property
    def time_constant(self) -> str:
        """The parameter that is 1 / R: the first in seconds."""
        return self.parameters[self.units.index("s")]


def check_model(function: str, model: Any) -> None:  # noqa: ANN401
    """Refuse what is no `SignalModel`, and one whose fields do not fit each other.

    Args:
        function: The public function's name, with which the message begins.
        model: What its caller gave.

    Raises:
        ValueError: naming the field, what was expected and what was found.
    """
    if not isinstance(model, SignalModel):
        raise ValueError(
            f"{function}: model: expected a SignalModel, as signal_model('t2') makes "
            f"it; found {model!r}"
        )

    def refuse(field: str, expected: str) -> None:
        raise ValueError(
            f"{function}: model {model.name}: {field}: expected {expected}; found "
            f"{getattr(model, field)!r}"
        )

    names, units = model.parameters, model.units
    if not _are(str, names) or len({*names}) != len(names) or len(names) < 2:
        refuse("parameters", "a tuple of two or more different names")
    if not _are(str, units) or len(units) != len(names):
        refuse("units", f"a tuple of one for each of {', '.join(names)}")
    if "s" not in units or not {*units} <= {"image", "s", "1"}:
        refuse("units", '"s" of the time constant (the first), else "image", "s", "1"')
    if not is_range(model.bounds):
        refuse("bounds", "a tuple (low, high) with 0 < low < high < inf in seconds")
    if not isinstance(model.longest, numbers.Real) or not model.longest > 0:
        refuse("longest", "a number above 0")
    constants = model.constants if isinstance(model.constants, tuple) else (None,)
    each = [c if isinstance(c, tuple) and c else (c,) for c in constants]
    if not all(_are(numbers.Real, c) for c in each):
        refuse("constants", "a tuple of Python numbers, or tuples of one a contrast")
    for field in ("basis", "to_parameters", "from_parameters"):
        if not callable(getattr(model, field)):
            refuse(field, "a function")
    if model.train:
        return
    if model.to_parameters is first_amplitude and units != ("image", "s"):
        refuse("units", '("image", "s"), or functions to_parameters, from_parameters')


def check_contrasts(function: str, model: SignalModel, count: int) -> None:
    """Refuse constants by contrast of another number than that of the times.

    Args:
        function: The public function's name, with which the message begins.
        model: One that has passed `check_model`.
        count: How many times there are, 0 or more.

    Raises:
        ValueError: naming both numbers.
    """
    for constant in model.constants:
        if isinstance(constant, tuple) and len(constant) != count:
            raise ValueError(
                f"{function}: model {model.name}: constants: expected one number for "
                f"all, or one for each of {count} contrasts; found {len(constant)}: "
                f"{constant}"
            )


def check_functions(function: str, model: SignalModel) -> None:
    """Refuse functions of a model that give another number or shape of results.

    Traces them once, without computing: to be called where a program is traced.

    Args:
        function: The public function's name, with which the message begins.
        model: One that has passed `check_model`.

    Raises:
        ValueError: naming the function of the model, what was expected and found.
    """
    if model.train:
        return
    unknowns, count = len(model.parameters), len(model.parameters) - 1
    start = f"{function}: model {model.name}"
    dtype = jnp.dtype("float32")
    rate, time = (jax.ShapeDtypeStruct(s, dtype) for s in ((3, 1), (1, 2)))
    shape = f"float32 of shape [3, 2] for {unknowns} parameters (rate [3, 1], time "
    first = model.constants_of(0)
    try:
        found = jax.eval_shape(lambda r, t: model.basis(r, t, *first), rate, time)
    except (TypeError, jax.errors.TracerArrayConversionError) as error:
        raise ValueError(
            f"{start}: basis: expected a function of (rate, time) and of as many "
            f"constants as the model has, {len(model.constants)}, made of jax.numpy; "
            f"it raised {type(error).__name__}: {error}"
        ) from error
    if not _fits(found, count, (3, 2)):
        raise ValueError(
            f"{start}: basis: expected a tuple of {count} elementwise {shape}[1, 2]); "
            f"found {_shapes(found)}"
        )
    amplitudes = (jax.ShapeDtypeStruct((3,), dtype),) * count
    rate = jax.ShapeDtypeStruct((3,), dtype)
    found = jax.eval_shape(model.to_parameters, amplitudes, rate)
    if not _fits(found, unknowns, (3,)):
        raise ValueError(
            f"{start}: to_parameters: expected {unknowns} values, one for each of "
            f"{', '.join(model.parameters)}, float32 of shape [3] for {count} "
            f"amplitudes and a rate of shape [3]; found {_shapes(found)}"
        )
    back: Any = jax.eval_shape(model.from_parameters, *[rate] * unknowns)
    if not (isinstance(back, Sequence) and len(back) == 2) or not (
        _fits(back[0], count, (3,)) and _fits([back[1]], 1, (3,))
    ):
        raise ValueError(
            f"{start}: from_parameters: expected (a tuple of {count} amplitudes, "
            f"rate), float32 of shape [3] as its arguments; found {_shapes(back)}"
        )
    with _computing():
        _check_values(start, model)


def _computing() -> contextlib.ExitStack:
    """A few numbers a compilation, or an eager call, whatever mesh or guard is around.

    To be entered where a program may be being traced: its values are computed at once.
    """
    stack = contextlib.ExitStack()
    stack.enter_context(jax.ensure_compile_time_eval())
    stack.enter_context(jax.transfer_guard("allow"))
    nowhere = jax.sharding.AbstractMesh((), ())
    stack.enter_context(jax.sharding.use_abstract_mesh(nowhere))
    return stack


def smooth_at_zero(model: SignalModel) -> bool:
    """Whether basis and first and second derivatives are finite at a time of 0.

    Others must not see the time of a sample that does not count: 0 times infinity is
    NaN. Computes a few numbers, where a program is traced.

    Args:
        model: One that has passed `check_functions`.
    """
    if model.train:  # echoes are polynomials of what happens between them
        return True
    constants = model.constants_of(0)

    def basis(point: Array) -> Array:
        return jnp.stack(model.basis(point[0], point[1], *constants))

    # One program; `jax.jacfwd` would compile the parts of its unit vectors one by one.
    units = np.eye(2, dtype=np.float32)
    first = [_slope(basis, unit) for unit in units]
    second = [_slope(slope, unit) for slope in first for unit in units]
    with _computing():
        middle = np.float32([1 / math.sqrt(math.prod(model.bounds)), 0])
        found = jax.jit(lambda point: [f(point) for f in (basis, *first, *second)])
        return all(bool(np.isfinite(x).all()) for x in found(middle))


def _slope(
    function: Callable[[Array], Array], direction: np.ndarray
) -> Callable[[Array], Array]:
    """The derivative along a direction, as a function of the point."""
    return lambda point: jax.jvp(function, (point,), (direction,))[1]


def _check_values(start: str, model: SignalModel) -> None:
    """Refuse conversions that exchange parameters, or are not each other's inverse."""
    count = len(model.parameters) - 1
    amplitudes = tuple(jnp.float32([1.0, 1.5]) + jnp.float32(k) for k in range(count))
    rate = jnp.float32([0.5, 2.0])
    values = model.to_parameters(amplitudes, rate)
    constant = model.parameters.index(model.time_constant)
    first = "whose unit is 's'"
    if model.units.count("s") > 1:  # the others follow from it
        first = "the first whose unit is 's': put the time constant before other times"
    if not np.allclose(values[constant], 1 / rate, rtol=1e-4):
        raise ValueError(
            f"{start}: to_parameters: expected 1 / rate = {1 / rate} in the place of "
            f"{model.time_constant!r}, {first}; found {values[constant]}"
        )
    back, again = model.from_parameters(*values)
    left, right = np.stack([*back, again]), np.stack([*amplitudes, rate])
    if not np.allclose(left, right, rtol=1e-3, atol=1e-4):
        raise ValueError(
            f"{start}: from_parameters: expected the inverse of to_parameters, "
            f"{right.tolist()}; found {left.tolist()}"
        )


def is_range(bounds: Any) -> bool:  # noqa: ANN401
    """Whether it is a pair of Python numbers with 0 < low < high < inf."""
    return (
        _are(numbers.Real, bounds)
        and len(bounds) == 2
        and 0 < bounds[0] < bounds[1] < math.inf
    )


def _are(kind: type, values: Any) -> bool:  # noqa: ANN401
    return isinstance(values, tuple) and all(isinstance(v, kind) for v in values)


def _fits(found: Any, count: int, shape: tuple[int, ...]) -> bool:  # noqa: ANN401
    return (
        isinstance(found, Sequence)
        and len(found) == count
        and all(getattr(x, "shape", None) == shape for x in found)
        and all(x.dtype == jnp.float32 for x in found)
    )


def _shapes(found: Any) -> str:  # noqa: ANN401
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", found))
