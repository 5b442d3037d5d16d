"""Acquisitions of ISMRMRD files: what each one is, and where in k-space it lies."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Shaped

from medjax.data.scans.header import Header, parse_header
from medjax.data.scans.scan import reading, require

# Bits of an acquisition's flags, numbered from 1 (ismrmrd.h).
_NOISE, _CALIBRATION, _REVERSED = 19, 20, 22
# Navigator, phase correction, feedback, dummy, surface-coil and stabilisation lines.
_NO_IMAGE = (23, 24, 26, 27, 28, 29, 30, 31)

_HEADS = 128  # acquisitions read at once
_HEAD = (
    "flags number_of_samples active_channels discard_pre discard_post center_sample "
    "encoding_space_ref sample_time_us position read_dir phase_dir slice_dir idx"
).split()


class Measurement(NamedTuple):
    """A group of an ISMRMRD file."""

    path: Path
    group: str
    header: Header
    heads: Shaped[np.ndarray, "A"]  # of all its acquisitions, as they are stored

    @property
    def name(self) -> str:
        """`scan.h5, dataset_1`, as errors call it."""
        return f"{self.path}, {self.group}"


class Lines(NamedTuple):
    """Acquisitions of one kind, and where each one's samples are."""

    heads: Shaped[np.ndarray, "A"]
    source: Int[np.ndarray, "A"]  # which of the measurements
    number: Int[np.ndarray, "A"]  # which of its acquisitions
    contrast: Int[np.ndarray, "A"]

    def __getitem__(self, chosen: Shaped[np.ndarray, "..."]) -> "Lines":  # type: ignore
        return Lines(*(part[chosen] for part in tuple(self)))


def find_measurements(paths: Sequence[Path]) -> list[Measurement]:
    """The groups of some files that hold acquisitions, in the order of their names.

    Raises:
        ValueError: A file is damaged, or its header is none.
    """
    found = []
    for path in paths:
        with reading(path), require("h5py", path).File(path) as file:
            for group in sorted(name for name in file if is_measurement(file[name])):
                text = np.ravel(file[group]["xml"][()])
                kind = file[group]["data"].dtype
                lacking = [n for n in _HEAD if n not in (kind["head"].names or ())]
                if not text.size or lacking or "data" not in kind.names:
                    raise ValueError(
                        f"{path}, {group}: acquisitions without {lacking or 'data'}; "
                        "expected those of ISMRMRD 1.x, with a header in xml"
                    )
                header = parse_header(text[0], path.name)
                heads = _read_heads(file[group]["data"])
                found.append(Measurement(path, group, header, heads))
    return found


def _read_heads(data: Any) -> Shaped[np.ndarray, "A"]:
    """All heads. HDF5 2.0 keeps the samples in memory where heads alone are read."""
    if data.ndim != 1:
        return np.ravel(data.fields("head")[()])
    heads = np.empty(len(data), data.dtype["head"])
    for first in range(0, len(data), _HEADS):
        heads[first : first + _HEADS] = data[first : first + _HEADS]["head"]
    return heads


def is_measurement(group: object) -> bool:
    """Whether a member of an HDF5 file is a group of acquisitions with a header."""
    return (
        hasattr(group, "keys")
        and "xml" in group  # type: ignore[operator]
        and "data" in group  # type: ignore[operator]
        and "head" in (group["data"].dtype.names or ())  # type: ignore[index]
    )


def image_lines(measurement: Measurement) -> Int[np.ndarray, "A"]:
    """Indices of the acquisitions that images are made of.

    Calibration lines are among them where they are embedded in the scan.
    """
    heads = measurement.heads
    apart = measurement.header.calibration not in ("embedded", "interleaved")
    other = (_NOISE, *_NO_IMAGE, *[_CALIBRATION] * apart)
    kept = ~flagged(heads["flags"], other) & (heads["encoding_space_ref"] == 0)
    return np.flatnonzero(kept)


def calibration_lines(measurement: Measurement) -> Int[np.ndarray, "A"]:
    """Indices of the lines that were measured apart, for the sensitivities alone."""
    heads = measurement.heads
    kept = flagged(heads["flags"], [_CALIBRATION]) & (heads["encoding_space_ref"] == 0)
    kept &= ~flagged(heads["flags"], (_NOISE, *_NO_IMAGE))
    return np.setdiff1d(np.flatnonzero(kept), image_lines(measurement))


def flagged(flags: Int[np.ndarray, "A"], bits: Sequence[int]) -> Bool[np.ndarray, "A"]:
    """Where any of the bits, numbered from 1, is set."""
    return (flags & np.uint64(sum(1 << (bit - 1) for bit in bits))) != 0


def read_noise(
    measurements: Sequence[Measurement], dwell_us: float, *, every: bool = False
) -> Complex[np.ndarray, "C N"] | None:
    """Samples of the noise scans, with the variance they have in image lines.

    White noise has a variance of 1 / dwell time.

    Args:
        measurements: Where noise scans are looked for.
        dwell_us: Of the image lines; 0 where it is not known, and nothing is scaled.
        every: Take all acquisitions of a measurement without marked noise scans.

    Returns:
        None where there are none.

    Raises:
        ValueError: Noise scans have different numbers of coils.
    """
    parts = []
    for one in measurements:
        marked = flagged(one.heads["flags"], [_NOISE])
        which = np.flatnonzero(marked)
        which = np.arange(len(marked)) if every and not len(which) else which
        for n, samples in zip(which, read_samples(one, which), strict=True):
            dwell = float(one.heads["sample_time_us"][n])
            known = dwell > 0 and dwell_us > 0
            scale = math.sqrt(dwell / dwell_us) if known else 1.0
            parts.append(samples * np.float32(scale))
    coils = {len(part) for part in parts}
    if len(coils) > 1:
        raise ValueError(
            f"{measurements[0].path}: noise scans with {sorted(coils)} coils; expected "
            "one number"
        )
    return np.concatenate(parts, axis=1) if parts else None


def read_samples(
    measurement: Measurement, numbers: Int[np.ndarray, "A"]
) -> list[Complex[np.ndarray, "C N"]]:
    """All samples of some acquisitions, as they were measured.

    Raises:
        ValueError: An acquisition holds another number of values than its head says.
    """
    path, found = measurement.path, []
    with reading(path), require("h5py", path).File(path) as file:
        data = file[measurement.group]["data"].fields("data")
        for n in numbers.tolist():
            head, values = measurement.heads[n], data[n]
            shape = int(head["active_channels"]), int(head["number_of_samples"])
            if values.size != 2 * math.prod(shape):
                raise ValueError(
                    f"{path}, acquisition {n}: {values.size} numbers; expected "
                    f"{2 * math.prod(shape)} for {shape[0]} coils of {shape[1]} "
                    "complex samples"
                )
            found.append(values.view(np.complex64).reshape(shape))
    return found


def columns(heads: Shaped[np.ndarray, "A"], header: Header) -> Int[np.ndarray, "A"]:
    """Where on the W axis each line lies, the zero frequency at W // 2."""
    width, centre = header.matrix[1], header.centre
    return _placed(heads, "kspace_encode_step_1", width, _own(heads, header, 5, centre))


def partitions(heads: Shaped[np.ndarray, "A"], header: Header) -> Int[np.ndarray, "A"]:
    """Where on the partitions' axis each line lies, the zero frequency at Z // 2."""
    count, centre = header.matrix[2], header.middle
    return _placed(heads, "kspace_encode_step_2", count, _own(heads, header, 6, centre))


def _own(
    heads: Shaped[np.ndarray, "A"], header: Header, counter: int, centre: int | None
) -> int | None:
    """The step of the zero frequency: the header's, or what Siemens' lines say.

    siemens_to_ismrmrd keeps the scanner's own centre line in the user counter 5, and
    its centre partition in 6; the header's is guessed from the protocol, wrongly for
    some partial Fourier scans.
    """
    said = np.unique(heads["idx"]["user"][:, counter])
    use = header.siemens and len(said) == 1 and said[0] > 0
    return int(said[0]) if use else centre


def _placed(
    heads: Shaped[np.ndarray, "A"], step: str, size: int, centre: int | None
) -> Int[np.ndarray, "A"]:
    steps = heads["idx"][step].astype(int)
    return steps - (size // 2 if centre is None else centre) + size // 2


def spans(
    heads: Shaped[np.ndarray, "A"], header: Header
) -> tuple[Int[np.ndarray, "A"], Int[np.ndarray, "A"]]:
    """First row of the encoded matrix that each line fills, and the row behind it.

    `center_sample` counts in the order of measuring. Of reversed lines Siemens' one is
    N / 2 all the same, which is sample N / 2 of the line once it is turned round; so
    are others' that would not fit otherwise.
    """
    count, centre = (
        heads[name].astype(int) for name in ("number_of_samples", "center_sample")
    )
    before, after = (heads[n].astype(int) for n in ("discard_pre", "discard_post"))
    turned = flagged(heads["flags"], [_REVERSED])
    before, after = np.where(turned, after, before), np.where(turned, before, after)
    rows = header.matrix[0]
    first = rows // 2 - np.where(turned, count - 1 - centre, centre)
    beyond = (first + before < 0) | (first + count - after > rows)
    shifted = turned & (header.siemens | beyond[turned].any())
    first = np.where(shifted, first - 1, first)
    return first + before, first + count - after


def arranged(
    samples: Complex[np.ndarray, "C N"], head: Shaped[np.ndarray, ""]
) -> Complex[np.ndarray, "C R"]:
    """A line's samples in the order of k-space, without those to discard."""
    kept = slice(
        int(head["discard_pre"]),
        int(head["number_of_samples"]) - int(head["discard_post"]),
    )
    line = samples[:, kept]
    return line[:, ::-1] if flagged(head["flags"], [_REVERSED]) else line


def sort_lines(
    lines: Lines,
    measurements: Sequence[Measurement],
    *,
    contrasts: int,
    conjugate: bool,
) -> tuple[Complex[np.ndarray, "E C R W"], Bool[np.ndarray, "E 1 R W"]]:
    """Lines in their places in the encoded matrix; lines of one place are averaged.

    Args:
        lines: Of one slice, at least one.
        measurements: Where the samples are; the first one's header is that of all.
        contrasts: E.
        conjugate: Whether samples are conjugated, which turns the image's axes round.

    Raises:
        ValueError: A file is damaged.
    """
    header = measurements[0].header
    full, width = header.matrix[:2]
    coils = int(lines.heads["active_channels"][0])
    kspace = np.zeros((contrasts, coils, full, width), np.complex64)
    count = np.zeros((contrasts, 1, full, width), np.float32)
    places = zip(*spans(lines.heads, header), columns(lines.heads, header), strict=True)
    places = list(places)
    for source, one in enumerate(measurements):
        chosen = np.flatnonzero(lines.source == source)
        for n, found in zip(
            chosen, read_samples(one, lines.number[chosen]), strict=True
        ):
            start, stop, column = places[n]
            line = arranged(found, lines.heads[n])
            line = line.conj() if conjugate else line
            kspace[lines.contrast[n], :, start:stop, column] += line
            count[lines.contrast[n], :, start:stop, column] += 1
    return kspace / np.maximum(count, 1), count > 0


def crop_mask(
    mask: Bool[np.ndarray, "E 1 R W"], rows: int
) -> Bool[np.ndarray, "E 1 H W"]:
    """Rows of the coarser grid that the measured samples reach; its step is R / H."""
    full = mask.shape[-2]
    places = (np.arange(rows) - rows // 2) * (full / rows) + full // 2
    return mask[..., np.clip(np.rint(places).astype(int), 0, full - 1), :]


def height(head: Shaped[np.ndarray, ""]) -> float:
    """Position along the slices' normal, LPS mm."""
    return round(float(np.dot(head["position"], head["slice_dir"])), 3)


def directions(head: Shaped[np.ndarray, ""]) -> Float[np.ndarray, "3 3"]:
    """Unit vectors of readout, phase encoding and slices as columns, LPS."""
    names = ("read_dir", "phase_dir", "slice_dir")
    return np.stack([np.asarray(head[n], np.float64) for n in names], axis=1)
