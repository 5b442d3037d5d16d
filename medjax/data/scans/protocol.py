"""What sidecars say of a measurement: sequence, TR, angles, and whether they agree."""

import math
import re
from collections.abc import Sequence

from medjax.data.scans.frames import KEYS, Frame, axis_values, levels, repetitions
from medjax.data.scans.scan import Protocol
from medjax.data.scans.sidecars import numbers

_NAMES = {
    "MP2RAGE": r"mp2rage",
    "MOLLI": r"molli",
    "LL": r"look[-_ ]?locker|(?<![a-z])(ir)?ll(?![a-z])|tapir",
}
_ECHOES = {
    "MESE": r"mese|multi[-_ ]?(echo[-_ ]?)?spin[-_ ]?echo|se[-_]mc|cpmg",
    "MEGRE": r"me[-_ ]?gre|multi[-_ ]?(echo[-_ ]?)?gradient|t2[-_ ]?(star|\*)|mgre",
}
_BALANCED = r"tru[-_ ]?fi|fiesta|b[-_ ]?ssfp|balanced|(?<![a-z])b[-_ ]?(tfe|ffe)"
_SATURATION = r"sasha|saturation[-_ ]?recovery"
_TEXTS = (
    "PulseSequenceType",
    "PulseSequenceDetails",
    "PulseSequenceName",
    "InternalPulseSequenceName",
    "SequenceName",
    "ProtocolName",
    "SeriesDescription",
)
# What T1 of MP2RAGE is looked up by, beside its inversion times.
_LOOKUP = (
    "FlipAngle",
    "RepetitionTimePreparation",
    "RepetitionTimeExcitation",
    "NumberShots",
)
_REFOCUSING = ("RefocusingFlipAngle", "RefocusFlipAngle")


def read_protocol(
    frames: Sequence[Frame], contrast: str, *, given: bool
) -> tuple[Protocol, list[str]]:
    """The protocol of a series in the order of its images, and notes.

    Args:
        frames: The images, in the order of their times.
        contrast: "t2", "t1" or "vfa".
        given: Whether the times are the caller's: the sidecars' are not compared then.

    Raises:
        ValueError: A field is out of its range, or two contradict each other.
    """
    origin = frames[0].sidecar.origin
    repetition = repetitions(frames, contrast)
    values = {name: axis_values(frames, name) for name in KEYS}
    known = {
        name: tuple(v for v in found if v is not None) for name, found in values.items()
    }
    if given:
        known[contrast] = ()
    if known["t2"] and max(known["t2"]) > 1:
        raise ValueError(
            f"{origin}: EchoTime {max(known['t2'])}; expected seconds, this looks like "
            "milliseconds: divide by 1000"
        )
    for name in ("t2", "t1") if contrast == "t1" else ("t2",):
        own = [repetition[0]] * len(frames) if len(repetition) == 1 else repetition
        pairs = zip(values[name], own, strict=True) if known[name] and own else ()
        late = [(t, tr) for t, tr in pairs if t is not None and t >= tr]
        if late:
            raise ValueError(
                f"{origin}: {KEYS[name][0]} {max(late)[0]} s is not below the "
                f"repetition time {max(late)[1]} s; expected both in seconds"
                + (
                    ""
                    if name == "t2"
                    else ", and RepetitionTimePreparation, the time "
                    "between inversions, where RepetitionTime is that of excitations"
                )
            )
    angles = known["vfa"]
    if angles and not 0 <= min(angles) <= max(angles) <= 2 * math.pi:
        raise ValueError(
            f"{origin}: FlipAngle {math.degrees(max(angles)):.6g}; expected 0 to 180 "
            "degrees"
        )
    if contrast == "vfa" and angles and max(angles) < math.radians(1.6):
        raise ValueError(
            f"{origin}: flip angles up to {math.degrees(max(angles)):.4g}; these look "
            "like radians, expected degrees"
        )
    refocusing = [
        float(value)
        for key in _REFOCUSING
        if isinstance(value := numbers(frames[0].sidecar, key), float)
    ]
    sequence = _sequence(frames, contrast)
    notes = _order(frames, contrast, given=given) + _slices(frames, contrast)
    notes += _turbo(frames, sequence) + _balanced(frames, contrast)
    if contrast == "vfa" and repetition and max(repetition) > 1:
        notes.append(
            f"doubt: a repetition time of {max(repetition):g} s is long for gradient "
            "echoes at several flip angles; is it in milliseconds?"
        )
    return (
        Protocol(
            repetition=repetition,
            flip_angle=_one_or_all(known["vfa"], len(frames)),
            echo_time=_one_or_all(known["t2"], len(frames)),
            inversion_time=_one_or_all(known["t1"], len(frames)),
            refocusing_angle=math.radians(refocusing[0]) if refocusing else None,
            sequence=sequence,
            manufacturer=str(frames[0].fields.get("Manufacturer") or ""),
        ),
        notes,
    )


def named_sequence(text: str, contrast: str) -> str:
    """One of `scan.SEQUENCES` by the names of protocol, series and sequence, or "".

    Args:
        text: The names, in small letters.
        contrast: "t2", "t1" or "vfa", which has no names of its own.
    """
    marks = {"t1": {**_NAMES, "SR": _SATURATION}, "t2": _ECHOES}.get(contrast, {})
    return next((n for n, mark in marks.items() if re.search(mark, text)), "")


def refuse_mp2rage(frames: Sequence[Frame]) -> None:
    """Say of MP2RAGE's two inversion images what makes T1 of them.

    Raises:
        ValueError: Names or suffix say MP2RAGE, and inversion times differ.
    """
    first = frames[0]
    suffix = first.sidecar.name.suffix if first.sidecar.name.pairs else ""
    named = suffix == "MP2RAGE" or re.search(_NAMES["MP2RAGE"], _text(first))
    if not named or len(set(levels(axis_values(frames, "t1")))) < 2:
        return
    lacking = [k for k in _LOOKUP if any(k not in f.fields for f in frames)]
    raise ValueError(
        f"{first.sidecar.image}: an MP2RAGE measurement, two trains of gradient echoes "
        "after one inversion; expected one readout after each. T1 is looked up from "
        "Python: medjax.mri.mp2rage_t1(mp2rage_uniform(inv1, inv2), "
        "protocol=Mp2rage(...)) of complex or signed images, or of UNIT1"
        + (f". Its sidecars lack {', '.join(lacking)}" if lacking else "")
    )


def _text(frame: Frame) -> str:
    """The names of an image, in small letters."""
    text = " ".join(str(frame.fields.get(key) or "") for key in _TEXTS)
    return f"{text} {frame.sidecar.image.name}".lower()


def _slices(frames: Sequence[Frame], contrast: str) -> list[str]:
    """One inversion before the slices of an EPI: they have other inversion times."""
    first = frames[0]
    timing = numbers(first.sidecar, "SliceTiming")
    by_slice = any(isinstance(f.fields.get("InversionTime"), list) for f in frames)
    if contrast != "t1" or "EP" not in _words(first) or by_slice:
        return []
    if not isinstance(timing, list) or max(timing) - min(timing) < 0.01:
        return []
    return [
        f"doubt: SliceTiming says slices are up to {max(timing) - min(timing):g} s "
        "apart; where one inversion serves them all, write InversionTime by slice"
    ]


def _turbo(frames: Sequence[Frame], sequence: str) -> list[str]:
    """Several echoes after an excitation, of which each image is a mixture."""
    length = frames[0].fields.get("EchoTrainLength")
    if sequence != "SE" or not isinstance(length, int | float) or length < 2:
        return []
    return [
        f"doubt: EchoTrainLength {length:g} of images that were measured one by one: "
        "turbo spin echoes, whose echo times are effective ones and whose stimulated "
        "echoes lengthen T2"
    ]


def _balanced(frames: Sequence[Frame], contrast: str) -> list[str]:
    """Balanced gradient echoes, whose signal at several angles depends on T2 too."""
    if contrast != "vfa" or not re.search(_BALANCED, _text(frames[0])):
        return []
    return [
        "doubt: the names say balanced gradient echoes; T1 of several flip angles is "
        "for spoiled ones, whose signal does not depend on T2"
    ]


def _one_or_all(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Equal values as one; () where an image lacks its own."""
    if len(values) != count:
        return ()
    return values if len(set(levels(values, 1e-6))) > 1 else values[:1]


def _sequence(frames: Sequence[Frame], contrast: str) -> str:
    """One of `scan.SEQUENCES`, from suffix, names and the DICOM words."""
    first = frames[0]
    text = _text(first)
    suffix = first.sidecar.name.suffix if first.sidecar.name.pairs else ""
    words = _words(first)
    gradient, spin = "GR" in words, "SE" in words
    if contrast == "t1":
        found = named_sequence(text, contrast)
        if suffix == "MP2RAGE" or found:
            return suffix if suffix == "MP2RAGE" else found
        train = gradient and _train(frames) and suffix != "IRT1"
        return "IRGRE" if train else "IR"
    if contrast == "vfa":
        if any(f.fields.get("SpoilingState") is False for f in frames):
            raise ValueError(
                f"{first.sidecar.origin}: SpoilingState false at several flip angles; "
                "expected spoiled gradient echoes, whose signal does not depend on T2. "
                "Correct the field, or name other images"
            )
        if spin and not gradient:
            raise ValueError(
                f"{first.sidecar.origin}: ScanningSequence "
                f"{first.fields['ScanningSequence']!r} at several flip angles; "
                "expected spoiled gradient echoes (GR). Correct the field, or name "
                "other images"
            )
        return "VFA"
    if suffix in ("MESE", "MEGRE"):
        return suffix
    if gradient and not spin:
        return "MEGRE" if _train(frames) else "GRE"
    if spin:  # with gradient echoes beside it (GRASE) the centre is a spin echo's
        return "MESE" if _train(frames) else "SE"
    return named_sequence(text, contrast)


def _words(frame: Frame) -> set[str]:
    """The words of ScanningSequence, such as {"SE", "IR"}."""
    value = frame.fields.get("ScanningSequence") or ()
    words = value if isinstance(value, list) else re.split(r"[\\_ ,/]+", str(value))
    return {str(word).upper() for word in words}


def _train(frames: Sequence[Frame]) -> bool:
    """Whether images are of one acquisition, as far as is known: else they are."""
    numbers_of = [f.fields.get("SeriesNumber") for f in frames]
    return None in numbers_of or len({str(n) for n in numbers_of}) < len(frames)


def _order(frames: Sequence[Frame], contrast: str, *, given: bool) -> list[str]:
    """Echo times rise with the echoes' numbers."""
    if contrast != "t2" or given:
        return []
    order = [f.fields.get("EchoNumber") for f in frames]
    if all(type(n) is int for n in order) and len(set(order)) == len(order):
        if order != sorted(order):
            raise ValueError(
                f"{frames[0].sidecar.origin}: EchoNumber {order} in the order of "
                "EchoTime; expected both to rise together. Correct the sidecars"
            )
        return []
    labels = [f.sidecar.name.pairs.get("echo", "") for f in frames]
    if all(n.isdigit() for n in labels) and len(set(labels)) == len(labels):
        if labels != sorted(labels, key=int):
            return [
                "doubt: the echoes' numbers in the names do not rise with EchoTime: "
                + ", ".join(f.name for f in frames)
            ]
    return []
