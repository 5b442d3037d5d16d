"""Overlap against plain loops, frames there and back, sizes against transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medjax.rl.boxes import (
    FRAMES,
    box_iou,
    clip_boxes,
    convert_boxes,
    generalized_box_iou,
    pairwise_box_iou,
    pairwise_generalized_box_iou,
    smart_resize,
)
from tests.oracles import box_loops

SIZE, RESIZED = (233, 197), (224, 196)
fast = settings(max_examples=100, deadline=None, database=None, derandomize=True)


def random_boxes(seed, num=64, broken=0.2):
    """Corners in 0..20, some swapped or of zero width."""
    rng = np.random.default_rng(seed)
    boxes = rng.integers(0, 20, (num, 4)).astype(float)
    boxes[:, 2:] = boxes[:, :2] + rng.integers(0, 12, (num, 2))
    swap = rng.random(num) < broken
    boxes[swap] = boxes[swap][:, [2, 1, 0, 3]]
    return boxes


@pytest.mark.parametrize("seed", range(5))
def test_overlap_equals_the_loop(seed):
    a, b = random_boxes(seed), random_boxes(seed + 100)
    expected = [box_loops.iou(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(box_iou(jnp.asarray(a), jnp.asarray(b)), expected)
    expected = [box_loops.giou(x, y) for x, y in zip(a, b, strict=True)]
    found = generalized_box_iou(jnp.asarray(a), jnp.asarray(b))
    # float64 on both sides; only the order of the sums differs.
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize(
    ("a", "b", "iou", "giou"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0, 1.0),  # identical
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0, 0.0),  # touching
        ([0, 0, 1, 1], [9, 9, 10, 10], 0.0, -0.98),  # disjoint
        ([0, 0, 10, 10], [2, 2, 4, 4], 0.04, 0.04),  # nested
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),  # corner
        ([10, 10, 0, 0], [10, 10, 0, 0], 0.0, -1.0),  # both corners swapped
        ([10, 0, 0, 10], [0, 0, 10, 10], 0.0, -1.0),  # x swapped
        ([5, 5, 5, 9], [0, 0, 10, 10], 0.0, -1.0),  # no width
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0, -1.0),
    ],
)
def test_hand_boxes(a, b, iou, giou):
    a, b = jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)
    for x, y in ((a, b), (b, a)):
        assert float(box_iou(x, y)) == pytest.approx(iou, abs=1e-15)
        assert float(generalized_box_iou(x, y)) == pytest.approx(giou, abs=1e-15)


@fast
@given(
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from([1e-3, 1.0, 28.0, 1000.0]),
)
def test_d07_a_box_has_iou_1_with_itself_in_every_frame(corners, scale):
    """VLM-R1's pixel ends give 0 to identical normalised or 1-pixel boxes."""
    x1, y1, w, h = corners
    box = np.array([x1, y1, x1 + 0.01 + w, y1 + 0.01 + h]) * scale
    for dtype in (jnp.float32, jnp.float64):
        assert float(box_iou(jnp.asarray(box, dtype), jnp.asarray(box, dtype))) == 1


def test_d07_decimals_count():
    a, b = jnp.asarray([0.0, 0, 0.5, 1]), jnp.asarray([0.0, 0, 1, 1])
    assert float(box_iou(a, b)) == 0.5


def test_nan_shows_beside_an_empty_side_too():
    box = jnp.array([0.0, 0.0, 2.0, 2.0], jnp.float32)
    for broken in ([jnp.nan, 5, 3, 5], [0, jnp.nan, 0, 1]):
        broken = jnp.array(broken, jnp.float32)
        assert jnp.isnan(box_iou(broken, box)) and jnp.isnan(box_iou(box, broken))
        assert jnp.isnan(generalized_box_iou(box, broken))
    assert box_iou(jnp.array([3.0, 5, 3, 5], jnp.float32), box) == 0


def test_nan_propagates_and_integers_are_welcome():
    box = jnp.asarray([0.0, 0, 1, 1])
    for i in range(4):
        broken = box.at[i].set(jnp.nan)
        assert jnp.isnan(box_iou(broken, box))
        assert jnp.isnan(generalized_box_iou(box, broken))
    whole = jnp.asarray([0, 0, 4, 4], jnp.int32)
    assert box_iou(whole, whole).dtype == jnp.float32
    small = jnp.asarray([0, 0, 4, 4], jnp.bfloat16)
    assert box_iou(small, small).dtype == jnp.float32


def test_vmap_equals_loop_and_gradient_is_finite_everywhere():
    a, b = jnp.asarray(random_boxes(1, 8)), jnp.asarray(random_boxes(2, 8))
    loop = jnp.stack([box_iou(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_array_equal(jax.vmap(box_iou)(a, b), loop)
    pairs = pairwise_box_iou(a, b)
    np.testing.assert_array_equal(pairs, box_iou(a[:, None], b[None]))
    assert pairs.shape == (8, 8)
    np.testing.assert_array_equal(jnp.diagonal(pairs), loop)
    for fn in (box_iou, generalized_box_iou):
        gradient = jax.jit(jax.grad(lambda x, fn=fn: jnp.sum(fn(x, b))))(a)
        assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.parametrize("sizes", [(5, 3), (1, 4), (0, 3), (2, 0)])
def test_every_pair_equals_the_loop(sizes):
    a, b = (random_boxes(n, size) for n, size in enumerate(sizes))
    for loop, pairwise in (
        (box_loops.iou, pairwise_box_iou),
        (box_loops.giou, pairwise_generalized_box_iou),
    ):
        expected = np.array([[loop(x, y) for y in b] for x in a]).reshape(sizes)
        # float64 on both sides; only the order of the sums differs.
        np.testing.assert_allclose(pairwise(a, b), expected, atol=1e-14)


def test_numpys_boxes_take_a_traced_size():
    boxes = np.array([[0.0, 0, 10, 20]])
    unit = jax.jit(
        lambda size: convert_boxes(boxes, "original", "unit", size=size, resized=None)
    )
    np.testing.assert_allclose(unit(jnp.asarray([20, 10])), [[0, 0, 1, 1]])
    found = jax.jit(lambda size: clip_boxes(boxes, size=size))(jnp.asarray([5, 5]))
    np.testing.assert_array_equal(found, [[0, 0, 5, 5]])


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
@pytest.mark.parametrize("source", FRAMES)
@pytest.mark.parametrize("target", FRAMES)
def test_frames_there_and_back(xp, source, target):
    extents = {
        "original": (197, 233),
        "resized": (196, 224),
        "unit": (1, 1),
        "thousand": (1000, 1000),
    }
    scale = np.array([*extents[source], *extents[source]], float)
    boxes = xp.asarray(np.random.default_rng(0).random((7, 4)) * scale)
    there = convert_boxes(boxes, source, target, size=SIZE, resized=RESIZED)
    back = convert_boxes(there, target, source, size=SIZE, resized=RESIZED)
    assert isinstance(there, jax.Array) == (xp is jnp)
    # Two multiplications and two divisions in float64.
    np.testing.assert_allclose(back, boxes, rtol=1e-15, atol=0)
    full = xp.asarray([[0.0, 0.0, *extents[source]]])
    there = convert_boxes(full, source, target, size=SIZE, resized=RESIZED)
    np.testing.assert_array_equal(there, [[0, 0, *extents[target]]])


def test_equal_sizes_change_nothing():
    boxes = np.random.default_rng(1).random((50, 4)).astype(np.float32) * 504
    for b in (boxes, jnp.asarray(boxes)):
        same = convert_boxes(
            b, "original", "resized", size=(504, 504), resized=(504,) * 2
        )
        np.testing.assert_array_equal(same, boxes)


def test_one_size_a_box_and_under_jit():
    boxes = jnp.asarray([[0.0, 0, 10, 20], [0.0, 0, 10, 20]])
    sizes = jnp.asarray([[20, 10], [40, 20]], jnp.int32)

    @jax.jit
    def unit(boxes, sizes):
        return convert_boxes(boxes, "original", "unit", size=sizes, resized=None)

    np.testing.assert_allclose(unit(boxes, sizes), [[0, 0, 1, 1], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(
        convert_boxes(
            np.array([1, 2, 3, 4]), "unit", "thousand", size=None, resized=None
        ),
        [1000, 2000, 3000, 4000],
    )


def test_the_longer_way_round_is_the_same():
    boxes = np.array([[10.0, 20, 30, 40]])
    way = {"size": SIZE, "resized": RESIZED}
    unit = convert_boxes(boxes, "original", "unit", **way)
    np.testing.assert_allclose(
        convert_boxes(unit, "unit", "resized", **way),
        convert_boxes(boxes, "original", "resized", **way),
        rtol=1e-15,
    )


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("pixels", "unit"), {}, "'pixels' is not declared.*original.*thousand"),
        (("unit", None), {}, "None is not declared"),
        (("original", "unit"), {"size": None}, "'original' needs the"),
        (("unit", "resized"), {"resized": None}, "'resized' needs the"),
        (
            ("original", "unit"),
            {"size": (10, 20, 3)},
            r"size: expected .* \[2\]; found .* \(3,\)",
        ),
        (("original", "unit"), {"size": (0, 20)}, "must be positive"),
        (("original", "unit"), {"size": (float("inf"), 20)}, "must be .*finite"),
        (("original", "unit"), {"size": np.array([np.nan, 20])}, "must be positive"),
        (("original", "unit"), {"size": (True, 20)}, "must be positive"),
        (("original", "unit"), {"size": np.ones(2, bool)}, "size: .* found bool"),
        (
            ("original", "unit"),
            {"size": [[1, 2]]},
            r"\[\*#N, 2\] with N = \(\) from boxes; .* \(1, 2\)",
        ),
    ],
)
def test_bad_frames(arguments, options, message):
    options = {"size": SIZE, "resized": RESIZED} | options
    with pytest.raises(ValueError, match=message):
        convert_boxes(np.zeros(4), *arguments, **options)


def test_bad_boxes():
    with pytest.raises(ValueError, match=r"boxes: expected .* \[\*N, 4\]; .*\(4, 3\)"):
        convert_boxes(np.zeros((4, 3)), "unit", "unit", size=None, resized=None)


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_clip(xp):
    boxes = xp.asarray([[-3.0, -1, 8, 4], [6, 6, 9, 9], [1, 1, 2, 2]])
    clipped = clip_boxes(boxes, size=(5, 7))
    np.testing.assert_array_equal(clipped, [[0, 0, 7, 4], [6, 5, 7, 5], [1, 1, 2, 2]])
    outside = clip_boxes(xp.asarray([[8.0, 8, 9, 9]]), size=(5, 7))
    assert float(box_iou(jnp.asarray(outside), jnp.asarray(outside))[0]) == 0


@pytest.mark.parametrize(
    ("size", "max_pixels", "expected"),
    [
        ((512, 512), 12_845_056, (504, 504)),
        ((233, 197), 12_845_056, (224, 196)),
        ((1955, 1841), 1_003_520, (1008, 952)),
        ((20, 20), 12_845_056, (56, 56)),
        ((70, 98), 12_845_056, (56, 112)),  # 2.5 -> 2 and 3.5 -> 4: half to even
    ],
)
def test_known_sizes(size, max_pixels, expected):
    found = smart_resize(*size, factor=28, min_pixels=3136, max_pixels=max_pixels)
    assert found == expected


def test_sizes_equal_transformers():
    module = pytest.importorskip(
        "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl",
        reason="this transformers has no PIL processor of Qwen2-VL",
        exc_type=ImportError,
    )
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = (int(x) for x in np.exp(rng.uniform(2.6, 7.8, 2)))
        low = int(rng.integers(1, 9)) * 784
        high = low + int(rng.integers(0, 2000)) * 784
        bounds = {"factor": 28, "min_pixels": low, "max_pixels": high}
        found = smart_resize(height, width, **bounds)
        assert found == module.smart_resize(height, width, **bounds)


@fast
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 40))
def test_sizes_are_multiples_within_bounds_and_stable(height, width, factor):
    bounds = {"factor": factor, "min_pixels": 4 * factor**2}
    bounds["max_pixels"] = 4000 * factor**2
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(ValueError, match="aspect ratio"):
            smart_resize(height, width, **bounds)
        return
    h, w = smart_resize(height, width, **bounds)
    assert h % factor == 0 and w % factor == 0 and min(h, w) >= factor
    assert h * w >= bounds["min_pixels"]
    assert h * w <= bounds["max_pixels"] or min(h, w) == factor
    if h * w <= bounds["max_pixels"] and max(h, w) <= 200 * min(h, w):
        assert smart_resize(h, w, **bounds) == (h, w)


@pytest.mark.parametrize(
    ("size", "bounds", "message"),
    [
        ((0, 10), (1, 10), "height: expected an integer of at least 1, found 0"),
        ((10, 2001), (1, 10), "aspect ratio"),
        ((10, 10), (0, 10), "min_pixels: .* at least 1, found 0"),
        ((10, 10), (20, 10), "max_pixels: .* at least 20, found 10"),
        ((10.5, 10), (1, 10), "height: .* found 10.5"),
        ((10, 10), (1, float("inf")), "max_pixels: .* found inf"),
    ],
)
def test_bad_sizes(size, bounds, message):
    with pytest.raises(ValueError, match=message):
        smart_resize(*size, factor=28, min_pixels=bounds[0], max_pixels=bounds[1])
