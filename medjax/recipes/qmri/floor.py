"""The noise floor of a scan's magnitudes: what is said of it, found, and doubted."""

import math
from typing import NamedTuple

import numpy as np

from medjax.data.scans.formats import Scan
from medjax.mri.background import background_noise
from medjax.mri.magnitude import MOST_COILS
from medjax.mri.model import SignalModel
from medjax.recipes.qmri.options import Predict

FOUND = "the background"  # of parts of an image that coils combine otherwise
IMAGES = (
    "Say --config.predict.noise=LEVEL, and --config.predict.coils=C of a root of the "
    "sum of C squares"
)
KSPACE = "Where contrasts agree in phase --config.predict.phase=shared keeps signs"
LOOKED_AT = 3  # slices, spread over the scan


class Floor(NamedTuple):
    """The noise of images as a scan's maps are made with it."""

    level: float | None = None  # sd of the two parts, in the images' unit
    coils: int | None = None  # of magnitudes whose floor is fitted; None: it is not
    source: str = ""  # where the level comes from, in words
    way: str = ""  # what to do about late echoes on a floor; "": there is none


def find_floor(scan: Scan, model: SignalModel, options: Predict) -> Floor:
    """The level that is said, or that of the background.

    Maps are made with the floor only where the level is said: one that is found serves
    to tell where samples are near it. Of k-space nothing is found: its images are real,
    or their noise is measured.

    Args:
        scan: Three slices of images are read, for signs and for the background.
        model: The one that is fitted; the floor of a signal that crosses 0 is not
            looked for.
        options: `noise` and `coils`.

    Raises:
        ValueError: A level that is not above 0 and finite, a number of coils out of its
            range, or a level for k-space or for signed images.
    """
    level, coils = options.noise, options.coils
    if level is not None and not (math.isfinite(level) and level > 0):
        raise ValueError(f"predict.noise {level}: expected a finite number above 0")
    if not 1 <= coils <= MOST_COILS:
        raise ValueError(f"predict.coils {coils}: expected 1 to {MOST_COILS}")
    if scan.kind == "kspace":
        if level is not None:
            raise ValueError(
                f"{scan.path}: predict.noise is of magnitude images; of k-space give "
                "noise samples in the file"
            )
        return Floor()
    if level is None and model.crosses_zero:
        return Floor()
    places = (np.arange(LOOKED_AT) + 0.5) * scan.num_slices / LOOKED_AT
    read = (scan.read(z) for z in np.unique(places.astype(int)).tolist())
    images = [np.asarray(one.images) for one in read if not one.empty]
    signed = any((one < 0).any() for one in images)
    if level is not None:
        if signed:
            raise ValueError(
                f"{scan.path}: predict.noise is of magnitudes, but images have "
                "negative values; leave it out"
            )
        return Floor(level, coils, "predict.noise", IMAGES)
    if signed or model.crosses_zero or not images:
        return Floor()
    found = [background_noise(one, coils=coils).noise for one in images]
    known = [one for one in found if one is not None]
    if not known:
        return Floor(way=IMAGES)
    return Floor(float(np.median(known)), None, FOUND, IMAGES)
