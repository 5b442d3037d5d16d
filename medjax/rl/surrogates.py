"""Per-token pieces of the GRPO losses, each a pure function of log-probabilities.

`log_ratio` is log(pi / pi_old), [N, T] a token or [N, 1] a sequence; `ratio` its exp.
Nothing here is masked, except where a sum over tokens is part of the definition: the
caller has put 0 where there is no token. What is returned is to be made small: a loss a
token, or a row for a sequence ratio, with NaN wherever NaN went in. Log-probabilities
are natural; `advantages` stand in a column, so that a row's tokens share one.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.checks import FLAGS, check_arrays, check_ranges
from medjax.masked import masked_mean, masked_sum

LogP = Float[Array, "N T"]
PerSequence = Float[Array, "N 1"]
PerToken = Float[Array, "N #T"]  # [N, T], or [N, 1] for the whole sequence


def clip_surrogate(
    ratio: PerToken,
    advantages: PerSequence,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
) -> PerToken:
    """-min(min(r, dual) A, clip(r, 1 - low, 1 + high) A), PPO's pessimistic bound.

    For A < 0 the loss is bounded by dual |A| (dual clip; TRL's `delta`, and equal to
    verl's `clip_ratio_c` as long as dual >= 1 + high).

    Args:
        ratio: pi / pi_old, above 0, of each token or of each row.
        advantages: One number a row, in a column.
        clip_low: The ratio is clipped below at 1 - clip_low; 0 to 1.
        clip_high: The ratio is clipped above at 1 + clip_high; 0 or more.
        dual_clip: Bound of the ratio where A < 0, above 1; None leaves it unbounded.
            It may be traced here, and its range is not looked at.

    Returns:
        Of the shape of `ratio`.
    """
    _check_rows("clip_surrogate", ratio=(ratio, "N _"), advantages=(advantages, "N 1"))
    check_ranges(
        "clip_surrogate", clip_low=(clip_low, 0, 1), clip_high=(clip_high, 0, math.inf)
    )
    advantages = jax.lax.stop_gradient(advantages)
    clipped = jnp.clip(ratio, 1 - clip_low, 1 + clip_high)
    if dual_clip is not None:
        ratio = jnp.minimum(ratio, dual_clip)
    return -jnp.minimum(ratio * advantages, clipped * advantages)


def cispo_surrogate(
    ratio: PerToken, advantages: PerSequence, logp: LogP, *, clip_high: float
) -> LogP:
    """-sg(min(r, 1 + high)) A log pi: every token keeps a gradient (MiniMax-M1).

    The weight is detached and has no lower bound. TRL's `epsilon_high` is 1 + high.

    Args:
        ratio: pi / pi_old, above 0, of each token or of each row.
        advantages: One number a row, in a column.
        logp: log pi of the tokens, which alone carry the gradient.
        clip_high: The weight is bounded by 1 + clip_high; 0 or more.
    """
    _check_rows(
        "cispo_surrogate",
        logp=(logp, "N T"),
        ratio=(ratio, "N #T"),
        advantages=(advantages, "N 1"),
    )
    check_ranges("cispo_surrogate", clip_high=(clip_high, 0, math.inf))
    weight = jax.lax.stop_gradient(jnp.minimum(ratio, 1 + clip_high))
    return -weight * jax.lax.stop_gradient(advantages) * logp


def sapo_surrogate(
    ratio: PerToken,
    advantages: PerSequence,
    *,
    temperature_positive: float,
    temperature_negative: float,
) -> PerToken:
    """-(4 / tau) sigmoid(tau (r - 1)) A: a smooth gate in the place of the clip (SAPO).

    Slope 1 at r = 1; tau is one temperature for A > 0 and one for the rest.

    Args:
        ratio: pi / pi_old, above 0, of each token or of each row.
        advantages: One number a row, in a column.
        temperature_positive: tau where A > 0, above 0; larger cuts off sooner.
        temperature_negative: tau elsewhere, above 0.
    """
    _check_rows("sapo_surrogate", ratio=(ratio, "N _"), advantages=(advantages, "N 1"))
    advantages = jax.lax.stop_gradient(advantages)
    tau = jnp.where(advantages > 0, temperature_positive, temperature_negative)
    return -(4 / tau) * jax.nn.sigmoid(tau * (ratio - 1)) * advantages


def vespo_surrogate(
    log_ratio: LogP,
    advantages: PerSequence,
    logp: LogP,
    mask: Bool[Array, "N T"],
    *,
    weights: LogP | None,
    k_positive: float,
    lambda_positive: float,
    k_negative: float,
    lambda_negative: float,
) -> tuple[LogP, PerSequence]:
    """-sg(phi(w)) A log pi with phi(w) = e^lambda w^k e^(-lambda w) (VESPO).

    phi(1) = 1; w is the ratio of the whole sequence (a sum of logs, not a mean), times
    the token `weights` for a sampler that differs; logs are kept in [log 1e-8, 20].

    Args:
        log_ratio: log(pi / pi_old) of the tokens, 0 where there is none.
        advantages: One number a row, in a column; 0 counts as positive.
        logp: log pi of the tokens, which alone carry the gradient.
        mask: True (or an integer that is not 0) at the tokens whose logs are added up.
            A row without one has w = 1.
        weights: pi_old / pi_sampling of the tokens, above 0, where the sampler differs;
            None where it does not.
        k_positive: k of the rows with A >= 0.
        lambda_positive: lambda of the rows with A >= 0.
        k_negative: k of the rows with A < 0.
        lambda_negative: lambda of the rows with A < 0.

    Returns:
        The loss a token, and phi, one number a row in a column.
    """
    _check_rows(
        "vespo_surrogate",
        mask,
        log_ratio=(log_ratio, "N T"),
        advantages=(advantages, "N 1"),
        logp=(logp, "N T"),
        weights=(weights, "N T"),
    )
    mask = mask.astype(bool)
    low = math.log(1e-8)
    log_w = jnp.clip(log_ratio, -20.0, 20.0)
    if weights is not None:
        log_w = log_w + jnp.clip(jnp.log(weights), low, 20.0)
    log_w = jnp.clip(masked_sum(log_w, mask, axis=-1, keepdims=True), low, 20.0)
    positive = advantages >= 0
    k = jnp.where(positive, k_positive, k_negative)
    rate = jnp.where(positive, lambda_positive, lambda_negative)
    phi = jax.lax.stop_gradient(jnp.exp(rate + k * log_w - rate * jnp.exp(log_w)))
    return -phi * jax.lax.stop_gradient(advantages) * logp, phi


def kl_estimate(
    logp: LogP, logp_ref: LogP, *, kl: str, clamp: tuple[float, float] | None
) -> LogP:
    """Per-token estimate of KL(pi || pi_ref), with d = log pi_ref - log pi.

    "k1": -d (its gradient is zero in expectation); "abs": |d|; "k2": d^2 / 2;
    "k3": e^d - d - 1 >= 0 (Schulman's; GRPO's). The gradient flows through log pi.

    Args:
        logp: log pi of the sampled tokens, in nats.
        logp_ref: log pi_ref of the same tokens, a constant.
        kl: One of the four names above; static.
        clamp: (a, b), above 0, keeps d in [-a, a] and the estimate in [-b, b] (verl: 20
            and 10). None clamps nothing, and "k3" may then overflow.
    """
    _check_rows("kl_estimate", logp=(logp, "N T"), logp_ref=(logp_ref, "N T"))
    d = jax.lax.stop_gradient(logp_ref) - logp
    if clamp is not None:
        d = jnp.clip(d, -clamp[0], clamp[0])
    if kl == "k1":
        estimate = -d
    elif kl == "abs":
        estimate = jnp.abs(d)
    elif kl == "k2":
        estimate = d**2 / 2
    elif kl == "k3":
        estimate = jnp.expm1(d) - d  # expm1: near d = 0 float32 loses all of d^2 / 2
    else:
        raise ValueError(f"kl {kl!r}: expected 'k1', 'k2', 'k3' or 'abs'")
    return estimate if clamp is None else jnp.clip(estimate, -clamp[1], clamp[1])


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
        logp: Log-probabilities of the tokens under the policy when it sampled, the
            `logp_old` of the loss. The weights carry no gradient.
        logp_sampling: The same under what was really sampled from.
        mask: True at the tokens that count; the others, and rows without one, weigh 1.
        level: "token" for a weight a token, [N, T], or "sequence" for one a row,
            [N, 1], the product over its tokens.
        mode: "truncate" clips the weights to [low, high]; "mask" puts 0 where they
            leave it.
        low: The smallest weight, 0 or more; None bounds nothing.
        high: The largest weight; None bounds nothing.
    """
    _check_rows(
        "importance_weights",
        mask,
        logp=(logp, "N T"),
        logp_sampling=(logp_sampling, "N T"),
    )
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
    """1 where A >= 0 or the mean of log(pi_sampling / pi) <= threshold (DeepSeek-V3.2).

    Bad completions that the policy has moved away from since are dropped.

    Args:
        logp: log pi of the tokens; no gradient flows through what is kept.
        logp_sampling: The same under what was sampled from.
        advantages: One number a row, in a column.
        mask: True at the tokens that count; a row without one has a drift of 0.
        threshold: Nats a token, 0 or more as a rule; the limit itself is kept, and so
            is a row whose drift is NaN.

    Returns:
        1 or 0, one number a row in a column.
    """
    _check_rows(
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
        finished: Whether the completion has a stop token; the rows of the others become
            False, and so count in no denominator either.
    """
    check_arrays(
        "drop_truncated", mask=(mask, "N T", FLAGS), finished=(finished, "N", FLAGS)
    )
    return mask.astype(bool) & finished.astype(bool)[:, None]


def _check_rows(
    function: str,
    mask: Bool[Array, "N T"] | None = None,
    **rows: tuple[Float[Array, "..."] | None, str],
) -> None:
    """`check_arrays` of floats, and of the mask that goes with them."""
    floats = {name: (x, axes, float) for name, (x, axes) in rows.items()}
    check_arrays(function, **floats, mask=(mask, "N T", FLAGS))
