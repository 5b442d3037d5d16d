"""What is left to a system's `score`: its carry, its rewards, its metrics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from medjax.sharding import make_mesh, to_named_sharding
from medjax.systems.policy import exploration, supervised
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.exploration import Explorer, Scored, Step
from medjax.systems.policy.host_rewards import HostReward
from medjax.systems.policy.learner import Loss, Teaching
from medjax.types import PolicyModel, Rollout
from tests.tiny import STOP, VOCAB, decoding, tiny_batch, tiny_model

NAMES = "batch layers embed vocab heads kv_heads mlp norm patch".split()
RULES = dict.fromkeys([*NAMES, "vision_heads", "vision_mlp"])


class Carry(NamedTuple):
    seen: jax.Array
    reference: object


class Spoilt(NamedTuple):
    seen: jax.Array
    reference: object
    value: jax.Array


def score(carry, batch, rollout, step):
    first = rollout.tokens[..., 0]
    even = first % 2 == 0
    rewards = {"even": even.astype(jnp.float32), "small": 1.0 / (1.0 + first)}
    carry = carry._replace(seen=carry.seen + jnp.sum(even, dtype=jnp.int32))
    return Scored(rewards, even, first < STOP, carry, {"first": jnp.mean(first * 1.0)})


WEIGHTS = {"even": 1.0, "small": 0.5}


def build(
    beta=0.0,
    reward_weights=WEIGHTS,
    host_rewards=None,
    model=None,
    optimizer=None,
    spoil=score,
    floor=1e-6,
    normalise="sum",
):
    step = Step(
        group=4,
        decoding=decoding(temperature=1.0),
        advantages=Advantages("group", floor=floor, normalise=normalise),
        reward_weights=reward_weights,
        teaching=Teaching(Loss(beta, clip_low=0.2, clip_high=0.2, reduction="grpo")),
    )
    explorer = Explorer(
        tiny_model() if model is None else model,
        optax.sgd(0.1) if optimizer is None else optimizer,
        lambda reference: Carry(jnp.zeros((), jnp.int32), reference),
        spoil,
        step,
    )
    return exploration.build(explorer, lambda *_: None, host_rewards)


def shapes(system, batch=None):
    """(state before, state after, metrics) without running or compiling anything."""
    key = jax.random.key(0)
    before = jax.eval_shape(system.init, key)
    return before, *jax.eval_shape(system.update, before, batch or tiny_batch(), key)


def test_the_carry_and_the_metrics_are_the_systems_own():
    before, after, metrics = shapes(build())
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert before.aux.reference == ()
    for name in ("first", "reward_even", "reward_small", "hit_rate", "groups_tied"):
        assert metrics[name].shape == ()
    assert "kl" not in metrics


def test_a_reference_is_kept_for_beta_only():
    before, after, metrics = shapes(build(beta=0.1))
    assert jax.tree.structure(after.aux.reference) == jax.tree.structure(after.params)
    assert "kl" in metrics
    mesh = make_mesh({"data": 8})
    to_named_sharding(
        build(beta=0.1).axes, mesh, RULES, before
    )  # raises if they differ


def test_weights_and_rewards_are_named_alike():
    with pytest.raises(ValueError, match="'even', 'small'.*'even'"):
        shapes(build(reward_weights={"even": 1.0}))


def test_host_rewards_see_the_carry_without_its_reference():
    seen = []

    def host(batch, rollout, step, carry):
        seen.append((rollout.tokens.shape, int(step), int(carry.seen), carry.reference))
        return {"host": HostReward(0.0 * rollout.tokens[..., 0])}

    system = build(beta=0.1, host_rewards=host)
    state = jax.jit(system.init)(jax.random.key(0))
    scored = system.prepare(state, tiny_batch(contexts=2), jax.random.key(1))
    assert seen == [((4, 4, 3), 0, 0, ())]
    assert scored.rewards["host"].shape == (4, 4)
    assert scored.scored["host"].all()


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (np.zeros((4, 4)), "expected a HostReward.*found ndarray"),
        (HostReward(np.zeros((4, 3))), r"\(4, 4\).*found \(4, 3\)"),
        (
            HostReward(np.zeros((4, 4)), np.ones((4, 1), bool)),
            r"\(4, 4\).*found \(4, 1\)",
        ),
    ],
)
def test_a_host_reward_of_another_form_is_named(reward, message):
    system = build(host_rewards=lambda *_: {"host": reward})
    state = jax.jit(system.init)(jax.random.key(0))
    with pytest.raises(ValueError, match=f"'host': .*{message}"):
        system.prepare(state, tiny_batch(contexts=2), jax.random.key(1))


def test_a_reward_that_is_no_number_is_located():
    """1e20 too: its square is infinite, and would make all advantages 0."""
    batch = tiny_batch()
    sample = int(batch.sample_id[3])

    def spoil(carry, batch, rollout, step):
        scored = score(carry, batch, rollout, step)
        here = (batch.sample_id == sample)[:, None] & (jnp.arange(4) == 1)[None]
        small = jnp.where(here, carry.value, scored.rewards["small"])
        return scored._replace(rewards=scored.rewards | {"small": small})

    system = build(model=table_model(), spoil=spoil)
    state = system.init(jax.random.key(0))
    update = jax.jit(system.update)
    for value, found in (
        *((x, sample) for x in (np.nan, np.inf, -np.inf, 1e20)),
        *((x, -1) for x in (1e17, 0.0)),
    ):
        carry = Spoilt(*state.aux, jnp.float32(value))
        _, metrics = update(state._replace(aux=carry), batch, jax.random.key(0))
        assert int(metrics["fault_even"]) == -1
        assert int(metrics["fault_small"]) == found, value
    carry = Spoilt(*state.aux, jnp.float32(np.nan))
    rows = batch._replace(valid=np.asarray(batch.sample_id) != sample)
    _, metrics = update(state._replace(aux=carry), rows, jax.random.key(0))
    assert int(metrics["fault_small"]) == -1


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_host_reward_that_is_no_number_is_named(value):
    def host(batch, rollout, *_):
        values, scored = np.zeros((8, 4)), np.ones((8, 4), bool)
        values[0, 0], scored[0, 0] = np.nan, False  # that it could not score
        values[2, 1] = value
        return {"host": HostReward(values, scored)}

    system = build(model=table_model(), host_rewards=host)
    state, batch = system.init(jax.random.key(0)), tiny_batch()
    where = f"completion 1 of sample {batch.sample_id[2]}"
    with pytest.raises(ValueError, match=f"'host': expected finite .*{where}"):
        system.prepare(state, batch, jax.random.key(0))


def test_what_a_host_reward_could_not_score_teaches_nothing():
    """Its completions leave the reward, the groups' means and the gradient."""
    weights = {"even": 0.0, "small": 0.0, "host": 1.0}
    garbage = [np.zeros, lambda shape: np.full(shape, np.nan)]
    found = []
    for fill in garbage:
        scored = np.arange(16).reshape(4, 4) % 3 > 0

        def host(batch, rollout, *_, fill=fill, scored=scored):
            values = np.where(scored, rollout.tokens[..., 0] % 2, fill((4, 4)))
            return {"host": HostReward(values, scored)}

        system = build(model=table_model(), reward_weights=weights, host_rewards=host)
        state = jax.jit(system.init)(jax.random.key(0))
        batch = system.prepare(state, tiny_batch(contexts=2), jax.random.key(1))
        # the two other rewards score everything, so only the host's share is missing
        found.append(jax.jit(system.update)(state, batch, jax.random.key(2)))
    metrics = found[0][1]
    assert float(metrics["reward_host_unscorable"]) == pytest.approx(6 / 16)
    for left, right in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(left, right)
    assert all(np.all(np.isfinite(x)) for x in metrics.values())


def table_model():
    """A policy that is a table: scores by position, whatever the prompt."""

    def score(params, prefilled, tokens, mask):
        logp = jax.nn.log_softmax(params["table"])
        picked = jnp.take_along_axis(logp[None, None], tokens[..., None], axis=-1)
        entropy = -jnp.sum(jnp.exp(logp) * logp, axis=-1)
        return picked[..., 0], jnp.broadcast_to(entropy, tokens.shape)

    def sample(params, prefilled, sample_id, key, *, group, decoding):
        shape = (len(sample_id), group, decoding.max_tokens)
        tokens = jax.random.categorical(key, params["table"], shape=shape)
        tokens, mask = tokens.astype(jnp.int32), jnp.ones(shape, bool)
        logp, _ = score(params, prefilled, tokens, mask)
        return Rollout(tokens, mask, logp, logp)

    return PolicyModel(
        init=lambda key: {"table": jax.random.normal(key, (3, VOCAB), jnp.float32)},
        axes={"table": PartitionSpec(None, "vocab")},
        prefill=lambda params, prompt: (),
        sample=sample,
        score=score,
    )


def test_groups_without_signal_are_counted_by_the_floor_that_teaches():
    """0.5 and less is a tie for both, or patience would wait for what teaches not."""
    system = build(model=table_model(), floor=10.0)
    state, batch = system.init(jax.random.key(0)), tiny_batch()
    _, metrics = jax.jit(system.update)(state, batch, jax.random.key(0))
    assert int(metrics["groups_effective"]) == 0
    assert float(metrics["reward_even_tied"]) == 1 and float(metrics["loss"]) == 0


def test_any_policy_of_five_functions_learns():
    """Even tokens earn a reward: their share rises, by no model of ours."""
    weights = {"even": 1.0, "small": 0.0}
    system = build(
        model=table_model(), reward_weights=weights, optimizer=optax.adam(0.05)
    )
    step = jax.jit(system.update)
    state, hits = jax.jit(system.init)(jax.random.key(0)), []
    for n in range(60):
        state, metrics = step(state, tiny_batch(), jax.random.key(n))
        hits.append(float(metrics["hit_rate"]))
    assert sum(hits[-10:]) > sum(hits[:10]) + 1


def test_any_policy_of_five_functions_is_taught_answers():
    """From equal scores a step goes along the share of each token, less 1 / V."""
    batch, rate = tiny_batch(), 0.5
    system = supervised.build(table_model(), optax.sgd(rate), lambda *_: None)
    start = {"table": jnp.zeros((3, VOCAB), jnp.float32)}
    state = system.init(jax.random.key(0), start)
    to_named_sharding(system.axes, make_mesh({"data": 8}), RULES, state)
    state, metrics = jax.jit(system.update)(state, batch, jax.random.key(0))
    assert float(metrics["loss"]) == pytest.approx(np.log(VOCAB), rel=1e-6)
    expected = np.zeros((3, VOCAB))
    for t in range(2):  # the answer and its stop token
        counts = np.bincount(batch.answer[:, t], minlength=VOCAB)
        expected[t] = rate * (counts - 8 / VOCAB) / batch.answer_mask.sum()
    np.testing.assert_allclose(state.params["table"], expected, atol=1e-7)
