"""Where k-space has each contrast, against the images that were made of all of them.

A reconstruction that ties contrasts together, as a subspace does, takes up most of a
motion between them, as intensities at edges. What it cannot take up is left in k-space,
and there it looks like a derivative of the images.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import FLAGS, check_arrays, check_integers
from medjax.mri.motion import move_rigid
from medjax.mri.promotion import promoted
from medjax.mri.sense import sense_adjoint, sense_forward, sense_normal

_FARTHEST = 2.0  # pixels of one step: beyond it images are no straight lines


class Offsets(NamedTuple):
    """How samples of each contrast lie against its image; NaN where nothing tells."""

    shift: Float[Array, "*B E 2"]  # pixels along rows and columns
    angle: Float[Array, "*B E"]  # rad about the centre, as `move_rigid` turns
    shift_sd: Float[Array, "*B E 2"]  # of white noise as strong as the residual
    angle_sd: Float[Array, "*B E"]


@partial(jax.jit, static_argnames="steps")
def contrast_offsets(
    kspace: Complex[Array, "*B E C H W"],
    images: Inexact[Array, "*B E H W"],
    sens: Complex[Array, "*B C H W"],
    mask: Bool[Array, "*B E #H #W"] | None = None,
    *,
    steps: int = 3,
) -> Offsets:
    """The rigid motion of each image that its own samples ask for, by Gauss-Newton.

        min over p_e of |M_e F S T(p_e) x_e - y_e|^2,   p = (rows, columns, angle)

    T is `move_rigid`. Images that were made of samples of that contrast alone have no
    offset. Where they were made of all contrasts together, as in a subspace, an offset
    says that contrasts do not lie on each other; it is less than the motion, of which
    the images have taken up their share.

    At 96 x 96, 8 coils and 8 contrasts of a head, six times undersampled, joint total
    variation in a subspace of rank 3: offsets up to 0.02 pixel where nothing moved; up
    to 0.24 to 0.35 where the later four contrasts lie 1 pixel off, and 0.4 to 0.67 in
    a single contrast that does.

    Args:
        kspace: y, in any unit. What the mask leaves out is not read; a sample that is
            not finite gives its contrast NaN.
        images: x, in the unit of k-space, real or complex; of complex ones the phase is
            moved too. A pixel that is not finite gives its contrast NaN.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object. They stay where they are. A
            number that is not finite gives every contrast of its slice NaN.
        mask: bool or integers, not 0 at the sampled points of centred k-space; [.., E,
            1, W] for whole columns; None takes all points.
        steps: Of Gauss-Newton, 1 or more; the first alone is the linear solution. A
            step is at most 2 pixels, and at most 2 pixels at a quarter of the longer
            side from the centre. Static.

    Returns:
        Motion that brings each image onto its samples, in the sense of `move_rigid`,
        and its deviation where the residual at the end is white noise: (J^H J)^-1
        |r|^2 / 2N, N the number of samples of all coils. NaN where a contrast has no
        sample, or an image without an edge in some direction.

    Raises:
        ValueError: shapes or dtypes that do not fit each other, or no step.
    """
    name = "contrast_offsets"
    check_integers(name, steps=(steps, 1, None))
    check_arrays(
        name,
        kspace=(kspace, "*B E C H W", complex),
        images=(images, "*B E H W", (float, complex)),
        sens=(sens, "*B C H W", complex),
        mask=(mask, "*B E #H #W", FLAGS),
    )
    turned = jnp.iscomplexobj(images)
    kspace, sens, whole = promoted(kspace, sens, images)
    images = whole if turned else whole.real
    height, width = images.shape[-2:]
    radius = max(height, width) / 4  # so that all three are pixels
    wanted = sense_adjoint(kspace, sens, mask)

    def moved(place: Float[Array, "*B E 3"]) -> Inexact[Array, "*B E H W"]:
        move = partial(move_rigid, shift=place[..., :2], angle=place[..., 2] / radius)
        if turned:
            return jax.lax.complex(move(images.real), move(images.imag))
        return move(images)

    def equations(place: Float[Array, "*B E 3"]) -> tuple[Array, Array]:
        """J^H J [*B, E, 3, 3] and J^H (y - A x) [*B, E, 3], real parts."""
        found, along = jax.linearize(moved, place)
        slopes = [along(axis) for axis in axes]
        left = wanted - sense_normal(found, sens, mask)
        seen = [sense_normal(slope, sens, mask) for slope in slopes]
        square = [[_inner(a, b) for b in seen] for a in slopes]
        matrix = jnp.stack([jnp.stack(row, -1) for row in square], -2)
        return matrix, jnp.stack([_inner(a, left) for a in slopes], -1)

    zero = jnp.zeros_like(wanted.real.sum((-2, -1)))  # on the devices of the images
    one, place = jnp.ones_like(zero), jnp.stack([zero] * 3, -1)
    axes = [
        jnp.stack([one if j == i else zero for j in range(3)], -1) for i in range(3)
    ]
    for _ in range(steps):
        matrix, right = equations(place)
        change = (_inverse(matrix) * right[..., None, :]).sum(-1)
        place = place + jnp.clip(change, -_FARTHEST, _FARTHEST)
    matrix, _ = equations(place)
    left = kspace - sense_forward(moved(place), sens, mask)
    sampled = jnp.ones((1, 1), bool) if mask is None else jnp.asarray(mask).astype(bool)
    left = jnp.where(sampled[..., None, :, :], left, 0)
    share = jnp.broadcast_to(sampled, images.shape).mean((-2, -1), dtype=place.dtype)
    energy = jnp.square(jnp.abs(left)).sum((-3, -2, -1))
    noise = energy / (2 * sens.shape[-3] * height * width * share)
    spread = jnp.diagonal(_inverse(matrix), axis1=-2, axis2=-1)
    sd = jnp.sqrt(jnp.where(spread >= 0, noise[..., None] * spread, jnp.nan))
    known = jnp.isfinite(place).all(-1) & jnp.isfinite(sd).all(-1)
    place, sd = (jnp.where(known[..., None], x, jnp.nan) for x in (place, sd))
    return Offsets(
        place[..., :2], place[..., 2] / radius, sd[..., :2], sd[..., 2] / radius
    )


def _inner(a: Inexact[Array, "*N H W"], b: Inexact[Array, "*N H W"]) -> Array:
    """Re <a, b> over the pixels."""
    return (a.real * b.real + a.imag * b.imag).sum((-2, -1))


def _inverse(matrix: Float[Array, "*N 3 3"]) -> Float[Array, "*N 3 3"]:
    """Of symmetric ones, by cofactors: any split over devices stays one."""
    a, b, c = (matrix[..., i, :] for i in range(3))
    rows = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], -1)
    return rows / (a * rows[..., 0]).sum(-1)[..., None, None]
