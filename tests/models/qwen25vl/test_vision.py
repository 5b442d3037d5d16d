"""The vision tower: what reaches what, and what padding may not change."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.models.qwen25vl.vision import VisionTower
from tests.tiny import tiny_config

# Windows of 4 x 4 patches, so S = 16 and 4 features a window; 3 windows an image.
CONFIG = tiny_config()
S, FEATURES = 16, 4
WINDOWS = 3


def with_full(*blocks):
    return replace(CONFIG, vision=replace(CONFIG.vision, full_blocks=blocks))


WINDOWED, MIXED = with_full(), with_full(1)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    tower = VisionTower(CONFIG)
    shapes = jax.eval_shape(tower.init, jax.random.key(0), *picture())["params"]

    def draw(path, x):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return (centre + 0.2 * rng.normal(size=x.value.shape)).astype(x.value.dtype)

    is_box = lambda x: hasattr(x, "value")  # noqa: E731
    return jax.tree_util.tree_map_with_path(draw, shapes, is_leaf=is_box)


def picture(windows=WINDOWS, images=2, seed=1):
    """Patches, their rows and columns inside the image, and a full mask."""
    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(images, windows * S, 96)).astype(np.float32)
    row, col = np.indices((4, 4)).reshape(2, -1)
    where = [np.stack([row, col + 4 * w], axis=-1) for w in range(windows)]
    rows_cols = np.broadcast_to(np.concatenate(where), (images, windows * S, 2))
    return patches, rows_cols.astype(np.int32), np.ones((images, windows * S), bool)


@partial(jax.jit, static_argnames="config")
def encode(params, patches, rows_cols, mask, config=MIXED):
    return VisionTower(config).apply({"params": params}, patches, rows_cols, mask)


def moved_windows(params, config, window):
    """Which windows' features a change inside one window reaches."""
    patches, rows_cols, mask = picture()
    changed = patches.copy()
    changed[0, window * S + 5] += 1
    before, after = (
        encode(params, x, rows_cols, mask, config=config) for x in (patches, changed)
    )
    assert before.shape == (2, WINDOWS * FEATURES, CONFIG.width)
    apart = np.abs(np.asarray(before - after)).max(-1)
    assert (apart[1] == 0).all()  # the other image
    return set(np.flatnonzero(apart[0].reshape(WINDOWS, FEATURES).max(-1)).tolist())


@pytest.mark.parametrize("window", range(WINDOWS))
def test_a_windowed_tower_keeps_a_change_inside_its_window(params, window):
    assert moved_windows(params, WINDOWED, window) == {window}


@pytest.mark.parametrize("blocks", [(0,), (1,), (0, 1)])
def test_one_full_block_carries_it_everywhere(params, blocks):
    assert moved_windows(params, with_full(*blocks), 1) == {0, 1, 2}


def test_a_windowed_tower_sees_each_window_as_an_image_of_its_own(params):
    patches, rows_cols, mask = picture()
    whole = encode(params, patches, rows_cols, mask, config=WINDOWED)
    cut = (x.reshape(2 * WINDOWS, S, *x.shape[2:]) for x in (patches, rows_cols, mask))
    alone = encode(params, *cut, config=WINDOWED)
    # the same sums in another batch shape
    np.testing.assert_allclose(np.asarray(whole).reshape(alone.shape), alone, atol=1e-5)


def test_one_window_is_the_whole_image_in_either_kind_of_block(params):
    one = picture(windows=1)
    np.testing.assert_allclose(
        encode(params, *one, config=WINDOWED),
        encode(params, *one, config=with_full(0, 1)),
        atol=1e-5,
    )


def test_empty_windows_and_cut_windows_change_nothing(params):
    """A bucket's padding, and the padding at the end of a window at the image's edge.

    The image: one window of 16 patches, one of 8, then a window that is empty.
    """
    patches, rows_cols, mask = picture()
    mask[:, S + 8 :] = False
    short = [x[:, : 2 * S] for x in (patches, rows_cols, mask)]
    expected = np.asarray(encode(params, *short))[:, : FEATURES + 2]
    noise = 50 * np.random.default_rng(2).normal(size=patches.shape)
    spoilt = np.where(mask[..., None], patches, noise).astype(np.float32)
    found = np.asarray(encode(params, spoilt, rows_cols, mask))
    np.testing.assert_allclose(found[:, : FEATURES + 2], expected, atol=1e-5)
    assert np.isfinite(found).all()  # those of padding as well


def test_padding_takes_no_gradient(params):
    patches, rows_cols, mask = picture()
    mask[:, S + 8 :] = False

    @jax.jit
    @partial(jax.grad, argnums=1)
    def slope(params, patches):
        features = encode(params, patches, rows_cols, mask)
        return jnp.sum(features[:, : FEATURES + 2] ** 2)

    grads = np.asarray(slope(params, patches))
    assert np.isfinite(grads).all()
    assert (grads[~mask] == 0).all()
    assert (np.abs(grads[mask]).max(-1) > 0).all()


def test_a_patch_knows_where_it_lies(params):
    patches, rows_cols, mask = picture()
    alike = np.broadcast_to(patches[:, :1], patches.shape)
    swapped = rows_cols[..., ::-1]
    found = encode(params, alike, rows_cols, mask)
    other = encode(params, alike, swapped, mask)
    # rotary positions are relative, and equal patches give equal values
    np.testing.assert_allclose(found, other, atol=1e-5)
    found = encode(params, patches, rows_cols, mask)
    other = encode(params, patches, swapped, mask)
    assert float(jnp.abs(found - other).max()) > 1e-3
