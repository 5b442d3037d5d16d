"""Pictures through PIL: depth, orientation, size."""

import numpy as np
from PIL import Image

from medjax.data.images import ImageFile, image_size, read_image


def test_deep_greys_are_stretched_and_rotation_tags_obeyed(tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (120, 100), np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    deep = (grey.astype(np.uint16) * 10 + 500).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert image_size(ImageFile(tmp_path / "deep.png"), "x") == (120, 100)
    image = read_image(ImageFile(tmp_path / "deep.png"), "x")
    assert image.dtype == np.uint8 and image.min() == 0 and image.max() == 255
    plain = read_image(ImageFile(tmp_path / "a.png"), "x").astype(int)
    low, high = plain.min(), plain.max()
    expected = (plain - low) * 255 / (high - low)
    np.testing.assert_allclose(image, expected, atol=0.51)  # rounding
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(plain.astype(np.uint8)).save(tmp_path / "turned.png", exif=exif)
    assert image_size(ImageFile(tmp_path / "turned.png"), "x") == (100, 120)
    assert read_image(ImageFile(tmp_path / "turned.png"), "x").shape == (100, 120, 3)
