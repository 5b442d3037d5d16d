"""Sets of boxes against scipy's assignment in float64, and against all permutations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from medjax.rl.box_sets import MOST_BOXES, box_set_quality
from medjax.rl.boxes import box_iou
from tests.oracles.box_loops import iou

QUALITY = jax.jit(box_set_quality)


def random_sets(rng, count, most=MOST_BOXES):
    """Boxes on a coarse grid, so that ties, duplicates and empty boxes are common."""
    corner = rng.integers(0, 12, (count, most, 2))
    side = rng.integers(0, 9, (count, most, 2))
    boxes = np.concatenate([corner, corner + side], axis=-1).astype(np.float32)
    number = rng.integers(0, most + 1, count)
    return boxes, rng.permuted(np.arange(most) < number[:, None], axis=1)


def overlaps(boxes, targets):
    """IoU of every pair in float64, by NumPy alone."""
    a, b = boxes[:, :, None].astype(float), targets[:, None].astype(float)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(x[..., 2:] - x[..., :2], axis=-1) for x in (a, b)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(common > 0, common / (areas[0] + areas[1] - common), 0)


def expected(table, mine, theirs):
    """Q of one set by scipy."""
    table = table[np.ix_(mine, theirs)]
    if not mine.any() and not theirs.any():
        return 1.0
    return table[linear_sum_assignment(table, maximize=True)].sum() / max(table.shape)


@pytest.mark.parametrize("count", [4000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_random_sets_against_scipy(count):
    rng = np.random.default_rng(0)
    seen = []
    for start in range(0, count, 4000):
        size = min(4000, count - start)
        boxes, mine = random_sets(rng, 4000)
        targets, theirs = random_sets(rng, 4000)
        # Some targets are found exactly, or the scores would all be small.
        found = rng.random(4000) < 0.5
        targets[found] = boxes[found][:, rng.permutation(8)]
        want = list(map(expected, overlaps(boxes, targets), mine, theirs))
        got = QUALITY(boxes, mine, targets, theirs)
        # Sums of 8 numbers up to 1 in float32.
        np.testing.assert_allclose(got[:size], want[:size], atol=1e-6)
        seen += want[:size]
    assert len(seen) == count
    for share in (np.equal(seen, 0), np.greater(seen, 0.2), np.equal(seen, 1)):
        assert 0.01 < np.mean(share) < 0.5


def test_all_permutations_of_small_sets():
    rng = np.random.default_rng(1)
    boxes, mine = random_sets(rng, 100, most=3)
    targets, theirs = random_sets(rng, 100, most=4)
    got = QUALITY(boxes, mine, targets, theirs)
    for n in range(100):
        left, right = boxes[n][mine[n]], targets[n][theirs[n]]
        padded = [*left, *[np.zeros(4)] * len(right)]
        best = max(
            (
                sum(map(iou, chosen, right))
                for chosen in itertools.permutations(padded, len(right))
            ),
            default=0.0,
        )
        larger = max(len(left), len(right))
        np.testing.assert_allclose(got[n], best / larger if larger else 1, atol=1e-6)


A, B = [0, 0, 10, 10], [20, 20, 40, 40]
HALF = [0, 0, 10, 5]


@pytest.mark.parametrize(
    ("boxes", "targets", "quality"),
    [
        ([], [], 1.0),
        ([A], [], 0.0),
        ([], [A], 0.0),
        ([A], [A], 1.0),
        ([HALF], [A], 0.5),
        ([B, A], [A, B], 1.0),
        ([A, A], [A], 0.5),  # a duplicate
        ([A], [A, B], 0.5),  # one is missed
        ([A, B, [1, 1, 1, 5]], [A, B], 2 / 3),  # an empty box is a box too many
        ([[10, 10, 0, 0]], [A], 0.0),
        # The better pair is not taken where it costs the others more.
        ([A, HALF], [A, [0, 0, 10, 10.0]], 0.75),
        ([A] * 8, [A] * 8, 1.0),
    ],
)
def test_sets_by_hand(boxes, targets, quality):
    def padded(rows):
        table = np.full((8, 4), np.nan, np.float32)  # what does not count is not read
        table[: len(rows)] = np.array(rows).reshape(-1, 4)
        return table, np.arange(8) < len(rows)

    got = QUALITY(*padded(boxes), *padded(targets))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, quality, atol=1e-6)
    # As many as there are, without padding, and 0 of them.
    alone = box_set_quality(
        jnp.array(boxes, jnp.float32).reshape(-1, 4),
        jnp.ones(len(boxes), bool),
        jnp.array(targets, jnp.float32).reshape(-1, 4),
        jnp.ones(len(targets), bool),
    )
    np.testing.assert_allclose(alone, quality, atol=1e-6)


def test_sets_of_one_box_are_its_iou():
    rng = np.random.default_rng(2)
    boxes, _ = random_sets(rng, 200, most=1)
    targets, _ = random_sets(rng, 200, most=1)
    one = np.ones((200, 1), bool)
    got = QUALITY(boxes, one, targets, one)
    np.testing.assert_array_equal(got, box_iou(boxes[:, 0], targets[:, 0]))


def test_order_does_not_matter_and_axes_broadcast():
    rng = np.random.default_rng(3)
    boxes, mine = random_sets(rng, 40)
    targets, theirs = random_sets(rng, 10)
    groups = boxes.reshape(10, 4, 8, 4), mine.reshape(10, 4, 8)
    got = QUALITY(*groups, targets[:, None], theirs[:, None])
    assert got.shape == (10, 4)
    order = rng.permutation(8)
    turned = QUALITY(
        boxes[:, order],
        mine[:, order],
        *map(np.repeat, (targets, theirs), (4, 4), (0, 0)),
    )
    np.testing.assert_allclose(got.reshape(-1), turned, atol=1e-6)
    mapped = jax.vmap(jax.vmap(box_set_quality, (0, 0, None, None)))(
        *groups, jnp.asarray(targets), jnp.asarray(theirs)
    )
    np.testing.assert_allclose(mapped, got, atol=1e-6)


def test_a_nan_reaches_the_result_where_it_counts():
    boxes = np.array([[[0, 0, np.nan, 4]], [[0, 0, 4, 4]]], np.float32)
    targets = np.array([[[0, 0, 4, 4]]] * 2, np.float32)
    one = np.ones((2, 1), bool)
    got = QUALITY(boxes, one, targets, one)
    assert np.isnan(got[0]) and got[1] == 1
    assert not np.isnan(QUALITY(boxes, np.zeros((2, 1), bool), targets, one)).any()


def test_nine_targets_are_refused_and_any_number_of_boxes_is_not():
    nine, flags = jnp.zeros((9, 4)), jnp.ones(9, bool)
    eight = jnp.array([A] * 8, jnp.float32), jnp.ones(8, bool)
    with pytest.raises(ValueError, match="box_set_quality: targets: expected 0 to 8"):
        box_set_quality(*eight, nine, flags)
    many = jnp.array([A] * 20, jnp.float32), jnp.ones(20, bool)
    np.testing.assert_allclose(box_set_quality(*many, *eight), 8 / 20, atol=1e-6)
    with pytest.raises(ValueError, match="box_set_quality: box_valid: .*P = 8"):
        box_set_quality(eight[0], flags, *eight)
