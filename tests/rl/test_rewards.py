"""Rewards of IoU and format, their baselines and their weighted sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.rewards import (
    combine_rewards,
    format_reward,
    parsed_iou,
    progress_reward,
    progress_threshold,
    raw_iou_reward,
    threshold_reward,
)

NAN = float("nan")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_threshold_is_reached_by_equality(dtype):
    iou = jnp.asarray([0.0, 0.45, 0.6, 0.7, 0.8, 1.0, NAN], dtype)
    for tau in (0.45, 0.6, 0.7, 0.8):
        reward = threshold_reward(iou, tau)
        assert reward.dtype == dtype
        expected = np.array([0.0, 0.45, 0.6, 0.7, 0.8, 1.0]) >= tau
        np.testing.assert_array_equal(reward[:-1], expected)
        assert jnp.isnan(reward[-1])
        reward = threshold_reward(iou, jnp.float32(tau))
        np.testing.assert_array_equal(reward[:-1], expected)


def test_raw_iou_is_the_iou():
    iou = jnp.linspace(0, 1, 5)
    np.testing.assert_array_equal(raw_iou_reward(iou), iou)


def test_progress_thresholds_step_by_step():
    """V-Triune: 0.85 up to 10 % of the training, 0.95 up to 25 %, then 0.99."""
    for total in (20, 100, 300, 7_000):
        found = jax.vmap(lambda k, n=total: progress_threshold(k, total_steps=n))(
            jnp.arange(total + 1)
        )
        steps = np.arange(total + 1)
        expected = np.where(10 * steps <= total, 0.85, 0.95)
        expected = np.where(4 * steps <= total, expected, 0.99)
        np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_progress_reward_pays_the_iou_or_one():
    iou = jnp.asarray([0.84, 0.85, 0.96, 1.0, NAN])
    step = jnp.asarray(1)
    paid = progress_reward(iou, step, total_steps=100)
    np.testing.assert_array_equal(paid, [0, 0.85, 0.96, 1, NAN])
    paid = progress_reward(iou, step, total_steps=100, binary=True)
    np.testing.assert_array_equal(paid, [0, 1, 1, 1, NAN])
    late = progress_reward(iou, jnp.asarray(50), total_steps=100)
    np.testing.assert_array_equal(late, [0, 0, 0, 1, NAN])


def test_progress_needs_one_threshold_more_than_boundaries():
    with pytest.raises(ValueError, match="one more than the 2 boundaries; found 1"):
        progress_threshold(jnp.asarray(0), total_steps=9, thresholds=(0.5,))
    for steps in (0, float("inf")):
        message = f"total_steps: expected a finite number of 1 or more; found {steps}"
        with pytest.raises(ValueError, match=message):
            progress_threshold(jnp.asarray(0), total_steps=steps)


def test_an_answer_without_a_box_has_iou_0():
    box = jnp.asarray([[0.0, 0, 2, 2]] * 3)
    boxes = box.at[2].set(jnp.nan)  # what stands there is not read
    found = jnp.asarray([True, False, False])
    np.testing.assert_array_equal(parsed_iou(boxes, found, box), [1, 0, 0])


def test_format_reward_is_the_flag():
    reward = format_reward(jnp.asarray([[True, False]]))
    assert reward.dtype == jnp.float32
    np.testing.assert_array_equal(reward, [[1, 0]])


def test_combined_by_hand():
    rewards = {
        "iou": jnp.asarray([[1.0, 0.0, NAN], [NAN, 1.0, 1.0]]),
        "format": jnp.asarray([[1.0, 1.0, 0.0], [NAN, 0.0, 1.0]], jnp.float32),
    }
    total, valid, metrics = combine_rewards(
        rewards,
        {"iou": 2.0, "format": 0.5},
        scored={name: ~jnp.isnan(x) for name, x in rewards.items()},
    )
    np.testing.assert_array_equal(total, [[2.5, 0.5, 0.0], [0, 2.0, 2.5]])
    np.testing.assert_array_equal(valid, [[True] * 3, [False, True, True]])
    expected = {
        "iou": 0.75,
        "iou_unscorable": 2 / 6,
        "format": 3 / 5,
        "format_unscorable": 1 / 6,
    }
    assert {k: float(v) for k, v in metrics.items()} == pytest.approx(expected)


def test_a_nan_that_counts_reaches_the_total_whatever_its_weight():
    rewards = {"a": jnp.asarray([[1.0, NAN]]), "b": jnp.ones((1, 2))}
    total, valid, metrics = combine_rewards(rewards, {"a": 0.0, "b": 1.0})
    np.testing.assert_array_equal(total, [[1, NAN]])
    assert jnp.all(valid) and jnp.isnan(metrics["a"])


def test_completions_that_do_not_count_leave_the_total_and_the_metrics():
    rewards = {"iou": jnp.asarray([[1.0, 0.0], [NAN, 5.0]])}
    weights = {"iou": 1.0}
    rows = jnp.asarray([[True], [False]])
    total, valid, metrics = combine_rewards(rewards, weights, valid=rows)
    np.testing.assert_array_equal(total, [[1, 0], [0, 0]])
    np.testing.assert_array_equal(valid, [[True, True], [False, False]])
    assert float(metrics["iou"]) == 0.5 and float(metrics["iou_unscorable"]) == 0
    _, _, metrics = combine_rewards(rewards, weights, valid=rows & False)
    assert all(float(x) == 0 for x in metrics.values())


def test_marks_of_a_reward_that_is_not_there_are_refused():
    with pytest.raises(ValueError, match=r"scored: expected names .*'a'.*found \['b'"):
        combine_rewards(
            {"a": jnp.ones((1, 1))}, {"a": 1.0}, scored={"b": jnp.ones((1, 1), bool)}
        )


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (1, 1)])
def test_sizes_0_and_1(shape):
    iou = jnp.ones(shape)
    total, valid, metrics = combine_rewards({"a": iou}, {"a": 2.0})
    np.testing.assert_array_equal(total, np.full(shape, 2.0))
    assert valid.shape == shape and float(metrics["a"]) == float(np.prod(shape) > 0)
    for found in (
        threshold_reward(iou, 0.5),
        raw_iou_reward(iou),
        progress_reward(iou, jnp.asarray(0), total_steps=1),
        format_reward(iou > 0),
        parsed_iou(jnp.zeros((*shape, 4)), iou > 0, jnp.zeros((*shape, 4))),
    ):
        assert found.shape == shape


def test_a_nan_threshold_is_reached_by_nothing_silently():
    assert jnp.all(jnp.isnan(threshold_reward(jnp.ones((2, 2)), jnp.nan)))


def test_where_no_box_was_found_no_gradient_is_nan():
    targets = jnp.asarray([[0.0, 0, 2, 2], [jnp.nan] * 4])
    boxes, found = jnp.asarray([[0.0, 0, 2, 1]] * 2), jnp.asarray([True, False])
    total = lambda *x: jnp.sum(parsed_iou(x[0], found, x[1]))  # noqa: E731
    assert float(total(boxes, targets)) == 0.5
    for gradient in jax.grad(total, argnums=(0, 1))(boxes, targets):
        assert jnp.all(jnp.isfinite(gradient)) and not jnp.any(gradient[1])


def test_the_sum_is_jittable_and_float32_without_wider_input():
    rewards = {"a": jnp.ones((2, 3), jnp.float32), "b": jnp.ones((2, 3), jnp.bfloat16)}
    fn = jax.jit(lambda r, w: combine_rewards(r, {"a": w, "b": 1.0})[0])
    out = fn(rewards, jnp.float32(0.5))
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, np.full((2, 3), 1.5))


@pytest.mark.parametrize(
    ("rewards", "weights"), [((), ()), (("iou",), ("iuo",)), (("iou",), ("iou", "x"))]
)
def test_names_must_agree(rewards, weights):
    with pytest.raises(ValueError, match="named alike"):
        combine_rewards(
            {k: jnp.zeros((1, 1)) for k in rewards}, dict.fromkeys(weights, 1.0)
        )
