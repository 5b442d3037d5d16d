"""Millimetres a pixel: of NIfTI by the affine, of DICOM by PixelSpacing alone."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from medjax.data.images import ImageFile, image_size
from medjax.data.images.distances import pixel_distances
from tests.data.images.dicom_files import write

GREY = np.arange(48, dtype=np.uint16).reshape(6, 8)


def test_dicom_by_pixel_spacing_alone(tmp_path):
    path = write(tmp_path / "a.dcm", GREY, PixelSpacing=[0.5, 0.5])
    assert pixel_distances(ImageFile(path), "x") == (0.5, 0.5)
    for header in ({}, {"ImagerPixelSpacing": [0.2, 0.2]}):
        path = write(tmp_path / "b.dcm", GREY, **header)
        assert pixel_distances(ImageFile(path), "x") is None


def test_pixels_that_are_not_square(tmp_path):
    path = write(tmp_path / "a.dcm", GREY, PixelSpacing=[1.5, 0.5])
    with pytest.raises(ValueError, match="x: cannot read a.dcm"):
        pixel_distances(ImageFile(path), "x")
    stored = ImageFile(path, pixels="stored")
    assert pixel_distances(stored, "x") == (1.5, 0.5)
    square = ImageFile(path, pixels="square")
    assert pixel_distances(square, "x") == (0.5, 0.5)
    assert image_size(square, "x") == (18, 8)


@pytest.mark.parametrize("unit, factor", [("mm", 1), ("unknown", 1), ("micron", 0.001)])
def test_nifti_by_its_affine(tmp_path, unit, factor):
    # stored across: axis 0 runs to the head, axis 1 to the left, axis 2 to the front
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 2, -3, 3, 1
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "v.nii.gz")
    file = ImageFile(tmp_path / "v.nii.gz", 0, "axial")
    found = pixel_distances(file, "x")
    np.testing.assert_allclose(found, (3 * factor, 3 * factor))
    file = file._replace(plane="sagittal", pixels="stored")
    np.testing.assert_allclose(pixel_distances(file, "x"), (2 * factor, 3 * factor))


def test_pictures_say_nothing(tmp_path):
    Image.fromarray(GREY.astype(np.uint8)).save(tmp_path / "a.png", dpi=(300, 300))
    assert pixel_distances(ImageFile(tmp_path / "a.png"), "x") is None
