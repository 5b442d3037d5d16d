"""The moving threshold: each transition by hand, whole runs against plain loops."""

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.schedules import (
    cosine_schedule,
    fixed_moderate_schedule,
    fixed_schedule,
    linear_schedule,
    piecewise_schedule,
)
from medjax.rl.threshold import init_threshold, raise_threshold, update_threshold
from medjax.rl.window import window_statistics
from tests.oracles import threshold_loops

PIECEWISE = piecewise_schedule()
NEVER = {"check_hit_rate": False, "check_deviation": False, "check_margin": False}


def run(ious, schedule, *, valid=None, samples=0, entries="step", log_size=64):
    """Every step of ious [steps, B, G] under scan; (last state, stacked infos)."""
    valid = np.ones(ious.shape[:2], bool) if valid is None else valid
    valid = jnp.asarray(valid.reshape(*ious.shape[:2], -1))

    @jax.jit
    def whole(ious, valid):
        def step(state, x):
            return update_threshold(state, x[0], schedule, valid=x[1], entries=entries)

        state = init_threshold(schedule, samples=samples, log_size=log_size)
        return jax.lax.scan(step, state, (ious, valid))

    return whole(jnp.asarray(ious, jnp.float32), valid)


def window(schedule, hit_rates, mean_iou, tau=None):
    """A state one entry short of a full window; the next step fills it."""
    state = init_threshold(schedule)
    size = schedule.window
    rates = np.resize(hit_rates, size).astype(np.float32)
    return state._replace(
        tau=jnp.asarray(schedule.start if tau is None else tau, jnp.float32),
        hit_rates=jnp.asarray(rates),
        ious=jnp.full((size,), mean_iou, jnp.float32),
        count=jnp.asarray(size - 1, jnp.int32),
        step=jnp.asarray(100, jnp.int32),
    )


def perfect(steps, shape=(2, 4)):
    return np.ones((steps, *shape))


# ---- the path


def test_piecewise_path_is_exact_with_four_raises():
    """0.7 + 0.1 falls short of 0.8 in floating point: no fifth raise."""
    state, info = run(perfect(300), PIECEWISE)
    path = np.unique(np.asarray(info["tau_next"]))
    np.testing.assert_array_equal(path, np.float32([0.30, 0.45, 0.60, 0.70, 0.80]))
    assert int(state.raises) == 4 and int(info["raised"].sum()) == 4


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (
            linear_schedule(),
            # gap x 2/3 a raise, the last one snaps
            [0.8 - 0.6 * (2 / 3) ** k for k in range(11)] + [0.8],
        ),
        (
            cosine_schedule()._replace(min_step=0.0),
            [0.20, 0.40, 0.55, 0.624118, 0.663609, 0.688043, 0.704738, 0.716922],
        ),
        (fixed_moderate_schedule(), [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]),
        (
            linear_schedule()._replace(snap=0.05),
            [0.2, 0.4, 0.533333, 0.622222, 0.681481, 0.720988, 0.747325, 0.8],
        ),
    ],
)
def test_other_paths(schedule, expected):
    tau = jnp.asarray(schedule.start, jnp.float32)
    path = [float(tau)]
    while len(path) < len(expected):
        tau = raise_threshold(tau, schedule)
        path.append(float(tau))
    # The grid of tau is 1e-6, and each of up to ten roundings adds to it.
    np.testing.assert_allclose(path, expected, atol=3e-6)


def test_cosine_reaches_the_target_by_its_least_step():
    _, info = run(perfect(400), cosine_schedule())
    assert float(info["tau_next"][-1]) == np.float32(0.8)
    _, info = run(perfect(400), cosine_schedule()._replace(min_step=0.0))
    assert float(info["tau_next"][-1]) < 0.79


def test_a_fixed_threshold_stays():
    state, info = run(perfect(100), fixed_schedule(0.5))
    assert not jnp.any(info["raised"])
    assert set(np.asarray(info["tau_next"])) == {np.float32(0.5)}
    assert int(state.raises) == 0


# ---- timing and refresh


def test_no_raise_before_a_full_window_nor_within_half_of_one():
    _, info = run(perfect(300), PIECEWISE)
    steps = np.flatnonzero(info["raised"])
    np.testing.assert_array_equal(steps, [29, 44, 59, 74])


@pytest.mark.parametrize(("keep", "kept"), [(0.5, 15), (0.0, 0), (0.25, 7), (0.75, 22)])
def test_a_raise_keeps_the_newest_share_of_the_window(keep, kept):
    schedule = PIECEWISE._replace(keep=keep, check_deviation=False)
    ious = np.linspace(0.6, 0.9, 30)[:, None, None] * np.ones((1, 2, 4))
    state, info = run(ious, schedule)
    assert bool(info["raised"][-1])
    assert int(state.count) == kept
    np.testing.assert_allclose(
        state.ious[30 - kept :], ious[30 - kept :, 0, 0], rtol=1e-6
    )
    mean = ious[30 - kept :].mean() if kept else 0.0
    np.testing.assert_allclose(window_statistics(state)[2], mean, rtol=1e-6)


def test_the_reward_under_the_old_tau_stays_in_the_window():
    """Reading 4: as earned by default, recounted with the new tau if IoUs are kept."""
    ious = np.full((31, 2, 4), 0.44)
    schedule = PIECEWISE  # 0.44 hits at 0.30, misses at 0.45
    earned, info = run(ious, schedule)
    assert int(info["raised"].sum()) == 1
    np.testing.assert_allclose(window_statistics(earned)[0], 15 / 16, rtol=1e-6)
    recounted, _ = run(ious, schedule, samples=8)
    assert float(window_statistics(recounted)[0]) == 0
    np.testing.assert_allclose(earned.hit_rates[-1], 0)


# ---- the three conditions


GOOD = ([0.8, 1.0], 0.5)  # hit rates, mean IoU at tau 0.3: r 0.9, s 0.1, m 0.2


@pytest.mark.parametrize(
    ("name", "hit_rates", "mean_iou"),
    [
        ("hit_rate_ok", [0.7, 0.8], 0.5),
        ("deviation_ok", [0.5, 1.0, 1.0, 1.0], 0.5),
        ("margin_ok", [0.8, 1.0], 0.39),
    ],
)
def test_each_condition_alone_can_veto(name, hit_rates, mean_iou):
    conditions = ("hit_rate_ok", "deviation_ok", "margin_ok")
    iou = jnp.full((1, 10), mean_iou, jnp.float32)
    good = window(PIECEWISE, *GOOD)
    state, info = update_threshold(good, jnp.full((1, 10), 0.5, jnp.float32), PIECEWISE)
    assert all(bool(info[c]) for c in conditions) and bool(info["raised"])
    assert float(state.tau) == np.float32(0.45)

    state, info = update_threshold(
        window(PIECEWISE, hit_rates, mean_iou), iou, PIECEWISE
    )
    assert {c for c in conditions if not bool(info[c])} == {name}
    assert not bool(info["raised"]) and float(state.tau) == np.float32(0.3)
    assert int(state.count) == 30 and int(state.raises) == 0

    without = PIECEWISE._replace(**{f"check_{name.removesuffix('_ok')}": False})
    state, info = update_threshold(window(without, hit_rates, mean_iou), iou, without)
    assert not bool(info[name]) and bool(info["raised"])


def test_equality_passes_each_condition():
    """r = P, s = S and m = Delta hold, whatever the order of a float32 sum."""
    schedule = PIECEWISE._replace(window=10, deviations=(0.1,) * 3)
    rates = np.float32([0.7, 0.9] * 5)  # r 0.8, s 0.1
    state = window(schedule, rates, 0.4)  # m 0.1
    iou = jnp.asarray([[0.0] + [4 / 9] * 9], jnp.float32)  # hit rate 0.9, mean 0.4
    state = state._replace(hit_rates=jnp.roll(state.hit_rates, 1))
    _, info = update_threshold(state, iou, schedule)
    np.testing.assert_allclose(info["hit_rate"], 0.8, atol=1e-6)
    np.testing.assert_allclose(info["deviation"], 0.1, atol=1e-6)
    np.testing.assert_allclose(info["margin"], 0.1, atol=1e-6)
    assert bool(info["raised"])


@pytest.mark.parametrize(
    ("tau", "needed", "allowed"),
    [(0.3, 0.80, 0.20), (0.59, 0.80, 0.20), (0.6, 0.75, 0.35), (0.75, 0.55, 0.40)],
)
def test_stages_by_tau(tau, needed, allowed):
    _, info = update_threshold(
        window(PIECEWISE, *GOOD, tau=tau), jnp.ones((1, 1), jnp.float32), PIECEWISE
    )
    assert float(info["hit_rate_needed"]) == np.float32(needed)
    assert float(info["deviation_allowed"]) == np.float32(allowed)


def test_tau_never_falls_nor_passes_its_target():
    rng = np.random.default_rng(0)
    for seed in range(4):
        target = 0.5 + 0.13 * seed
        schedule = PIECEWISE._replace(target=target, window=6, **NEVER)
        ious = rng.random((120, 1, 4))
        _, info = run(ious, schedule)
        tau = np.asarray(info["tau_next"])
        assert np.all(np.diff(tau) >= 0) and tau[-1] == np.float32(target)


# ---- whole runs


def climbing(seed, steps=160, shape=(3, 4)):
    """IoUs that get better, unevenly."""
    rng = np.random.default_rng(seed)
    mean = np.linspace(0.35, 0.97, steps)[:, None, None]
    noise = rng.normal(0, 0.04, (steps, *shape))
    return np.clip(mean + noise, 0, 1).astype(np.float32)


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize("entries", ["step", "group"])
@pytest.mark.parametrize(
    "schedule",
    [piecewise_schedule(), linear_schedule(), cosine_schedule()],
    ids=["piecewise", "linear", "cosine"],
)
def test_runs_equal_the_deques(schedule, samples, entries):
    schedule = schedule._replace(window=12)
    size = (12 if entries == "step" else 4) if samples else 0
    rng = np.random.default_rng(0)
    for seed in range(3):
        ious = climbing(seed)
        valid = rng.random(ious.shape[:2]) < 0.8
        valid[5] = False
        state, info = run(ious, schedule, valid=valid, samples=size, entries=entries)
        rows = [x[v].astype(float).tolist() for x, v in zip(ious, valid, strict=True)]
        taus, raises = threshold_loops.run(
            rows, schedule, recount=samples, groups=entries == "group"
        )
        assert len(raises) >= 3
        np.testing.assert_allclose(info["tau_next"], taus, atol=5e-6)
        k = len(raises)
        assert int(state.raises) == k
        log = np.stack([np.asarray(x, float)[:k] for x in state.log], axis=1)
        # float32 means of up to 12 x 12 numbers; tau on its grid.
        np.testing.assert_allclose(log, raises, atol=1e-5)
        np.testing.assert_array_equal(state.log.step[k:], -1)


def test_rows_that_do_not_count_change_nothing():
    ious = climbing(1)
    padded = np.concatenate([ious, np.full((160, 2, 4), np.nan)], axis=1)
    valid = np.zeros(padded.shape[:2], bool)
    valid[:, :3] = True
    state, info = run(ious, PIECEWISE)
    again, same = run(padded, PIECEWISE, valid=valid)
    # Sums over longer rows, in another order.
    chex.assert_trees_all_close((again, same), (state, info), rtol=1e-5, atol=1e-6)


def test_an_empty_step_pushes_nothing():
    state, _ = run(climbing(2, steps=10), PIECEWISE)
    same, info = update_threshold(
        state, jnp.ones((3, 4), jnp.float32), PIECEWISE, valid=jnp.zeros((3, 1), bool)
    )
    assert int(same.count) == 10 and int(same.step) == 11
    np.testing.assert_array_equal(same.ious, state.ious)
    assert bool(jnp.isfinite(info["hit_rate"]))


@pytest.mark.parametrize("samples", [0, 12])
def test_a_nan_iou_can_never_raise_and_leaves_with_its_entry(samples):
    ious = climbing(3)
    ious[:] = 0.9
    ious[40, 1, 2] = np.nan
    state, info = run(ious, PIECEWISE._replace(window=10), samples=samples)
    raised = np.flatnonzero(info["raised"])
    assert not set(raised) & set(range(40, 50))
    assert np.isnan(info["hit_rate"][40]) and np.isfinite(info["hit_rate"][60])
    assert np.all(np.isfinite(info["tau_next"])) and bool(jnp.isfinite(state.tau))


def test_scan_equals_the_python_loop_and_compiles_once():
    ious = climbing(4, steps=40)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(state, iou):
        return update_threshold(state, iou, PIECEWISE._replace(window=8))

    state = init_threshold(PIECEWISE._replace(window=8))
    for iou in ious:
        state, info = step(state, jnp.asarray(iou))
    scanned, infos = run(ious, PIECEWISE._replace(window=8))
    # Not bitwise: inside a scan XLA may fuse a sum another way.
    chex.assert_trees_all_close(state, scanned, rtol=1e-6)
    np.testing.assert_allclose(infos["tau_next"][-1], info["tau_next"])


def test_vmap_over_seeds_and_over_schedules():
    """By the recipe of `ThresholdSchedule`, as it is written there."""
    ious = np.stack([climbing(seed, steps=60) for seed in range(3)])
    schedules = [piecewise_schedule(), linear_schedule(), cosine_schedule()]
    schedules = [p._replace(window=8) for p in schedules]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *schedules)
    assert stacked.window == 8 and stacked.start.shape == (3,)

    def whole(schedule, ious):
        step = lambda s, x: update_threshold(s, x, schedule)  # noqa: E731
        return jax.lax.scan(step, init_threshold(schedule), ious)[1]["tau_next"]

    grid = jax.jit(jax.vmap(jax.vmap(whole, (None, 0)), (0, None)))(stacked, ious)
    for i, schedule in enumerate(schedules):
        for j in range(3):
            _, info = run(ious[j], schedule)
            np.testing.assert_allclose(grid[i, j], info["tau_next"], rtol=1e-6)
    assert len(np.unique(np.asarray(grid)[:, :, -1])) > 1
    with pytest.raises(ValueError, match=r"init_threshold: start: .*shape \[\]; found"):
        init_threshold(stacked)
    with pytest.raises(ValueError, match="ThresholdSchedule"):  # windows of two sizes
        jax.tree.map(lambda *x: jnp.stack(x), PIECEWISE, schedules[0])


def test_groups_of_different_size_raise_tau_as_their_deques():
    """Ragged groups, marked by `valid`: 0.80 at the end, whatever fills the rows."""
    rng = np.random.default_rng(7)
    ious = climbing(6, steps=200, shape=(3, 4))
    valid = rng.random(ious.shape) < 0.7
    rows = [
        [group[places].astype(float).tolist() for group, places in zip(*x, strict=True)]
        for x in zip(ious, valid, strict=True)
    ]
    schedule = PIECEWISE._replace(window=12)
    for groups in (False, True):
        taus, raises = threshold_loops.run(rows, schedule, groups=groups)
        for filling in (np.nan, 0.0):
            padded = np.where(valid, ious, filling)
            entries = "group" if groups else "step"
            state, info = run(padded, schedule, valid=valid, entries=entries)
            np.testing.assert_allclose(info["tau_next"], taus, atol=5e-6)
            assert float(state.tau) == np.float32(0.8) and len(raises) == 4
            chex.assert_tree_all_finite(state)


def test_a_fresh_state_holds_no_nan():
    with jax.debug_nans(True):
        chex.assert_tree_all_finite(init_threshold(PIECEWISE, samples=4))


def test_a_state_of_another_window_is_refused():
    state = init_threshold(PIECEWISE)
    iou = jnp.ones((1, 2), jnp.float32)
    with pytest.raises(ValueError, match="expected a window of 5 entries.*found 30"):
        update_threshold(state, iou, PIECEWISE._replace(window=5))


def test_numpys_leaves_are_used_as_they_are(tmp_path):
    """A round trip of `numpy.savez`, and what was read goes on without conversion."""
    iou = jnp.asarray(climbing(8, steps=50))
    state, _ = run(iou, PIECEWISE._replace(window=8), samples=12)
    schedule = PIECEWISE._replace(window=8)
    leaves, tree = jax.tree.flatten(state)
    np.savez(tmp_path / "state.npz", *leaves)
    with np.load(tmp_path / "state.npz") as file:
        read = jax.tree.unflatten(tree, [file[f"arr_{k}"] for k in range(len(leaves))])
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(read))
    chex.assert_trees_all_equal(window_statistics(read), window_statistics(state))
    for update in (update_threshold, jax.jit(update_threshold)):
        found = update(read, np.asarray(iou[-1]), schedule)
        chex.assert_trees_all_equal(found, update(state, iou[-1], schedule))


def test_the_step_can_be_exported_with_its_state():
    schedule = PIECEWISE._replace(window=3)
    iou, state = jnp.ones((2, 2), jnp.float32), init_threshold(schedule)
    step = jax.jit(lambda state, iou: update_threshold(state, iou, schedule))
    data = jax.export.export(step)(state, iou).serialize()
    again = jax.export.deserialize(data)
    for _ in range(4):
        expected = step(state, iou)
        found = again.call(state, iou)
        chex.assert_trees_all_equal(found, expected)
        state = found[0]
    assert float(state.tau) == np.float32(0.45)


@pytest.mark.parametrize("compiled", [False, True], ids=["called", "jitted"])
@pytest.mark.parametrize("samples", [0, 2])
def test_no_two_leaves_share_a_buffer(compiled, samples):
    """Neither with one another, nor with the arguments: any of them can be donated."""
    start = jnp.float32(0.3)
    schedule = PIECEWISE._replace(window=2, start=start)
    make = lambda s: init_threshold(s, samples=samples)  # noqa: E731
    step = lambda s, x: update_threshold(s, x, schedule)  # noqa: E731
    if compiled:
        make, step = jax.jit(make), jax.jit(step)
    state = make(schedule)
    new, info = step(state, jnp.ones((1, 2), jnp.float32))
    places = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((state, new, info))]
    places.append(start.unsafe_buffer_pointer())
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("entries", ["step", "group"])
@pytest.mark.parametrize("samples", [False, True])
def test_sizes_0_and_1(shape, entries, samples):
    schedule = PIECEWISE._replace(window=1)
    kept = (shape[1] if entries == "group" else int(np.prod(shape))) if samples else 0
    state = init_threshold(schedule, samples=kept, log_size=1)
    state, info = update_threshold(
        state, jnp.ones(shape, jnp.float32), schedule, entries=entries
    )
    assert bool(info["raised"]) == (shape == (1, 1))
    assert float(state.tau) == np.float32(0.45 if shape == (1, 1) else 0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": -1}, "samples: expected an integer of at least 0"),
        ({"samples": 2.0}, "samples: .* found 2.0"),
        ({"log_size": 0}, "log_size: "),
    ],
)
def test_sizes_out_of_range(options, message):
    with pytest.raises(ValueError, match=f"^init_threshold: {message}"):
        init_threshold(PIECEWISE, **options)


def test_an_empty_box_of_giou_is_a_sample_too():
    """-1 is what `generalized_box_iou` gives an empty box, and no mark."""
    schedule = PIECEWISE._replace(window=2)
    state = init_threshold(schedule, samples=2)
    iou = jnp.asarray([[1.0, -1.0]], jnp.float32)
    state, info = update_threshold(state, iou, schedule)
    assert float(info["hit_rate"]) == 0.5


def test_saved_and_restored_it_goes_on_bitwise():
    ious = jnp.asarray(climbing(5))
    step = jax.jit(lambda s, x: update_threshold(s, x, PIECEWISE))
    state = init_threshold(PIECEWISE)
    for k, iou in enumerate(ious):
        if k == 70:
            leaves, shape = jax.tree.flatten(state)
            saved = [np.array(x).tobytes() for x in leaves]
            restored = jax.tree.unflatten(
                shape,
                [
                    jnp.asarray(np.frombuffer(b, x.dtype).reshape(x.shape))
                    for b, x in zip(saved, leaves, strict=True)
                ],
            )
        state, _ = step(state, iou)
    for iou in ious[70:]:
        restored, _ = step(restored, iou)
    assert int(state.raises) > 2
    chex.assert_trees_all_equal(state, restored)


def test_the_state_can_be_donated():
    step = jax.jit(lambda s, x: update_threshold(s, x, PIECEWISE), donate_argnums=0)
    state, _ = step(init_threshold(PIECEWISE), jnp.ones((1, 2), jnp.float32))
    assert int(state.count) == 1


def test_a_full_log_overwrites_its_oldest_raises():
    state, _ = run(perfect(100), PIECEWISE, log_size=3)
    assert int(state.raises) == 4
    np.testing.assert_array_equal(state.log.step, [74, 44, 59])
    np.testing.assert_array_equal(state.log.tau_after, np.float32([0.8, 0.6, 0.7]))


def test_state_is_float32_and_int32_whatever_the_iou():
    state, info = update_threshold(
        init_threshold(PIECEWISE), jnp.ones((2, 2), jnp.float64), PIECEWISE
    )
    dtypes = {x.dtype.name for x in jax.tree.leaves((state, info))}
    assert dtypes == {"float32", "int32", "bool"}


def test_bad_input():
    iou = jnp.ones((2, 4), jnp.float32)
    with pytest.raises(ValueError, match="window 0"):
        init_threshold(PIECEWISE._replace(window=0))
    state = init_threshold(PIECEWISE, samples=5)
    with pytest.raises(ValueError, match=r"keeps 5 raw IoUs.*has 8"):
        update_threshold(state, iou, PIECEWISE)
    with pytest.raises(ValueError, match="entries 'prompt'"):
        update_threshold(init_threshold(PIECEWISE), iou, PIECEWISE, entries="prompt")
