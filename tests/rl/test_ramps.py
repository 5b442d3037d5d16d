"""A reward let in late: its factor against a loop, its edges, its carry."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl import RewardRamp, check_ramp, init_ramp, ramp_factor, update_ramp

RAMP = RewardRamp(steps=4, above=0.6, window=3)


def loop(means, valid, ramp):
    """Factors of the steps, written over the whole past."""
    factors, past, began = [], [], None
    for mean, counts in zip(means, valid, strict=True):
        since = 0 if began is None else len(past) - began
        factors.append(min(1.0, since / ramp.steps))
        if not counts:
            continue
        past.append(mean)
        last = past[-ramp.window :]
        full = len(last) == ramp.window
        if began is None and full and np.mean(last) >= ramp.above - 1e-6:
            began = len(past) - 1
    return factors


def scanned(means, valid, ramp):
    def step(state, x):
        factor = ramp_factor(state, ramp)
        return update_ramp(state, x[0], ramp, valid=x[1]), factor

    xs = jnp.asarray(means, jnp.float32), jnp.asarray(valid)
    return jax.lax.scan(step, init_ramp(ramp), xs)


@pytest.mark.parametrize("seed", range(8))
def test_it_rises_as_a_loop_says(seed):
    rng = np.random.default_rng(seed)
    ramp = RewardRamp(int(rng.integers(1, 9)), 0.55, int(rng.integers(1, 6)))
    means = rng.random(60) * np.linspace(0.8, 1.4, 60)
    valid = rng.random(60) < 0.8
    _, factors = scanned(means, valid, ramp)
    np.testing.assert_allclose(factors, loop(means, valid, ramp), atol=1e-6)
    assert factors[0] == 0 and factors[-1] == 1


def test_it_begins_with_a_full_window_and_does_not_go_back():
    means = [1.0, 1.0, 0.0, 0.0, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0]
    state, factors = scanned(means, [True] * 10, RAMP)
    # (1 + 1 + 0) / 3 is above 0.6 after the third step
    assert factors.tolist() == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert int(state.done) == 4  # and counts no further
    exact = [0.6] * 3
    assert scanned(exact, [True] * 3, RAMP)[0].done == 1
    low = [0.59] * 50
    assert scanned(low, [True] * 50, RAMP)[0].done == 0


def test_a_nan_does_not_begin_it_and_leaves_with_its_entry():
    means = [1.0, np.nan, 1.0, 1.0, 1.0, 1.0]
    _, factors = scanned(means, [True] * 6, RAMP)
    assert factors.tolist() == [0, 0, 0, 0, 0, 0.25]


def test_it_goes_on_from_arrays_that_were_saved():
    means = np.linspace(0, 1.2, 12)
    whole, _ = scanned(means, [True] * 12, RAMP)
    state, _ = scanned(means[:9], [True] * 9, RAMP)
    file = io.BytesIO()
    np.savez(file, **state._asdict())
    file.seek(0)
    state = type(state)(**np.load(file))
    for mean in means[9:]:
        state = update_ramp(state, np.float32(mean), RAMP)
    for left, right in zip(whole, state, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "check_ramp: steps: expected an integer of at least 1"),
        ({"window": 0}, "check_ramp: window: expected an integer of at least 1"),
        ({"window": 2.5}, "check_ramp: window"),
        ({"above": float("nan")}, "check_ramp: above: expected"),
        ({"above": float("inf")}, "check_ramp: above: expected"),
    ],
)
def test_numbers_out_of_range_are_refused(change, message):
    assert check_ramp(RAMP) == RAMP
    with pytest.raises(ValueError, match=message):
        init_ramp(RAMP._replace(**change))


def test_a_state_of_another_ramp_is_refused():
    state = init_ramp(RAMP)
    with pytest.raises(ValueError, match="expected a window of 5 entries.*found 3"):
        update_ramp(state, jnp.float32(0), RAMP._replace(window=5))
    with pytest.raises(ValueError, match="update_ramp: mean: expected"):
        update_ramp(state, jnp.zeros(2, jnp.float32), RAMP)
    with pytest.raises(ValueError, match="update_ramp: valid: expected"):
        update_ramp(state, jnp.float32(0), RAMP, valid=jnp.ones(2, bool))


@pytest.mark.parametrize(
    ("number", "message"), [({"steps": 0}, "steps"), ({"above": float("nan")}, "above")]
)
def test_a_ramp_that_cannot_be_is_refused_wherever_it_is_read(number, message):
    state, ramp = init_ramp(RAMP), RAMP._replace(**number)
    with pytest.raises(ValueError, match=f"check_ramp: {message}: expected"):
        update_ramp(state, jnp.float32(0), ramp)
    with pytest.raises(ValueError, match=f"check_ramp: {message}: expected"):
        ramp_factor(state, ramp)
    with pytest.raises(ValueError, match=r"ramp_factor: state\.done: expected int"):
        ramp_factor(state._replace(done=jnp.float32(0.5)), RAMP)


def test_a_step_marked_by_a_number_counts_as_one_marked_by_a_flag():
    state = init_ramp(RAMP)
    for flag, number in ((True, 2), (False, 0)):
        one, other = (
            update_ramp(state, jnp.float32(0.5), RAMP, valid=jnp.asarray(valid))
            for valid in (flag, number)
        )
        jax.tree.map(np.testing.assert_array_equal, one, other)
