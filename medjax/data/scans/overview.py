"""Which series of NIfTI images lie in a folder, by their headers and sidecars."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medjax.data.scans.nifti import open_nifti
from medjax.data.scans.scan import make_scan
from medjax.data.scans.sidecars import Sidecar, read_sidecars
from medjax.data.scans.volumes import open_volume


class Series(NamedTuple):
    """Files of a folder that were measured together."""

    name: str  # as the scanner or the file's name calls it
    files: tuple[Path, ...]
    shape: tuple[int, ...]  # of the first file
    contrast: str  # "t2", "t1", "vfa"; "" where they make no scan
    count: int  # of contrasts; 0 where they make no scan
    problem: str  # why they make none; "" where they do


def list_series(folder: Path) -> list[Series]:
    """The series of a folder, in the order of their first files.

    Images are of one series where their headers agree in shape, and their sidecars in
    SeriesNumber or, where they lack it, in SeriesDescription, ProtocolName and the
    suffix of a BIDS name.

    Args:
        folder: Without .nii or .nii.gz files there is none.

    Raises:
        ValueError: A file or sidecar cannot be read; the message names it.
    """
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.name.lower().endswith((".nii", ".nii.gz")) and path.is_file()
    ]
    groups: dict[tuple[object, ...], list[Sidecar]] = {}
    for sidecar in read_sidecars(paths):
        shape = open_volume(sidecar.image).shape
        groups.setdefault((*_label(sidecar), shape), []).append(sidecar)
    return [_series(group) for group in groups.values()]


def _label(sidecar: Sidecar) -> tuple[object, ...]:
    fields, name = sidecar.fields, sidecar.name
    suffix = name.suffix if name.pairs else ""
    number = fields.get("SeriesNumber")
    said = tuple(fields.get(key) for key in ("SeriesDescription", "ProtocolName"))
    return (str(number),) if number is not None else ("", suffix, str(said))


def _series(group: Sequence[Sidecar]) -> Series:
    paths = [sidecar.image for sidecar in group]
    first = group[0]
    said = (
        first.fields.get("SeriesDescription"),
        first.fields.get("ProtocolName"),
        first.name.suffix if first.name.pairs else None,
    )
    name = next((str(text) for text in said if text), first.image.name)
    shape = open_volume(first.image).shape
    if len(paths) == 1 and len(shape) == 3:
        return Series(name, tuple(paths), shape, "", 0, "a single image")
    try:
        found = open_nifti(paths, times=None, contrast=None, folder=True)
        scan = make_scan(found)
    except ValueError as error:
        return Series(name, tuple(paths), shape, "", 0, str(error))
    return Series(name, tuple(paths), shape, scan.contrast, len(scan.times), "")
