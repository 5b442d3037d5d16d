"""Statistics of a batch inside `shard_map`: of the whole, or refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from medjax import rl
from tests.oracles import threshold_loops
from tests.reuse import rl_calls
from tests.reuse.test_meshes import spec

PER_GROUP = ("group_advantages[group]", "group_advantages[none]")  # nothing to add up
CALLS = [
    call
    for call in rl_calls.CALLS
    if call.gathered is not None and call.name not in PER_GROUP
]
SCHEDULE = rl.piecewise_schedule()._replace(window=4)


def in_shard_map(function, in_specs, out_specs, **options):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    return jax.jit(
        jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, **options
        )
    )


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_an_axis_that_nobody_named_is_refused(call, check):
    program = in_shard_map(
        call.function, tuple(map(spec, call.batch)), P("d"), check_vma=check
    )
    name = call.name.partition("[")[0]
    with pytest.raises(ValueError, match=f"^{name}: axis_name: expected 'd' in it, as"):
        program(*call.arrays)


def test_one_devices_hits_do_not_raise_the_threshold_of_all():
    """One group in eight hits: tau stays, where a device by itself would raise it."""
    iou = np.zeros((8, 4), np.float32)
    iou[0] = 1

    def run(axis_name):
        def train(iou):
            step = lambda s, _: rl.update_threshold(  # noqa: E731
                s, iou, SCHEDULE, axis_name=axis_name
            )
            state = rl.init_threshold(SCHEDULE)
            if axis_name == ():  # a carry of its own on each device
                state = jax.tree.map(
                    lambda x: jax.lax.pcast(x, "d", to="varying"), state
                )
            return jax.lax.scan(step, state, None, length=4)[0].tau[None]

        return in_shard_map(train, P("d"), P("d") if axis_name == () else P())(iou)

    assert run("d").tolist() == [np.float32(0.3)]
    assert run(()).tolist() == np.float32([0.45] + [0.3] * 7).tolist()


def test_ragged_groups_over_devices_move_tau_as_one_deque():
    rng = np.random.default_rng(0)
    mean = np.linspace(0.4, 0.97, 60)[:, None, None]
    ious = np.clip(mean + rng.normal(0, 0.04, (60, 8, 3)), 0, 1).astype(np.float32)
    valid = rng.random(ious.shape) < 0.7
    rows = [
        [group[places].astype(float).tolist() for group, places in zip(*x, strict=True)]
        for x in zip(ious, valid, strict=True)
    ]
    padded = np.where(valid, ious, np.nan)
    for entries in ("step", "group"):
        schedule = SCHEDULE._replace(window=4 if entries == "step" else 24)

        def train(ious, valid, entries=entries, schedule=schedule):
            step = lambda s, x: rl.update_threshold(  # noqa: E731
                s, x[0], schedule, valid=x[1], entries=entries, axis_name="d"
            )
            state = rl.init_threshold(schedule)
            return jax.lax.scan(step, state, (ious, valid))[1]["tau_next"]

        spread = P(None, "d")
        found = in_shard_map(train, (spread, spread), P())(padded, valid)
        taus, raises = threshold_loops.run(rows, schedule, groups=entries == "group")
        np.testing.assert_allclose(found, taus, atol=5e-6)
        assert len(raises) == 4


def test_two_axes_add_up_like_one():
    mesh = jax.make_mesh((4, 2), ("d", "m"), axis_types=(AxisType.Auto,) * 2)
    rewards = jnp.asarray(rl_calls.REWARDS)

    def part(rewards):
        axes = ("d", "m")
        hits = rewards > 0.5
        advantages = rl.group_advantages(rewards, scale="batch", axis_name=axes)
        return advantages, rl.group_signal(rewards, hits, hits, axis_name=axes)

    rows = P(("d", "m"))
    program = jax.shard_map(part, mesh=mesh, in_specs=rows, out_specs=(rows, P()))
    found, counts = jax.jit(program)(rewards)
    whole = rl.group_advantages(rewards, scale="batch")
    np.testing.assert_allclose(found, whole, rtol=1e-5)
    hits = rewards > 0.5
    for name, value in rl.group_signal(rewards, hits, hits).items():
        np.testing.assert_allclose(counts[name], value, rtol=1e-6, err_msg=name)
    assert not np.allclose(whole, rl.group_advantages(rewards, scale="group"))
