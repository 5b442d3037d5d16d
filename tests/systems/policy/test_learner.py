"""The policy-gradient step against autodiff of the plainly computed objective."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax.systems.policy.learner import (
    Lesson,
    Loss,
    Teaching,
    policy_step,
    split_contexts,
)
from medjax.types import Rollout
from tests.oracles.plain_policy import plain_log_probs
from tests.tiny import tiny_batch, tiny_config, tiny_model, tiny_params

CONFIG = tiny_config()
GROUP, LENGTH, RATE = 3, 4, 0.5
LOSS = Loss(beta=0.1, clip_low=0.05, clip_high=0.1, reduction="grpo")
# An optimiser that moves nothing and keeps the gradient as its state.
KEEP = optax.GradientTransformation(
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda grads, state, params=None: (jax.tree.map(jnp.zeros_like, grads), grads),
)


@partial(
    jax.jit, static_argnames=("accumulate", "iterations", "freeze", "chunk", "loss")
)
def step(
    params,
    reference,
    rollout,
    advantages,
    accumulate=1,
    iterations=1,
    freeze=False,
    chunk=None,
    loss=LOSS,
):
    optimizer = KEEP if iterations == 1 else optax.sgd(RATE)
    return policy_step(
        tiny_model(freeze_vision=freeze, logit_chunk=chunk),
        optimizer,
        params,
        optimizer.init(params),
        reference,
        tiny_batch().prompt,
        rollout,
        advantages,
        teaching=Teaching(loss, iterations, accumulate),
    )


@jax.jit
@partial(jax.value_and_grad, has_aux=True)
def plain(params, rollout, advantages, old, reference, weights=1.0):
    """Mean over rows of the mean over tokens of -w min(r A, clip(r) A) + beta k3."""
    tokens, mask = rollout.tokens, rollout.mask
    log_probs = plain_log_probs(CONFIG, params, tiny_batch().prompt, tokens, mask)
    logp = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
    ratio = jnp.exp(logp - old)
    clipped = jnp.clip(ratio, 1 - LOSS.clip_low, 1 + LOSS.clip_high)
    weight = advantages[..., None]
    gain = weights * jnp.minimum(ratio * weight, clipped * weight)
    apart = reference - logp
    loss = jnp.where(mask, LOSS.beta * (jnp.exp(apart) - apart - 1) - gain, 0)
    lengths = mask.sum(-1)
    rows = loss.sum(-1) / jnp.maximum(lengths, 1)
    return rows.sum() / (lengths > 0).sum(), logp


@pytest.fixture(scope="module")
def reference():
    return tiny_params(CONFIG, seed=1)


@pytest.fixture(scope="module")
def rollout():
    """Ragged completions; those of the last prompt only fill the batch."""
    rng = np.random.default_rng(5)
    shape = (8, GROUP, LENGTH)
    mask = np.arange(LENGTH) < rng.integers(1, LENGTH + 1, (8, GROUP, 1))
    mask[-1] = False
    tokens = rng.integers(0, 60, shape).astype(np.int32)
    return Rollout(tokens, mask, *np.zeros((2, *shape), np.float32))


@pytest.fixture(scope="module")
def advantages():
    return np.random.default_rng(6).normal(size=(8, GROUP)).astype(np.float32)


@pytest.fixture(scope="module")
def reference_logp(reference, rollout, advantages):
    zero = np.zeros(rollout.tokens.shape, np.float32)
    return plain(reference, rollout, advantages, zero, zero)[0][1]


@pytest.fixture(scope="module")
def old_logp(params, rollout, advantages, reference_logp):
    zero = np.zeros(rollout.tokens.shape, np.float32)
    return plain(params, rollout, advantages, zero, reference_logp)[0][1]


@pytest.fixture(scope="module")
def whole(params, reference, rollout, advantages):
    """(params, gradient, metrics) of one iteration in one part."""
    return step(params, reference, rollout, advantages)


def assert_close(found, expected, atol):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, atol=atol * max(1, float(np.abs(b).max()))
        ),
        found,
        expected,
    )


def test_gradient_is_that_of_the_plain_objective(
    params, rollout, advantages, whole, old_logp, reference_logp
):
    (loss, _), grads = plain(params, rollout, advantages, old_logp, reference_logp)
    _, found, metrics = whole
    assert_close(found, grads, atol=1e-5)
    assert float(metrics["loss"]) == pytest.approx(float(loss), abs=1e-6)
    norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(grads)))
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)
    mask = rollout.mask
    apart = np.asarray(reference_logp - old_logp, np.float64)[mask]
    assert float(metrics["kl"]) == pytest.approx(
        np.mean(np.exp(apart) - apart - 1), rel=1e-5
    )
    assert float(metrics["ratio_max"]) == pytest.approx(1, abs=1e-6)
    assert float(metrics["tokens"]) == mask.sum()


def test_parts_give_the_gradient_of_the_whole_and_vision_may_be_frozen(
    params, reference, rollout, advantages, whole
):
    _, found, metrics = step(
        params, reference, rollout, advantages, accumulate=4, freeze=True
    )
    assert_close(found["text"], whole[1]["text"], atol=1e-6)
    assert not any(bool(jnp.any(g)) for g in jax.tree.leaves(found["vision"]))
    assert any(bool(jnp.any(g)) for g in jax.tree.leaves(whole[1]["vision"]))
    for name in ("loss", "entropy", "kl", "ratio_mean", "ratio_max", "tokens", "rows"):
        assert_close(metrics[name], whole[2][name], atol=1e-5)


def test_iterations_in_parts_and_chunks_leave_the_old_policy_behind(
    params, reference, rollout, advantages, old_logp, reference_logp
):
    moved = params
    for _ in range(3):
        (loss, logp), grads = plain(
            moved, rollout, advantages, old_logp, reference_logp
        )
        moved = jax.tree.map(lambda p, g: p - np.float32(RATE) * g, moved, grads)
    found, _, metrics = step(
        params, reference, rollout, advantages, iterations=3, accumulate=2, chunk=3
    )
    # three steps of rate 0.5 on gradients that agree to 1e-5, at points that part
    assert_close(found, moved, atol=5e-5)
    assert float(metrics["loss"]) == pytest.approx(float(loss), abs=5e-5)
    norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(grads)))
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-4)
    ratio = np.exp(np.asarray(logp - old_logp))[rollout.mask]
    assert float(metrics["ratio_max"]) == pytest.approx(ratio.max(), rel=1e-4)
    clipped = (ratio > 1 + LOSS.clip_high) | (ratio < 1 - LOSS.clip_low)
    assert clipped.any()  # or the clip was not tried


def test_an_entropy_bonus_adds_the_gradient_of_the_exact_entropy(
    params, reference, rollout, advantages, whole
):
    """Of the whole vocabulary at each token that counts, a mean of means over rows."""
    weight = 0.25
    mask = rollout.mask

    @jax.jit
    @jax.value_and_grad
    def plain_bonus(params):
        log_probs = plain_log_probs(
            CONFIG, params, tiny_batch().prompt, rollout.tokens, mask
        )
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        rows = jnp.where(mask, entropy, 0).sum(-1) / jnp.maximum(mask.sum(-1), 1)
        return weight * rows.sum() / (mask.sum(-1) > 0).sum()

    bonus, grads = plain_bonus(params)
    _, found, metrics = step(
        *(params, reference, rollout, advantages),
        accumulate=4,
        chunk=3,
        loss=LOSS._replace(entropy=weight),
    )
    assert float(bonus) > 0.1
    expected = jax.tree.map(jnp.subtract, whole[1], grads)
    assert_close(found, expected, atol=1e-5)
    assert float(metrics["loss"]) == pytest.approx(
        float(whole[2]["loss"]) - float(bonus), abs=1e-5
    )
    assert_close(metrics["entropy"], whole[2]["entropy"], atol=1e-5)


@pytest.fixture(scope="module")
def apart(rollout, old_logp):
    """The rollout of a sampler whose log-probabilities are not quite the policy's."""
    noise = 0.3 * np.random.default_rng(8).normal(size=old_logp.shape)
    # what stands after a completion's end is not read
    logp = np.where(rollout.mask, old_logp + noise.astype(np.float32), np.nan)
    return rollout._replace(logp=logp.astype(np.float32))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_capped_weight_makes_up_for_another_sampler(
    params, reference, apart, advantages, old_logp, reference_logp, accumulate
):
    ratio = np.exp(np.where(apart.mask, old_logp - apart.logp, 0))
    assert (ratio > 1.2).any() and (ratio < 1.2).any()
    weights = np.minimum(ratio, 1.2).astype(np.float32)
    (loss, _), grads = plain(
        params, apart, advantages, old_logp, reference_logp, weights
    )
    _, found, metrics = step(
        *(params, reference, apart, advantages),
        accumulate=accumulate,
        loss=LOSS._replace(importance_cap=1.2),
    )
    assert_close(found, grads, atol=1e-5)
    assert float(metrics["loss"]) == pytest.approx(float(loss), abs=1e-5)
    gap = np.abs(old_logp - apart.logp)[apart.mask]
    assert float(metrics["sampler_gap"]) == pytest.approx(gap.mean(), rel=1e-4)
    assert float(metrics["sampler_gap_max"]) == pytest.approx(gap.max(), rel=1e-4)


def test_without_a_cap_the_sampler_is_measured_alone(
    params, reference, rollout, advantages, whole, apart
):
    _, found, metrics = step(params, reference, apart, advantages)
    assert_close(found, whole[1], atol=0)
    assert float(metrics["sampler_gap"]) > 0.1


def lesson(rollout, advantages):
    prompt = tiny_batch().prompt
    return Lesson(prompt, rollout.tokens, rollout.mask, advantages, None, rollout.logp)


def test_parts_keep_the_rows_of_a_context_together(rollout, advantages):
    parts = split_contexts(lesson(rollout, advantages), 2)
    assert parts.logp_old is None
    for part, contexts in enumerate(([0, 2], [1, 3])):
        rows = [2 * c + q for c in contexts for q in range(2)]
        np.testing.assert_array_equal(parts.tokens[part], rollout.tokens[rows])
        np.testing.assert_array_equal(parts.advantages[part], advantages[rows])
        prompt = tiny_batch().prompt
        np.testing.assert_array_equal(
            parts.prompt.context.tokens[part], prompt.context.tokens[contexts]
        )
        np.testing.assert_array_equal(
            parts.prompt.images.patches[part], prompt.images.patches[contexts]
        )
        np.testing.assert_array_equal(
            parts.prompt.next_position[part], prompt.next_position[rows]
        )


def test_parts_must_divide_the_contexts(rollout, advantages):
    with pytest.raises(ValueError, match="accumulate=3.*4 contexts"):
        split_contexts(lesson(rollout, advantages), 3)
