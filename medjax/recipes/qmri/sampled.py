"""Images of which some values are no samples: clipped, saturated, a filled background.

They get the weight 0, and are counted among the voxels with signal.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from medjax.data.scans.formats import ScanSlice
from medjax.mri.background import clipped_samples
from medjax.mri.model import SignalModel
from medjax.recipes.qmri.evidence import Fitted


class Marked(NamedTuple):
    """A slice whose mask says what are samples, and where some are not."""

    ready: ScanSlice
    low: Bool[np.ndarray, "H W"]
    high: Bool[np.ndarray, "H W"]


def mark_samples(
    ready: ScanSlice, times: Float[np.ndarray, "E"], model: SignalModel
) -> Marked | None:
    """Images with a mask; None where every value is a sample, and for k-space.

    In a decay what is later than a clipped sample is left out with it: of noise only
    what is above the clipping level would be left, and T2 come out too long.

    Args:
        ready: As it is fitted.
        times: Of its contrasts.
        model: The signal model; one that crosses 0 may have zeros.
    """
    if ready.images is None:
        return None
    images = np.asarray(ready.images)
    found = clipped_samples(images, zeros=not model.crosses_zero)
    if not (found.low.any() or found.high.any()):
        return None
    nothing = found.low.all(axis=0)
    low = found.low & ~nothing
    if model.exponential:
        for before, after in pairwise(np.argsort(times, kind="stable")):
            low[after] |= low[before]
    filled = images[:, nothing].any()
    if not (low.any() or found.high.any() or filled):
        return None
    kept = ready._replace(images=np.where(nothing, 0, images), mask=~(low | found.high))
    return Marked(kept, low.any(axis=0), found.high.any(axis=0))


def count_marked(fitted: Fitted, marked: Marked | None) -> Fitted:
    """A slice's fit with the voxels with signal of which samples were left out."""
    if marked is None:
        return fitted
    return fitted._replace(
        saturated=(marked.high & fitted.bright).sum(dtype=np.int32),
        clipped=(marked.low & fitted.bright).sum(dtype=np.int32),
    )
