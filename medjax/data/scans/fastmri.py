"""fastMRI's HDF5 files: `kspace` [Z, C, H, W] or [Z, H, W], one contrast a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medjax.data.scans.constant import (
    check_constant,
    check_persons,
    check_scanner,
)
from medjax.data.scans.header import (
    crop_readout,
    kept_rows,
    parse_header,
    repetition_times,
    times_of_files,
)
from medjax.data.scans.protocol import named_sequence
from medjax.data.scans.scan import (
    Protocol,
    Scan,
    ScanSlice,
    centred_affine,
    check_voxel,
    reading,
    require,
)
from medjax.data.scans.times import choose_times


def open_fastmri(
    paths: Sequence[Path],
    *,
    times: Sequence[float] | None,
    contrast: str | None,
    voxel_mm: Sequence[float] | None,
) -> Scan:
    """k-space of a scan whose contrasts lie in a file each.

    Readout oversampling (`ismrmrd_header` says how much) is removed; a `mask` [W] of
    the file is used, else the zeros of k-space are it.

    Args:
        paths: E existing files of one shape, in the order of `times`.
        times: E of them in s (radians for "vfa"); None takes the echo or inversion
            times of the files' ISMRMRD headers, one each.
        contrast: "t2" (echo times), "t1" (inversion times) or "vfa" (flip angles);
            None where the headers leave no doubt.
        voxel_mm: Sizes along H, along W and between slices in mm; None takes the first
            header's, and 1 without one.

    Raises:
        ValueError: The files have different sizes, or no times; the message names the
            file, what was expected and what it holds.
    """
    h5py = require("h5py", paths[0])
    sizes, headers, persons = [], [], []
    for path in paths:
        with reading(path), h5py.File(path) as file:
            size = file["kspace"].shape
            text = file["ismrmrd_header"][()] if "ismrmrd_header" in file else None
            persons.append(str(file.attrs.get("patient_id", "")))
        if len(size) == 3:  # single-coil files have no axis of coils
            size = (size[0], 1, *size[1:])
        if len(size) != 4:
            raise ValueError(
                f"{path}: kspace {size}; expected fastMRI's [Z, C, H, W], one contrast "
                "a file, or [Z, H, W] of one coil, or 'te' or 'ti' beside [Z, E, C, H, "
                "W]"
            )
        sizes.append(size)
        headers.append(None if text is None else parse_header(text, path.name))
        if size != sizes[0]:
            raise ValueError(
                f"{path}: kspace {size}; expected {sizes[0]} as in {paths[0].name}"
            )
    origin = f"{paths[0].name} and {len(paths) - 1} more"
    candidates = times_of_files(headers)
    contrast, series = choose_times(
        candidates, origin, count=len(paths), times=times, contrast=contrast
    )
    names = [str(p) for p in paths]
    check_scanner(headers, names)
    check_persons(persons, names)
    doubts = check_constant(
        candidates, origin, count=len(paths), contrast=contrast, given=times is not None
    )
    slices, _, full, width = sizes[0]
    header = headers[0]
    rows = full if header is None else kept_rows(header, full)
    if voxel_mm is None and header is not None:
        fov = header.fov_mm
        voxel_mm = (fov[0] / full, fov[1] / width, fov[2] / header.matrix[2])
    voxel = check_voxel((1, 1, 1) if voxel_mm is None else voxel_mm, origin)

    def read(index: int) -> ScanSlice:
        parts, masks = [], []
        for path in paths:
            with reading(path), h5py.File(path) as file:
                part = file["kspace"][index].reshape(sizes[0][1:])
                if "mask" in file:
                    lines = part.any((0, 1))  # the mask may count padding as lines
                    masks.append((file["mask"][()] * lines).reshape(1, 1, -1))
            parts.append(crop_readout(part, rows=rows))
        if masks and len(masks) < len(paths):
            raise ValueError(f"{origin}: some hold a mask; expected one in all or none")
        return ScanSlice(
            kspace=np.stack(parts), mask=np.stack(masks) if masks else None
        )

    repetition = repetition_times(headers, origin, count=len(paths), contrast=contrast)
    return Scan(
        path=paths[0],
        kind="kspace",
        contrast=contrast,
        times=series,
        num_slices=slices,
        shape=(rows, width),
        voxel_mm=voxel,
        affine=centred_affine(voxel, (rows, width, slices)),
        read=read,
        repetition=repetition[0] if len(repetition) == 1 else None,
        protocol=Protocol(
            repetition=repetition,
            sequence="" if header is None else named_sequence(header.names, contrast),
        ),
        notes=tuple(doubts),
    )
