"""T1 from MP2RAGE: two trains of gradient echoes after one inversion, combined."""

import functools
import math
import numbers
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from medjax.checks import check_arrays, check_static
from medjax.mri.model import Value
from medjax.mri.parameters import real_dtype
from medjax.mri.promotion import promoted

_POINTS = 512  # of T1, between which S is largest and smallest
_HALVINGS, _STEPS = 12, 3  # of the range, and Newton's: to rounding error


class Mp2rage(NamedTuple):
    """What decides the two signals; Python numbers, so it is hashable and static.

    The names in brackets are those of BIDS.

    Attributes:
        inversion_times: From the inversion to the excitation of the centre of k-space,
            of both trains, in seconds (InversionTime of inv-1 and inv-2).
        flip_angles: Of both trains, in radians (FlipAngle, there in degrees).
        repetition: From one inversion to the next, in seconds
            (RepetitionTimePreparation).
        excitation: From one excitation of a train to the next, in seconds
            (RepetitionTimeExcitation).
        excitations: How many of a train come before the one at the centre of k-space,
            and how many from that one on (NumberShots; of a single number N without
            partial Fourier both are N / 2).
        efficiency: Of the inversion, above 0 and at most 1; 0.96 of an adiabatic pulse
            (Marques et al.).
    """

    inversion_times: tuple[float, float]
    flip_angles: tuple[float, float]
    repetition: float
    excitation: float
    excitations: tuple[int, int]
    efficiency: float


def mp2rage_signals(
    t1: Value, *, protocol: Mp2rage
) -> tuple[Float[Array, "*N"], Float[Array, "*N"]]:
    """Signals of both trains at the centre of k-space, in the steady state.

    Longitudinal magnetisation is relaxed and flipped from inversion to inversion, which
    is an affine map of it, whose fixed point is the steady state; ideal spoiling,
    without T2*.

    Args:
        t1: T1 in seconds, above 0: not checked; a number or an array, integers become
            float32.
        protocol: Seconds and radians, see `Mp2rage`; static.

    Returns:
        Two signals for an equilibrium magnetisation of 1; the first is negative at long
        T1. Differentiable by `t1`.

    Raises:
        ValueError: a protocol whose trains overlap, with a number out of its range, or
            traced.

    Source: Marques et al. 2010, NeuroImage 49:1271, appendix.
    """
    before, between, after = _waits(protocol)
    t1 = jnp.asarray(t1)
    check_arrays("mp2rage_signals", t1=(t1, "...", (float, int)))
    t1 = t1 if jnp.issubdtype(t1.dtype, jnp.floating) else t1.astype(jnp.float32)
    first, second = protocol.excitations
    turned = [math.log(math.cos(a)) for a in protocol.flip_angles]

    def wait(time: float) -> Callable[[Array], Array]:
        return lambda m: m * jnp.exp(-time / t1) - jnp.expm1(-time / t1)

    def pulses(log_cosine: float, count: int) -> Callable[[Array], Array]:
        step = log_cosine - protocol.excitation / t1
        level = jnp.expm1(-protocol.excitation / t1) / jnp.expm1(step)
        return lambda m: m * jnp.exp(count * step) - level * jnp.expm1(count * step)

    path = [
        lambda m: -protocol.efficiency * m,
        wait(before),
        pulses(turned[0], first),  # to the centre of the first train
        pulses(turned[0], second),
        wait(between),
        pulses(turned[1], first),  # to that of the second
        pulses(turned[1], second),
        wait(after),
    ]

    def after_steps(m: Array, steps: int) -> Array:
        for step in path[:steps]:
            m = step(m)
        return m

    zero, one = jnp.zeros_like(t1), jnp.ones_like(t1)
    start, end = after_steps(zero, len(path)), after_steps(one, len(path))
    steady = start / (1 + start - end)  # m = start + (end - start) m
    return (
        after_steps(steady, 3) * math.sin(protocol.flip_angles[0]),
        after_steps(steady, 6) * math.sin(protocol.flip_angles[1]),
    )


def mp2rage_uniform(
    first: Inexact[Array, "*N"], second: Inexact[Array, "*N"]
) -> Float[Array, "*N"]:
    """The uniform image S = Re(G1* G2) / (|G1|^2 + |G2|^2), from -0.5 to 0.5.

    Proton density, T2* and the receive field are the same in both and cancel. NaN where
    both images are 0.

    Args:
        first: Image of the first train, complex, or real and signed: magnitudes hide
            where it is negative. A pixel that is not finite is NaN.
        second: Image of the second train, alike.

    Returns:
        S without a unit, real, in the precision that the two are promoted to.

    Raises:
        ValueError: shapes that differ, or integers.

    Source: Marques et al. 2010, NeuroImage 49:1271, equation 3.
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    check_arrays(
        "mp2rage_uniform",
        first=(first, "*N", (float, complex)),
        second=(second, "*N", (float, complex)),
    )
    first, second = promoted(first, second)
    scale = jnp.maximum(jnp.abs(first), jnp.abs(second))
    known = scale > 0
    scale = jnp.where(known, scale, 1)
    one, two = first / scale.astype(first.dtype), second / scale.astype(second.dtype)
    square = jnp.square(jnp.abs(one)) + jnp.square(jnp.abs(two))
    uniform = jnp.real(jnp.conj(one) * two) / jnp.where(known, square, 1)
    return jnp.where(known, uniform, jnp.nan)


def mp2rage_t1(
    uniform: Float[Array, "*N"],
    *,
    protocol: Mp2rage,
    bounds: tuple[float, float] = (0.05, 5.0),
) -> Float[Array, "*N"]:
    """T1 in seconds by the falling part of S(T1).

    S falls from 0.5, where a short T1 makes both signals equal, to its smallest value
    at a long one. Shorter and longer T1 have values of S that are others' too, and come
    out as those: below about 0.4 s for inversion times of 0.8 and 2.7 s.

    Args:
        uniform: S of `mp2rage_uniform`, floats from -0.5 to 0.5. A scanner's UNIT1
            image u of whole numbers from 0 to 4095 is not converted: give
            u / 4095 - 0.5. NaN stays NaN.
        protocol: Seconds and radians, see `Mp2rage`; static.
        bounds: Shortest and longest T1 in seconds, 0 < low < high, finite; static. An S
            beyond its largest or smallest value between them gives NaN.

    Returns:
        T1, to rounding error where a table would interpolate; NaN where no T1 has that
        S: noise, air, or another scale. Differentiable to any order.

    Raises:
        ValueError: a protocol that cannot be, bounds out of order, integers.

    Source: Marques et al. 2010, NeuroImage 49:1271, section 2.2.
    """
    uniform = jnp.asarray(uniform)
    check_arrays("mp2rage_t1", uniform=(uniform, "*N", float))
    check_static("mp2rage_t1", bounds=bounds)
    low, high = bounds
    if not 0 < low < high < math.inf:
        raise ValueError(
            f"mp2rage_t1: bounds: expected 0 < low < high in seconds; found {bounds}"
        )
    dtype = real_dtype(uniform, np.float32(0))
    grid = jnp.linspace(math.log(low), math.log(high), _POINTS, dtype=dtype)
    curve = _uniform_at(protocol, grid)
    top, bottom = jnp.argmax(curve), jnp.argmin(curve)
    given = uniform.astype(dtype)
    inside = (given >= curve[bottom]) & (given <= curve[top])
    safe = jnp.where(inside, given, (curve[bottom] + curve[top]) / 2)
    fixed = jax.lax.stop_gradient(safe)
    first, last = fixed * 0 + grid[top], fixed * 0 + grid[bottom]
    for _ in range(_HALVINGS):
        middle = (first + last) / 2
        later = _uniform_at(protocol, middle) > fixed
        first, last = jnp.where(later, middle, first), jnp.where(later, last, middle)
    found = (first + last) / 2
    for _ in range(_STEPS):
        value, slope = _with_slope(protocol, found)
        step = (value - fixed) / jnp.where(slope < 0, slope, -jnp.inf)
        found = jnp.clip(found - step, first, last)
    found = jax.lax.stop_gradient(found)
    return jnp.where(inside, jnp.exp(_root(protocol, safe, found)), jnp.nan)


def _uniform_at(protocol: Mp2rage, log_t1: Array) -> Array:
    return mp2rage_uniform(*mp2rage_signals(jnp.exp(log_t1), protocol=protocol))


def _with_slope(protocol: Mp2rage, log_t1: Array) -> tuple[Array, Array]:
    curve = functools.partial(_uniform_at, protocol)
    return jax.jvp(curve, (log_t1,), (jnp.ones_like(log_t1),))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _root(protocol: Mp2rage, uniform: Array, found: Array) -> Array:  # noqa: ARG001
    """`found` as a function of S, whatever has found it, for every derivative."""
    return found


@_root.defjvp
def _root_jvp(
    protocol: Mp2rage, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    root = _root(protocol, *primals)
    slope = _with_slope(protocol, root)[1]
    return root, tangents[0] / jnp.where(slope < 0, slope, -jnp.inf)


def _waits(protocol: Mp2rage) -> tuple[float, ...]:
    """Seconds before the first train, between the two, and after the second."""
    check_static("mp2rage", protocol=protocol)
    first, second = protocol.inversion_times
    before, after = protocol.excitations
    pulse = protocol.excitation
    whole = all(isinstance(n, numbers.Integral) and n >= 0 for n in (before, after))
    ranges = {
        "excitations": whole and before + after > 0,
        "excitation": pulse > 0,
        "flip_angles": all(0 < a < math.pi / 2 for a in protocol.flip_angles),
        "efficiency": 0 < protocol.efficiency <= 1,
    }
    for name, good in ranges.items():
        if not good:
            raise ValueError(
                f"mp2rage: {name} {getattr(protocol, name)}; expected seconds, radians "
                "below pi / 2, whole numbers of excitations, an efficiency up to 1"
            )
    waits = {
        "before the first train": first - before * pulse,
        "between the trains": second - first - (before + after) * pulse,
        "after the second train": protocol.repetition - second - after * pulse,
    }
    for name, time in waits.items():
        if not time >= 0:
            raise ValueError(
                f"mp2rage: {time:g} s are left {name}; expected 0 or more: times in "
                f"seconds, and excitations {protocol.excitations} of {pulse:g} s that "
                "fit between the inversions"
            )
    return tuple(waits.values())
