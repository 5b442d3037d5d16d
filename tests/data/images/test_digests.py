"""Digests: equal for equal pixels, near for near pictures, far for others."""

import hashlib

import numpy as np
from PIL import Image

from medjax.data.images import ImageFile, perceptual_hash, pixel_digest, read_image


def picture(seed, side=64):
    """Blobs of several sizes: a picture with a pattern at low frequencies."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    grey = np.zeros((side, side))
    for cy, cx, r in rng.uniform(0.05, 1, (12, 3)):
        grey += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.05 * r))
    grey = np.round(255 * grey / grey.max()).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def test_the_digest_is_of_shape_and_pixels_not_of_the_file(tmp_path):
    image = picture(0)
    expected = hashlib.sha256(b"64,64,3;" + image.tobytes()).hexdigest()
    assert pixel_digest(image) == expected
    assert pixel_digest(image[:, ::-1][:, ::-1]) == expected  # strided
    assert pixel_digest(image.reshape(32, 128, 3)) != expected
    changed = image.copy()
    changed[3, 4, 1] ^= 1
    assert pixel_digest(changed) != expected
    Image.fromarray(image).save(tmp_path / "a.png", compress_level=1)
    Image.fromarray(image[..., 0]).save(tmp_path / "b.png", compress_level=9)
    for name in ("a.png", "b.png"):
        assert pixel_digest(read_image(ImageFile(tmp_path / name), "x")) == expected


def test_the_hash_is_near_for_near_pictures_and_far_for_others(tmp_path):
    hashes = [perceptual_hash(picture(n)) for n in range(20)]
    assert all(0 <= h < 2**64 for h in hashes)
    apart = [(a ^ b).bit_count() for n, a in enumerate(hashes) for b in hashes[:n]]
    assert min(apart) > 8  # of different pictures
    for n, first in enumerate(hashes):
        image = picture(n)
        Image.fromarray(image).save(tmp_path / "a.jpg", quality=60)
        near = (
            read_image(ImageFile(tmp_path / "a.jpg"), "x"),
            np.asarray(Image.fromarray(image).resize((100, 80))),
            (image * 0.8 + 20).astype(np.uint8),
        )
        assert all((first ^ perceptual_hash(one)).bit_count() <= 4 for one in near)
