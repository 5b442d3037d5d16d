"""How many millimetres a pixel of a shown image is, where its file says so."""

from typing import Any

from medjax.data.images.dicom import damage, dicom_size, is_dicom, read_header
from medjax.data.images.files import ImageFile
from medjax.data.images.nifti import is_nifti, open_slice
from medjax.data.images.squares import square_size

_UNITS = {"meter": 1000.0, "micron": 0.001}  # in mm; NIfTI without a unit is in mm


def pixel_distances(file: ImageFile, origin: str) -> tuple[float, float] | None:
    """mm from row to row and from column to column of an image as it is shown.

    They are known of a NIfTI slice by its affine, and of a DICOM image by PixelSpacing
    alone: other spacings are measured at the detector, not in the patient.

    Args:
        file: The image; where its `pixels` widens an axis, distances are those of the
            pixels that are shown.
        origin: What an error calls the line that names the image.

    Returns:
        (rows, columns), above 0; None where the file does not say.

    Raises:
        ValueError: The file cannot be shown; the message names it.
    """
    if is_nifti(file):
        slab = open_slice(file, origin)
        stored, spacing = slab.size, slab.spacing
        header: Any = slab.image.header
        unit = _UNITS.get(header.get_xyzt_units()[0], 1.0)
        spacing = (spacing[0] * unit, spacing[1] * unit)
    elif is_dicom(file):
        header = read_header(file, origin)
        with damage(file, origin):
            known = bool(header.get("PixelSpacing"))
        if not known:
            return None
        stored, spacing = dicom_size(header, file, origin)
    else:
        return None
    height, width = square_size(stored, spacing, file, origin)
    return spacing[0] * stored[0] / height, spacing[1] * stored[1] / width
