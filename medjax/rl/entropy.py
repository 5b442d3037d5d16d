"""The entropy bonus: what a loss pays for a policy that keeps several answers open."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.checks import FLAGS, AxisName, batch_axes, check_arrays, check_ranges
from medjax.masked import at_least_float32
from medjax.rl.reductions import (
    check_length,
    check_reduction,
    loss_denominator,
    reduce_tokens,
)


def entropy_bonus(
    entropy: Float[Array, "N T"],
    mask: Bool[Array, "N T"],
    *,
    coefficient: float | Float[Array, ""],
    reduction: str,
    max_length: int | None = None,
    denominator: Float[Array, ""] | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """coefficient * (sum over tokens of H) / denominator, to be taken off a loss.

    H is the exact entropy of the distribution that each token was to be drawn from,
    -sum over the vocabulary of p log p, and not the estimate -log p of the token drawn,
    whose gradient at one update a rollout is 0 on average. Rows are reduced as those of
    `grpo_loss`, so that bonus and loss weigh tokens alike. The gradient flows through
    `entropy`.

    Args:
        entropy: In nats, 0 to log V, of the policy that is trained, before each of the
            T tokens of N completions; at temperature 1 as the log-probabilities of the
            loss. What stands where the mask is False is not read; a NaN where it is
            True gives NaN.
        mask: True (or an integer that is not 0) at the tokens that count. Without one
            the bonus is 0.
        coefficient: Weight of the bonus in the unit of the loss, 0 or more; 0.001 to
            0.01 is common. It may be traced, and its range is then not looked at.
        reduction: "grpo", "bnpo", "dapo", "dr_grpo" or "luspo", that of the loss;
            static.
        max_length: The longest a completion could have been, in tokens, 1 or more; read
            by "dr_grpo" alone, which must have it unless there is a `denominator`. A
            number below 1 is refused with any reduction.
        denominator: A scalar that replaces that of `loss_denominator`, for gradient
            accumulation; 0 or less counts as 1, NaN gives NaN.
        axis_name: Inside `shard_map`, the axes that the rows are spread over. An axis
            that an input varies along has to be named, or () given, which takes each
            device for itself.

    Returns:
        A scalar, float32 at least.

    Raises:
        ValueError: shapes, dtypes or numbers that do not fit, an unknown reduction, or
            an axis that is not named.

    Source: Mnih et al. 2016 (arXiv 1602.01783), section 4, as verl's `entropy_coeff`.
    """
    check_arrays(
        "entropy_bonus",
        entropy=(entropy, "N T", float),
        mask=(mask, "N T", FLAGS),
        coefficient=(coefficient, "", (float, int)),
        denominator=(denominator, "", (float, int)),
    )
    check_ranges("entropy_bonus", coefficient=(coefficient, 0, math.inf))
    check_reduction("entropy_bonus", reduction)
    if denominator is None:
        check_length("entropy_bonus", reduction, max_length)
    axes = batch_axes("entropy_bonus", axis_name, entropy=entropy, mask=mask)
    entropy = at_least_float32(entropy)
    total = reduce_tokens(entropy, mask, reduction=reduction, axis_name=axes)
    if denominator is None:
        denominator = loss_denominator(
            mask, reduction=reduction, max_length=max_length, axis_name=axes
        )
    divisor = jnp.asarray(denominator).astype(total.dtype)
    weight = jnp.asarray(coefficient).astype(total.dtype)
    return weight * total / jnp.where(divisor <= 0, 1, divisor)
