"""Rewards normalised as a sum or part by part, against loops and in a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.advantages import group_advantages
from medjax.systems.policy.advantages import (
    Advantages,
    check_advantages,
    make_advantages,
)
from tests.oracles import grpo_loops
from tests.systems.policy.test_exploration import build, score, table_model
from tests.tiny import tiny_batch

RNG = np.random.default_rng(0)
REWARDS = {
    "wide": RNG.normal(0, 100, (5, 4)).astype(np.float32),
    "narrow": RNG.normal(0, 0.01, (5, 4)).astype(np.float32),
    "tied": np.ones((5, 4), np.float32),
}
WEIGHTS = {"wide": 1.0, "narrow": -2.0, "tied": 3.0}


def made(options, scored=None, valid=None):
    valid = np.ones((5, 1), bool) if valid is None else valid
    total = sum(w * REWARDS[name] for name, w in WEIGHTS.items())
    return make_advantages(
        options,
        REWARDS,
        WEIGHTS,
        scored=scored or {},
        valid=valid,
        total=jnp.asarray(total, jnp.float32),
        counted=jnp.asarray(np.broadcast_to(valid, (5, 4))),
    )


def test_parts_are_those_of_gdpo_written_as_loops():
    scored = {"narrow": RNG.random((5, 4)) < 0.7}
    valid = np.array([1, 1, 0, 1, 1], bool)[:, None]
    stack = np.stack([REWARDS[name] for name in WEIGHTS])
    stack[1][~scored["narrow"]] = np.nan
    stack[:, ~valid[:, 0]] = np.nan
    expected = grpo_loops.gdpo(stack, list(WEIGHTS.values()))
    found = made(Advantages("group", normalise="parts"), scored, valid)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_sum_is_normalised_as_it_was():
    total = sum(w * REWARDS[name] for name, w in WEIGHTS.items())
    expected = group_advantages(jnp.asarray(total, jnp.float32), scale="group")
    np.testing.assert_array_equal(made(Advantages("group")), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Advantages("group", normalise="part"), "normalise='part'.*sum, parts"),
        (Advantages("batch", normalise="parts"), "scale='batch'.*scale=group"),
        (
            Advantages("group", leave_one_out=True, normalise="parts"),
            "leave_one_out=True.*expected False",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check_advantages(options)


def test_a_group_whose_parts_cancel_in_the_sum_teaches_part_by_part():
    """`even` - 2 `half` is 0 for each completion; of `even` alone groups differ."""

    def cancelling(carry, batch, rollout, step):

        scored = score(carry, batch, rollout, step)
        even = scored.rewards["even"]
        return scored._replace(rewards={"even": even, "small": even**2 / 2})

    found = {}
    for name in ("sum", "parts"):
        system = build(
            model=table_model(),
            spoil=cancelling,
            reward_weights={"even": 1.0, "small": -2.0},
            normalise=name,
        )
        state = system.init(jax.random.key(0))
        _, found[name] = jax.jit(system.update)(state, tiny_batch(), jax.random.key(3))
    assert float(found["sum"]["groups_effective"]) == 0
    assert float(found["sum"]["reward_std"]) == 0
    assert float(found["parts"]["reward_std"]) == 0
    # normalised, -2 `small` weighs twice as much as `even`: they no longer cancel
    tied = float(found["parts"]["reward_even_tied"])
    assert float(found["parts"]["groups_effective"]) == 8 * (1 - tied) > 0


def test_a_stage_refuses_before_it_trains():
    with pytest.raises(ValueError, match="normalise='both'"):
        build(normalise="both")
