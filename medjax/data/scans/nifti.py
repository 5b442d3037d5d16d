"""NIfTI series of images with their BIDS sidecars (JSON)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.data.scans.frames import (
    KEYS,
    Frame,
    axis_values,
    check_equal,
    frames_of_files,
    frames_of_volumes,
    same,
)
from medjax.data.scans.protocol import read_protocol, refuse_mp2rage
from medjax.data.scans.scaling import common_scale
from medjax.data.scans.scan import Scan, ScanSlice, check_voxel
from medjax.data.scans.series import choose_series, measured_images, origin_of
from medjax.data.scans.sidecars import Sidecar, numbers, read_sidecars
from medjax.data.scans.times import check_series, choose_times
from medjax.data.scans.volumes import Volume, open_volume, readers


def open_nifti(
    paths: Sequence[Path],
    *,
    times: Sequence[float] | None,
    contrast: str | None,
    folder: bool = False,
) -> Scan:
    """A scan of images: one four-dimensional file, or a three-dimensional one a time.

    Its slices are not checked yet.

    Args:
        paths: One existing four-dimensional file, or E three-dimensional ones of one
            shape and affine, in the order of `times`, or in any order without them.
        times: E of them in s (radians for "vfa"). None takes those of the sidecars (see
            `sidecars`): the EchoTime, InversionTime or FlipAngle that differs between
            images; images are then sorted by time.
        contrast: "t2" (echo times), "t1" (inversion times) or "vfa" (flip angles);
            None where the sidecars leave no doubt.
        folder: Whether the files are all of a folder, so that what is no measured
            magnitude of the series may be left out. The scan's `files` and `notes` say
            what was used and what was not.

    Raises:
        ValueError: Files do not belong together, images are complex or phase, something
            else than the times changes the signal, or times are missing or in
            milliseconds; the message names the file, what was expected and what it
            holds.
    """
    sidecars = read_sidecars(paths)
    groups, notes = measured_images(sidecars, folder=folder)
    series, more = _choose(sidecars, groups, times, contrast, folder=folder)
    frames, volumes, name = series
    notes += more
    name, values = choose_times(
        _known(frames, name),
        origin_of(frames),
        count=len(frames),
        times=times,
        contrast=name or contrast,
    )
    if times is None:
        order = np.argsort(values, kind="stable").tolist()
        frames, values = [frames[n] for n in order], values[order]
    notes += check_equal(frames, name) + _given(frames, name, times)
    protocol, more = read_protocol(frames, name, given=times is not None)
    first = volumes[0]
    factors, scaled = common_scale(frames, [volumes[f.file].slope for f in frames])
    repetition = protocol.repetition
    lengths = np.linalg.norm(first.affine[:3, :3], axis=0).tolist()
    return Scan(
        path=first.path,
        kind="images",
        contrast=name,
        times=values,
        num_slices=first.shape[2],
        shape=(first.shape[0], first.shape[1]),
        voxel_mm=check_voxel(lengths, first.path.name),
        affine=first.affine,
        read=_slices(volumes, frames, factors),
        repetition=repetition[0] if len(repetition) == 1 else None,
        frames=first.frames,
        protocol=protocol,
        slice_times=None
        if times is not None or name != "t1"
        else _slice_times(frames, first.shape[2]),
        files=tuple(dict.fromkeys(volumes[f.file].path for f in frames)),
        notes=tuple(notes + more + scaled),
    )


def _given(
    frames: Sequence[Frame], contrast: str, times: Sequence[float] | None
) -> list[str]:
    """A line where the caller's times are not those that the sidecars have."""
    own = axis_values(frames, contrast) if times is not None else [None]
    if None in own or same(list(own), [float(t) for t in times or ()]):
        return []
    key, unit = KEYS[contrast]
    values = ", ".join(f"{v / unit:g}" for v in own if v is not None)
    return [f"times are those that are given, and not the files' {key} {values}"]


class _Series(NamedTuple):
    """Images that may be a series; without a contrast no time differs between them."""

    frames: list[Frame]
    volumes: list[Volume]
    contrast: str | None


def _choose(
    sidecars: Sequence[Sidecar],
    groups: Sequence[Sequence[int]],
    times: Sequence[float] | None,
    contrast: str | None,
    *,
    folder: bool,
) -> tuple[_Series, list[str]]:
    """The one group of files that is a series, its images, and notes."""
    parts = [[sidecars[n] for n in group] for group in groups]
    if len(parts) == 1:
        return _open(parts[0], times, contrast, folder=folder)
    found, errors = [], []
    for part in parts:
        try:
            series, notes = _open(part, times, contrast, folder=folder)
        except ValueError as error:
            errors.append(error)
            continue
        if series.contrast or times is not None:
            found.append((part, series, notes))
    if not found and errors:
        raise errors[0]
    if len(found) != 1:
        kinds = "; ".join(
            f"{part[0].name.suffix or 'no suffix'}: {len(part)} files, "
            f"{part[0].image.name} first"
            for part in parts
        )
        raise ValueError(
            f"{sidecars[0].image.parent}: {len(found) or 'none'} of its kinds of files "
            f"can be a series ({kinds}); expected one. Name the files of one, or say "
            "contrast="
        )
    ((taken, series, notes),) = found
    left = [s.image.name for part in parts if part is not taken for s in part]
    return series, [*notes, f"left out, of another kind: {', '.join(left)}"]


def _open(
    sidecars: Sequence[Sidecar],
    times: Sequence[float] | None,
    contrast: str | None,
    *,
    folder: bool,
) -> tuple[_Series, list[str]]:
    """The files' headers, and those of their images that are a series."""
    volumes = [open_volume(sidecar.image) for sidecar in sidecars]
    many = len(volumes) > 1
    for volume in volumes:
        _check(volume, volumes[0], many=many)
    if many:
        frames = frames_of_files(sidecars)
    else:
        frames = frames_of_volumes(sidecars[0], volumes[0].shape[3])
    refuse_mp2rage(frames)
    chosen = None if times else choose_series(frames, contrast, folder=folder)
    if chosen is None:
        return _Series(frames, volumes, None), []
    name, indices, notes = chosen
    return _Series([frames[n] for n in indices], volumes, name), notes


def _known(frames: Sequence[Frame], contrast: str | None) -> dict[str, list[float]]:
    """What sidecars say of the times, by contrast: lists, whatever their length."""
    known = {}
    for name, (key, unit) in KEYS.items():
        values = [v for v in axis_values(frames, name) if v is not None]
        listed = numbers(frames[0].sidecar, key)
        if contrast is None and frames[0].volume is not None:
            values = []
            if isinstance(listed, list) and not any(
                isinstance(v, list) for v in listed
            ):
                values = [v * unit for v in listed]
        if contrast in (None, name) and len(set(values)) > (frames[0].volume is None):
            known[name] = values
    return known


def _check(volume: Volume, first: Volume, *, many: bool) -> None:
    size = volume.shape
    size = size[:3] if many and size[3:] == (1,) else size
    if len(size) != (3 if many else 4) or min(size) < 1:
        raise ValueError(
            f"{volume.path}: shape {volume.shape}; expected "
            + ("[H, W, slices], one file a time" if many else "[H, W, slices, times]")
            + ("" if many or len(size) != 3 else ", or name one file for each time")
        )
    if volume.shape[:3] != first.shape[:3] or not np.allclose(
        volume.affine, first.affine, atol=1e-3
    ):
        raise ValueError(
            f"{volume.path}: shape {volume.shape} or its position differ from those of "
            f"the first file, {first.path.name} {first.shape}; expected one grid. "
            "Register and resample first"
        )


def _slices(
    volumes: Sequence[Volume], frames: Sequence[Frame], factors: Sequence[float]
) -> Callable[[int], ScanSlice]:
    """The scan's reader of a slice."""
    parts = readers(volumes)
    size = volumes[0].shape[:2]

    def read(index: int) -> ScanSlice:
        images = []
        for frame, factor in zip(frames, factors, strict=True):
            at = () if frame.volume is None else (frame.volume,)
            part = parts[frame.file]((slice(None), slice(None), index, *at))
            images.append(
                part.reshape(size) if factor == 1 else factor * part.reshape(size)
            )
        return ScanSlice(images=np.stack(images))

    return read


def _slice_times(
    frames: Sequence[Frame], slices: int
) -> Float[np.ndarray, "Z E"] | None:
    """Inversion times in s where one list a frame has a time for each slice."""
    columns = []
    for frame in frames:
        value = frame.fields["InversionTime"]
        if isinstance(value, list) and len(value) != slices:
            raise ValueError(
                f"{frame.sidecar.origin}: InversionTime has {len(value)} values; "
                f"expected one number, or one for each of {slices} slices"
            )
        columns.append(np.broadcast_to(np.asarray(value, np.float64), (slices,)))
    table = np.stack(columns, axis=1)
    if np.ptp(table, axis=0).max() == 0:
        return None
    for row in table:
        check_series(
            row, str(frames[0].sidecar.origin), count=len(frames), contrast="t1"
        )
    return table
