"""Masks as files: label maps of whole numbers, and the boxes around what they mark.

A pixel of 0 is background. A binary mask has one other value; a map of several labels
needs their names. Nothing is guessed from shades: a JPEG mask, whose edges ring, is cut
at half, and other masks hold exactly the values that they mean.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, Shaped
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from medjax.data.images import ImageFile
from medjax.data.images.nifti import open_slice, read_safely, turn_slice
from medjax.data.json_files import parse_json, read_json
from medjax.data.lists import cells

PIECES = ("whole", "components")
_HALF = 127  # JPEG masks are above it or background
_DIAGONAL = np.ones((3, 3), bool)  # pixels that touch at a corner are one component


class MaskVolume(NamedTuple):
    """Labels of a volume in the file's own axes."""

    path: Path
    values: Integer[np.ndarray, "i j k"]


class Region(NamedTuple):
    """What a mask marks: a label, or one component of it."""

    label: str
    box: tuple[float, float, float, float]  # edges (x1, y1, x2, y2) in pixels
    area: int  # pixels


def read_mask(
    path: Path, origin: str, *, image: Path | None = None
) -> Integer[np.ndarray, "h w"]:
    """A mask's values; of a JPEG 1 above half of 255, and 0.

    Args:
        path: PNG, TIFF, BMP or JPEG with one channel, or with equal ones. Of a palette
            of colours the indices are the values, of one of greys the greys.
        origin: What an error calls the mask.
        image: The picture that it belongs to. One that its EXIF turns has a mask that
            is turned alike.

    Raises:
        ValueError: The file is no such mask; the message names it.
    """
    try:
        # By its name PIL maps a plain TIFF into memory, scrambled if it is turned.
        with path.open("rb") as stream, Image.open(stream) as opened:
            pages = getattr(opened, "n_frames", 1)
            if pages > 1:
                raise ValueError(
                    f"{origin}: the mask {path.name} has {pages} pages; expected one, "
                    "beside one image"
                )
            turned = _orientation(opened)
            if image is not None and turned != _orientation_of(image):
                raise ValueError(
                    f"{origin}: {image.name} is turned by its EXIF orientation and "
                    f"{path.name} is not, or otherwise; save both without"
                )
            mask = ImageOps.exif_transpose(opened) if turned != 1 else opened
            if opened.format == "JPEG":
                return _cut(np.asarray(mask.convert("L")), path, origin)
            return _values(mask, path, origin)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,  # PIL's word for a PNG that is broken
    ) as error:
        raise ValueError(
            f"{origin}: cannot read the mask {path.name} ({error}); expected a whole "
            "PNG, TIFF or JPEG"
        ) from error


def mask_regions(
    values: Integer[np.ndarray, "h w"],
    names: Mapping[int, str] | str,
    *,
    pieces: str,
    origin: str,
) -> list[Region]:
    """Tight boxes of what a mask marks, by label and then from the top.

    Args:
        values: From `read_mask`.
        names: Of the values above 0 that may occur; or the one name of a binary mask.
        pieces: "whole": one box around all of a label. "components": one around each
            connected component, corners included.
        origin: What an error calls the mask.

    Raises:
        ValueError: A value has no name, or a binary mask has several values.
    """
    found = _values_above_0(values)
    if isinstance(names, str):
        if len(found) > 1:
            raise ValueError(
                f"{origin}: the mask has the values {_few(found)} beside 0; expected "
                "one of a binary mask. Name the labels of a map by data.names, or save "
                "the mask without smoothing"
            )
        names = dict.fromkeys(found, names)
    unknown = [value for value in found if value not in names]
    if unknown:
        raise ValueError(
            f"{origin}: the mask has the values {_few(unknown)}, which data.names does "
            f"not name; expected some of {_few(sorted(names))}"
        )
    regions: list[Region] = []
    for value in found:
        inside = values == value
        if pieces == "components":
            parts = np.zeros(inside.shape, np.int32)
            ndimage.label(inside, structure=_DIAGONAL, output=parts)
        else:
            parts = inside.view(np.uint8)
        areas = np.bincount(parts.ravel())
        for number, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
            edges = (columns.start, rows.start, columns.stop, rows.stop)
            x1, y1, x2, y2 = (float(edge) for edge in edges)
            box = (x1, y1, x2, y2)
            regions.append(Region(names[value], box, int(areas[number])))
    return regions


def read_mask_volume(path: Path, image: Path, origin: str) -> MaskVolume:
    """The labels of a NIfTI mask, which lies as its image does.

    Args:
        path: The mask.
        image: The volume that it belongs to.
        origin: What an error calls the mask.

    Raises:
        ValueError: It is damaged, holds no labels, or has another shape or place than
            the image: 1 % of a voxel is let pass.
    """
    first = [open_slice(ImageFile(file, 0, "axial"), origin) for file in (path, image)]
    mask, shown = (slab.image for slab in first)
    if mask.shape[:3] != shown.shape[:3]:
        raise ValueError(
            f"{origin}: the mask has {mask.shape[:3]} voxels, the image "
            f"{shown.shape[:3]}; expected the same: resample the mask"
        )
    voxel = np.abs(shown.affine[:3, :3]).max(axis=0).min()
    if np.abs(mask.affine - shown.affine).max() > 0.01 * voxel:
        raise ValueError(
            f"{origin}: the mask and the image lie at other places by their affines; "
            "expected the same"
        )
    with read_safely(ImageFile(path), origin):
        values = np.asarray(mask.dataobj)
    return MaskVolume(path, _whole(values, path, origin))


def mask_slices(
    volume: MaskVolume, plane: str, origin: str
) -> Iterator[tuple[int, Integer[np.ndarray, "h w"]]]:
    """The slices of a mask as its image's are shown, each with its index.

    Args:
        volume: From `read_mask_volume`.
        plane: "axial", "coronal" or "sagittal".
        origin: What an error calls the mask.
    """
    axis = open_slice(ImageFile(volume.path, 0, plane), origin).place
    across = next(n for n, place in enumerate(axis) if isinstance(place, int))
    for frame in range(volume.values.shape[across]):
        slab = open_slice(ImageFile(volume.path, frame, plane), origin)
        yield frame, turn_slice(volume.values[slab.place], slab)


def read_names(names: str, beside: Path) -> Mapping[int, str] | str:
    """The names of a mask's values; or the name of all that a binary mask marks.

    Args:
        names: A JSON object {"1": "liver", "2": "spleen"}, the path of a file with
            one, or a name. "" takes names.json where it lies `beside`, else "target".
        beside: The folder of the data.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The JSON is no object of names by whole numbers, each name once.
    """
    expected = 'an object of names by value, such as {"1": "liver", "2": "spleen"}'
    if not names and not (beside / "names.json").is_file():
        return "target"
    if names.lstrip().startswith("{"):
        origin = "data.names"
        content = parse_json(names, origin, expected=expected, finite=True)
    elif not names or names.endswith(".json"):
        path = Path(names) if names else beside / "names.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"data.names={names!r}: no such file; expected {expected} in it (a "
                "names.json in the folder of the data is found by itself)"
            )
        origin = path.name
        content = read_json(path, expected=expected)
    else:
        return cells.name(names, "config", "data.names")
    found: dict[int, str] = {}
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{origin}: expected {expected}")
    for key, value in content.items():
        if not key.isascii() or not key.isdigit() or key != str(int(key)):
            raise ValueError(
                f"{origin}: {key!r} is no value of a mask; expected {expected}"
            )
        if int(key):  # 0 is background, whatever it is called
            found[int(key)] = cells.name(value, origin, key)
    if len(set(found.values())) != len(found) or not found:
        raise ValueError(
            f"{origin}: expected {expected}, above 0 and each name once; merge labels "
            "in the masks"
        )
    return found


def _values_above_0(values: Integer[np.ndarray, "h w"]) -> list[int]:
    """Which values occur, sorted; counting is faster than sorting the pixels."""
    if values.size and values.max() < 1 << 16:
        found = np.flatnonzero(np.bincount(values.ravel()))
    else:
        found = np.unique(values)
    return [int(value) for value in found if value]


def _cut(grey: np.ndarray, path: Path, origin: str) -> Integer[np.ndarray, "h w"]:
    top = int(grey.max(initial=0))
    if 0 < top <= _HALF:
        raise ValueError(
            f"{origin}: the largest value of the JPEG mask {path.name} is {top}; "
            "expected about 0 and 255, or PNG"
        )
    return (grey > _HALF).astype(np.uint8)


def _values(mask: Image.Image, path: Path, origin: str) -> Integer[np.ndarray, "h w"]:
    if mask.mode == "P":
        used = np.unique(np.asarray(mask))
        colours = np.asarray(mask.getpalette("RGB"), np.int32).reshape(-1, 3)[used]
        if (colours == colours[:, :1]).all():
            mask = mask.convert("L")
    values = np.asarray(mask)
    if values.ndim == 3:
        if mask.mode in ("RGBA", "LA"):
            values = values[..., :-1]
        if not (values == values[..., :1]).all():
            raise ValueError(
                f"{origin}: the mask {path.name} is coloured; expected one channel of "
                "whole numbers, or equal ones"
            )
        values = values[..., 0]
    return _whole(values, path, origin)


def _whole(
    values: Shaped[np.ndarray, "*axes"], path: Path, origin: str
) -> Integer[np.ndarray, "*axes"]:
    """The same numbers if they can be labels, of at most 32 bits."""
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        return values.astype(np.uint8) if values.dtype.kind == "b" else values
    whole = values.astype(np.int32) if np.isfinite(values).all() else None
    if whole is None or (whole != values).any() or (whole < 0).any():
        raise ValueError(
            f"{origin}: the mask {path.name} holds {values.dtype} values that are no "
            "labels; expected whole numbers from 0"
        )
    return whole


def _orientation(image: Image.Image) -> int:
    """How EXIF says that the stored pixels are turned; 1: not at all."""
    return int(image.getexif().get(ExifTags.Base.Orientation, 1) or 1)


def _orientation_of(path: Path) -> int:
    """That of a file; what is no picture for PIL is not turned."""
    try:
        with path.open("rb") as stream, Image.open(stream) as image:
            return _orientation(image)
    except (UnidentifiedImageError, OSError):
        return 1


def _few(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return shown if len(values) <= 8 else f"{shown}, ... ({len(values)} in all)"
