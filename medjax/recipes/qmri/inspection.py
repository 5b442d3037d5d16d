"""A scan in words: its contrasts, its geometry, and what its middle slice holds."""

from collections.abc import Sequence

import numpy as np

from medjax.data.scans.formats import Scan, ScanSlice, middle_filled
from medjax.data.scans.scan import centred_affine
from medjax.recipes.qmri.slabs import CALIBRATION, KERNEL, full_centre

_TIMES = {"t2": "TE, ms", "t1": "TI, ms", "vfa": "angle, deg"}
_CODES = ("none", "scanner", "aligned", "Talairach", "MNI", "template")
_TOWARDS = {"L": "left", "R": "right", "A": "front", "P": "back", "S": "head"}
_TOWARDS |= {"I": "feet"}


def contrast_lines(scan: Scan) -> list[str]:
    """A table with a line for each contrast: time, what is constant, file."""
    protocol, count = scan.protocol, len(scan.times)
    files, repetition = [path.name for path in scan.files], protocol.repetition
    if not repetition and scan.repetition is not None:
        repetition = (scan.repetition,)
    columns = {
        "TE, ms": [1e3 * t for t in protocol.echo_time],
        "TI, ms": [1e3 * t for t in protocol.inversion_time],
        "TR, s": list(repetition),
        "angle, deg": np.rad2deg(protocol.flip_angle).tolist(),
        "file": files if len(files) in (1, count) else [],
    }
    factor = 180 / np.pi if scan.contrast == "vfa" else 1e3
    name = _TIMES[scan.contrast]
    columns = {name: (factor * scan.times).tolist()} | {
        key: values for key, values in columns.items() if values and key != name
    }
    rows = [list(columns)]
    for n in range(count):
        row = [v[n] if len(v) == count else v[0] for v in columns.values()]
        rows.append([x if isinstance(x, str) else f"{x:.6g}" for x in row])
    widths = [max(len(row[k]) for row in rows) for k in range(len(columns))]
    lines = [
        "  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if len(files) not in (1, count):
        lines.append(f"read from {', '.join(files)}")
    if scan.slice_times is not None:
        lines.append("times differ by slice; those of the middle are shown")
    if protocol.sequence or protocol.manufacturer:
        lines.append(f"sequence {protocol.sequence or 'unknown'}, of "
                     f"{protocol.manufacturer or 'an unknown maker'}")  # fmt: skip
    return lines


def geometry_lines(scan: Scan) -> list[str]:
    """Matrix, voxel, where its axes point, and what the file says of that."""
    from nibabel.affines import obliquity
    from nibabel.orientations import aff2axcodes

    letters = aff2axcodes(scan.affine)
    size = (*scan.shape, scan.num_slices)
    tilt = float(np.rad2deg(obliquity(scan.affine)).max())
    lines = [
        f"{size[0]} x {size[1]} pixels, {size[2]} slices; "
        f"voxels of {' x '.join(f'{v:.4g}' for v in scan.voxel_mm)} mm",
        f"{''.join(letters)}: rows go to the {_TOWARDS[letters[0]]}, columns to the "
        f"{_TOWARDS[letters[1]]}, slices to the {_TOWARDS[letters[2]]}; oblique by "
        f"{tilt:.1f} degrees",
    ]
    if np.allclose(scan.affine, centred_affine(scan.voxel_mm, size)):
        lines.append("axes along the body's, its centre at 0: a file that does not say "
                     "where it lies is placed so")  # fmt: skip
    if scan.frames is not None:
        s, q = scan.frames.sform_code, scan.frames.qform_code
        lines.append(f"sform {s} ({_code(s)}), qform {q} ({_code(q)})")
        apart = np.abs(scan.frames.sform - scan.frames.qform).max()
        if s and q and apart > 0.01:
            lines.append(f"sform and qform differ, by up to {apart:.3g}; both are kept")
    return lines


def _code(number: int) -> str:
    return _CODES[number] if 0 <= number < len(_CODES) else "unknown"


def content_lines(scan: Scan) -> list[str]:
    """What the middle slice holds, or the first filled one where that is empty.

    Raises:
        ValueError: All slices are empty, or the slice is damaged.
    """
    content = middle_filled(scan)
    if content.images is not None:
        return _image_lines(np.asarray(content.images))
    return _sample_lines(content, scan)


def _image_lines(images: np.ndarray) -> list[str]:
    known = np.where(np.isfinite(images), images, 0)
    bright = np.quantile(np.abs(known), 0.99, axis=(1, 2))
    lines = [
        f"99th percentile by contrast: {_listed(bright)}",
        f"from {known.min():.4g} to {known.max():.4g}; "
        f"{100 * np.mean(known == 0):.1f} % are 0",
    ]
    if (known < 0).any():
        lines.append("signed: some values are negative")
    if not np.isfinite(images).all():
        lines.append(f"{(~np.isfinite(images)).sum()} values are NaN or Inf")
    return lines


def _sample_lines(content: ScanSlice, scan: Scan) -> list[str]:
    kspace, mask = np.asarray(content.kspace), np.asarray(content.mask)
    energy = np.sum(np.abs(kspace) ** 2, axis=(0, 2, 3))
    silent = np.flatnonzero(energy == 0).tolist()
    line = f"{kspace.shape[1]} coils"
    if silent:
        line += f", without a signal: {silent}"
    lines = [
        f"{line}; sensitivities " + ("given" if content.sens is not None else "unknown")
    ]
    if content.noise is None:
        lines.append("no noise samples: coils are taken as equal and independent")
    else:
        noise = np.asarray(content.noise, np.complex128)
        values = np.linalg.eigvalsh(noise @ noise.conj().T / noise.shape[1])
        condition = values[-1] / values[0] if values[0] > 0 else np.inf
        lines.append(
            f"{noise.shape[1]} noise samples a coil, standard deviation "
            f"{np.sqrt(np.mean(np.abs(noise) ** 2)):.3g}; condition of the coils' "
            f"covariance {condition:.3g}"
        )
    lines.append(f"acceleration by contrast: {_listed(1 / mask.mean(axis=(1, 2)))}")
    height, width = scan.shape
    block = full_centre(mask, kspace.shape, limit=max(scan.shape))
    need = "" if min(block) >= KERNEL else f"; sensitivities and phases need {KERNEL}"
    lines.append(
        f"fully sampled centre: {block[0]} x {block[1]}, up to {CALIBRATION} of it are "
        f"used{need}"
    )
    first = np.sum(np.abs(kspace[0]) ** 2, axis=0)
    row, column = np.unravel_index(np.argmax(first), first.shape)
    lines.append(
        f"largest sample of the first contrast: row {row}, column {column}; the centre "
        f"is {height // 2}, {width // 2}"
    )
    return lines


def _listed(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{v:.4g}" for v in values)
