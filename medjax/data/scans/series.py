"""Which images of those named, or of a folder, are one series, and along what.

What is known to change the signal is the series' axis (echo time, inversion time or
flip angle), or equal in all of its images, or a repetition time that the model takes;
else the images are grouped by it, or refused by naming it.
"""

import re
from collections.abc import Sequence

from medjax.data.scans.frames import KEYS, Frame, axis_values, levels, repetitions
from medjax.data.scans.sidecars import Sidecar

_MAPS = re.compile(
    r"(T1|T2|T2star|R1|R2|R2star|PD|M0|S0|MT|MTR|MTV|MWF|TB1|RB1|Chi)(map|sigma)|"
    r"T1star(map|sigma)|UNIT1|dseg|probseg|mask|residual|rsquared|status|efficiency|TB1\w+|RB1\w+|fieldmap"
)
_COMPONENTS = {
    "phase": {"P", "PHASE", "PHASE MAP"},
    "real": {"R", "REAL"},
    "imag": {"I", "IMAGINARY"},
}
_SHOWN = 4  # groups in a message


def measured_images(
    sidecars: Sequence[Sidecar], *, folder: bool
) -> tuple[list[list[int]], list[str]]:
    """Groups of files of one suffix, without derived images and phases.

    Args:
        sidecars: One a file.
        folder: Whether the files are all of a folder: what is no measured magnitude is
            left out then; of files that were named one by one it is an error.

    Returns:
        Indices of each group's files, and notes on what was left out.

    Raises:
        ValueError: There are images that cannot be fitted; of a folder, none that can.
    """
    reasons = [_unfit(sidecar) for sidecar in sidecars]
    kept = [n for n, reason in enumerate(reasons) if not reason]
    for sidecar in sidecars if not kept else ():
        if sidecar.name.suffix == "UNIT1":
            raise ValueError(
                f"{sidecar.image}: the combined image of MP2RAGE; expected magnitudes, "
                "or real signed values, as they were measured. T1 is looked up from "
                "Python, by medjax.mri.mp2rage_t1"
            )
    if not kept and all(reason == "derived" for reason in reasons):
        kept, reasons = list(range(len(sidecars))), [""] * len(sidecars)  # all there is
    for sidecar, reason in zip(sidecars, reasons, strict=True):
        if reason and not (folder and kept):
            raise ValueError(
                f"{sidecar.image}: {reason} images; expected magnitudes, or real "
                "signed values, as they were measured"
            )
    notes = [
        f"left out, {reason}: {s.image.name}"
        for s, reason in zip(sidecars, reasons, strict=True)
        if reason
    ]
    groups: dict[str, list[int]] = {}
    for n in kept:
        kind = sidecars[n].name.suffix if sidecars[n].name.pairs else ""
        real = "real " if _component(sidecars[n]) == "real" else ""
        groups.setdefault(real + kind, []).append(n)
    if len(groups) > 1 and not folder:
        names = " and ".join(
            f"{k.strip() or 'no suffix'} ({sidecars[g[0]].image.name})"
            for k, g in groups.items()
        )
        raise ValueError(
            f"{sidecars[0].image}: images of several kinds: {names}; expected those of "
            "one series"
        )
    return list(groups.values()), notes


def choose_series(
    frames: Sequence[Frame], contrast: str | None, *, folder: bool
) -> tuple[str, list[int], list[str]] | None:
    """The images that differ in one thing alone, that thing, and notes.

    Where flip angles (or inversion times) were measured at several echo times, the
    shortest one is taken, with the magnetisation transfer pulse off.

    Args:
        frames: The images.
        contrast: "t2", "t1" or "vfa"; None takes the only one that fits.
        folder: Whether images may be left out.

    Returns:
        Contrast, indices of the images, notes; None where no time differs.

    Raises:
        ValueError: Several things differ, and images are not to be grouped by one; or
            a folder holds a time twice.
    """
    candidates = {}
    for name in KEYS:
        values = axis_values(frames, name)
        if None in values or contrast not in (None, name):
            continue
        groups: dict[tuple[int, ...], list[int]] = {}
        for n, label in enumerate(zip(*_others(frames, name), strict=True)):
            groups.setdefault(label, []).append(n)
        usable = [g for g in groups.values() if len({values[n] for n in g}) > 1]
        if usable:
            candidates[name] = usable
    if not candidates:
        _refuse_joint(frames, contrast)
        return None
    if len(candidates) > 1:
        raise ValueError(
            f"{origin_of(frames)}: {_grid(frames)}; expected one of them to differ. "
            f"Say contrast=, one of {list(candidates)}, or name the files of one series"
        )
    ((name, usable),) = candidates.items()
    if len(usable) > 1 and name != "t2":
        usable = _shortest(frames, usable, name)
    if len(usable) > 1:
        ways = "; ".join(_way(frames, g) for g in usable[:_SHOWN])
        raise ValueError(
            f"{origin_of(frames)}: {_grid(frames)}; expected one series along "
            f"{KEYS[name][0]}. Name the files of one: {ways}"
        )
    chosen = usable[0]
    left = [frames[n].name for n in range(len(frames)) if n not in chosen]
    notes = [f"left out, measured in another way: {', '.join(left)}"] if left else []
    if left and not folder and len(candidates[name]) == 1:
        raise ValueError(
            f"{origin_of(frames)}: {_grid(frames)}; expected one series along "
            f"{KEYS[name][0]}. Leave out {', '.join(left)}"
        )
    return name, chosen, notes + _repeats(frames, chosen, name, folder=folder)


def _others(frames: Sequence[Frame], axis: str) -> list[list[int]]:
    """What images are grouped by: a label an image for each other parameter."""
    found = [levels(axis_values(frames, name)) for name in KEYS if name != axis]
    found.append(levels([_transfer(f) for f in frames]))
    if axis == "t2":
        times = repetitions(frames, axis)
        found.append(levels(times) if len(times) > 1 else [0] * len(frames))
    return found


def _transfer(frame: Frame) -> bool:
    """Whether a magnetisation transfer pulse was on."""
    state = frame.fields.get("MTState")
    return state is True or frame.sidecar.name.pairs.get("mt") == "on"


def _shortest(
    frames: Sequence[Frame], groups: list[list[int]], axis: str
) -> list[list[int]]:
    """Without transfer pulses; of groups that differ in echo time alone the first."""
    plain = [g for g in groups if not _transfer(frames[g[0]])] or groups
    first = [frames[g[0]] for g in plain]
    fixed = [axis_values(first, name) for name in KEYS if name not in ("t2", axis)]
    times = [t for t in axis_values(first, "t2") if t is not None]
    if any(len(set(levels(v))) > 1 for v in fixed) or len(set(times)) < len(plain):
        return plain
    return [plain[times.index(min(times))]]


def _repeats(
    frames: Sequence[Frame], chosen: list[int], name: str, *, folder: bool
) -> list[str]:
    """Times that are there twice: whole series are fitted together."""
    values = axis_values([frames[n] for n in chosen], name)
    labels = levels(values, 1e-6)
    counts = [labels.count(n) for n in range(max(labels) + 1)]
    if max(counts) == 1:
        return []
    twice = [n for n, label in zip(chosen, labels, strict=True) if counts[label] > 1]
    if folder and len(set(counts)) > 1:
        raise ValueError(
            f"{origin_of(frames)}: {frames[twice[0]].name} and others have one "
            f"{KEYS[name][0]}: {', '.join(frames[n].name for n in twice[:8])}; "
            "expected each once, or all equally often. Name the files of one series"
        )
    return [f"{KEYS[name][0]} is there up to {max(counts)} times; all are fitted"]


def _refuse_joint(frames: Sequence[Frame], contrast: str | None) -> None:
    """Say so where two things differ together, so that no group differs in one."""
    differ = [
        KEYS[name][0]
        for name in KEYS
        if len(set(levels(axis_values(frames, name)))) > 1
    ]
    if len(set(levels(repetitions(frames, contrast or "t2")))) > 1:
        differ.append("RepetitionTime")
    if len(differ) > 1:
        raise ValueError(
            f"{origin_of(frames)}: {' and '.join(differ)} differ together; expected "
            "images that differ in one alone. Name the files of such a series"
        )


def _grid(frames: Sequence[Frame]) -> str:
    """`12 images of 3 FlipAngle and 4 EchoTime`."""
    labels = {key: levels(axis_values(frames, n)) for n, (key, _) in KEYS.items()}
    labels["MTState"] = levels([_transfer(f) for f in frames])
    labels["RepetitionTime"] = levels(repetitions(frames, "t2"))
    several = [f"{len(set(v))} {key}" for key, v in labels.items() if len(set(v)) > 1]
    return f"{len(frames)} images of {' and '.join(several)}"


def _way(frames: Sequence[Frame], group: list[int]) -> str:
    """What to name, and what is constant there."""
    first = frames[group[0]]
    said = {
        key: first.fields[key]
        for name, (key, _) in KEYS.items()
        if len(set(levels(axis_values(frames, name)))) > 1
        and len(set(levels(axis_values([frames[n] for n in group], name)))) == 1
    }
    constant = ", ".join(f"{key} {value}" for key, value in said.items())
    return f"{','.join(frames[n].name for n in group)} ({constant or 'another TR'})"


def origin_of(frames: Sequence[Frame]) -> str:
    """The first image, and how many more there are."""
    image = frames[0].sidecar.image
    files = len({f.file for f in frames})
    return str(image) if files == 1 else f"{image.name} and {files - 1} more"


def _unfit(sidecar: Sidecar) -> str:
    """Why an image is no measured magnitude or signed value; "" where it is."""
    component = _component(sidecar)
    if component in ("phase", "imag"):
        return {"phase": "phase", "imag": "imaginary"}[component]
    words = _words(sidecar)
    derived = "DERIVED" in words or _MAPS.fullmatch(sidecar.name.suffix)
    return "derived" if derived else ""


def _component(sidecar: Sidecar) -> str:
    """Which part of the complex image: "mag", "phase", "real" or "imag"."""
    stem = sidecar.image.name.lower()
    words = _words(sidecar) | {
        str(sidecar.fields.get("ComplexImageComponent", "")).upper()
    }
    for part, marks in _COMPONENTS.items():
        if f"part-{part}" in stem or marks & words:
            return part
    tail = re.search(r"_(ph|real|imaginary)[a-z]?\.nii(\.gz)?$", stem)  # of dcm2niix
    return {"ph": "phase", "imaginary": "imag"}.get(tail[1], tail[1]) if tail else "mag"


def _words(sidecar: Sidecar) -> set[str]:
    """The words of ImageType."""
    value = sidecar.fields.get("ImageType") or ()
    words = value if isinstance(value, list) else str(value).split("\\")
    return {str(word).strip().upper() for word in words}
