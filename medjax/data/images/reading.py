"""The size of an image, and its pixels as a policy is shown them."""

import numpy as np
from jaxtyping import UInt8

from medjax.data.images.dicom import dicom_size, is_dicom, read_header
from medjax.data.images.dicom_pixels import read_dicom
from medjax.data.images.files import ImageFile, check_file, check_sides, unreadable
from medjax.data.images.nifti import is_nifti, open_slice, read_slice
from medjax.data.images.pictures import picture_size, read_picture
from medjax.data.images.squares import square_size, stretch


def image_size(file: ImageFile, origin: str) -> tuple[int, int]:
    """(height, width) of an image as shown, after turning; no pixels are decoded.

    Args:
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be shown; the message names it and the line.
    """
    _check_kind(file, origin)
    if is_nifti(file):
        slab = open_slice(file, origin)
        size = square_size(slab.size, slab.spacing, file, origin)
    elif is_dicom(file):
        stored, spacing = dicom_size(read_header(file, origin), file, origin)
        size = square_size(stored, spacing, file, origin)
    else:
        size = picture_size(file, origin)
    return check_sides(size, file, origin)


def read_image(file: ImageFile, origin: str) -> UInt8[np.ndarray, "h w 3"]:
    """An image as RGB, as a policy is shown it before it is resized.

    What is shown of each kind of file, and in which window, stands in docs/images.md.

    Args:
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be shown; the message names it and the line.
    """
    _check_kind(file, origin)
    if is_nifti(file):
        slab = open_slice(file, origin)
        size = square_size(slab.size, slab.spacing, file, origin)
        check_sides(size, file, origin)
        image = stretch(read_slice(slab, file, origin), size)
    elif is_dicom(file):
        header = read_header(file, origin)
        stored, spacing = dicom_size(header, file, origin)
        size = square_size(stored, spacing, file, origin)
        check_sides(size, file, origin)
        image = stretch(read_dicom(header, file, origin), size)
    else:
        image = read_picture(file, origin)
        check_sides(image.shape[:2], file, origin)
    return image


def _check_kind(file: ImageFile, origin: str) -> None:
    """Stop at what is no image, and at kinds of image that are not read."""
    check_file(file, origin)
    with file.path.open("rb") as stream:
        start = stream.read(12)
    if file.path.suffix.lower() in (".dcm", ".dicom", ".ima") and not is_dicom(file):
        raise unreadable(
            file,
            origin,
            "no DICOM file: DICM does not stand behind 128 bytes",
            "expected DICOM by its name. Export it again with its preamble (dcmconv "
            "+F in.dcm out.dcm), or correct the name",
        )
    if start[4:8] == b"ftyp":  # HEIC, HEIF, AVIF and films
        kind = start[8:12].decode("latin-1")
        raise unreadable(
            file,
            origin,
            f"a {kind!r} container, such as HEIC, AVIF or a film",
            "expected a picture in another format; convert it, for example by "
            "magick in.heic out.png",
        )
