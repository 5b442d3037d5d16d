"""Contrasts that moved against each other: brought back, warned of, or refused."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.data.scans.formats import Scan, middle_filled
from medjax.mri.model import SignalModel
from medjax.mri.motion import Motion, contrast_motion, move_rigid

NOTED, REFUSED = 0.5, 2.0  # pixels against the strongest contrast
# Of brains that are still: inversions null one tissue beside another, whose border is
# then an edge beside the border. 0.27 at most, of the points that are correlated.
_SHIFTED, _POINTS = 0.3, 64
OBJECT = 0.02  # of a slice: less is not enough to refuse a scan for
CHOICES = ("", "rigid")
WAY = "say --config.predict.register=rigid to bring them together"


def bring_back(
    images: Float[Array, "B E H W"],
    mask: Bool[Array, "B #E #H #W"] | None,
    motion: Motion,
) -> tuple[Float[Array, "B E H W"], Bool[Array, "B #E #H #W"] | None]:
    """Images as they would lie without their motion, and what of them are samples.

    Args:
        images: Of a slab.
        mask: True for samples; None for all. A point is one where all are that it is
            interpolated from, nearly.
        motion: Of the images with contrasts first.
    """
    shift, angle = jnp.moveaxis(motion.shift, 1, 0), jnp.moveaxis(motion.angle, 1, 0)
    still = move_rigid(images, shift, angle, inverse=True)
    if mask is None:
        return still, None
    whole = jnp.broadcast_to(mask, images.shape).astype(images.dtype)
    return still, move_rigid(whole, shift, angle, inverse=True) > 0.9


def check_motion(
    shift: Float[np.ndarray, "E 2"], bright: Bool[np.ndarray, "H W"], origin: str
) -> None:
    """Refuse a slice of which a contrast moved by more than two pixels.

    Args:
        shift: Pixels along rows and columns; NaN where it is not known.
        bright: Where there is an object; a small one is not refused.
        origin: What errors call the slice.

    Raises:
        ValueError: It did; the message names the contrast.
    """
    far = distances([shift])
    if bright.mean() > OBJECT and (far > REFUSED).any():
        e = int(np.argmax(far))
        rows, cols = shift[e]
        raise ValueError(
            f"{origin}: contrast {e} lies {far[e]:.1f} pixels from the strongest one "
            f"({rows:+.1f} along rows, {cols:+.1f} along columns); expected at most "
            f"{REFUSED:g}: {WAY}, or leave the contrast out"
        )


def check_middle(scan: Scan) -> None:
    """`check_motion` of one slice of images, the middle one or else the first filled.

    Args:
        scan: Of images; k-space has to be reconstructed first, and is not looked at.

    Raises:
        ValueError: As `check_motion`.
    """
    if scan.kind != "images":
        return
    images = np.asarray(middle_filled(scan).images)
    peak = np.abs(images).max(axis=0)
    shift = np.asarray(contrast_motion(jnp.asarray(images)).shift)
    check_motion(shift, peak > 0.1 * peak.max(), f"{scan.path.name}, a slice")


def noticeable(shape: tuple[int, int], model: SignalModel) -> float:
    """Pixels that a contrast has to lie off for a warning.

    Half of one; after an inversion three tenths of the points that images are averaged
    to, at most 64 a side: as much is found where nothing moved.

    Args:
        shape: H and W.
        model: The signal model that is fitted.
    """
    if not model.crosses_zero:
        return NOTED
    return max(NOTED, _SHIFTED * math.ceil(max(shape) / _POINTS))


def distances(shifts: Sequence[Float[np.ndarray, "E 2"]]) -> Float[np.ndarray, "E"]:
    """The largest distance of each contrast over the slices in pixels; 0: not known."""
    far = np.stack([np.hypot(*np.asarray(shift).T) for shift in shifts])
    return np.max(np.where(np.isnan(far), 0, far), axis=0)
