"""One scale for all images of a series: what Philips and converters scale by file.

    displayed D = stored * RS + RI      precise P = D / (RS * SS)

RS and RI are the rescale slope and intercept, SS is Philips's scale slope. They differ
from image to image, so that only P is comparable. dcm2niix writes P (as the NIfTI
file's own slope 1 / SS) or, with `-p n`, D (slope RS), and says which.

Source: Chenevert et al. 2014 (doi 10.1593/tlo.13811); dcm2niix's notes on Philips.
"""

import math
from collections.abc import Sequence

from medjax.data.scans.frames import Frame, same

_SLOPES = ("PhilipsScaleSlope", "MRScaleSlope")
_PRECISE = "UsePhilipsFloatNotDisplayScaling"
_CLOSE = 1e-3  # relative: sidecars hold six digits


def common_scale(
    frames: Sequence[Frame], slopes: Sequence[float]
) -> tuple[list[float], list[str]]:
    """What each image is multiplied by, and notes.

    Images that all say the same, or nothing, keep their values.

    Args:
        frames: The images of a series.
        slopes: The slope that each one's NIfTI header applies, 1 where there is none.

    Raises:
        ValueError: The scale of an image is not known, or its fields contradict each
            other.
    """
    keys = ("PhilipsRescaleSlope", "RescaleSlope", *_SLOPES, _PRECISE)
    said = [tuple(_number(f, key) for key in keys) for f in frames]
    philips = any(
        "philips" in str(f.fields.get("Manufacturer")).lower() for f in frames
    )
    if not any(value is not None for row in said for value in row):
        if philips and not all(same(s, slopes[0], _CLOSE) for s in slopes):
            return [1.0] * len(frames), [
                "doubt: the images have their own slopes and no field of Philips's "
                "scaling says whether their scale is one; convert with dcm2niix -p y"
            ]
        return [1.0] * len(frames), []
    if all(same(list(row), list(said[0]), _CLOSE) for row in said) and all(
        same(s, slopes[0], _CLOSE) for s in slopes
    ):
        return [1.0] * len(frames), []
    if not any(_first(f, _SLOPES) for f in frames):
        return _rescaled(frames, slopes, philips=philips), []
    factors = [_factor(f, s) for f, s in zip(frames, slopes, strict=True)]
    changed = any(f != 1 for f in factors)
    note = "images in Philips's displayed values were brought to the precise scale"
    return factors, [note] if changed else []


def _factor(frame: Frame, slope: float) -> float:
    """From an image's values to the precise ones."""
    rescale = _first(frame, ("PhilipsRescaleSlope", "RescaleSlope"))
    scale = _first(frame, _SLOPES)
    precise = _number(frame, _PRECISE)
    if not rescale or not scale:
        raise ValueError(
            f"{frame.sidecar.image}: PhilipsScaleSlope {scale}, PhilipsRescaleSlope "
            f"{rescale}; expected both, as other images of the series have them. "
            "Convert all with dcm2niix -p y"
        )
    shown = same(slope, rescale, _CLOSE)
    exact = same(slope, 1 / scale, _CLOSE)
    if slope != 1 and shown != exact:  # the header's slope tells by itself
        real = _number(frame, "PhilipsRWVSlope")  # old dcm2niix applied that one
        if precise is not None and bool(precise) != exact and real is None:
            raise ValueError(
                f"{frame.sidecar.image}: {_PRECISE} {precise:g}, but the slope of the "
                f"file is {slope:.6g}, that of {'precise' if exact else 'displayed'} "
                "values. Convert with dcm2niix -p y"
            )
        precise = exact
    if precise is None:
        raise ValueError(
            f"{frame.sidecar.image}: Philips's scale slopes differ between images, and "
            f"no {_PRECISE} says whether they were applied. Convert all with dcm2niix "
            "-p y"
        )
    return 1.0 if precise else 1 / (rescale * scale)


def _rescaled(
    frames: Sequence[Frame], slopes: Sequence[float], *, philips: bool
) -> list[float]:
    """Rescale slopes alone: applied by each file's own header, or not known."""
    rescales = [_first(f, ("RescaleSlope", "PhilipsRescaleSlope")) for f in frames]
    known = [r for r in rescales if r is not None]
    if all(same(r, known[0], _CLOSE) for r in known) and all(
        same(s, slopes[0], _CLOSE) for s in slopes
    ):
        return [1.0] * len(frames)
    for frame, rescale, slope in zip(frames, rescales, slopes, strict=True):
        if philips or rescale is None or not same(rescale, slope, _CLOSE):
            raise ValueError(
                f"{frame.sidecar.image}: RescaleSlope {rescale} and the file's slope "
                f"{slope:.6g}; both differ between images, and which scale is common "
                "is not known. Convert all with dcm2niix -p y, or bring them to one "
                "scale and take the field out"
            )
    return [1.0] * len(frames)


def _first(frame: Frame, keys: Sequence[str]) -> float | None:
    """The first of the fields that is there."""
    found = (_number(frame, key) for key in keys)
    return next((value for value in found if value is not None), None)


def _number(frame: Frame, key: str) -> float | None:
    value = frame.fields.get(key)
    if value is None:
        return None
    if (
        not isinstance(value, int | float)
        or not math.isfinite(value)
        or (value == 0 and key != _PRECISE)
    ):
        raise ValueError(
            f"{frame.sidecar.origin}: {key} {value!r}; expected a number, and no 0"
        )
    return float(value)
