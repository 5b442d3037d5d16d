"""The entropy bonus against loops, and its gradient against a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl import entropy_bonus

RNG = np.random.default_rng(0)
LENGTHS = [4, 1, 0, 3]
MASK = np.arange(4) < np.array(LENGTHS)[:, None]
ENTROPY = np.where(MASK, RNG.uniform(0, 3, (4, 4)), np.nan)


@pytest.mark.parametrize("reduction", ["grpo", "bnpo", "dapo", "dr_grpo", "luspo"])
def test_it_is_reduced_as_the_loss_is(reduction):
    rows = [ENTROPY[n, :length] for n, length in enumerate(LENGTHS) if length]
    total = sum(row.mean() if reduction == "grpo" else row.sum() for row in rows)
    divisor = {"grpo": 3, "luspo": 3, "dr_grpo": 3 * 9}.get(reduction, 8)
    found = entropy_bonus(
        jnp.asarray(ENTROPY), MASK, coefficient=0.01, reduction=reduction, max_length=9
    )
    assert float(found) == pytest.approx(0.01 * total / divisor, rel=1e-12)


def test_its_gradient_by_logits_is_that_of_the_exact_entropy():
    """dH / dz_v = -p_v (log p_v + H)."""
    logits = jnp.asarray(RNG.normal(size=(4, 4, 6)))

    def bonus(logits):
        log_probs = jax.nn.log_softmax(logits)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        return entropy_bonus(entropy, MASK, coefficient=0.5, reduction="dapo")

    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    entropy = -(p * np.log(p)).sum(-1, keepdims=True)
    expected = -0.5 / 8 * p * (np.log(p) + entropy) * MASK[..., None]
    np.testing.assert_allclose(jax.grad(bonus)(logits), expected, atol=1e-12)


def test_parts_with_the_denominator_of_the_whole_add_up():
    options = {"coefficient": 0.1, "reduction": "grpo"}
    whole = entropy_bonus(jnp.asarray(ENTROPY), MASK, **options)
    parts = [
        entropy_bonus(jnp.asarray(ENTROPY[n]), MASK[n], denominator=3, **options)
        for n in (slice(0, 2), slice(2, 4))
    ]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-12)


def test_nothing_that_counts_gives_0_and_a_nan_that_counts_shows():
    empty = np.zeros((2, 3), bool)
    options = {"coefficient": 0.1, "reduction": "grpo"}
    assert float(entropy_bonus(jnp.full((2, 3), jnp.nan), empty, **options)) == 0
    assert np.isnan(entropy_bonus(jnp.full((2, 3), jnp.nan), ~empty, **options))
    half = entropy_bonus(jnp.ones((2, 3), jnp.bfloat16), ~empty, **options)
    assert half.dtype == jnp.float32


@pytest.mark.parametrize("coefficient", [-0.1, float("nan"), float("inf") * -1])
def test_a_penalty_is_refused(coefficient):
    with pytest.raises(ValueError, match="entropy_bonus: coefficient: expected 0 or"):
        entropy_bonus(
            jnp.asarray(ENTROPY), MASK, coefficient=coefficient, reduction="grpo"
        )


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="^entropy_bonus: reduction 'sum'"):
        entropy_bonus(jnp.asarray(ENTROPY), MASK, coefficient=0.1, reduction="sum")
