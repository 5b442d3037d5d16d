"""NIfTI series of images with their BIDS sidecars (JSON)."""

import contextlib
import gzip
import json
import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medjax.data.scans.scan import Scan, ScanSlice, check_voxel, make_scan, reading
from medjax.data.scans.times import choose_times

# BIDS keys, in seconds and degrees, by contrast.
KEYS = {
    "t2": ("EchoTime", 1.0),
    "t1": ("InversionTime", 1.0),
    "vfa": ("FlipAngle", math.pi / 180),
}
_REPETITION = ("RepetitionTimeExcitation", "RepetitionTime")
_MILLIMETRES = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}


def open_nifti(
    paths: Sequence[Path], *, times: Sequence[float] | None, contrast: str | None
) -> Scan:
    """A scan of images: one four-dimensional file, or a three-dimensional one a time.

    Args:
        paths: One existing four-dimensional file, or E three-dimensional ones of one
            shape and affine, in the order of `times`, or in any order without them.
        times: E of them in s (radians for "vfa"). None takes those of the sidecars
            (NAME.json): the EchoTime, InversionTime or FlipAngle that differs between
            files, or the list that a four-dimensional file's sidecar gives; images are
            then sorted by time.
        contrast: "t2" (echo times), "t1" (inversion times) or "vfa" (flip angles);
            None where the sidecars leave no doubt.

    Raises:
        ValueError: Files do not belong together, images are complex or phase, or times
            are missing or in milliseconds; the message names the file, what was
            expected and what it holds.
    """
    sidecars = [_sidecar(path) for path in paths]
    volumes = [_opened(path) for path in paths]
    for path, volume, sidecar in zip(paths, volumes, sidecars, strict=True):
        _check(path, volume, volumes[0], sidecar, many=len(paths) > 1)
    many = len(paths) > 1
    size = volumes[0].shape
    count = len(paths) if many else size[3]
    origin = f"{paths[0].name} and {len(paths) - 1} more" if many else paths[0].name
    contrast, series = choose_times(
        _series(sidecars), origin, count=count, times=times, contrast=contrast
    )
    order = list(range(count))
    if times is None:
        order = np.argsort(series, kind="stable").tolist()

    def read(index: int) -> ScanSlice:
        images = []
        for n in order:
            file, at = (n, ()) if many else (0, (n,))
            with _image(paths[file]):
                place = (slice(None), slice(None), index, *at)
                part = np.asarray(volumes[file].dataobj[place])
            images.append(part.reshape(size[:2]))
        return ScanSlice(images=np.stack(images))

    unit = _MILLIMETRES[volumes[0].header.get_xyzt_units()[0]]
    affine = np.diag([unit, unit, unit, 1.0]) @ volumes[0].affine
    repetitions = [s[key] for s in sidecars[:1] for key in _REPETITION if key in s]
    return make_scan(
        Scan(
            path=paths[0],
            kind="images",
            contrast=contrast,
            times=series[order],
            num_slices=size[2],
            shape=(size[0], size[1]),
            voxel_mm=check_voxel(
                np.linalg.norm(affine[:3, :3], axis=0).tolist(), paths[0].name
            ),
            affine=affine,
            read=read,
            repetition=float(repetitions[0]) if repetitions else None,
        )
    )


def _opened(path: Path) -> Any:
    """The image with its data on disk; a compressed one in an unpacked copy.

    The copy is a temporary file without a name: slices of an image are scattered, and
    what is compressed can be read forwards only.
    """
    import nibabel

    with _image(path), contextlib.ExitStack() as stack:
        if path.suffix.lower() != ".gz":
            return nibabel.Nifti1Image.from_filename(path)
        copy = stack.enter_context(tempfile.TemporaryFile())
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, copy, 1 << 20)
        copy.seek(0)
        volume = nibabel.Nifti1Image.from_stream(copy)
        weakref.finalize(volume, stack.pop_all().close)
        return volume


def _sidecar(path: Path) -> dict[str, Any]:
    """The JSON beside the image; empty where there is none."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    file = path.with_name(f"{stem}.json")
    if not file.exists():
        return {}
    try:
        fields = json.loads(file.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{file}: expected a JSON object, found {fields!r}")
    for key, _ in KEYS.values():
        values = fields.get(key, 0)
        values = values if isinstance(values, list) else [values]
        if not all(type(v) in (int, float) for v in values):
            raise ValueError(
                f"{file}: {key} {fields[key]!r}; expected a number or a list of numbers"
            )
    return fields


def _series(sidecars: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """What the sidecars say, by contrast: of several files, what differs."""
    times = {}
    for name, (key, unit) in KEYS.items():
        values = [s[key] for s in sidecars if key in s]
        if len(sidecars) == 1 and values and isinstance(values[0], list):
            times[name] = [v * unit for v in values[0]]
        elif len(values) == len(sidecars) > 1 and len(set(map(str, values))) > 1:
            if not any(isinstance(v, list) for v in values):
                times[name] = [v * unit for v in values]
    return times


def _check(
    path: Path, volume: Any, first: Any, sidecar: Mapping[str, Any], *, many: bool
) -> None:
    size = volume.shape
    size = size[:3] if many and size[3:] == (1,) else size
    if len(size) != (3 if many else 4):
        raise ValueError(
            f"{path}: shape {volume.shape}; expected "
            + ("[H, W, slices], one file a time" if many else "[H, W, slices, times]")
            + ("" if many or len(size) != 3 else ", or name one file for each time")
        )
    if volume.shape[:3] != first.shape[:3] or not np.allclose(
        volume.affine, first.affine, atol=1e-3
    ):
        raise ValueError(
            f"{path}: shape {volume.shape} or its position differ from those of the "
            f"first file, {first.shape}; expected one grid. Register and resample first"
        )
    kinds = [str(word).upper() for word in sidecar.get("ImageType", ())]
    phase = "part-phase" in path.name or "PHASE" in kinds or "P" in kinds
    if phase or volume.get_data_dtype().kind not in "fiu":
        kind = "phase" if phase else str(volume.get_data_dtype())
        raise ValueError(
            f"{path}: {kind} images; expected magnitudes, or real signed values"
        )


@contextlib.contextmanager
def _image(path: Path) -> Iterator[None]:
    """`reading`, and what nibabel raises of its own."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    with reading(path):
        try:
            yield
        except (ImageFileError, HeaderDataError, WrapStructError, ValueError) as error:
            raise OSError(error) from error
