"""Advantages against plain loops, TRL's numbers, and groups that teach nothing."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.advantages import gdpo_advantages, group_advantages, group_statistics
from tests.oracles import grpo_loops

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "trl_oracle.json"
NAN = float("nan")


def random_rewards(seed, shape=(6, 5), missing=0.15):
    """0/1 rewards, continuous ones, an all-equal group and some unscorable ones."""
    rng = np.random.default_rng(seed)
    rewards = np.where(rng.random(shape[:1] + (1,)) < 0.5, rng.random(shape), 0.0)
    rewards = np.where(rewards == 0, rng.random(shape) < 0.4, rewards)
    rewards[0] = 0.3
    rewards[rng.random(shape) < missing] = NAN
    rewards[1] = NAN
    return rewards


def test_a_reward_whose_square_is_infinite_is_no_tie():
    """All advantages were 0 where float32 cannot hold the deviation."""
    rewards = jnp.array([[1e20, 0, 0, 0], [0, 1, 2, 3]], jnp.float32)
    found = {x: group_advantages(rewards, scale=x) for x in ("group", "batch", "none")}
    assert np.isnan(found["group"][0]).all() and np.isnan(found["batch"]).all()
    assert np.isfinite(found["group"][1]).all() and found["group"][1, 0] < 0
    expected = [7.5e19, -2.5e19, -2.5e19, -2.5e19]
    np.testing.assert_allclose(found["none"][0], expected, rtol=1e-6)  # float32
    weights = jnp.ones(1, jnp.float32)
    assert np.isnan(gdpo_advantages(rewards[None], weights)).all()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("ddof", [0, 1])
def test_equals_the_loop(scale, leave_one_out, ddof):
    options = {"scale": scale, "leave_one_out": leave_one_out, "ddof": ddof}
    for seed in range(4):
        rewards = random_rewards(seed)
        valid = np.random.default_rng(seed).random(6) < 0.8
        places = jnp.asarray(valid[:, None] & ~np.isnan(rewards))
        found = group_advantages(jnp.asarray(rewards), valid=places, **options)
        expected = grpo_loops.advantages(rewards, valid=valid, **options)
        # float64; only the order of the sums differs.
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equals_trl(scale):
    oracle = json.loads(GOLDEN.read_text())
    rewards = jnp.asarray(oracle["rewards"]).reshape(2, 3)
    found = group_advantages(rewards, scale=scale).reshape(-1)
    np.testing.assert_allclose(found, oracle["advantages"][scale], atol=1e-14)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_equal_rewards_give_exactly_0(scale, dtype):
    values = np.array([0.0, 1.0, 0.1, 0.3, 1 / 3, 0.7777777])[:, None]
    for size in (1, 3, 8):
        rewards = jnp.asarray(np.repeat(values, size, axis=1), dtype)
        for loo in (False, True):
            found = group_advantages(rewards, scale=scale, leave_one_out=loo)
            np.testing.assert_array_equal(found, np.zeros(rewards.shape))


@pytest.mark.parametrize("eps", [0.0, 1e-8, 1e-4])
def test_d12_rounding_residue_is_not_amplified(eps):
    """Sums of the same parts in another order differ in the last digit."""
    parts = np.random.default_rng(0).random(40).astype(np.float32)
    orders = [np.random.default_rng(i).permutation(40) for i in range(8)]
    totals = np.array([np.cumsum(parts[order])[-1] / 40 for order in orders])
    totals = totals.astype(np.float32)
    assert 0 < totals.std() < 1e-6  # the trap is set
    for scale in ("group", "batch", "none"):
        for loo in (False, True):
            found = group_advantages(
                jnp.asarray(totals[None]), scale=scale, eps=eps, leave_one_out=loo
            )
            np.testing.assert_array_equal(found, np.zeros((1, 8)))


def test_d12_the_floor_can_be_raised():
    rewards = jnp.asarray([[0.5, 0.5004], [0.0, 1.0]])
    found = group_advantages(rewards, scale="group", floor=1e-3)
    assert not jnp.any(found[0]) and jnp.all(found[1] != 0)
    found = group_advantages(rewards, scale="group")
    assert jnp.all(found != 0)


def test_d12_leave_one_out_stays_bounded():
    """One deviating reward: the others' own std is 0, and dividing by it explodes."""
    rewards = jnp.asarray([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    found = group_advantages(rewards, scale="group", leave_one_out=True)
    assert float(jnp.max(jnp.abs(found))) < 3


def test_group_mean_is_0_and_permutation_permutes():
    rewards = random_rewards(3, missing=0)
    rewards[1] = 0.5
    for scale in ("group", "batch", "none"):
        found = group_advantages(jnp.asarray(rewards), scale=scale)
        np.testing.assert_allclose(np.sum(found, axis=1), 0, atol=1e-12)
        order = np.random.default_rng(0).permutation(5)
        permuted = group_advantages(jnp.asarray(rewards[:, order]), scale=scale)
        np.testing.assert_allclose(permuted, found[:, order], atol=1e-13)


@pytest.mark.parametrize("garbage", [NAN, np.inf, 1e30])
def test_a_completion_that_does_not_count_changes_nothing_for_the_others(garbage):
    padded = jnp.asarray([[0.0, garbage, 1.0, 0.25]])
    without = jnp.asarray([[0.0, 1.0, 0.25]])
    found = group_advantages(
        padded, scale="group", valid=jnp.asarray([[1, 0, 1, 1]], jnp.int32)
    )
    assert float(found[0, 1]) == 0
    np.testing.assert_allclose(
        found[:, [0, 2, 3]], group_advantages(without, scale="group"), rtol=1e-14
    )
    alone = jnp.asarray([[garbage, 0.7, garbage], [garbage] * 3])
    found = group_advantages(alone, scale="group", valid=alone == 0.7)
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_nan_that_counts_shows_in_its_group(scale):
    rewards = jnp.asarray([[0.0, NAN, 1.0], [0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    valid = jnp.asarray([[True, True, False], [True] * 3, [True] * 3])
    found = np.asarray(group_advantages(rewards, scale=scale, valid=valid))
    assert np.isnan(found[0, :2]).all() and found[0, 2] == 0
    assert np.isnan(found[1]).all() == (scale == "batch")
    found = gdpo_advantages(rewards[None], [1.0], valid=valid)
    assert np.isnan(found).sum() == 8
    assert np.isnan(group_statistics(rewards).std[0])


def test_rows_that_do_not_count_leave_the_batch_std():
    rewards = jnp.asarray([[0.0, 1.0], [0.0, 100.0]])
    valid = jnp.asarray([[True], [False]])
    found = group_advantages(rewards, scale="batch", valid=valid)
    np.testing.assert_array_equal(found[1], [0, 0])
    np.testing.assert_allclose(
        found[0], group_advantages(rewards[:1], scale="batch")[0], rtol=1e-15
    )


@pytest.mark.parametrize("ddof", [0, 1])
def test_gdpo_equals_trl_loops(ddof):
    for seed in range(4):
        rewards = np.stack([random_rewards(seed), 10 * random_rewards(seed + 50)])
        weights = np.array([1.0, 0.3])
        found = gdpo_advantages(
            jnp.asarray(rewards), weights, ddof=ddof, scored=~np.isnan(rewards)
        )
        expected = grpo_loops.gdpo(rewards, weights, ddof=ddof)
        # TRL takes off a batch mean that is 0 up to rounding.
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_gdpo_weighs_a_small_reward_like_a_large_one():
    small = jnp.asarray([[0.0, 0.01, 0.0, 0.01]])
    large = jnp.asarray([[100.0, 0.0, 0.0, 100.0]])
    found = gdpo_advantages(jnp.stack([small, large]), [1.0, 1.0])
    # eps = 1e-4 beside a std of 0.006 takes 2 % off the small one.
    np.testing.assert_allclose(found[0, :2], [0, 0], atol=0.02)
    tied = gdpo_advantages(jnp.full((2, 3, 4), 0.1), [1.0, 1.0])
    np.testing.assert_array_equal(tied, np.zeros((3, 4)))


def test_gdpo_rows_that_do_not_count():
    rewards = jnp.asarray(np.random.default_rng(0).random((2, 4, 3)))
    valid = jnp.asarray([True, True, False, True])
    found = gdpo_advantages(rewards, [1.0, 2.0], valid=valid[:, None])
    alone = gdpo_advantages(rewards[:, valid], [1.0, 2.0])
    np.testing.assert_array_equal(found[2], np.zeros(3))
    np.testing.assert_allclose(found[valid], alone, rtol=1e-13)


def test_statistics_of_short_groups():
    rewards = jnp.asarray([[NAN, NAN], [0.5, NAN], [0.0, 1.0]])
    stats = group_statistics(rewards, valid=~jnp.isnan(rewards))
    np.testing.assert_array_equal(stats.count, [0, 1, 2])
    np.testing.assert_array_equal(stats.mean, [0, 0.5, 0.5])
    np.testing.assert_allclose(stats.std, [0, 0, np.sqrt(0.5)])


def test_vmap_jit_and_dtypes():
    rewards = jnp.asarray(np.random.default_rng(0).random((3, 4, 5)))
    fn = jax.jit(lambda r: group_advantages(r, scale="group"))
    np.testing.assert_allclose(
        jax.vmap(fn)(rewards), jnp.stack([fn(r) for r in rewards]), rtol=1e-13
    )
    assert fn(rewards[0].astype(jnp.float32)).dtype == jnp.float32
    assert fn(rewards[0].astype(jnp.bfloat16)).dtype == jnp.float32
    assert fn(jnp.ones((2, 2), jnp.int32)).dtype == jnp.float32


def test_no_gradient_flows_to_the_rewards():
    rewards = jnp.asarray([[0.2, 0.2], [0.0, 1.0]])
    gradient = jax.grad(lambda r: jnp.sum(group_advantages(r, scale="group") ** 2))
    np.testing.assert_array_equal(gradient(rewards), np.zeros((2, 2)))
    gradient = jax.grad(lambda w: jnp.sum(gdpo_advantages(rewards[None], w) ** 2))
    np.testing.assert_array_equal(gradient(jnp.ones(1)), [0])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (1, 1), (0, 0)])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_sizes_0_and_1(shape, scale):
    rewards = jnp.ones(shape)
    for loo in (False, True):
        found = group_advantages(rewards, scale=scale, leave_one_out=loo)
        np.testing.assert_array_equal(found, np.zeros(shape))
    for kinds in (0, 1):
        found = gdpo_advantages(jnp.ones((kinds, *shape)), [1.0] * kinds)
        np.testing.assert_array_equal(found, np.zeros(shape))
    np.testing.assert_array_equal(group_statistics(rewards).std, np.zeros(shape[0]))


def test_unknown_scale():
    with pytest.raises(ValueError, match="scale 'std'"):
        group_advantages(jnp.ones((1, 2)), scale="std")
