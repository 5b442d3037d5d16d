"""Smooth random fields in space that are a function of their key and the position.

A cubic B-spline over white noise on a grid of knots fixed in space: what is seen at a
point depends neither on the pixels' size nor on which other points are asked for, so
slices of one subject fit together and a subject is the same at every resolution.
"""

import numpy as np
from jaxtyping import Float

REACH = 160.0  # mm from the centre that fields cover
_DEVIATION = (151 / 315) ** 1.5  # of a cubic B-spline over white noise, in space


def smooth_field(
    key: tuple[int, ...],
    z: float,
    y: Float[np.ndarray, "H"],
    x: Float[np.ndarray, "W"],
    *,
    spacing: float,
    channels: int,
) -> Float[np.ndarray, "channels H W"]:
    """Independent fields of mean 0 and variance about 1 on one axial grid.

    Args:
        key: Non-negative numbers; equal ones give the same fields at every height.
        z: The plane's height in mm, between -160 and 160, as all positions must be.
        y: Places of the H rows in mm, in any order.
        x: Places of the W columns in mm, in any order.
        spacing: The distance between knots in mm, above 0: along each axis the fields
            change over about so much, and values 4 knots apart are independent.
        channels: How many fields there are; the first ones do not depend on how many
            follow.

    Raises:
        ValueError: A position is beyond `REACH`.
    """
    half = int(np.ceil(REACH / spacing)) + 2
    plane, across = _weights(np.array([z]), spacing, half)
    chosen = range(int(plane[0]), int(plane[0]) + 4)
    shape = (channels, 2 * half + 1, 2 * half + 1)
    knots = np.zeros(shape, np.float32)
    # Every plane of knots has a generator of its own: only four are ever drawn.
    for number, weight in zip(chosen, across[0], strict=True):
        drawn = np.random.default_rng((*key, number)).standard_normal(shape, np.float32)
        knots += weight * drawn
    rows = _along(knots, y, spacing, half)  # [channels, H, knots]
    field = _along(rows.swapaxes(1, 2), x, spacing, half)  # [channels, W, H]
    return field.swapaxes(1, 2) / np.float32(_DEVIATION)


def _along(
    knots: Float[np.ndarray, "channels K M"],
    positions: Float[np.ndarray, "n"],
    spacing: float,
    half: int,
) -> Float[np.ndarray, "channels n M"]:
    """Four weighted knots around each position: no BLAS, whose threads the step has."""
    first, weights = _weights(positions, spacing, half)
    knots = np.ascontiguousarray(knots)
    values = weights[:, :1] * knots[:, first]
    for tap in range(1, 4):
        values += weights[:, tap, None] * knots[:, first + tap]
    return values


def _weights(
    positions: Float[np.ndarray, "n"], spacing: float, half: int
) -> tuple[np.ndarray, Float[np.ndarray, "n 4"]]:
    """First of the four knots around each position, and their weights."""
    far = np.abs(positions).max()
    if far > REACH:
        raise ValueError(f"position {far:.1f} mm: expected at most {REACH} mm")
    place = positions / spacing + half
    knot = np.floor(place).astype(np.int64)
    t = place - knot
    weights = np.stack(
        [
            (1 - t) ** 3,
            3 * t**3 - 6 * t**2 + 4,
            -3 * t**3 + 3 * t**2 + 3 * t + 1,
            t**3,
        ],
        axis=-1,
    )
    return knot - 1, (weights / 6).astype(np.float32)
