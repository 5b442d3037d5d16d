"""What is cut for the vision tower comes back as the picture it was."""

import numpy as np
import pytest

from medjax.data.prompting.joining import join_patches
from medjax.data.prompting.layout import Geometry, pack_images

GEOMETRIES = (
    Geometry(7, 2, 2, 56, 56 * 56, 448 * 448),
    Geometry(14, 2, 2, 112, 56 * 56, 448 * 448),
    Geometry(
        *(7, 2, 2, 56, 56 * 56, 448 * 448),
        mean=(0.5, 0.4, 0.3),
        std=(0.5, 0.25, 1.0),
        levels=1.0,
    ),
)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("size", [(56, 56), (84, 140), (140, 28)])
def test_cut_and_joined_is_the_same(geometry, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    packed = pack_images([[image, image[::-1]]], geometry, windows=9, slots=2)
    for slot, shown in enumerate((image, image[::-1])):
        parts = (array[0, slot] for array in packed)
        np.testing.assert_array_equal(join_patches(*parts, geometry), shown)
