"""Echoes of a spin-echo train by the extended phase graph, with stimulated echoes.

Refocusing pulses that are not 180 degrees store a part of the magnetisation along the
field, and later ones bring it back: the first echo is too low, the second too high, and
the train decays too slowly. The phase graph keeps account of it: F_k and F_-k are
magnetisation dephased k times by half an echo spacing, Z_k what is stored of it.

Behind each pulse only odd k hold what can reach an echo, Z_0 never does, and with the
pulses along the magnetisation (Carr-Purcell-Meiboom-Gill) all states are real. With
x = cos^2(a/2), a the refocusing angle, and Z_k in units of sin(a), a pulse is

    F' = x F + (1 - x) G + 4 x (1 - x) Z        G = F_-k
    G' = (1 - x) F + x G - 4 x (1 - x) Z
    Z' = (G - F) / 2 + (2 x - 1) Z

which is smooth in x also at 180 degrees, x = 0, where the angle itself is not: the
signal is the same on both sides of 180.

Source: Hennig 1988, J Magn Reson 78:397; Weigel 2015, J Magn Reson Imaging 41:266, for
the states; Lebel and Wilman 2010, Magn Reson Med 64:1005, and Prasloski et al. 2012,
Magn Reson Med 67:1803, for the fit of T2 and angle. Unlike them all spins of a voxel
have one angle: there is no slice profile.
"""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from medjax.checks import check_static
from medjax.mri.model import SignalModel

MOST = 256  # echoes of a train
NEAR = 0.05  # of the spacing: how far a time may be from its echo's
T1 = 1.0  # s, where nobody says another

States = tuple[Array, Array, Array]  # F, G, Z, each of k = 1, 3, 5, ..


def echo_train(
    rate: Float[Array, "*#N"],
    x: Float[Array, "*#N"],
    spacing: Float[Array, "*#N"] | float,
    count: int,
    t1: float,
    *,
    rolled: bool = True,
) -> list[Float[Array, "*N"]]:
    """Amplitudes of all echoes of a train, for a magnetisation of 1.

    Args:
        rate: R2 = 1 / T2 in 1/s, 0 or more.
        x: cos^2(a/2) of the refocusing angle, 0 to 1: 0 is 180 degrees and gives
            exp(-n spacing R2).
        spacing: Time between two echoes in seconds, above 0: also that from the
            excitation to the first one.
        count: Echoes, a static integer of 1 or more.
        t1: T1 in seconds, above 0.
        rolled: Whether the pulses are a loop of the program, which compiles fast, or
            written out, which runs up to ten times as fast: for few echoes.
    """
    rate, x, spacing = jnp.broadcast_arrays(rate, x, jnp.asarray(spacing, rate.dtype))
    half = jnp.exp(-spacing * rate / 2)
    e2, e1 = half * half, jnp.exp(-spacing / t1)
    rest, turn = 1 - x, 2 * x - 1
    cross = 4 * x * rest
    # An order that is higher after a pulse than there are pulses left is never seen.
    orders = (count + 1) // 2

    def refocus(f: Array, g: Array, z: Array) -> tuple[Array, Array, Array]:
        gap = f - g
        moved = rest * gap - cross * z
        return f - moved, g + moved, turn * z - gap / 2

    def relax(f: Array, g: Array, z: Array) -> tuple[Array, Array, Array]:
        return e2 * f, e2 * g, e1 * z

    if rolled:
        zero = 0 * (half + x)  # as these are spread over devices
        first = jnp.arange(orders).reshape(-1, *[1] * half.ndim) == 0
        f = jnp.where(first, (half + zero)[None], zero[None])

        def period(states: States, _: None) -> tuple[States, Array]:
            f, g, z = jax.vmap(refocus)(*states)
            dephased = jnp.concatenate([g[:1], f[:-1]])
            rephased = jnp.concatenate([g[1:], zero[None]])
            return jax.vmap(relax)(dephased, rephased, z), half * g[0]

        return list(jax.lax.scan(period, (f, 0 * f, 0 * f), None, length=count)[1])
    zero, echoes = jnp.zeros_like(half), []
    states = [(half, zero, zero)] + [(zero, zero, zero)] * (orders - 1)
    for _ in range(count):
        states = [refocus(*state) for state in states]
        echoes.append(half * states[0][1])
        dephased = [states[0][1], *(f for f, _, _ in states[:-1])]
        rephased = [*(g for _, g, _ in states[1:]), zero]
        shifted = zip(dephased, rephased, (z for _, _, z in states), strict=True)
        states = [relax(*state) for state in shifted]
    return echoes


def _at_180(rate, time, t1):
    """The train without stimulated echoes; SignalModel's `basis` of one echo."""
    del t1
    return (jnp.exp(-time * rate),)


def epg_model(t1: float = T1) -> SignalModel:
    """The model t2_epg with the T1 that it assumes.

    Args:
        t1: Seconds, above 0 and at most 20; a Python number, which is static.

    Raises:
        ValueError: a T1 that is not positive, looks like milliseconds, is no number or
            traced.
    """
    check_static("signal_model", t1=t1)
    real = isinstance(t1, numbers.Real) and not isinstance(t1, bool)
    if not real or not 0 < t1 <= 20:
        raise ValueError(
            f"signal_model: t1: expected 0 to 20 seconds; found {t1}: divide "
            "milliseconds by 1000"
        )
    return SignalModel(
        name="t2_epg",
        parameters=("s0", "t2", "angle"),
        units=("image", "s", "1"),
        basis=_at_180,
        bounds=(1e-3, 10.0),
        longest=5.0,
        constants=(float(t1),),
        train=True,
    )


def train_echoes(function: str, model: SignalModel, times: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Which echoes times are, by the model, by their values, or 1, 2, .., E.

    Args:
        function: The public function's name, with which a message begins.
        model: One with a train.
        times: Seconds, one an echo on the first axis; some may be traced.

    Raises:
        ValueError: `model.echoes` are of another number, or `echo_numbers` refuses.
    """
    count = len(times)
    if model.echoes:
        if len(model.echoes) != count:
            raise ValueError(
                f"{function}: model {model.name}: echoes: expected one for each of "
                f"{count} times; found {model.echoes}"
            )
        return model.echoes
    if any(isinstance(t, Tracer) for t in jax.tree.leaves(times)):
        return tuple(range(1, count + 1))
    return echo_numbers(times)


def echo_numbers(times: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Which echoes of an evenly spaced train times are, from 1; they may lack some.

    The spacing is the smallest difference of two times, or the first time.

    Args:
        times: Seconds, one an echo, in any order, with values (not traced); of times by
            voxel [E, *N] all voxels have the same echoes.

    Raises:
        ValueError: They are no multiples n * spacing, n = 1, 2, ..; the message says
            which one is not.
    """
    table = np.asarray(times, float).reshape(len(times), -1)
    found = {_numbers(column) for column in np.unique(table, axis=1).T}
    if len(found) != 1:
        raise ValueError(
            "times: t2_epg: expected the same echoes in all voxels; found "
            f"{sorted(found)}"
        )
    return found.pop()


def _numbers(times: Float[np.ndarray, "E"]) -> tuple[int, ...]:
    order = np.argsort(times, kind="stable")
    steps = np.diff(times[order], prepend=0)
    apart = steps[steps > 1e-6]  # repeats of an echo are the same one
    numbers = np.zeros(len(times), int)
    if len(apart) and times.min() > 0:
        numbers[order] = np.cumsum(np.round(steps / apart.min()).astype(int))
        spacing = (times @ numbers) / (numbers @ numbers)
        off = np.abs(times - spacing * numbers) > NEAR * spacing
        if not off.any() and numbers.max() <= MOST:
            return tuple(numbers.tolist())
    raise ValueError(
        "times: t2_epg: expected echoes n * spacing of one train, n = 1, 2, ..: the "
        f"first after one spacing, none at 0; found {times.tolist()} s. Use "
        "signal_model('t2') for other times"
    )


def spacing_of(
    times: list[Float[Array, "*#N"]], numbers: tuple[int, ...]
) -> tuple[Float[Array, "*#N"], Array]:
    """Echo spacing in seconds by least squares, and whether the times are n times it.

    Args:
        times: Seconds, one for each of `numbers`; traced ones too.
        numbers: Of the echoes, from 1.
    """
    total = sum(n * n for n in numbers)
    pairs = zip(numbers, times, strict=True)
    spacing = jnp.asarray(sum(n * t for n, t in pairs) / total)
    regular = spacing > 0
    for n, t in zip(numbers, times, strict=True):
        regular = regular & (jnp.abs(t - n * spacing) <= NEAR * spacing)
    return spacing, regular


def squared_cosine(angle: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """x = cos^2(a/2) of an angle in radians."""
    return jnp.square(jnp.cos(angle / 2))


def angle_of(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """The angle in radians, at most pi; its derivative at pi is given as 0.

    Args:
        x: cos^2(a/2), 0 to below 1.
    """
    inside = x > 0
    root = jnp.sqrt(jnp.where(inside, x, 1))
    return jnp.where(inside, 2 * jnp.arctan2(jnp.sqrt(1 - x), root), math.pi)
