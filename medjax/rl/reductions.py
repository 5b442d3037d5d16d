"""What each GRPO reduction sums up, and what it divides by."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.checks import NUMBERS, check_arrays
from medjax.masked import masked_mean, masked_sum


def reduce_tokens(
    loss: Float[Array, "N T"], mask: Bool[Array, "N T"], *, reduction: str
) -> Float[Array, ""]:
    """Numerator of a reduction: "grpo" adds up means of rows, the others tokens.

    Args:
        loss: Of each token. What stands where the mask is False is not read.
        mask: True at the tokens that count. A row without one adds nothing.
        reduction: "grpo" or any other name; `loss_denominator` refuses unknown ones.
    """
    check_arrays("reduce_tokens", loss=(loss, "N T", float), mask=(mask, "N T", bool))
    if reduction == "grpo":
        return jnp.sum(masked_mean(loss, mask, axis=-1))
    return masked_sum(loss, mask)


def loss_denominator(
    mask: Bool[Array, "N T"], *, reduction: str, max_length: int | None = None
) -> Float[Array, ""]:
    """Denominator of a reduction, float32; adds up over micro-batches.

    "grpo", "luspo": rows with a token. "bnpo", "dapo": tokens. "dr_grpo": rows with a
    token * max_length. Rows without a token do not count, so that rows which only fill
    a batch change nothing; TRL counts them. 0 for an empty batch.

    Args:
        mask: True (or not 0) at the tokens that count, a row a completion.
        reduction: One of the five names above.
        max_length: The longest a completion could have been, in tokens; only "dr_grpo"
            reads it, and must have it.
    """
    check_arrays("loss_denominator", mask=(mask, "N T", NUMBERS))
    mask = mask.astype(bool)
    rows = jnp.sum(jnp.any(mask, axis=-1), dtype=jnp.float32)
    if reduction in ("bnpo", "dapo"):
        return jnp.sum(mask, dtype=jnp.float32)
    if reduction in ("grpo", "luspo"):
        return rows
    if reduction == "dr_grpo":
        if max_length is None:
            raise ValueError("reduction 'dr_grpo' divides by max_length: pass it")
        return rows * max_length
    raise ValueError(
        f"reduction {reduction!r}: expected 'grpo', 'bnpo', 'dapo', 'dr_grpo' or "
        "'luspo'"
    )
