"""ISMRMRD files: Cartesian acquisitions sorted into slices."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from medjax.data.scans.constant import check_constant, check_places, check_scanner
from medjax.data.scans.header import (
    Header,
    crop_readout,
    kept_rows,
    repetition_times,
    times_of_files,
)
from medjax.data.scans.ismrmrd_lines import (
    Lines,
    Measurement,
    calibration_lines,
    columns,
    crop_mask,
    directions,
    find_measurements,
    height,
    image_lines,
    read_noise,
    sort_lines,
    spans,
)
from medjax.data.scans.ismrmrd_volume import Volume, check_partitions, transform
from medjax.data.scans.protocol import named_sequence
from medjax.data.scans.scan import (
    Protocol,
    Scan,
    ScanSlice,
    centred_affine,
    check_voxel,
)
from medjax.data.scans.times import choose_times

_SMALL = math.radians(60)  # flip angles of gradient echoes, and of balanced ones
_SERIES = ("contrast", "set", "repetition", "phase")  # what may count echoes or TIs


def open_ismrmrd(
    paths: Sequence[Path],
    *,
    times: Sequence[float] | None,
    contrast: str | None,
    orientation: str,
) -> Scan:
    """The acquisitions of one measurement, one slice of all contrasts at a time.

    Times are the header's sequenceParameters (there in milliseconds), the E axis is
    whichever of contrast, set, repetition and phase varies; or the groups of the files
    (dataset, dataset_1, ...), where several hold images. Repeated lines are averaged,
    readout oversampling is removed, lines cut short (partial echoes) leave zeros
    outside the mask. Calibration lines count where they are embedded in the scan; those
    measured apart are returned beside it, for the sensitivities. Noise scans, also from
    a group or a file of their own, are scaled to the bandwidth of the images. Slices
    come in the order of their positions; partitions of three-dimensional k-space become
    slices by one transform, see `ismrmrd_volume`.

    Args:
        paths: Existing HDF5 files.
        times: E of them in s (radians for "vfa"), which win over the headers'; None
            takes those.
        contrast: "t2" (echo times), "t1" (inversion times) or "vfa" (flip angles); None
            where the headers leave no doubt.
        orientation: "vendor" conjugates k-space where the header says Siemens,
            "conjugate" always, "stored" never.

    Raises:
        ValueError: The scan is not Cartesian, or acquisitions contradict the header;
            the message names the file, what was expected and what it holds.
    """
    found = find_measurements(paths)
    images = [one for one in found if len(image_lines(one))]
    if not images:
        total = sum(len(one.heads) for one in found)
        raise ValueError(f"{paths[0]}: none of its {total} acquisitions is an image's")
    for one in images:
        _check_alike(one, images[0])
    path, header = images[0].path, images[0].header
    axis = _series(images)
    lines = _gather(images, [image_lines(one) for one in images], axis)
    apart = _gather(images, [calibration_lines(one) for one in images], axis)
    # A counter may begin at 1. Where its first value is missing instead, there are
    # fewer contrasts than times, which is refused.
    least = lines.contrast.min()
    lines = lines._replace(contrast=lines.contrast - least)
    apart = apart._replace(contrast=np.maximum(apart.contrast - least, 0))
    echoes = int(lines.contrast.max()) + 1
    headers = [one.header for one in images]
    check_scanner(headers, [one.name for one in images])
    known = times_of_files(headers) if axis is None else header.times
    origin = path.name if len(images) == 1 else ", ".join(one.name for one in images)
    contrast, series = choose_times(
        known, origin, count=echoes, times=times, contrast=contrast
    )
    doubts = check_constant(
        known, origin, count=echoes, contrast=contrast, given=times is not None
    )
    _check_heads(path, lines, header)
    check_places(lines.heads, lines.contrast, str(path))
    dwell = float(lines.heads["sample_time_us"][0])
    noise = read_noise(images, dwell)
    if noise is None:
        noise = read_noise([one for one in found if one not in images], dwell)
    conjugate = orientation == "conjugate" or orientation == "vendor" and header.siemens
    noise = noise.conj() if noise is not None and conjugate else noise
    rows = kept_rows(header, header.matrix[0])
    deep = _deep(path, lines, header)
    if not deep and len(apart.number):  # of three dimensions they are not read
        _check_heads(path, apart, header)
    if deep:
        check_partitions(lines, header, path, contrasts=echoes)
    # Lines of each slice, slices by position.
    order = _slices(path, lines, len(images) if axis is None else 1)
    if deep and len(order) > 1:
        raise ValueError(
            f"{path}: {len(order)} slabs of three-dimensional k-space; expected one. "
            "Write a file for each"
        )
    first = [lines.heads[lines.heads["idx"]["slice"] == s][0] for s in order]
    kept = _kept_partitions(header) if deep else range(len(order))
    voxel, affine = _geometry(path, header, first, rows, kept if deep else None)

    def lines_at(some: Lines, index: int) -> Lines:
        return some[some.heads["idx"]["slice"] == order[index]]

    def read(index: int) -> ScanSlice:
        kspace, mask = sort_lines(
            lines_at(lines, index), images, contrasts=echoes, conjugate=conjugate
        )
        kspace, mask = crop_readout(kspace, rows=rows), crop_mask(mask, rows)
        own, calibration = lines_at(apart, index), None
        if len(own.number):
            coils, measured = sort_lines(
                own, images, contrasts=echoes, conjugate=conjugate
            )
            there = measured.any((1, 2, 3))
            calibration = crop_readout(coils[there], rows=rows)
            calibration *= crop_mask(measured[there], rows)
        return ScanSlice(
            kspace=kspace * mask, mask=mask, noise=noise, calibration=calibration
        )

    volume: list[Volume] = []  # made when the first slice is asked for

    def read_partition(index: int) -> ScanSlice:
        if not volume:
            made = transform(lines, images, contrasts=echoes, conjugate=conjugate)
            volume.append(made)
        mask = volume[0].mask
        kspace = volume[0].read(kept[index])
        return ScanSlice(kspace=kspace * mask, mask=mask, noise=noise)

    repetition = repetition_times(headers, path.name, count=echoes, contrast=contrast)
    return Scan(
        path=path,
        kind="kspace",
        contrast=contrast,
        times=series,
        num_slices=len(kept),
        shape=(rows, header.matrix[1]),
        voxel_mm=voxel,
        affine=affine,
        read=read_partition if deep else read,
        repetition=repetition[0] if len(repetition) == 1 else None,
        protocol=_protocol(headers, contrast, repetition),
        files=tuple(dict.fromkeys(one.path for one in found)),
        notes=(*_notes(images, found, conjugate, deep, len(apart.number)), *doubts),
        conjugated=conjugate * (3 if deep else 2),
        dwell_us=dwell,
    )


def _protocol(
    headers: Sequence[Header], contrast: str, repetition: tuple[float, ...]
) -> Protocol:
    """What headers say: names, vendor, and angles and times that are constant.

    Small flip angles at several inversion times of one measurement may be readouts that
    follow one inversion.
    """
    first = headers[0]
    fixed = {
        name: tuple(values[:1])
        for name, values in first.times.items()
        if name != contrast and all(h.times.get(name) == values for h in headers)
        if len(set(values)) == 1
    }
    angle = fixed.get("vfa", ())
    sequence = named_sequence(first.names, contrast)
    if contrast == "t1" and not sequence and len(headers) == 1:
        sequence = "IRGRE" if angle and angle[0] < _SMALL else ""
    return Protocol(
        repetition=repetition,
        flip_angle=angle,
        echo_time=fixed.get("t2", ()),
        inversion_time=fixed.get("t1", ()),
        sequence=sequence,
        manufacturer=first.vendor,
    )


def _notes(
    images: Sequence[Measurement],
    found: Sequence[Measurement],
    conjugate: bool,
    deep: bool,
    apart: int,
) -> tuple[str, ...]:
    header = images[0].header
    why = f" of {header.vendor}" if header.siemens else ""
    notes = [
        f"orientation: k-space{why} is "
        + ("conjugated" if conjugate else "as it is stored")
        + " (predict.orientation); compare a figure's letters with the scanner's images"
    ]
    if len(found) > 1:
        names = ", ".join(one.name for one in images)
        rest = [one.name for one in found if one not in images]
        notes.append(
            f"images are those of {names}"
            + (f"; {', '.join(rest)} hold noise, or no images" if rest else "")
        )
    if deep and apart:
        notes.append(
            f"{apart} calibration lines measured apart are not used: k-space is "
            "three-dimensional"
        )
    return tuple(notes)


def _check_alike(one: Measurement, first: Measurement) -> None:
    """Groups of one measurement have one grid, on one scanner."""
    names = ("trajectory", "matrix", "fov_mm", "kept_mm", "vendor")
    for name in names:
        mine, theirs = getattr(one.header, name), getattr(first.header, name)
        if mine != theirs:
            raise ValueError(
                f"{one.name}: {name} {mine}, but {theirs} in {first.name}; expected "
                "groups or files of one measurement. Write a file with one of them"
            )
    if one.header.trajectory != "cartesian":
        raise ValueError(
            f"{one.path}: trajectory {one.header.trajectory!r}; expected 'cartesian'"
        )
    if one.heads.dtype != first.heads.dtype:
        raise ValueError(f"{one.name}: heads differ in type from those of {first.name}")


def _series(images: Sequence[Measurement]) -> str | None:
    """The counter that varies, "contrast" where none does; None where groups count."""
    for one in images:
        idx = one.heads["idx"][image_lines(one)]
        varied = {n: len(np.unique(idx[n])) for n in _SERIES}
        varied = {name: count for name, count in varied.items() if count > 1}
        if len(varied) > 1 or (varied and len(images) > 1):
            several = len(images) > 1
            raise ValueError(
                f"{one.name}: acquisitions vary in {varied}; expected "
                + ("one contrast in each of several groups or files" if several
                   else f"one of {_SERIES} to count the times")
                + ". Write a file with a single one of the others"
            )  # fmt: skip
        if varied:
            return next(iter(varied))
    return "contrast" if len(images) == 1 else None


def _gather(
    images: Sequence[Measurement],
    numbers: Sequence[Int[np.ndarray, "A"]],
    axis: str | None,
) -> Lines:
    """Acquisitions of all measurements, their contrasts counted."""
    parts = []
    for source, (one, chosen) in enumerate(zip(images, numbers, strict=True)):
        heads = one.heads[chosen]
        counted = np.full(len(chosen), source) if axis is None else heads["idx"][axis]
        own = np.full(len(chosen), source)
        parts.append(Lines(heads, own, chosen, counted.astype(int)))
    return Lines(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _check_heads(path: Path, lines: Lines, header: Header) -> None:
    coils = np.unique(lines.heads["active_channels"])
    if len(coils) > 1:
        raise ValueError(
            f"{path}: lines with {coils.tolist()} coils; expected one number"
        )
    steps = columns(lines.heads, header)
    if steps.min() < 0 or steps.max() >= header.matrix[1]:
        raise ValueError(
            f"{path}: phase-encoding step {steps.min()} to {steps.max()} about the "
            f"centre; expected 0 to {header.matrix[1] - 1}, the encoded matrix"
        )
    starts, stops = spans(lines.heads, header)
    if (starts >= stops).any() or starts.min() < 0 or stops.max() > header.matrix[0]:
        raise ValueError(
            f"{path}: lines reach from sample {starts.min()} to {stops.max()} about "
            f"their centre; expected within the encoded matrix, {header.matrix[0]}"
        )


def _deep(path: Path, lines: Lines, header: Header) -> bool:
    """Whether partitions are encoded: by the counter in use, not by the header.

    Pulseq's Siemens files of single slices declare two partitions and use one.
    """
    idx, depth = lines.heads["idx"], header.matrix[2]
    if len(np.unique(idx["kspace_encode_step_2"])) > 1:
        return True
    slices = len(np.unique(idx["slice"]))
    if depth > 2 and slices != depth:
        raise ValueError(
            f"{path}: three-dimensional k-space (encoded matrix {header.matrix}) with "
            f"{depth - 1} missing partitions of {depth}: one is measured. Expected all "
            "of them, or slices (an encoded matrix of 1 along z)"
        )
    return False


def _slices(path: Path, lines: Lines, groups: int) -> list[int]:
    """The slices' counters in the order of their positions, the same in all groups."""
    idx = lines.heads["idx"]["slice"]
    first = {int(idx[n]): lines.heads[n] for n in range(len(idx) - 1, -1, -1)}
    for source in range(groups if groups > 1 else 0):
        own = lines[lines.source == source]
        for s, head in first.items():
            there = own.heads[own.heads["idx"]["slice"] == s]
            if not len(there) or abs(height(there[0]) - height(head)) > 0.1:
                raise ValueError(
                    f"{path}: slice {s} lies elsewhere, or is missing, in group or "
                    f"file {source}; expected the same slices in all"
                )
    return sorted(first, key=lambda s: (height(first[s]), s))


def _kept_partitions(header: Header) -> range:
    """Partitions of the slab that is wanted, without slice oversampling."""
    depth = header.matrix[2]
    kept = min(depth, max(1, round(depth * header.kept_mm[2] / header.fov_mm[2])))
    first = depth // 2 - kept // 2
    return range(first, first + kept)


def _geometry(
    path: Path,
    header: Header,
    heads: Sequence[np.ndarray],
    rows: int,
    kept: range | None,
) -> tuple[tuple[float, float, float], Float[np.ndarray, "4 4"]]:
    """Voxel size, and the affine to RAS where the lines say where they lie."""
    full, width, depth = header.matrix
    slices = len(heads) if kept is None else len(kept)
    gap = np.asarray(heads[-1]["position"] - heads[0]["position"], np.float64)
    step = gap / max(len(heads) - 1, 1)
    apart = float(np.linalg.norm(step)) or header.kept_mm[2]
    if kept is not None:
        apart = header.fov_mm[2] / depth
    voxel = check_voxel(
        (header.fov_mm[0] / full, header.fov_mm[1] / width, apart), path.name
    )
    axes = directions(heads[0])
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        return voxel, centred_affine(voxel, (rows, width, slices))
    affine = np.eye(4)
    affine[:3, :3] = axes * voxel
    if gap.any():
        affine[:3, 2] = step
    middle = 0 if kept is None else depth // 2 - kept.start
    centre = affine[:3, :3] @ [rows // 2, width // 2, middle]
    affine[:3, 3] = heads[0]["position"] - centre
    return voxel, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS -> RAS
