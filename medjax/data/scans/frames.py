"""The images of a series, one by one, and what is known to change their signal."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from medjax.data.scans.sidecars import Sidecar, numbers

# BIDS keys, in seconds and degrees, by contrast.
KEYS = {
    "t2": ("EchoTime", 1.0),
    "t1": ("InversionTime", 1.0),
    "vfa": ("FlipAngle", math.pi / 180),
}
# The time between inversions is no excitation's, that of a spoiled echo is.
REPETITION = {
    "t2": ("RepetitionTimeExcitation", "RepetitionTime"),
    "t1": ("RepetitionTimePreparation", "RepetitionTimeInversion", "RepetitionTime"),
    "vfa": ("RepetitionTimeExcitation", "RepetitionTime"),
}
SCALING = (
    "PhilipsRescaleSlope",
    "PhilipsRescaleIntercept",
    "PhilipsScaleSlope",
    "PhilipsRWVSlope",
    "UsePhilipsFloatNotDisplayScaling",
    "RescaleSlope",
    "RescaleIntercept",
    "MRScaleSlope",
)
# Numbers and words that change the signal of an image, and are no axis of a series.
_EQUAL = (
    "Manufacturer",
    "MagneticFieldStrength",
    "ImagingFrequency",
    "Units",
    # the sequence
    "MRAcquisitionType",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "SequenceName",
    "PulseSequenceName",
    "PulseSequenceType",
    "PulseSequenceDetails",
    "NonlinearGradientCorrection",
    "EchoTrainLength",
    "RefocusingFlipAngle",
    "RefocusFlipAngle",
    "VariableFlipAngleFlag",
    "SpoilingState",
    "SpoilingType",
    "SpoilingRFPhaseIncrement",
    "SpoilingGradientMoment",
    "SpoilingGradientDuration",
    "NumberShots",
    "MTState",
    "MTOffsetFrequency",
    "MTPulseBandwidth",
    "MTNumberOfPulses",
    "MTPulseShape",
    "MTPulseDuration",
    "MTFlipAngle",
    "FatSaturation",
    "FatSat",
    "SaturationPulses",
    "ContrastBolusIngredient",
    "DiffusionBValue",
    "T2PrepDuration",
    "SpinLockTime",
    "SpinLockFrequency",
    "TxRefAmp",
    "TransmitGain",
    # sampling and reconstruction
    "NumberOfAverages",
    "SliceThickness",
    "SpacingBetweenSlices",
    "PartialFourier",
    "PartialFourierDirection",
    "PercentPhaseFOV",
    "PercentSampling",
    "BaseResolution",
    "AcquisitionMatrixPE",
    "PhaseEncodingSteps",
    "PhaseEncodingDirection",
    "PhaseEncodingAxis",
    "InPlanePhaseEncodingDirectionDICOM",
    "ParallelReductionFactorInPlane",
    "ParallelReductionOutOfPlane",
    "ParallelAcquisitionTechnique",
    "MultibandAccelerationFactor",
    "CompressedSensingFactor",
    "MatrixCoilMode",
    "CoilCombinationMethod",
    "ReceiveCoilName",
    "ReceiveCoilActiveElements",
    "CoilString",
    "DeepLearning",
    "DeepLearningDetails",
    "PrescanReuseString",
)
# Of one person in one scanner; their values stay out of messages.
_PERSON = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "DeviceSerialNumber",
    "ManufacturersModelName",
)
_GAIN = re.compile(r"(?i)(rec|rx|analog|digital)\w*gain|gain\w*(rec|rx)|prescanr[12]")
_NOISE = ("PixelBandwidth", "DwellTime")  # change the noise, not the signal
_SAME = 0.01  # relative: protocols round their times


class Frame(NamedTuple):
    """One image: where it lies, and the fields that are its own."""

    file: int  # of the files named
    volume: int | None  # of a four-dimensional file
    fields: Mapping[str, Any]
    sidecar: Sidecar

    @property
    def name(self) -> str:
        """What people call it."""
        image = self.sidecar.image.name
        return image if self.volume is None else f"{image} [{self.volume}]"


def frames_of_files(sidecars: Sequence[Sidecar]) -> list[Frame]:
    """A frame for each file."""
    return [Frame(n, None, s.fields, s) for n, s in enumerate(sidecars)]


def frames_of_volumes(sidecar: Sidecar, count: int) -> list[Frame]:
    """A frame for each volume of one file; lists of `count` values hold one each.

    Args:
        sidecar: Of the file.
        count: How many volumes it has, 1 or more.
    """
    each = [k for k, _ in KEYS.values()] + [k for r in REPETITION.values() for k in r]
    each += [*SCALING, *_EQUAL, *_NOISE, "EchoNumber"]
    lists = {
        key: sidecar.fields[key]
        for key in each
        if isinstance(sidecar.fields.get(key), list)
        and len(sidecar.fields[key]) == count
        and not any(isinstance(v, str) for v in sidecar.fields[key])
    }
    return [
        Frame(0, n, {**sidecar.fields, **{k: v[n] for k, v in lists.items()}}, sidecar)
        for n in range(count)
    ]


def axis_values(frames: Sequence[Frame], contrast: str) -> list[float | None]:
    """Times in s or angles in radians; None where a frame has no number of its own.

    Where inversion times differ by slice, it is the one in the middle.

    Args:
        frames: The images.
        contrast: One of `KEYS`.

    Raises:
        ValueError: A field is neither a number nor a list of numbers.
    """
    key, unit = KEYS[contrast]
    values: list[float | None] = []
    for frame in frames:
        numbers(frame.sidecar, key)
        value = frame.fields.get(key)
        if contrast == "t1" and isinstance(value, list):
            flat = sorted(v for v in value if not isinstance(v, list))
            value = flat[len(flat) // 2] if len(flat) == len(value) else None
        known = value is not None and not isinstance(value, list)
        values.append(float(value) * unit if known else None)
    return values


def repetitions(frames: Sequence[Frame], contrast: str) -> tuple[float, ...]:
    """TR in s: one for all, one an image where it differs, () where not all say it.

    Args:
        frames: The images.
        contrast: One of `KEYS`: which time of a sequence is its repetition.

    Raises:
        ValueError: It is no number, not above 0, or above 60 s.
    """
    found = []
    for frame in frames:
        for key in REPETITION[contrast]:
            numbers(frame.sidecar, key)
            value = frame.fields.get(key)
            if value is not None and not isinstance(value, list):
                if not 0 < value <= 60:
                    raise ValueError(
                        f"{frame.sidecar.origin}: {key} {value}; expected 0 to 60 "
                        "seconds; divide milliseconds by 1000"
                    )
                found.append(float(value))
                break
    if len(found) < len(frames):
        return ()
    return tuple(found[:1] if len(set(levels(found))) == 1 else found)


def levels(values: Sequence[Any], tolerance: float = _SAME) -> list[int]:
    """Which values are the same: equal numbers of the list they are numbered by.

    Args:
        values: Numbers, None, or anything else that has an order-free equality.
        tolerance: Numbers of one level differ by this share at most.
    """
    heads: list[Any] = []
    found = []
    for value in values:
        match = (n for n, h in enumerate(heads) if same(h, value, tolerance))
        level = next(match, len(heads))
        if level == len(heads):
            heads.append(value)
        found.append(level)
    return found


def same(one: Any, other: Any, tolerance: float = _SAME) -> bool:
    """Whether two fields agree; numbers to a share of the larger one.

    Args:
        one: A field's value.
        other: Another image's.
        tolerance: The share.
    """
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            same(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    kinds = {type(one), type(other)}
    if kinds <= {int, float}:
        return abs(one - other) <= tolerance * max(abs(one), abs(other))
    return one == other


def check_equal(frames: Sequence[Frame], contrast: str) -> list[str]:
    """Refuse a series in which something else than its axis changes the signal.

    Args:
        frames: The images of the series.
        contrast: One of `KEYS`; a repetition time may differ where its model takes it,
            for "t1" and "vfa".

    Returns:
        Notes on what changes the noise alone.

    Raises:
        ValueError: A field differs; the message names it, its values and two images.
            Of persons and scanners it leaves the values out.
    """
    _check_person(frames)
    others = [key for name, (key, _) in KEYS.items() if name != contrast]
    if contrast == "t2":
        others += dict.fromkeys(k for r in REPETITION.values() for k in r)
    gains = {k: None for f in frames for k in f.fields if _GAIN.search(k)}
    for key in (*others, *_EQUAL, *gains):
        pair = _differing(frames, key)
        if pair is not None:
            one, other = pair
            raise ValueError(
                f"{other.sidecar.image}: {key} {other.fields[key]!r}, but "
                f"{one.fields[key]!r} of {one.name}; expected images that differ in "
                f"{KEYS[contrast][0]} alone. Name those that do"
            )
    pair = _differing(frames, "ImageType", _image_type)
    if pair is not None:
        one, other = pair
        raise ValueError(
            f"{other.sidecar.image}: ImageType {other.fields['ImageType']!r}, but "
            f"{one.fields['ImageType']!r} of {one.name}; expected images that were "
            "reconstructed in one way. Name those that were"
        )
    return [
        f"{key} differs, so does the noise, which the fit takes as equal: "
        f"{pair[0].fields[key]} of {pair[0].name}, {pair[1].fields[key]} of "
        f"{pair[1].name}"
        for key in _NOISE
        if (pair := _differing(frames, key)) is not None
    ]


def _check_person(frames: Sequence[Frame]) -> None:
    """Refuse images of several persons or scanners, by fields and by BIDS names."""
    pairs = [
        (key, pair) for key in _PERSON if (pair := _differing(frames, key)) is not None
    ]
    for key in ("sub", "ses"):
        values = [frame.sidecar.name.pairs.get(key) for frame in frames]
        others = (n for n, v in enumerate(values) if v != values[0])
        if (n := next(others, None)) is not None:
            pairs.append((f"{key}- in the name", (frames[0], frames[n])))
    for key, (one, other) in pairs:
        raise ValueError(
            f"{other.sidecar.image}: {key} is not that of {one.name}; expected images "
            "of one person, in one session and scanner. Name those"
        )


def _differing(
    frames: Sequence[Frame], key: str, read: Any = None
) -> tuple[Frame, Frame] | None:
    """The first two frames that disagree; what is not known agrees with all."""
    known = [f for f in frames if f.fields.get(key) is not None]
    for frame in known[1:]:
        values = [known[0].fields[key], frame.fields[key]]
        if not same(*(map(read, values) if read else values)):
            return known[0], frame
    return None


def _image_type(value: Any) -> list[str]:
    """Its words without those that number an echo or an inversion."""
    words = value if isinstance(value, list) else str(value).split("\\")
    kept = {str(w).upper() for w in words}
    return sorted(w for w in kept if not re.fullmatch(r"(TE|TI|FA|E|ECHO)_?\d+", w))
