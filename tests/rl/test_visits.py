"""Prompts that teach nothing are drawn less often: choice and counts against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl import (
    VisitState,
    init_visits,
    is_settled,
    pick_prompts,
    update_visits,
)

KEY = jax.random.key(0)


def test_counts_are_those_of_a_loop():
    """Pictures that come twice in a step, rows that only fill, over many steps."""
    rng = np.random.default_rng(0)
    state, idle = init_visits(7), [0] * 7
    update = jax.jit(update_visits)
    for _ in range(60):
        prompts = rng.integers(0, 7, 5).astype(np.int32)
        signal, valid = rng.random(5) < 0.3, rng.random(5) < 0.8
        state = update(state, prompts, signal, valid=valid)
        for n in range(7):
            mine = (prompts == n) & valid
            idle[n] = 0 if (mine & signal).any() else idle[n] + int(mine.sum())
        np.testing.assert_array_equal(state.idle, idle)
    assert max(idle) > 2


def test_settled_ones_are_passed_over_while_others_are_left():
    idle = jnp.array([3, 0, 3, 1, 3, 0], jnp.int32)
    state, candidates = VisitState(idle), jnp.arange(6, dtype=jnp.int32)

    def pick(size, **options):
        options = {"visits": 2, "keep": 0.0} | options
        return pick_prompts(state, candidates, KEY, size=size, **options).tolist()

    assert pick(3) == [1, 3, 5]
    assert pick(2) == [1, 3]
    assert pick(5) == [0, 1, 2, 3, 5]  # the first of them fill up
    assert pick(6) == list(range(6))
    assert pick(3, visits=4) == [0, 1, 2]  # none is settled: in their order
    assert pick(3, keep=1.0) == [0, 1, 2]
    assert is_settled(state, candidates, visits=2).tolist() == [1, 0, 1, 0, 1, 0]
    assert not is_settled(state, jnp.array([-7, 99], jnp.int32), visits=1).any()


def test_a_settled_one_is_kept_as_often_as_asked():
    """Of 2 candidates the first is settled: it is taken in keep of the draws."""
    state = VisitState(jnp.array([2, 0], jnp.int32))
    candidates = jnp.arange(2, dtype=jnp.int32)

    def first(key):
        chosen = pick_prompts(state, candidates, key, size=1, visits=2, keep=0.25)
        return chosen[0] == 0

    share = jax.vmap(first)(jax.random.split(KEY, 4000)).mean()
    # three standard errors of a share of 0.25 over 4000 draws
    assert abs(float(share) - 0.25) < 3 * np.sqrt(0.25 * 0.75 / 4000)


def test_it_is_a_function_of_key_and_state():
    state = VisitState(jnp.array([2] * 8, jnp.int32))
    candidates = jnp.arange(8, dtype=jnp.int32)
    pick = jax.jit(
        lambda key: pick_prompts(state, candidates, key, size=4, visits=1, keep=0.5)
    )
    assert pick(KEY).tolist() == pick(KEY).tolist()
    draws = {tuple(pick(jax.random.key(n)).tolist()) for n in range(20)}
    assert len(draws) > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 7}, "pick_prompts: size: expected an integer from 1 to 6"),
        ({"size": 0}, "pick_prompts: size"),
        ({"visits": 0}, "pick_prompts: visits: expected an integer of at least 1"),
        ({"keep": 1.5}, "pick_prompts: keep: expected from 0 to 1"),
        ({"keep": float("nan")}, "pick_prompts: keep"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    options = {"size": 2, "visits": 1, "keep": 0.5} | options
    with pytest.raises(ValueError, match=message):
        pick_prompts(init_visits(6), jnp.arange(6, dtype=jnp.int32), KEY, **options)


def test_shapes_and_dtypes_are_refused():
    with pytest.raises(ValueError, match="init_visits: count: expected an integer"):
        init_visits(0)
    state, two = init_visits(6), jnp.arange(2, dtype=jnp.int32)
    with pytest.raises(ValueError, match="update_visits: signal: expected"):
        update_visits(state, two, jnp.ones(3, bool))
    with pytest.raises(ValueError, match="update_visits: prompts: expected"):
        update_visits(state, jnp.ones(2, jnp.float32), jnp.ones(2, bool))
    with pytest.raises(ValueError, match="is_settled: prompts: expected"):
        is_settled(state, two[0], visits=1)


def test_numbers_that_are_no_prompt_are_not_settled_and_change_nothing():
    state = VisitState(jnp.array([3, 3], jnp.int32))
    none = jnp.array([-1, 2], jnp.int32)
    assert not is_settled(state, none, visits=1).any()
    after = update_visits(state, none, jnp.array([True, False]))
    np.testing.assert_array_equal(after.idle, state.idle)
