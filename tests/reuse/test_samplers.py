"""Own recurrent models in medjax's loop over tokens, own samplers before its loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl import grpo_loss, importance_weights, rollout_keys, sample_loop

pytestmark = pytest.mark.usefixtures("plain_jax")

V, D, T, STOP, PAD = 6, 4, 5, 5, 0
RNG = np.random.default_rng(1)
EMBED, MIX, OUT = (
    RNG.normal(size=(V, D)),
    RNG.normal(size=(D, D)),
    RNG.normal(0, 2, (D, V)),
)


def step_in_numpy(state, token):
    state = np.tanh(state @ MIX + EMBED[token])
    return state, state @ OUT


def step_fn(state, tokens, index):
    """A recurrent cell: all it remembers is its state, one row a completion."""
    del index
    state = jnp.tanh(state @ MIX + jnp.array(EMBED)[tokens])
    return state @ OUT, state


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_greedy_completions_are_those_of_a_loop():
    states = RNG.normal(size=(7, D)).astype(np.float32)
    start = jnp.array(states)
    keys = rollout_keys(jax.random.key(0), jnp.arange(7), group=1)
    found = jax.jit(
        lambda state, keys: sample_loop(
            step_fn,
            state,
            state @ jnp.array(OUT, jnp.float32),
            keys,
            max_tokens=T,
            stop_tokens=[STOP],
            pad=PAD,
            temperature=0.0,
        )
    )(start, keys)
    for row in range(7):
        state, logits, alive = states[row].astype(float), states[row] @ OUT, True
        for t in range(T):
            assert found.mask[row, t] == alive
            token = int(np.argmax(logits)) if alive else PAD
            assert found.tokens[row, t] == token
            if alive:
                logp = log_softmax(logits)[token]
                np.testing.assert_allclose(found.logp[row, t], logp, rtol=1e-4)
            alive = alive and token != STOP
            state, logits = step_in_numpy(state, token)


def test_drawn_tokens_are_as_frequent_as_their_probabilities():
    """Two tokens a row, the second's probabilities follow from the first."""
    rows, temperature, state = 20_000, 0.7, RNG.normal(size=D)
    keys = rollout_keys(jax.random.key(3), jnp.arange(rows // 8), group=8)
    states = jnp.tile(jnp.array(state, jnp.float32), (rows, 1))
    found = sample_loop(
        step_fn,
        states,
        states @ jnp.array(OUT, jnp.float32),
        keys,
        max_tokens=2,
        stop_tokens=[],
        pad=PAD,
        temperature=temperature,
        top_k=4,
    )

    def restricted(logits):
        kept = np.where(logits >= np.sort(logits)[-4], logits / temperature, -np.inf)
        return np.exp(log_softmax(kept))

    first = restricted(state @ OUT)
    pairs = np.array(
        [first[a] * restricted(step_in_numpy(state, a)[1]) for a in range(V)]
    )
    tokens = np.asarray(found.tokens)
    counts = np.zeros((V, V))
    np.add.at(counts, (tokens[:, 0], tokens[:, 1]), 1)
    assert counts[pairs == 0].sum() == 0
    # five standard deviations of a binomial count
    spread = np.sqrt(rows * pairs * (1 - pairs))
    assert np.all(np.abs(counts - rows * pairs) <= 5 * spread + 1e-9)
    np.testing.assert_allclose(
        np.exp(found.logp_sampling[:, 0]), first[tokens[:, 0]], rtol=1e-4
    )


def test_a_sampler_of_ones_own_feeds_the_loss():
    """Drawn at temperature 0.5 in a scan; corrected by importance weights."""
    rows, temperature = 12, 0.5
    states = jnp.array(RNG.normal(size=(rows, D)), jnp.float32)

    def draw(carry, key):
        state, logits = carry
        tokens = jax.random.categorical(key, logits / temperature)
        logp, sampling = (
            jax.nn.log_softmax(logits),
            jax.nn.log_softmax(logits / temperature),
        )
        at = tokens[:, None]
        chosen = [jnp.take_along_axis(x, at, 1)[:, 0] for x in (logp, sampling)]
        logits, state = step_fn(state, tokens, None)
        return (state, logits), (tokens, *chosen)

    keys = jax.random.split(jax.random.key(5), T)
    _, columns = jax.lax.scan(
        draw, (states, states @ jnp.array(OUT, jnp.float32)), keys
    )
    tokens, logp, sampling = (x.T for x in columns)
    ended = jnp.cumsum(tokens == STOP, axis=1)
    mask = (ended - (tokens == STOP)) == 0
    advantages = jnp.array(RNG.normal(size=rows), jnp.float32)
    weights = importance_weights(
        logp, sampling, mask, level="token", mode="truncate", low=None, high=2.0
    )
    loss, _ = grpo_loss(
        logp,
        logp,
        advantages,
        mask,
        beta=0.0,
        clip_low=0.2,
        clip_high=0.2,
        reduction="grpo",
        weights=weights,
    )
    expected = 0.0
    for row in range(rows):
        counts = np.asarray(mask[row])
        drift = np.asarray(logp[row] - sampling[row], float)[counts]
        expected -= float(advantages[row]) * np.minimum(np.exp(drift), 2.0).mean()
    np.testing.assert_allclose(loss, expected / rows, rtol=1e-5)
