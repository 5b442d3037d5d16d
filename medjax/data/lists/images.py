"""Which image a line names: a path, and the frame or slice of a file with several."""

import unicodedata
from collections.abc import Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medjax.data.images import ImageFile, image_groups
from medjax.data.images.nifti import is_nifti, open_slice, volume_window
from medjax.data.lists.cells import missing, name
from medjax.data.lists.groups import names_patient
from medjax.data.lists.reading import Reading

PLANES = ("axial", "coronal", "sagittal")
IMAGE_COLUMNS = ("image_frame", "image_plane")  # of a CSV file, beside its image's
_READERS = 8  # volumes that are read at a time
_FRAME = "expected a whole number, counted from 0"
_KEYS = ("path", "frame", "plane")  # of an object in JSONL
# Identifiers of a header that stand for nobody, in lower case.
_NOBODY = ("anon", "anonymous", "anonymized", "anonymised", "unknown", "none", "0")


def stored_file(folder: Path, value: str) -> Path:
    """The file that a cell names, however the folder's disk spells its accents.

    Names come from macOS with accents as characters of their own (form NFD), while
    cells are read in form NFC; of two such files the one in NFC is taken.

    Args:
        folder: What the path starts from.
        value: The path, in form NFC.
    """
    path = folder / value
    apart = folder / unicodedata.normalize("NFD", value)
    return apart if apart != path and not path.exists() and apart.exists() else path


def object_image(value: Any, folder: Path, origin: str) -> ImageFile:  # noqa: ANN401
    """The image of a JSON value: a path, or {"path": ..., "frame": 3, "plane": ...}.

    Args:
        value: `frame` counts from 0; `plane`, of a volume, is one of `PLANES`.
        folder: What paths start from.
        origin: What an error calls the line.

    Raises:
        ValueError: It is neither, or a key is unknown.
    """
    if not isinstance(value, dict):
        return ImageFile(stored_file(folder, name(value, origin, "image")))
    unknown = [key for key in value if key not in _KEYS]
    if unknown or "path" not in value:
        raise ValueError(
            f"{origin}: image {value!r}; expected a path, or an object with path and "
            "perhaps frame and plane"
        )
    frame = value.get("frame")
    if frame is not None and type(frame) is not int:
        raise ValueError(f"{origin}: frame {frame!r} of an image; {_FRAME}")
    path = stored_file(folder, name(value["path"], origin, "image"))
    return _image(path, value, frame, origin)


def cell_image(path: Path, row: Mapping[str, str], origin: str) -> ImageFile:
    """The image of a CSV line, by `IMAGE_COLUMNS` where the file has them.

    Args:
        path: Of its file.
        row: The line by column; an empty cell says nothing.
        origin: What an error calls the line.

    Raises:
        ValueError: A cell is no whole number, or no plane.
    """
    values = {
        key: row[column]
        for key, column in zip(_KEYS[1:], IMAGE_COLUMNS, strict=True)
        if column in row and not missing(row[column])
    }
    text = values.get("frame")
    if text is not None and not (text.isascii() and text.isdigit()):
        raise ValueError(f"{origin}: {IMAGE_COLUMNS[0]} {text!r}; {_FRAME}")
    return _image(path, values, None if text is None else int(text), origin)


def shown_as(image: ImageFile, reading: Reading) -> ImageFile:
    """The image with the options of how images are shown.

    Args:
        image: Of a line.
        reading: Its `window` and `pixels` count.
    """
    window = (reading.window[0], reading.window[1]) if reading.window else None
    return image._replace(window=window, pixels=reading.pixels)


def shown_images(
    images: Iterable[ImageFile], reading: Reading
) -> dict[ImageFile, ImageFile]:
    """Each image with the options of how it is shown, and its volume's window.

    Where no window is named that of a NIfTI volume is found here, once for all of its
    slices; of a volume that cannot be read none is, and its slices say why.

    Args:
        images: Of a list; the same may be there several times.
        reading: Its `window` and `pixels` count.
    """
    shown = {image: shown_as(image, reading) for image in images}
    volumes = {
        image.path: image
        for image in shown
        if is_nifti(image) and not reading.window and image.path.is_file()
    }

    def window(image: ImageFile) -> tuple[float, float] | None:
        try:
            return volume_window(open_slice(image, ""), image, "")
        except (ValueError, OSError):
            return None

    with ThreadPoolExecutor(_READERS) as pool:
        found = dict(zip(volumes, pool.map(window, volumes.values()), strict=True))
    return {
        image: as_shown._replace(window=found.get(image.path, as_shown.window))
        for image, as_shown in shown.items()
    }


def header_contents(
    image: ImageFile, groups: Mapping[str, str], origin: str
) -> tuple[Hashable, ...]:
    """What a DICOM header joins an image to others by: its patient, study and series.

    Args:
        image: The image; of another kind of file it is ().
        groups: What the list says. Where it names the patient the header counts for
            nothing; a column of something about a patient, such as their sex, is none
            that names one.
        origin: What an error calls the line.
    """
    if any(names_patient(column) for column in groups):
        return ()
    found = image_groups(image, origin)
    return tuple(
        (f"DICOM {what}", value)
        for what, value in found.items()
        if value.casefold() not in _NOBODY
    )


def _image(
    path: Path, values: Mapping[str, Any], frame: int | None, origin: str
) -> ImageFile:
    plane = values.get("plane", "")
    if frame is not None and frame < 0:
        raise ValueError(f"{origin}: frame {frame} of an image; {_FRAME}")
    if plane not in ("", *PLANES):
        raise ValueError(f"{origin}: plane {plane!r}; expected one of {PLANES}")
    return ImageFile(path, frame, plane)
