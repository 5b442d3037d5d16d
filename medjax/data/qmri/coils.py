"""Receive coils around a head: smooth complex sensitivities in closed form.

Each coil is a current loop, in a ring around the head and facing inwards; a scanner
sees the transverse part Bx - i By of its field. It is no model of one product, but has
what matters here: smoothness, a phase that turns, a maximum near the coil, and a fall
towards the middle.
"""

import numpy as np
from jaxtyping import Complex, Float

RADIUS, SIZE, RISE = 135.0, 55.0, 30.0  # mm: of the ring, of a coil, off the plane


def coil_maps(
    rng: np.random.Generator,
    z: float,
    y: Float[np.ndarray, "H"],
    x: Float[np.ndarray, "W"],
    *,
    coils: int,
) -> Complex[np.ndarray, "C H W"]:
    """Sensitivities of a seeded ring of coils in one axial plane; sum_c |S_c|^2 = 1.

    Equal generators give the same coils in every plane. See `loop_field`.

    Args:
        rng: Draws the coils' places, axes and phases, and nothing else.
        z: The plane's height in mm above the ring's.
        y: Places of the H rows in mm from the ring's middle, in any order. Only points
            inside the ring, at less than about 135 mm, make sense.
        x: Places of the W columns in mm from the ring's middle, in any order.
        coils: C, the number of coils, 1 or more; their places depend on it.

    Raises:
        ValueError: There is less than one coil.
    """
    if coils < 1:
        raise ValueError(f"coils={coils}: expected at least 1")
    step = 2 * np.pi / coils
    angle = step * (np.arange(coils) + rng.uniform(-0.15, 0.15, coils)) + rng.uniform(
        0, step
    )
    radius = RADIUS * (1 + rng.uniform(-0.06, 0.06, coils))
    height = RISE * (-1.0) ** np.arange(coils) + rng.uniform(-8, 8, coils)
    axis = np.pi + angle + rng.uniform(-0.15, 0.15, coils)
    phase = rng.uniform(0, 2 * np.pi, coils)

    def per_coil(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32)[:, None, None]

    away = (
        x.astype(np.float32)[None, None, :] - per_coil(radius * np.cos(angle)),
        y.astype(np.float32)[None, :, None] - per_coil(radius * np.sin(angle)),
        per_coil(z - height),
    )
    field = loop_field(*away, per_coil(np.cos(axis)), per_coil(np.sin(axis)), size=SIZE)
    field = field * np.exp(1j * per_coil(phase))
    return field / np.sqrt((np.abs(field) ** 2).sum(axis=0))


def loop_field(
    dx: Float[np.ndarray, "..."],
    dy: Float[np.ndarray, "..."],
    dz: Float[np.ndarray, "..."],
    nx: Float[np.ndarray, "..."],
    ny: Float[np.ndarray, "..."],
    *,
    size: float,
) -> Complex[np.ndarray, "..."]:
    """Bx - i By at d from a current loop of radius a with axis n = (nx, ny, 0).

    The curl of n x d / s^(3/2) with s = |d|^2 + a^2, which is
    B = (3 (n.d) d / s + (3 a^2 / s - 1) n) / s^(3/2): a circular loop's field exactly
    on its axis, a dipole's far away, and smooth everywhere.

    Args:
        dx: First component of d, from the loop's centre to the point, in mm; all arrays
            broadcast.
        dy: Second component of d in mm.
        dz: Third component of d in mm, across the plane of the loop's axis.
        nx: First component of the axis, a unit vector without a third component.
        ny: Second component of the axis; nx^2 + ny^2 = 1.
        size: The radius a of the loop in mm, above 0.
    """
    s = dx**2 + dy**2 + dz**2 + size**2
    along, own = 3 * (nx * dx + ny * dy) / s, 3 * size**2 / s - 1
    field = (along * dx + own * nx) - 1j * (along * dy + own * ny)
    return field / (s * np.sqrt(s))
