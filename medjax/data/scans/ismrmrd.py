"""ISMRMRD files: Cartesian two-dimensional acquisitions sorted into slices."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Complex, Float, Int, Shaped

from medjax.data.scans.header import Header, crop_readout, kept_rows, parse_header
from medjax.data.scans.scan import (
    Scan,
    ScanSlice,
    centred_affine,
    check_voxel,
    make_scan,
    reading,
    require,
)
from medjax.data.scans.times import choose_times

# Bits of an acquisition's flags, numbered from 1 (ismrmrd.h).
_NOISE, _CALIBRATION, _REVERSED = 19, 20, 22
# Navigator, phase correction, feedback, dummy, surface-coil and stabilisation lines.
_NO_IMAGE = (23, 24, 26, 27, 28, 29, 30, 31)
_SERIES = ("contrast", "set", "repetition", "phase")  # what may count echoes or TIs


def open_ismrmrd(
    path: Path, *, times: Sequence[float] | None, contrast: str | None
) -> Scan:
    """The acquisitions of `dataset/data`, one slice of all contrasts at a time.

    Times are the header's sequenceParameters (there in milliseconds), the E axis is
    whichever of contrast, set, repetition and phase varies. Repeated lines are
    averaged, readout oversampling is removed, lines cut short (partial echoes) leave
    zeros outside the mask. Calibration lines count where they are embedded in the scan.
    Noise scans are returned, scaled to the bandwidth of the images. Slices come in the
    order of their positions.

    Args:
        path: An existing HDF5 file with `dataset/xml` and `dataset/data`.
        times: E of them in s (radians for "vfa"), which win over the header's; None
            takes those.
        contrast: "t2" (echo times), "t1" (inversion times) or "vfa" (flip angles); None
            where the header leaves no doubt.

    Raises:
        ValueError: The scan is not Cartesian and two-dimensional, or acquisitions
            contradict the header; the message names the file, what was expected and
            what it holds.
    """
    h5py = require("h5py", path)
    with reading(path), h5py.File(path) as file:
        header = parse_header(file["dataset/xml"][0], path.name)
        heads = file["dataset/data"].fields("head")[()]
        noise = _noise(file["dataset/data"], heads)
    if header.trajectory != "cartesian":
        raise ValueError(
            f"{path}: trajectory {header.trajectory!r}; expected 'cartesian'"
        )
    apart = header.calibration not in ("embedded", "interleaved")
    other = (_NOISE, *_NO_IMAGE, *[_CALIBRATION] * apart)
    chosen = np.flatnonzero(
        ~_flagged(heads["flags"], other) & (heads["encoding_space_ref"] == 0)
    )
    if not len(chosen):
        raise ValueError(f"{path}: none of its {len(heads)} acquisitions is an image's")
    axis = _series(path, heads[chosen], header)
    idx = heads["idx"]
    echoes = int(idx[axis][chosen].max()) + 1
    contrast, series = choose_times(
        header.times, path.name, count=echoes, times=times, contrast=contrast
    )
    _check_heads(path, heads[chosen], header)
    rows = kept_rows(header, header.matrix[0])
    # Lines of each slice, slices by position.
    first = {int(idx["slice"][n]): heads[n] for n in chosen[::-1]}
    order = sorted(first, key=lambda s: (_height(first[s]), s))
    lines = [chosen[idx["slice"][chosen] == s] for s in order]
    voxel, affine = _geometry(path, header, [first[s] for s in order], rows)

    def read(index: int) -> ScanSlice:
        picked = lines[index]
        with reading(path), h5py.File(path) as file:
            data = file["dataset/data"].fields("data")
            samples = [_samples(path, n, heads[n], data[int(n)]) for n in picked]
        kspace, mask = _sort(samples, heads[picked], header, axis, echoes)
        kspace, mask = crop_readout(kspace, rows=rows), _crop_mask(mask, rows)
        return ScanSlice(kspace=kspace * mask, mask=mask, noise=noise)

    return make_scan(
        Scan(
            path=path,
            kind="kspace",
            contrast=contrast,
            times=series,
            num_slices=len(order),
            shape=(rows, header.matrix[1]),
            voxel_mm=voxel,
            affine=affine,
            read=read,
            repetition=header.repetition,
        )
    )


def _flagged(flags: Int[np.ndarray, "A"], bits: Sequence[int]) -> Bool[np.ndarray, "A"]:
    return (flags & np.uint64(sum(1 << (bit - 1) for bit in bits))) != 0


def _noise(
    data: Any, heads: Shaped[np.ndarray, "A"]
) -> Complex[np.ndarray, "C N"] | None:
    """Samples of the noise scans, with the variance they have in image lines.

    White noise has a variance of 1 / dwell time.
    """
    which = np.flatnonzero(_flagged(heads["flags"], [_NOISE]))
    if not len(which):
        return None
    parts = [
        data.fields("data")[int(n)].view(np.complex64).reshape(
            int(heads["active_channels"][n]), -1
        )
        for n in which
    ]  # fmt: skip
    dwell = float(heads["sample_time_us"][which[0]])
    others = np.setdiff1d(np.arange(len(heads)), which)
    image = float(heads["sample_time_us"][others[-1]]) if len(others) else 0.0
    scale = math.sqrt(dwell / image) if dwell > 0 and image > 0 else 1.0
    return np.concatenate(parts, axis=1) * np.float32(scale)


def _series(path: Path, heads: Shaped[np.ndarray, "A"], header: Header) -> str:
    """The counter that varies; "contrast" where none does."""
    if heads["idx"]["kspace_encode_step_2"].any() or header.matrix[2] > 1:
        raise ValueError(
            f"{path}: three-dimensional k-space (encoded matrix {header.matrix}); "
            "expected slices: transform it along the partitions and store slices"
        )
    varied = {
        n: int(heads["idx"][n].max()) + 1 for n in _SERIES if heads["idx"][n].any()
    }
    if len(varied) > 1:
        raise ValueError(
            f"{path}: acquisitions vary in {varied}; expected one of {_SERIES} to "
            "count the times. Write a file with a single one of the others"
        )
    return next(iter(varied), "contrast")


def _check_heads(path: Path, heads: Shaped[np.ndarray, "A"], header: Header) -> None:
    coils = np.unique(heads["active_channels"])
    if len(coils) > 1:
        raise ValueError(
            f"{path}: image lines with {coils.tolist()} coils; expected one number"
        )
    steps = _columns(heads, header)
    if steps.min() < 0 or steps.max() >= header.matrix[1]:
        raise ValueError(
            f"{path}: phase-encoding step {steps.min()} to {steps.max()} about the "
            f"centre; expected 0 to {header.matrix[1] - 1}, the encoded matrix"
        )
    starts, stops = zip(*(_span(head, header) for head in heads), strict=True)
    empty = any(a >= b for a, b in zip(starts, stops, strict=True))
    if empty or min(starts) < 0 or max(stops) > header.matrix[0]:
        raise ValueError(
            f"{path}: lines reach from sample {min(starts)} to {max(stops)} about "
            f"their centre; expected within the encoded matrix, {header.matrix[0]}"
        )


def _columns(heads: Shaped[np.ndarray, "A"], header: Header) -> Int[np.ndarray, "A"]:
    """Where on the W axis each line lies, the header's centre at W // 2."""
    width = header.matrix[1]
    centre = width // 2 if header.centre is None else header.centre
    return heads["idx"]["kspace_encode_step_1"].astype(int) - centre + width // 2


def _span(head: Any, header: Header) -> tuple[int, int]:
    """Rows of the encoded matrix that a line fills, its centre sample at its middle."""
    count, centre = int(head["number_of_samples"]), int(head["center_sample"])
    before, after = int(head["discard_pre"]), int(head["discard_post"])
    if _flagged(head["flags"], [_REVERSED]):
        centre, before, after = count - 1 - centre, after, before
    first = header.matrix[0] // 2 - centre
    return first + before, first + count - after


def _samples(
    path: Path, number: int, head: Any, data: Float[np.ndarray, "D"]
) -> Complex[np.ndarray, "C R"]:
    """A line's samples in the order of k-space, without those to discard."""
    coils, count = int(head["active_channels"]), int(head["number_of_samples"])
    if data.size != 2 * coils * count:
        raise ValueError(
            f"{path}, acquisition {number}: {data.size} numbers; expected "
            f"{2 * coils * count} for {coils} coils of {count} complex samples"
        )
    kept = slice(int(head["discard_pre"]), count - int(head["discard_post"]))
    samples = data.view(np.complex64).reshape(coils, count)[:, kept]
    return samples[:, ::-1] if _flagged(head["flags"], [_REVERSED]) else samples


def _sort(
    samples: Sequence[Complex[np.ndarray, "C R"]],
    heads: Shaped[np.ndarray, "A"],
    header: Header,
    axis: str,
    echoes: int,
) -> tuple[Complex[np.ndarray, "E C R W"], Bool[np.ndarray, "E 1 R W"]]:
    """Lines in their places; lines of one place are averaged."""
    full, width = header.matrix[:2]
    kspace = np.zeros((echoes, len(samples[0]), full, width), np.complex64)
    count = np.zeros((echoes, 1, full, width), np.float32)
    columns = _columns(heads, header)
    for line, head, column in zip(samples, heads, columns, strict=True):
        start, stop = _span(head, header)
        echo = int(head["idx"][axis])
        kspace[echo, :, start:stop, column] += line
        count[echo, :, start:stop, column] += 1
    return kspace / np.maximum(count, 1), count > 0


def _crop_mask(
    mask: Bool[np.ndarray, "E 1 R W"], rows: int
) -> Bool[np.ndarray, "E 1 H W"]:
    """Rows of the coarser grid that the measured samples reach; its step is R / H."""
    full = mask.shape[-2]
    places = (np.arange(rows) - rows // 2) * (full / rows) + full // 2
    return mask[..., np.clip(np.rint(places).astype(int), 0, full - 1), :]


def _height(head: Any) -> float:
    """Position along the slices' normal, LPS mm."""
    return round(float(np.dot(head["position"], head["slice_dir"])), 3)


def _geometry(
    path: Path, header: Header, heads: Sequence[Any], rows: int
) -> tuple[tuple[float, float, float], Float[np.ndarray, "4 4"]]:
    """Voxel size, and the affine to RAS where the lines say where they lie."""
    full, width = header.matrix[:2]
    gap = np.asarray(heads[-1]["position"] - heads[0]["position"], np.float64)
    step = gap / max(len(heads) - 1, 1)
    apart = float(np.linalg.norm(step)) or header.kept_mm[2]
    voxel = check_voxel(
        (header.fov_mm[0] / full, header.fov_mm[1] / width, apart), path.name
    )
    names = ("read_dir", "phase_dir", "slice_dir")
    axes = np.stack([np.asarray(heads[0][n], np.float64) for n in names], axis=1)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        return voxel, centred_affine(voxel, (rows, width, len(heads)))
    affine = np.eye(4)
    affine[:3, :3] = axes * voxel
    if gap.any():
        affine[:3, 2] = step
    centre = affine[:3, :2] @ [rows // 2, width // 2]
    affine[:3, 3] = heads[0]["position"] - centre
    return voxel, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS -> RAS
