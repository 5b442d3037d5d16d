"""What each GRPO reduction sums up, and what it divides by."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.checks import FLAGS, AxisName, batch_axes, check_arrays, check_ranges
from medjax.masked import marked, masked_mean, masked_sum

REDUCTIONS = ("grpo", "bnpo", "dapo", "dr_grpo", "luspo")


def reduce_tokens(
    loss: Float[Array, "N T"],
    mask: Bool[Array, "N T"],
    *,
    reduction: str,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """Numerator of a reduction, to be divided by `loss_denominator`.

    "grpo": sum over rows of (sum over its tokens / its tokens). The other four: sum
    over all tokens.

    Args:
        loss: Of each token, in any unit. What stands where the mask is False is not
            read; a NaN where it is True gives NaN.
        mask: True (or an integer that is not 0) at the tokens that count. A row without
            one adds nothing, and a batch without one gives 0.
        reduction: "grpo", "bnpo", "dapo", "dr_grpo" or "luspo"; static.
        axis_name: Inside `shard_map`, the axes that the rows are spread over; the
            result is then that of all devices' rows. An axis that an input varies along
            has to be named, or () given, which sums each device's rows for itself.

    Returns:
        A scalar in the dtype of the loss.

    Raises:
        ValueError: another name, shapes or dtypes that do not fit, or an axis that is
            not named.
    """
    check_arrays("reduce_tokens", loss=(loss, "N T", float), mask=(mask, "N T", FLAGS))
    check_reduction("reduce_tokens", reduction)
    axes = batch_axes("reduce_tokens", axis_name, loss=loss, mask=mask)
    loss, mask = jnp.asarray(loss), mask.astype(bool)
    if reduction == "grpo":
        total = jnp.sum(masked_mean(loss, mask, axis=-1))
        return jax.lax.psum(total, axes) if axes else total
    return masked_sum(loss, mask, axis_name=axes)


def loss_denominator(
    mask: Bool[Array, "N T"],
    *,
    reduction: str,
    max_length: int | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """Denominator of a reduction, float32; adds up over micro-batches.

    "grpo", "luspo": rows with a token. "bnpo", "dapo": tokens. "dr_grpo": rows with a
    token * max_length. Rows without a token do not count, so that rows which only fill
    a batch change nothing; TRL counts them. 0 for an empty batch.

    Args:
        mask: True (or an integer that is not 0) at the tokens that count, a row a
            completion.
        reduction: One of the five names above; static.
        max_length: The longest a completion could have been, in tokens: 1 or more, or
            None. Only "dr_grpo" reads it, and must have it; a number below 1 is refused
            with any reduction, a traced one is not looked at.
        axis_name: Inside `shard_map`, the axes that the rows are spread over; the
            result is then that of all devices' rows. An axis that an input varies along
            has to be named, or () given, which counts each device's rows for itself.

    Returns:
        A scalar of 0 or more, to which no gradient flows.

    Raises:
        ValueError: another name, "dr_grpo" without a length, a length below 1, a mask
            of floats, or an axis that is not named.
    """
    check_arrays("loss_denominator", mask=(mask, "N T", FLAGS))
    check_length("loss_denominator", reduction, max_length)
    axes = batch_axes("loss_denominator", axis_name, mask=mask)
    mask = mask.astype(bool)
    if reduction in ("bnpo", "dapo"):
        return marked(mask, jnp.float32, axis_name=axes)
    rows = marked(jnp.any(mask, axis=-1), jnp.float32, axis_name=axes)
    if reduction != "dr_grpo":
        return rows
    return rows * jnp.asarray(max_length, jnp.float32)


def check_reduction(function: str, reduction: str) -> None:
    """Refuse an unknown reduction.

    Args:
        function: The public function's name, with which the message begins.
        reduction: What its caller gave.

    Raises:
        ValueError: naming the five.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"{function}: reduction {reduction!r}: expected 'grpo', 'bnpo', 'dapo', "
            "'dr_grpo' or 'luspo'"
        )


def check_length(function: str, reduction: str, max_length: int | None) -> None:
    """Refuse an unknown reduction, and "dr_grpo" without the length it divides by.

    Args:
        function: The public function's name, with which the message begins.
        reduction: What its caller gave.
        max_length: Tokens, 1 or more; None where the reduction does not read it.

    Raises:
        ValueError: naming the argument, what was expected and what was found.
    """
    check_ranges(function, max_length=(max_length, 1, float("inf")))
    check_reduction(function, reduction)
    if reduction == "dr_grpo" and max_length is None:
        raise ValueError(
            f"{function}: max_length: expected a number of tokens, as reduction "
            "'dr_grpo' divides by it; found None: pass it"
        )
