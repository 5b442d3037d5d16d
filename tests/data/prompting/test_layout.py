"""Index work against plain loops, and against transformers where it can be asked."""

import numpy as np
import pytest

from medjax.data.prompting.layout import (
    Geometry,
    cut_patches,
    feature_index,
    mrope_positions,
    num_windows,
    pack_images,
    resize_image,
    shown_size,
)
from tests.oracles import qwen25vl_inputs as oracle

QWEN = Geometry(
    patch=14, merge=2, temporal=2, window=112, min_pixels=28**2, max_pixels=28**2 * 256
)
SMALL = Geometry(
    patch=4, merge=2, temporal=2, window=28, min_pixels=64, max_pixels=10**6
)  # the window holds 3 features, 24 of its 28 pixels
SIZES = [(252, 140), (112, 112), (84, 56), (196, 308), (28, 28)]


def natural_order(image, geometry):
    """Patches back in merge-block order, as transformers has them."""
    cut = cut_patches(image, geometry)
    index = feature_index(image.shape[:2], geometry)
    block = geometry.merge**2
    rows = (index[:, None] * block + np.arange(block)).ravel()
    assert cut.mask[rows].all() and cut.mask.sum() == len(rows)
    return cut.patches[rows], cut.rows_cols[rows]


@pytest.mark.parametrize("size", SIZES)
def test_patches_equal_the_loops(size):
    image = oracle.picture(*size, seed=1)
    grid = (size[0] // 14, size[1] // 14)
    patches, rows_cols = natural_order(image, QWEN)
    # float32 here, float64 there: (x / 255 - mean) / std is below 3
    np.testing.assert_allclose(patches, oracle.patch_rows(image, grid, 14), atol=1e-6)
    np.testing.assert_array_equal(rows_cols, oracle.merge_order(grid))


@pytest.mark.parametrize("size", SIZES)
def test_windows_equal_the_loops(size):
    image = oracle.picture(*size, seed=2)
    grid = (size[0] // 14, size[1] // 14)
    cut = cut_patches(image, QWEN)
    windows = cut.rows_cols.reshape(-1, QWEN.window_patches, 2)
    mask = cut.mask.reshape(windows.shape[:2])
    order = np.array(oracle.merge_order(grid))
    expected = [order[members].tolist() for members in oracle.window_order(grid)]
    assert [w[m].tolist() for w, m in zip(windows, mask, strict=True)] == expected
    assert len(windows) == num_windows(size, QWEN)


def test_window_that_is_no_multiple_of_a_feature():
    size = (32, 56)
    cut = cut_patches(oracle.picture(*size, seed=3), SMALL)
    assert SMALL.window_features == 3 and num_windows(size, SMALL) == 2 * 3
    assert len(cut.mask) == 6 * 36
    windows = cut.rows_cols.reshape(6, 36, 2) // 6
    for window, inside in zip(windows, cut.mask.reshape(6, 36), strict=True):
        assert len(np.unique(window[inside], axis=0)) == 1


def test_shape_and_padding_of_packed_images():
    images = [[oracle.picture(56, 28, 1), oracle.picture(112, 140, 2)], []]
    packed = pack_images(images, QWEN, windows=3, slots=2)
    assert packed.patches.shape == (2, 2, 192, 1176)
    assert packed.mask.sum(axis=-1).tolist() == [[8, 80], [0, 0]]
    assert not packed.patches[~packed.mask].any()
    alone = cut_patches(images[0][1], QWEN)
    np.testing.assert_array_equal(packed.patches[0, 1, : len(alone.mask)], alone[0])
    assert packed.patches.dtype == np.float32 and packed.rows_cols.dtype == np.int32


def test_image_of_a_wrong_size_is_refused():
    with pytest.raises(ValueError, match="30 x 28.*multiples of 28"):
        cut_patches(np.zeros((30, 28, 3), np.uint8), QWEN)


def test_resizing_is_the_identity_on_shown_sizes():
    image = oracle.picture(252, 140, 4)
    assert resize_image(image, QWEN) is image
    assert shown_size((233, 197), QWEN) == (224, 196)
    assert resize_image(oracle.picture(233, 197, 4), QWEN).shape == (224, 196, 3)


@pytest.mark.parametrize("patch", [14, 7])
def test_positions_equal_the_loops(patch):
    case = oracle.make_case(patch)
    grids = list(case.grids)
    for row, sizes in zip(case.rows, oracle.ROWS, strict=True):
        mine = [grids.pop(0) for _ in sizes]
        merged = [(h // 2, w // 2) for h, w in mine]
        found, following = mrope_positions(np.array(row), merged, oracle.IMAGE)
        expected, expected_following = oracle.positions(row, mine)
        np.testing.assert_array_equal(found, expected)
        assert following == expected_following


def test_adjacent_images_and_counts_that_differ():
    row = np.array([1, 9, 9, 9, 9, 9, 9, 2])
    found, following = mrope_positions(row, [(1, 2), (2, 2)], 9)
    assert found[1:3, 2].tolist() == [1, 2] and found[3].tolist() == [3, 3, 3]
    assert found[-1].tolist() == [5, 5, 5] and following == 6
    for grids in ([(1, 2)], [(1, 2), (2, 3)], []):
        with pytest.raises(ValueError, match="6 image tokens"):
            mrope_positions(row, grids, 9)


def test_transformers_agrees_on_pixels():
    from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as hf

    processor = hf.Qwen2VLImageProcessorPil(
        min_pixels=QWEN.min_pixels, max_pixels=QWEN.max_pixels
    )
    sizes = [(252, 140), (90, 60), (20, 20), (700, 600)]
    images = [oracle.picture(*size, seed=5) for size in sizes]
    expected = processor(images=images, return_tensors="np")
    found = [natural_order(resize_image(i, QWEN), QWEN)[0] for i in images]
    # Two float32 roundings of numbers below 3.
    np.testing.assert_allclose(
        np.concatenate(found), expected["pixel_values"], atol=2e-6
    )
    for image, grid in zip(images, expected["image_grid_thw"], strict=True):
        height, width = shown_size(image.shape[:2], QWEN)
        assert (1, height // 14, width // 14) == tuple(grid)


def test_transformers_agrees_on_windows_and_positions():
    torch = pytest.importorskip("torch")
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel
    from transformers.vision_utils import get_vision_window_index

    case = oracle.make_case(14)
    thw = torch.tensor([(1, *grid) for grid in case.grids])
    index, lengths = get_vision_window_index(thw, 2, 112, 14)
    start, expected = 0, []
    for height, width in case.grids:
        size = (height * 14, width * 14)
        place = feature_index(size, QWEN)
        expected += (start + np.argsort(place)).tolist()
        start += len(place)
    assert index.tolist() == expected
    windows = sum(num_windows((h * 14, w * 14), QWEN) for h, w in case.grids)
    assert len(np.unique(lengths)) - 1 == windows

    ids, mask = map(torch.tensor, oracle.padded_rows(case))
    with torch.device("meta"):
        config = Qwen2_5_VLConfig(
            text_config={
                **oracle.text_sizes(),
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            },
            vision_config=oracle.vision_sizes(14),
            **oracle.TOKEN_IDS,
        )
        model = Qwen2_5_VLModel(config)
    positions, deltas = model.get_rope_index(
        ids,
        mm_token_type_ids=(ids == oracle.IMAGE).int(),
        image_grid_thw=thw,
        attention_mask=mask,
    )
    grids = list(case.grids)
    for b, (row, sizes) in enumerate(zip(case.rows, oracle.ROWS, strict=True)):
        merged = [tuple(n // 2 for n in grids.pop(0)) for _ in sizes]
        found, following = mrope_positions(np.array(row), merged, oracle.IMAGE)
        np.testing.assert_array_equal(found.T, positions[:, b, -len(row) :])
        assert following == len(row) + int(deltas[b])


def test_an_image_that_is_not_of_bytes_is_refused():
    image = np.zeros((56, 56, 3), np.float32)  # 0 to 1 would be divided by 255 again
    with pytest.raises(ValueError, match="pack_images: image: expected uint8"):
        pack_images([[image]], QWEN, windows=1, slots=1)
    with pytest.raises(ValueError, match="resize_image: image: expected uint8"):
        resize_image(image, QWEN)
