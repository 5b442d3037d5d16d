"""Boxes to loss and threshold as one program, on one device and on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.advantages import group_advantages
from medjax.rl.grpo import grpo_loss
from medjax.rl.rewards import (
    combine_rewards,
    format_reward,
    parsed_iou,
    threshold_reward,
)
from medjax.rl.schedules import piecewise_schedule
from medjax.rl.signal import group_signal
from medjax.rl.threshold import init_threshold, update_threshold

SCHEDULE = piecewise_schedule()._replace(window=4)


def reward_step(carry, batch):
    boxes, found, targets, valid, logp, mask = batch
    iou = parsed_iou(boxes, found, targets[:, None])
    rewards = {"iou": threshold_reward(iou, carry.tau), "format": format_reward(found)}
    total, parts = combine_rewards(rewards, {"iou": 1.0, "format": 1.0}, valid=valid)
    advantages = group_advantages(total, scale="group", valid=valid)
    mask = mask & jnp.repeat(valid, iou.shape[1])[:, None]

    def loss_of(logp):
        return grpo_loss(
            logp,
            None,
            advantages.reshape(-1),
            mask,
            logp_ref=logp - 0.1,
            beta=0.04,
            clip_low=0.2,
            clip_high=0.2,
            reduction="grpo",
        )

    (loss, metrics), gradient = jax.value_and_grad(loss_of, has_aux=True)(logp)
    signal = group_signal(total, rewards["iou"] > 0, found, valid)
    carry, info = update_threshold(carry, iou, SCHEDULE, valid=valid)
    return carry, (loss, gradient, metrics, signal, parts, info)


def batch_of(seed, rows=3, group=4, tokens=5):
    rng = np.random.default_rng(seed)
    targets = np.array([[20.0, 30, 90, 110]] * rows, np.float32)
    boxes = targets[:, None] + rng.normal(0, 3, (rows, group, 4)).astype(np.float32)
    return (
        boxes,
        rng.random((rows, group)) < 0.95,
        targets,
        np.arange(rows) < rows - 1,
        -rng.random((rows * group, tokens)).astype(np.float32),
        np.arange(tokens) < rng.integers(1, tokens + 1, (rows * group, 1)),
    )


@pytest.mark.parametrize("x64", [True, False])
def test_one_program_without_host_transfer_in_float32(x64):
    with jax.enable_x64(x64):
        traces = []

        @jax.jit
        def step(carry, batch):
            traces.append(1)
            return reward_step(carry, batch)

        carry = init_threshold(SCHEDULE)
        carry = jax.device_put(carry, jax.devices()[0])
        batches = [jax.device_put(batch_of(k), jax.devices()[0]) for k in range(12)]
        step(carry, batches[0])
        with jax.transfer_guard("disallow"):
            for batch in batches:
                carry, out = step(carry, batch)
        assert len(traces) == 1
        assert int(carry.raises) >= 2 and float(carry.tau) > 0.5
        widths = {x.dtype.name for x in jax.tree.leaves((carry, out))}
        assert widths == {"float32", "int32", "bool"}
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(out))
        assert float(out[3]["groups"]) == 2


def test_eight_devices_give_the_numbers_of_one():
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((8,), ("rows",), axis_types=auto)
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    batch = batch_of(0, rows=16)
    step = jax.jit(reward_step)
    one = step(init_threshold(SCHEDULE), jax.tree.map(jnp.asarray, batch))
    eight = step(init_threshold(SCHEDULE), jax.device_put(batch, rows))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        # float32 sums over devices, in another order.
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)
