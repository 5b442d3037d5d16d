"""What corrects for a policy that is not the one that sampled, or not in full.

Pure functions of log-probabilities in nats, as `surrogates.py` has them; `advantages`
stand in a column, so that a row's tokens share one.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from medjax.checks import FLAGS, check_arrays, check_ranges
from medjax.masked import masked_mean, masked_sum
from medjax.rl.surrogates import LogP, PerSequence, PerToken, check_rows


def importance_weights(
    logp: LogP,
    logp_sampling: LogP,
    mask: Bool[Array, "N T"],
    *,
    level: str,
    mode: str,
    low: float | None,
    high: float | None,
) -> PerToken:
    """pi / pi_sampling, bounded: corrects for a sampler that is not quite the policy.

    Pass `Rollout.logp_sampling` of the *same* distribution as `logp`: a sampler's
    log-probabilities after top-k or top-p are renormalised over what was kept, and the
    ratio is then biased by the kept mass.

    Args:
        logp: Log-probabilities of the tokens in nats under the policy when it sampled,
            the `logp_old` of the loss; -inf gives the weight 0 before the bounds. The
            weights carry no gradient.
        logp_sampling: The same under what was really sampled from; -inf gives infinity
            before the bounds, and NaN where both are.
        mask: True (or an integer that is not 0) at the tokens that count; the others,
            and rows without one, weigh 1 before the bounds.
        level: "token" for a weight a token, [N, T], or "sequence" for one a row,
            [N, 1], the product over its tokens. Static, as `mode`.
        mode: "truncate" clips the weights to [low, high]; "mask" puts 0 where they are
            below `low` or above `high`, the bounds themselves are kept.
        low: The smallest weight, 0 or more; None bounds nothing. A bound that is traced
            is not looked at.
        high: The largest weight, 0 or more and not below `low`; None bounds nothing.

    Returns:
        Weights of 0 or more without a unit, [N, T] or [N, 1], for `grpo_loss`. NaN at a
        token that counts gives NaN, for the whole row at level "sequence".

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown level or mode, a bound
            outside its range.
    """
    check_rows(
        "importance_weights",
        mask,
        logp=(logp, "N T"),
        logp_sampling=(logp_sampling, "N T"),
    )
    least = 0 if low is None or isinstance(low, jax.Array) else low
    check_ranges("importance_weights", low=(low, 0, math.inf))
    check_ranges("importance_weights", high=(high, least, math.inf))
    mask = mask.astype(bool)
    log_ratio = jnp.where(mask, logp, 0) - jnp.where(mask, logp_sampling, 0)
    if level == "sequence":
        log_ratio = masked_sum(log_ratio, mask, axis=-1, keepdims=True)
    elif level != "token":
        raise ValueError(f"level {level!r}: expected 'token' or 'sequence'")
    weights = jax.lax.stop_gradient(jnp.exp(log_ratio))
    low = -math.inf if low is None else low
    high = math.inf if high is None else high
    if mode == "truncate":
        return jnp.clip(weights, low, high)
    if mode == "mask":
        return jnp.where((weights < low) | (weights > high), 0, weights)
    raise ValueError(f"mode {mode!r}: expected 'truncate' or 'mask'")


def off_policy_keep(
    logp: LogP,
    logp_sampling: LogP,
    advantages: PerSequence,
    mask: Bool[Array, "N T"],
    *,
    threshold: float,
) -> PerSequence:
    """0 where A < 0 and the mean of log(pi_sampling / pi) > threshold (DeepSeek-V3.2).

    Bad completions that the policy has moved away from since are dropped.

    Args:
        logp: log pi of the tokens in nats; no gradient flows through what is kept. -inf
            at a token that counts is an infinite drift and drops its row.
        logp_sampling: The same under what was sampled from; -inf keeps its row.
        advantages: A in a column, [N, 1]: one number a row. A NaN keeps its row, so
            that it reaches the loss.
        mask: True (or an integer that is not 0) at the tokens that count, over which
            the mean is taken; a row without one has a drift of 0.
        threshold: Nats a token, any number, 0 or more as a rule; the limit itself is
            kept, and so is a row whose drift is NaN. A threshold of NaN keeps all.

    Returns:
        1 (keep) or 0 (drop) in a column, [N, 1], in the dtype of `logp`.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_rows(
        "off_policy_keep",
        mask,
        logp=(logp, "N T"),
        logp_sampling=(logp_sampling, "N T"),
        advantages=(advantages, "N 1"),
    )
    mask = mask.astype(bool)
    drift = jnp.where(mask, logp_sampling, 0) - jnp.where(mask, logp, 0)
    drift = jax.lax.stop_gradient(drift)
    drift = masked_mean(drift, mask, axis=-1, keepdims=True)
    # "> threshold drops", so that a NaN drift is kept and reaches the loss.
    return (~((advantages < 0) & (drift > threshold))).astype(logp.dtype)


def drop_truncated(
    mask: Bool[Array, "N T"], finished: Bool[Array, "N"]
) -> Bool[Array, "N T"]:
    """The mask without completions that ran into the length limit (no stop token).

    Args:
        mask: True (or an integer that is not 0) at the tokens that count.
        finished: Whether the completion has a stop token (bool, or an integer that is
            not 0); the rows of the others become False, and so count in no denominator
            of a loss either.

    Returns:
        A bool mask; a row of `finished` is as it was.

    Raises:
        ValueError: shapes that do not fit, or floats.

    Source: overlong filtering of DAPO (arXiv 2503.14476), section 3.4.
    """
    check_arrays(
        "drop_truncated", mask=(mask, "N T", FLAGS), finished=(finished, "N", FLAGS)
    )
    return mask.astype(bool) & finished.astype(bool)[:, None]
