"""A user's images: depth, orientation, size, which are tested, what lists them."""

import numpy as np
import pytest
from PIL import Image

from medjax.data.images import find_list, groups_to_test, image_size, read_image


def test_deep_greys_are_stretched_and_rotation_tags_obeyed(tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (120, 100), np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    deep = (grey.astype(np.uint16) * 10 + 500).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert image_size(tmp_path / "deep.png", "x") == (120, 100)
    image = read_image(tmp_path / "deep.png", "x")
    assert image.dtype == np.uint8 and image.min() == 0 and image.max() == 255
    plain = read_image(tmp_path / "a.png", "x").astype(int)
    low, high = plain.min(), plain.max()
    expected = (plain - low) * 255 / (high - low)
    np.testing.assert_allclose(image, expected, atol=0.51)  # rounding
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(plain.astype(np.uint8)).save(tmp_path / "turned.png", exif=exif)
    assert image_size(tmp_path / "turned.png", "x") == (100, 120)
    assert read_image(tmp_path / "turned.png", "x").shape == (100, 120, 3)


def test_groups_to_test_on_are_the_first_by_hash():
    keys = [f"p{n}" for n in range(10)] * 2
    groups = groups_to_test(keys, test_share=0.25, seed=1)
    assert len(groups) == 3 and groups < set(keys)
    assert groups == groups_to_test(keys[::-1], test_share=0.25, seed=1)
    assert groups != groups_to_test(keys, test_share=0.25, seed=2)
    with pytest.raises(ValueError, match="1 patients or images and test_share=0.5"):
        groups_to_test(["p0"], test_share=0.5, seed=0)


def test_a_list_is_a_file_or_the_only_one_in_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"one \.csv file in the folder, found 0"):
        find_list(tmp_path, ".csv")
    (tmp_path / "a.csv").write_text("")
    assert find_list(tmp_path, ".csv") == tmp_path / "a.csv"
    assert find_list(str(tmp_path / "a.csv"), ".csv") == tmp_path / "a.csv"
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(ValueError, match="found 2; name the file itself"):
        find_list(tmp_path, ".csv")
    with pytest.raises(FileNotFoundError, match=r"gone.csv: no such file; expected a"):
        find_list(tmp_path / "gone.csv", ".csv")
