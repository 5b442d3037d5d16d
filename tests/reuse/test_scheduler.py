"""The moving threshold inside other loops: scan, vmap, shard_map, and files between.

A loop over steps in plain Python and float64 is the independent value.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import PartitionSpec as P

from medjax.rl import (
    cosine_schedule,
    init_threshold,
    linear_schedule,
    piecewise_schedule,
    threshold_reward,
    update_threshold,
)

pytestmark = pytest.mark.usefixtures("plain_jax")

STEPS, B, G, WINDOW = 40, 8, 4, 5
RNG = np.random.default_rng(7)
# A policy that gets better: from 0.35 to 0.95.
IOU = np.clip(
    np.linspace(0.35, 0.95, STEPS)[:, None, None] + RNG.normal(0, 0.05, (STEPS, B, G)),
    0,
    1,
).astype(np.float32)
# Prompts answered by one to four completions: the others are not read.
VALID = np.arange(G) < RNG.integers(1, G + 1, (STEPS, B, 1))
PIECEWISE = piecewise_schedule()._replace(window=WINDOW)


def delta(schedule, tau):
    """The size of a raise at tau, from the words of the docstrings."""
    done = (tau - schedule.start) / (schedule.target - schedule.start)
    name = SCHEDULES.index(schedule)
    if name == 0:
        stage = sum(tau >= bound - 1e-6 for bound in schedule.step_bounds)
        return schedule.steps[stage]
    if name == 1:
        return schedule.steps[0] * (1 - done)
    return max(schedule.steps[0] / 2 * (1 + np.cos(np.pi * done)), 0.02)


SCHEDULES = [
    PIECEWISE,
    linear_schedule()._replace(window=WINDOW),
    cosine_schedule()._replace(window=WINDOW),
]


def loop(schedule, iou=IOU, valid=VALID, start=None):
    """tau after each step."""
    tau, window, path = schedule.start if start is None else start, [], []
    for step_iou, step_valid in zip(iou.astype(float), valid, strict=True):
        counted = step_iou[step_valid]
        window = [*window, ((counted >= tau - 1e-9).mean(), counted.mean())][-WINDOW:]
        rates, ious = np.array(window).T
        stage = sum(tau >= bound - 1e-6 for bound in schedule.stage_bounds)
        if (
            len(window) == WINDOW
            and tau < schedule.target - 1e-6
            and rates.mean() >= schedule.hit_rates[stage] - 1e-6
            and rates.std() <= schedule.deviations[stage] + 1e-6
            and ious.mean() - tau >= schedule.margin - 1e-6
        ):
            tau += delta(schedule, tau)
            tau = round(tau, 6)
            if schedule.target - tau <= schedule.snap:
                tau = schedule.target
            window = window[-int(schedule.keep * WINDOW) :]
        path.append(tau)
    return np.array(path)


def run(state, schedule, iou=IOU, valid=VALID):
    def step(state, batch):
        iou, valid = batch
        state, info = update_threshold(state, iou, schedule, valid=valid)
        return state, info["tau_next"]

    return jax.lax.scan(step, state, (jnp.array(iou), jnp.array(valid)))


def test_a_scan_over_steps_is_the_loop():
    _, path = jax.jit(lambda: run(init_threshold(PIECEWISE), PIECEWISE))()
    expected = loop(PIECEWISE)
    assert len({*expected}) >= 4  # the threshold moves
    np.testing.assert_allclose(path, expected, rtol=1e-6)


def test_what_stands_at_places_that_do_not_count_is_not_read():
    spoilt = np.where(VALID, IOU, np.nan)
    _, path = run(init_threshold(PIECEWISE), PIECEWISE, iou=spoilt)
    np.testing.assert_allclose(path, loop(PIECEWISE), rtol=1e-6)


def test_vmap_over_stacked_schedules_is_one_loop_each():
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *SCHEDULES)
    states = jax.vmap(init_threshold)(stacked)
    _, paths = jax.jit(jax.vmap(run))(states, stacked)
    for schedule, path in zip(SCHEDULES, paths, strict=True):
        np.testing.assert_allclose(path, loop(schedule), rtol=1e-5)


def test_devices_with_a_part_of_the_prompts_agree_on_the_threshold():
    mesh = jax.make_mesh((8,), ("data",))

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(P(), P("data"), P("data")),
        out_specs=(P(), P("data")),
    )
    def step(state, iou, valid):
        rewards = threshold_reward(iou, state.tau)
        state, _ = update_threshold(
            state, iou, PIECEWISE, valid=valid, axis_name="data"
        )
        return state, rewards

    state = jax.device_put(init_threshold(PIECEWISE), jax.NamedSharding(mesh, P()))
    rows, path = jax.NamedSharding(mesh, P("data")), []
    for iou, valid in zip(IOU, VALID, strict=True):
        before = state.tau
        iou, valid = (jax.device_put(x, rows) for x in (iou, valid))
        state, rewards = step(state, iou, valid)
        path.append(float(state.tau))
        np.testing.assert_array_equal(rewards, np.asarray(iou) >= np.asarray(before))
    np.testing.assert_allclose(path, loop(PIECEWISE), rtol=1e-6)


def through_orbax(state, folder):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", state)
        checkpointer.wait_until_finished()
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        return checkpointer.restore(folder / "state", shapes)


def through_numpy(state, folder):
    """Leaf by leaf, and used as np.load gives them."""
    leaves, tree = jax.tree.flatten(state)
    np.savez(folder / "state.npz", *leaves)
    with np.load(folder / "state.npz") as file:
        return jax.tree.unflatten(tree, [file[name] for name in file.files])


@pytest.mark.parametrize("through", [through_orbax, through_numpy])
def test_a_state_goes_on_from_a_file(through, tmp_path):
    half = STEPS // 2
    state, first = run(
        init_threshold(PIECEWISE), PIECEWISE, iou=IOU[:half], valid=VALID[:half]
    )
    state = through(state, tmp_path)
    for iou, valid in zip(IOU[half:], VALID[half:], strict=True):
        state, info = update_threshold(state, iou, PIECEWISE, valid=valid)
        first = [*first, info["tau_next"]]
    np.testing.assert_allclose(first, loop(PIECEWISE), rtol=1e-6)


def test_a_fresh_state_holds_numbers_only():
    """So that norms of a whole carry, and jax_debug_nans, work."""
    for leaf in jax.tree.leaves(init_threshold(PIECEWISE)):
        assert np.all(np.isfinite(leaf))


def test_a_state_of_another_window_is_refused():
    state = init_threshold(PIECEWISE._replace(window=WINDOW + 1))
    with pytest.raises(ValueError, match=r"update_threshold: state.*window"):
        update_threshold(state, IOU[0], PIECEWISE)


def test_a_part_of_the_batch_is_not_taken_for_the_whole():
    mesh = jax.make_mesh((8,), ("data",))

    def step(iou):
        return update_threshold(init_threshold(PIECEWISE), iou, PIECEWISE)[1]["tau"]

    program = jax.shard_map(step, mesh=mesh, in_specs=P("data"), out_specs=P())
    iou = jax.device_put(IOU[0], jax.NamedSharding(mesh, P("data")))
    with pytest.raises(ValueError, match=r"update_threshold: axis_name.*data"):
        jax.jit(program)(iou)
