"""Slices of NIfTI volumes through nibabel, turned as radiologists look at them."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from medjax.data.images.files import DAMAGED, ImageFile, unreadable
from medjax.data.images.windows import robust_window, show_values

# The axis across a plane, then those along its rows and columns; 0, 1 and 2 grow
# towards the patient's right, front and head.
_PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
_WAY_OUT = "expected a whole NIfTI volume. Copy it again, or take out its lines"


class Slice(NamedTuple):
    """Where a slice lies in the file's own array, and how it is shown."""

    image: Any  # nibabel's, whose numbers are read when they are asked for
    place: tuple[int | slice, ...]  # of the slice in the array
    exchanged: bool  # whether the array's axes come in the other order
    size: tuple[int, int]  # (height, width)
    spacing: tuple[float, float]  # from row to row and column to column, mm
    flips: tuple[bool, bool]  # whether rows, and columns, count the other way


def is_nifti(file: ImageFile) -> bool:
    """Whether a file is a NIfTI volume by its name."""
    return file.path.name.lower().endswith((".nii", ".nii.gz"))


def open_slice(file: ImageFile, origin: str) -> Slice:
    """A slice by plane and index, as the header describes it; no numbers are read.

    The index counts from the patient's feet ("axial"), back ("coronal") or left side
    ("sagittal"). Slices are shown as radiologists look at them: the front or the head
    up, the patient's right on the left, or the front on the left in the sagittal plane.

    Args:
        file: A NIfTI file, its plane and its index as `frame`. An oblique volume is
            turned to the nearest of its axes, not resampled.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: The file is damaged, holds no real volume of three axes or does not
            say how it lies, or the slice is not there or not named.
    """
    import nibabel

    with read_safely(file, origin):
        image: Any = nibabel.load(file.path)
        kind = image.header.get_data_dtype().kind
        shape = tuple(int(n) for n in image.shape)
        shape = shape[:3] if all(n == 1 for n in shape[3:]) else shape
        lies = any(int(image.header[name]) > 0 for name in ("sform_code", "qform_code"))
        affine = np.asarray(image.affine, np.float64)
    if kind not in "iuf":
        raise unreadable(
            file, origin, f"numbers of the kind {kind!r}", "expected real numbers"
        )
    if len(shape) != 3:
        raise unreadable(
            file,
            origin,
            f"{' x '.join(map(str, shape))} numbers",
            "expected a volume of three axes; save the one that is meant alone",
        )
    if not lies or not np.isfinite(affine).all():
        raise unreadable(
            file,
            origin,
            "neither its qform nor its sform says how it lies",
            "is left left? Set one of them, or save the slice as a PNG",
        )
    axes = nibabel.io_orientation(affine)
    if not np.isfinite(axes).all():
        raise unreadable(file, origin, "its affine has no volume", _WAY_OUT)
    if file.plane not in _PLANES or file.frame is None:
        raise unreadable(
            file,
            origin,
            f"plane {file.plane!r} and frame {file.frame}",
            f"name a plane, one of {', '.join(_PLANES)}, and a frame, counted from 0",
        )
    source = [int(np.flatnonzero(axes[:, 0] == a)[0]) for a in _PLANES[file.plane]]
    forward = [axes[n, 1] > 0 for n in source]
    across, rows, columns = source
    count = shape[across]
    if not 0 <= file.frame < count:
        raise unreadable(
            file, origin, f"it has {count} such slices", "expected one of them, from 0"
        )
    limit = Image.MAX_IMAGE_PIXELS
    size = shape[rows], shape[columns]
    if limit is not None and math.prod(size) > limit:
        raise unreadable(file, origin, f"{size} pixels", f"expected at most {limit}")
    place: list[int | slice] = [slice(None)] * 3 + [0] * (len(image.shape) - 3)
    place[across] = file.frame if forward[0] else count - 1 - file.frame
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return Slice(
        image=image,
        place=tuple(place),
        exchanged=rows > columns,
        size=size,
        spacing=(float(lengths[rows]), float(lengths[columns])),
        flips=(bool(forward[1]), bool(forward[2])),
    )


def count_slices(file: ImageFile, origin: str) -> int:
    """How many slices a volume has in its plane, 1 or more.

    Args:
        file: A NIfTI file with its plane; its frame is not looked at.
        origin: What an error calls the file.

    Raises:
        ValueError: What `open_slice` refuses of a volume.
    """
    slab = open_slice(file._replace(frame=0), origin)
    (across,) = (n for n, at in enumerate(slab.place[:3]) if not isinstance(at, slice))
    return int(slab.image.shape[across])


def read_slice(slab: Slice, file: ImageFile, origin: str) -> UInt8[np.ndarray, "h w 3"]:
    """The slice as RGB: in its window; whole numbers of 8 bits as they are.

    Args:
        slab: From `open_slice`.
        file: The image. Without a `window` the whole volume is read to find one, which
            a reader of many slices does once, see `volume_window`.
        origin: What an error calls the line that names the image.
    """
    with read_safely(file, origin):
        values: Shaped[np.ndarray, "h w"] = np.asarray(slab.image.dataobj[slab.place])
    values = turn_slice(values, slab)
    if values.dtype != np.uint8 or file.window is not None:
        window = file.window or volume_window(slab, file, origin)
        values = show_values(values, file._replace(window=window), origin)
    return np.repeat(values[..., None], 3, axis=-1)


def volume_window(
    slab: Slice, file: ImageFile, origin: str
) -> tuple[float, float] | None:
    """Level and width that all slices of a volume are shown in where none is named.

    They are those of the `robust_window` of all of its finite numbers, so that a tissue
    has one grey in all slices.

    Args:
        slab: Any slice of the volume, from `open_slice`.
        file: The image.
        origin: What an error calls the line that names the image.

    Returns:
        In the volume's own units, the width 0 where all numbers are equal. None of
        whole numbers of 8 bits that are not rescaled, which are shown as they are, and
        of a volume without a finite number.
    """
    with read_safely(file, origin):
        stored = slab.image.dataobj
        slope, inter = float(stored.slope), float(stored.inter)
        values = np.asarray(stored.get_unscaled())
    if values.dtype == np.uint8 and (slope, inter) == (1.0, 0.0):
        return None
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return None
    ends = [end * slope + inter for end in robust_window(values)]
    return (min(ends) + max(ends)) / 2, max(ends) - min(ends)


def turn_slice(
    values: Shaped[np.ndarray, "a b"], slab: Slice
) -> Shaped[np.ndarray, "h w"]:
    """Numbers of a slice as they are shown: turned and flipped, their values kept.

    Args:
        values: The file's own, `volume[slab.place]`.
        slab: From `open_slice`.
    """
    values = values.T if slab.exchanged else values
    rows, columns = (slice(None, None, -1 if flip else 1) for flip in slab.flips)
    return values[rows, columns]


@contextlib.contextmanager
def read_safely(file: ImageFile, origin: str) -> Iterator[None]:
    """What a damaged volume raises inside becomes the error that names it.

    Args:
        file: The volume.
        origin: What the error calls the line that names it.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        yield
    except (*DAMAGED, ImageFileError, HeaderDataError, WrapStructError) as error:
        what = f"a damaged file: {type(error).__name__}"
        raise unreadable(file, origin, what, _WAY_OUT) from None
