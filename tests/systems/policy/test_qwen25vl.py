"""Completions of the policy against the policy computed plainly."""

from functools import partial

import jax
import numpy as np
import pytest

from medjax.rl.sampling import EXCLUDED
from medjax.types import Decoding, Ends
from tests.oracles.plain_policy import plain_log_probs
from tests.tiny import (
    PAD,
    STOP,
    VOCAB,
    pick_contexts,
    tiny_batch,
    tiny_config,
    tiny_model,
)

CONFIG, MODEL = tiny_config(), tiny_model()
GROUP, LENGTH = 3, 4
# A third of the vocabulary ends an answer, so that rows are of all lengths.
STOPS = (STOP, *range(0, 48, 3))
RESTRICTED = {"temperature": 0.7, "top_k": 20, "top_p": 0.8}
CLOSE = 1e-5  # float32 sums in another order


@partial(jax.jit, static_argnames=("group", "stops", "restrict", "greedy"))
def rollout(params, batch, key, group=GROUP, stops=STOPS, restrict=True, greedy=False):
    plain = {"temperature": 0.0 if greedy else 1.0}
    options = RESTRICTED if restrict and not greedy else plain
    return MODEL.sample(
        params,
        MODEL.prefill(params, batch.prompt),
        batch.sample_id,
        key,
        group=group,
        decoding=Decoding(Ends(stops, PAD), LENGTH, **options),
    )


@pytest.fixture(scope="module")
def batch():
    return tiny_batch(slots=2)


@pytest.fixture(scope="module")
def sampled(params, batch):
    return jax.device_get(rollout(params, batch, jax.random.key(1)))


@pytest.fixture(scope="module")
def log_probs(params):
    """[N, G, T, V] in float64, every completion with a prompt of its own."""
    plain = jax.jit(partial(plain_log_probs, CONFIG))

    def compute(batch, tokens, mask):
        return np.asarray(plain(params, batch.prompt, tokens, mask), np.float64)

    return compute


def pick(table, tokens):
    return np.take_along_axis(table, tokens[..., None], axis=-1)[..., 0]


def restrict(log_probs, *, temperature, top_k, top_p):
    """By sorting, in float64, one distribution."""
    scores = log_probs / temperature
    order = np.argsort(-scores)
    share = np.exp(scores - scores[order[0]])
    share[order[top_k:]] = 0
    share /= share.sum()
    reached = np.cumsum(share[order])
    share[order[np.flatnonzero(reached >= top_p)[0] + 1 :]] = 0
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(share / share.sum()), EXCLUDED)


def test_log_probabilities_under_the_policy_and_under_what_was_sampled_from(
    batch, sampled, log_probs
):
    table = log_probs(batch, sampled.tokens, sampled.mask)
    mask = sampled.mask
    np.testing.assert_allclose(
        sampled.logp[mask], pick(table, sampled.tokens)[mask], atol=CLOSE
    )
    narrowed = np.apply_along_axis(partial(restrict, **RESTRICTED), -1, table)
    found, expected = sampled.logp_sampling, pick(narrowed, sampled.tokens)
    np.testing.assert_allclose(found[mask], expected[mask], atol=CLOSE)
    assert (np.abs(found - sampled.logp)[mask] > 0.1).any()
    assert (sampled.logp[~mask] == 0).all() and (found[~mask] == 0).all()


def test_the_learner_finds_the_same_log_probabilities(params, batch, sampled):
    @jax.jit
    def learner(params, batch, tokens, mask):
        return MODEL.score(params, MODEL.prefill(params, batch.prompt), tokens, mask)

    logp, entropy = learner(params, batch, sampled.tokens, sampled.mask)
    mask = sampled.mask
    np.testing.assert_allclose(np.asarray(logp)[mask], sampled.logp[mask], atol=CLOSE)
    inside = np.asarray(entropy)[mask]
    assert ((inside > 0) & (inside <= np.log(VOCAB))).all()


def test_rows_end_with_their_first_stop_token(sampled):
    lengths = set()
    for tokens, mask in zip(
        sampled.tokens.reshape(-1, LENGTH),
        sampled.mask.reshape(-1, LENGTH),
        strict=True,
    ):
        stops = np.flatnonzero(np.isin(tokens, STOPS))
        length = stops[0] + 1 if len(stops) else LENGTH
        np.testing.assert_array_equal(mask, np.arange(LENGTH) < length)
        assert (tokens[length:] == PAD).all()
        lengths.add(int(length))
    assert lengths == {1, 2, 3, 4}


def test_all_rows_may_end_at_once(params, batch):
    found = rollout(params, batch, jax.random.key(1), stops=tuple(range(VOCAB)))
    found = jax.device_get(found)
    assert (found.mask.sum(-1) == 1).all()
    assert (found.tokens[..., 1:] == PAD).all()
    assert (found.logp[..., 0] < 0).all() and (found.logp[..., 1:] == 0).all()


def test_noise_does_not_depend_on_the_layout(params, batch, sampled):
    order = [2, 0, 3, 1]
    moved = rollout(params, pick_contexts(batch, order), jax.random.key(1))
    rows = (2 * np.array(order)[:, None] + np.arange(2)).reshape(-1)
    np.testing.assert_array_equal(moved.tokens, sampled.tokens[rows])
    np.testing.assert_allclose(moved.logp, sampled.logp[rows], atol=CLOSE)


def test_the_group_and_the_step_draw_anew(params, batch, sampled):
    first = sampled.tokens[:, 0]
    assert (first != sampled.tokens[:, 1]).any()
    later = rollout(params, batch, jax.random.key(2))
    assert (np.asarray(later.tokens)[:, 0] != first).any()
    same = batch._replace(sample_id=np.zeros_like(batch.sample_id))
    twins = jax.tree.map(lambda x: np.concatenate([x[:1]] * len(x)), same)
    found = np.asarray(rollout(params, twins, jax.random.key(1)).tokens)
    np.testing.assert_array_equal(found, np.broadcast_to(found[:1], found.shape))


def test_greedy_takes_the_most_likely_token(params, batch, log_probs):
    found = rollout(params, batch, jax.random.key(0), group=1, greedy=True)
    found = jax.device_get(found)
    table = log_probs(batch, found.tokens, found.mask)
    best = table.max(-1)[found.mask]
    # a tie within rounding may go either way
    np.testing.assert_allclose(pick(table, found.tokens)[found.mask], best, atol=CLOSE)
    assert (found.logp_sampling == 0).all()
