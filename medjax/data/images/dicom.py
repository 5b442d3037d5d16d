"""DICOM files through pydicom: which image of a file, its size, whose it is."""

import contextlib
import logging
import math
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import Image

from medjax.data.images.files import DAMAGED, ImageFile, check_frame, unreadable

if TYPE_CHECKING:
    from pydicom import Dataset

_GROUPS = {
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
}
# Where an enhanced file keeps, by frame, what stands in a classic one's header itself.
_FUNCTIONAL = (
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
)
_WAY_OUT = "expected a DICOM image. Export it again, or take out its lines"
_IMAGE = 0x0028  # the group of elements that describe the pixels
_LARGE = 1 << 16  # bytes of an element that is read when it is asked for
_SILENCE = threading.Lock()  # what silences pydicom holds for all threads


def is_dicom(file: ImageFile) -> bool:
    """Whether a file has DICOM's mark behind its preamble of 128 bytes."""
    with file.path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def image_groups(file: ImageFile, origin: str) -> dict[str, str]:
    """What of "patient", "study" and "series" a DICOM file names; {} of other files.

    They are PatientID, StudyInstanceUID and SeriesInstanceUID without blanks round
    them; what is empty is left out.

    Args:
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: The header is damaged.
    """
    if not file.path.is_file() or not is_dicom(file):
        return {}
    pydicom = _pydicom(file, origin)
    with damage(file, origin), _silent():
        header = pydicom.dcmread(
            file.path, stop_before_pixels=True, specific_tags=list(_GROUPS.values())
        )
        found = {
            name: str(header.get(tag) or "").strip(" \0")
            for name, tag in _GROUPS.items()
        }
    return {name: value for name, value in found.items() if value}


def read_header(file: ImageFile, origin: str) -> "Dataset":
    """The header of one image, what an enhanced file says of that frame included.

    Args:
        file: A DICOM file.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: The header is damaged, is none of an image, or the frame is not
            there or not named.
    """
    pydicom = _pydicom(file, origin)
    with damage(file, origin), _silent():
        header = pydicom.dcmread(file.path, defer_size=_LARGE)
        texts = header.get("SpecificCharacterSet") or ""
        texts = [texts] if isinstance(texts, str) else texts
        known = all(text in pydicom.charset.python_encoding for text in texts)
        names = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
        pixels = any(name in header for name in names)
        frames = int(header.get("NumberOfFrames") or 1)
    if not known:  # pydicom would say which, wherever it is read again
        raise unreadable(file, origin, "an unknown SpecificCharacterSet", _WAY_OUT)
    if not pixels:
        raise unreadable(file, origin, "it holds no pixels", _WAY_OUT)
    if file.frame is None and frames > 1:
        raise unreadable(
            file, origin, f"{frames} frames", "name one: a frame, counted from 0"
        )
    check_frame(file, frames, origin)
    with damage(file, origin), _silent():
        shared = header.get("SharedFunctionalGroupsSequence") or []
        each = header.get("PerFrameFunctionalGroupsSequence") or []
        for group in (*shared[:1], *each[file.frame or 0 :][:1]):
            for name in _FUNCTIONAL:
                for item in (group.get(name) or [])[:1]:
                    header.update(item)
        list(header.group_dataset(_IMAGE))  # converts their values while it is silent
        header.get("PresentationLUTShape")
    return header


def count_frames(file: ImageFile, origin: str) -> int:
    """How many images a DICOM file holds, 1 or more.

    Args:
        file: A DICOM file; its frame is not looked at.
        origin: What an error calls the file.

    Raises:
        ValueError: The header is damaged.
    """
    pydicom = _pydicom(file, origin)
    with damage(file, origin), _silent():
        header = pydicom.dcmread(
            file.path, stop_before_pixels=True, specific_tags=["NumberOfFrames"]
        )
        return max(1, int(header.get("NumberOfFrames") or 1))


def dicom_size(
    header: "Dataset", file: ImageFile, origin: str
) -> tuple[tuple[int, int], tuple[float, float]]:
    """(height, width) as stored, and the distances of rows and of columns.

    The distances are in mm, or in any unit where the header gives their ratio alone,
    and 1 where it gives none.

    Args:
        header: From `read_header`.
        file: The image.
        origin: What an error calls the line that names the image.
    """
    with damage(file, origin):
        height, width = int(header.Rows), int(header.Columns)
        spacing = (1.0, 1.0)
        for name in (
            "PixelSpacing",
            "ImagerPixelSpacing",
            "NominalScannedPixelSpacing",
            "PixelAspectRatio",
        ):
            given = header.get(name)
            if given:
                vertical, horizontal = given
                spacing = (float(vertical), float(horizontal))
                break
    limit = Image.MAX_IMAGE_PIXELS
    if height < 1 or width < 1 or (limit is not None and height * width > limit):
        raise unreadable(
            file,
            origin,
            f"{height} rows and {width} columns",
            f"expected 1 or more of each, and at most {limit} pixels",
        )
    if not all(0 < x < math.inf for x in spacing):
        raise unreadable(file, origin, f"a pixel spacing of {spacing}", _WAY_OUT)
    return (height, width), spacing


@contextlib.contextmanager
def damage(file: ImageFile, origin: str) -> Iterator[None]:
    """pydicom's errors by their kind alone: their texts may hold what a header says.

    Args:
        file: The image.
        origin: What an error calls the line that names the image.
    """
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        yield
    except (*DAMAGED, BytesLengthException, InvalidDicomError) as error:
        raise unreadable(
            file, origin, f"a damaged file: {type(error).__name__}", _WAY_OUT
        ) from None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """pydicom prints and logs values that it finds odd, patients' names among them."""
    from pydicom import config

    log = logging.getLogger("pydicom")
    with _SILENCE, warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        before, log.disabled = log.disabled, True
        try:
            yield
        finally:
            log.disabled = before


def _pydicom(file: ImageFile, origin: str):  # noqa: ANN202
    try:
        import pydicom
        import pydicom.charset
    except ImportError as error:
        raise ImportError(
            f"{origin}: {file.path.name} is a DICOM file, which needs pydicom; "
            'pip install "medjax[dicom]"'
        ) from error
    return pydicom
