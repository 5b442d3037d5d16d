"""The sampling loop on a Markov chain whose distribution is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.sampling import EXCLUDED, restrict_logits, rollout_keys, sample_loop

VOCAB, STOP, PAD = 6, 4, 5
TABLE = np.random.default_rng(0).normal(size=(VOCAB, VOCAB)).astype(np.float32)


def markov_step(calls, tokens, index):
    """Next-token scores depend on the last token; the carry counts the calls."""
    del index
    return jnp.asarray(TABLE)[tokens], calls + 1


@partial(jax.jit, static_argnames=("max_tokens", "temperature", "top_k", "top_p"))
def run(keys, first, max_tokens=5, temperature=1.0, top_k=None, top_p=None):
    return sample_loop(
        markov_step,
        jnp.zeros((), jnp.int32),
        first,
        keys,
        max_tokens=max_tokens,
        stop_tokens=[STOP],
        pad=PAD,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )


def keys_of(rows, seed=0):
    return rollout_keys(jax.random.key(seed), jnp.arange(rows, dtype=jnp.int32), 1)


def restricted_by_hand(logits, temperature=1.0, top_k=None, top_p=None):
    """Float64, one row, by sorting."""
    logits = np.asarray(logits, np.float64)
    if temperature == 0:
        kept = np.zeros(len(logits), bool)
        kept[np.argmax(logits)] = True
        return np.where(kept, 0.0, EXCLUDED)
    scores = logits / temperature
    probability = np.exp(scores - scores.max())
    probability /= probability.sum()
    if top_k is not None:
        smallest = np.sort(probability)[-top_k]
        probability = np.where(probability >= smallest, probability, 0)
        probability /= probability.sum()
    if top_p is not None:
        order, mass, last = np.argsort(-probability), 0.0, 0
        for last in order:
            mass += probability[last]
            if mass >= top_p:
                break
        probability = np.where(probability >= probability[last], probability, 0)
        probability /= probability.sum()
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(probability), EXCLUDED)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"temperature": 0.0},
        {"top_k": 1},
        {"top_k": 3, "temperature": 1.3},
        {"top_p": 0.5},
        {"top_p": 1.0},
        {"top_k": 4, "top_p": 0.8, "temperature": 0.9},
    ],
)
def test_restricted_distribution(options):
    logits = np.random.default_rng(1).normal(size=(5, 40)) * 2
    found = restrict_logits(jnp.asarray(logits), **options)
    expected = np.stack([restricted_by_hand(row, **options) for row in logits])
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.99])
def test_a_nucleus_keeps_ties_zeros_of_either_sign_and_what_was_excluded(dtype, top_p):
    rng = np.random.default_rng(2)
    logits = rng.integers(-3, 4, size=(20, 60)).astype(np.float64)  # many ties
    logits[rng.random(logits.shape) < 0.2] = -np.inf
    logits[rng.random(logits.shape) < 0.1] = -0.0
    found = restrict_logits(jnp.asarray(logits, dtype), top_p=top_p)
    expected = np.stack([restricted_by_hand(row, top_p=top_p) for row in logits])
    kept = np.asarray(found, np.float64) > float(jnp.finfo(dtype).min) / 2
    kept &= np.asarray(found, np.float64) > EXCLUDED / 2
    np.testing.assert_array_equal(kept, expected > EXCLUDED / 2)


def test_all_of_the_probability_keeps_the_least_likely():
    """Its share is lost in the sum of those above it, in any precision."""
    logits = jnp.array([[0.0, -30.0, -80.0]], jnp.float32)
    assert np.all(restrict_logits(logits, top_p=1.0) > EXCLUDED)


@pytest.mark.parametrize("options", [{"top_k": 50}, {"top_p": 0.9}])
def test_no_vocabulary_is_sorted(options):
    run = jax.jit(partial(restrict_logits, **options))
    text = run.lower(jax.ShapeDtypeStruct((2, 5000), np.float32)).compile().as_text()
    assert " sort(" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": 0}, r"top_k.*1\.\.3"),
        ({"top_k": 4}, r"top_k.*1\.\.3"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
    ],
)
def test_restriction_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        restrict_logits(jnp.zeros((2, 3), jnp.float32), **options)


def test_samples_are_masked_through_the_first_stop():
    first = jnp.broadcast_to(jnp.asarray(TABLE[0]), (200, VOCAB))
    samples = jax.device_get(run(keys_of(200), first))
    for tokens, mask in zip(samples.tokens, samples.mask, strict=True):
        stops = np.flatnonzero((tokens == STOP) & mask)
        length = stops[0] + 1 if len(stops) else len(tokens)
        np.testing.assert_array_equal(mask, np.arange(len(tokens)) < length)
        assert (tokens[length:] == PAD).all()


def test_d05_a_stop_token_that_is_also_the_padding_is_learnt_from():
    first = jnp.full((4, VOCAB), -20.0, jnp.float32).at[:, STOP].set(20.0)
    samples = sample_loop(
        markov_step,
        jnp.zeros((), jnp.int32),
        first,
        keys_of(4),
        max_tokens=3,
        stop_tokens=[STOP],
        pad=STOP,
    )
    np.testing.assert_array_equal(samples.mask, [[True, False, False]] * 4)


def test_log_probabilities_of_what_was_drawn():
    first = jnp.broadcast_to(jnp.asarray(TABLE[1]), (50, VOCAB))
    options = {"temperature": 0.8, "top_k": 3}
    samples = jax.device_get(run(keys_of(50), first, **options))
    for tokens, mask, logp, logp_sampling in zip(*samples, strict=True):
        before = [1, *tokens[:-1]]
        for t in np.flatnonzero(mask):
            row = TABLE[before[t]]
            full = restricted_by_hand(row)[tokens[t]]
            kept = restricted_by_hand(row, **options)[tokens[t]]
            np.testing.assert_allclose(
                [logp[t], logp_sampling[t]], [full, kept], atol=1e-5
            )
        assert (logp[~mask] == 0).all()
        assert (logp_sampling[~mask] == 0).all()


def test_frequencies_follow_the_distribution():
    rows = 20_000
    first = jnp.broadcast_to(jnp.asarray(TABLE[2]), (rows, VOCAB))
    drawn = np.asarray(run(keys_of(rows), first, max_tokens=1).tokens)[:, 0]
    expected = np.exp(restricted_by_hand(TABLE[2]))
    found = np.bincount(drawn, minlength=VOCAB) / rows
    # four standard deviations of a binomial share
    assert (np.abs(found - expected) < 4 * np.sqrt(expected / rows)).all()


def test_draws_are_those_of_categorical():
    keys = keys_of(64, seed=3)
    first = jax.random.normal(jax.random.key(4), (64, VOCAB), jnp.float32)
    first = first.at[:8].set(0.0)  # even odds: the noise alone decides
    drawn = run(keys, first, max_tokens=1).tokens[:, 0]
    token_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, jnp.int32(0))
    expected = jax.vmap(jax.random.categorical)(token_keys, jax.nn.log_softmax(first))
    np.testing.assert_array_equal(drawn, expected)


def test_greedy_takes_the_most_likely():
    first = jnp.asarray(TABLE)
    samples = jax.device_get(run(keys_of(VOCAB), first, temperature=0.0))
    for n in range(VOCAB):
        token = n
        for t in np.flatnonzero(samples.mask[n]):
            token = int(np.argmax(TABLE[token]))
            assert samples.tokens[n, t] == token


def test_loop_stops_when_every_row_has_ended():
    calls = []

    def step(carry, tokens, index):
        jax.debug.callback(lambda i: calls.append(int(i)), index)
        return jnp.asarray(TABLE)[tokens], carry

    first = jnp.full((3, VOCAB), -30.0, jnp.float32).at[:, STOP].set(30.0)
    first = first.at[0].set(jnp.full(VOCAB, -30.0, jnp.float32).at[0].set(30.0))
    table = jnp.zeros((VOCAB, VOCAB), jnp.float32).at[:, STOP].set(60.0)

    def certain(carry, tokens, index):
        _, carry = step(carry, tokens, index)
        return table[tokens], carry

    samples = sample_loop(
        certain, (), first, keys_of(3), max_tokens=64, stop_tokens=[STOP], pad=PAD
    )
    jax.effects_barrier()
    np.testing.assert_array_equal(samples.mask.sum(1), [2, 1, 1])
    assert calls == [0]  # row 0 needed one step, nobody a second


def test_noise_depends_on_sample_and_place_not_on_layout():
    first = jnp.broadcast_to(jnp.asarray(TABLE[3]), (12, VOCAB))
    ids = jnp.arange(4, dtype=jnp.int32) + 100
    whole = run(rollout_keys(jax.random.key(1), ids, 3), first).tokens.reshape(4, 3, -1)
    order = jnp.array([2, 0])
    part = run(rollout_keys(jax.random.key(1), ids[order], 3), first[:6])
    np.testing.assert_array_equal(part.tokens.reshape(2, 3, -1), whole[order])
    smaller = run(rollout_keys(jax.random.key(1), ids, 2), first[:8])
    np.testing.assert_array_equal(smaller.tokens.reshape(4, 2, -1), whole[:, :2])


def test_d03_each_step_draws_anew():
    first = jnp.broadcast_to(jnp.zeros(VOCAB, jnp.float32), (64, VOCAB))
    ids = jnp.arange(64, dtype=jnp.int32)
    root = jax.random.key(0)
    one, two = (
        run(rollout_keys(jax.random.fold_in(root, step), ids, 1), first).tokens
        for step in (0, 1)
    )
    # five tokens of six equally likely ones: rows agree by chance only
    assert np.mean(np.all(np.asarray(one) == np.asarray(two), axis=1)) < 0.1
    assert len(np.unique(np.asarray(one), axis=0)) > 32  # rows differ as well
