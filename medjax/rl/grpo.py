"""The GRPO family of losses, of log-probabilities only: no model is run here."""

import math

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from medjax.checks import (
    FLAGS,
    AxisName,
    batch_axes,
    check_arrays,
    check_flags,
    check_positive,
    check_ranges,
    check_static,
)
from medjax.masked import at_least_float32, marked, masked_mean
from medjax.rl import off_policy, surrogates
from medjax.rl.reductions import (
    check_length,
    check_reduction,
    loss_denominator,
    reduce_tokens,
)
from medjax.rl.surrogates import check_kl


def grpo_loss(
    logp: Float[Array, "N T"],
    logp_old: Float[Array, "N T"] | None,
    advantages: Float[Array, "N"],
    mask: Bool[Array, "N T"],
    *,
    logp_ref: Float[Array, "N T"] | None = None,
    beta: float | Float[Array, ""],
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
    kl: str = "k3",
    kl_clamp: tuple[float, float] | None = None,
    kl_ratio: bool = False,
    ratio: str = "token",
    surrogate: str = "clip",
    reduction: str,
    max_length: int | None = None,
    denominator: Float[Array, ""] | None = None,
    weights: Float[Array, "N #T"] | None = None,
    off_policy_threshold: float | None = None,
    logp_sampling: Float[Array, "N T"] | None = None,
    sapo_temperatures: tuple[float, float] = (1.0, 1.05),
    vespo_positive: tuple[float, float] = (2.0, 3.0),
    vespo_negative: tuple[float, float] = (3.0, 2.0),
    axis_name: AxisName = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Loss = sum over tokens (surrogate * weights + beta * KL) / denominator.

    With r = exp(logp - logp_old), the default surrogate is PPO's
    -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) and the KL estimate "k3".

    ==========  ================================  =========================
    reduction   a row counts                      denominator
    ==========  ================================  =========================
    grpo        mean over its tokens              rows with a token
    bnpo, dapo  sum over its tokens               tokens
    dr_grpo     sum over its tokens               rows with a token * max_length
    luspo       sum over its tokens               rows with a token
    ==========  ================================  =========================

    Gradient accumulation: give every micro-batch the `denominator` of the whole batch
    (`loss_denominator` of its mask) and sum the losses; that is dapo's global
    normaliser, and exact for every reduction. What is masked (padding, rows that fill
    the batch) never reaches the result, whatever numbers stand there; a NaN at a token
    that counts reaches the loss. Computed in float32 at least.

    The gradient flows through `logp` alone: everything else is a constant of the loss,
    also where it was computed from the same parameters. Names, flags, `dual_clip` and
    whether something is None are static; every other number may be traced.

    Args:
        logp: Natural log-probabilities of the N completions' T sampled tokens under the
            policy that is trained, at temperature 1, so 0 or less.
        logp_old: The same under the policy that sampled. None stands for `logp` without
            gradient, which is right for one update a rollout: the ratio is then 1 and
            the clip never binds.
        advantages: One number a completion, [B, G] flattened to N = B * G. A row of 0
            teaches nothing but the KL term.
        mask: True (or an integer that is not 0) at the tokens that count, up to and
            including the stop token. A row without a token counts nowhere, also not in
            the denominator.
        logp_ref: The same log-probabilities under the reference policy. Needed unless
            beta is the number 0; if given then, the KL is reported and leaves the loss
            alone.
        beta: Weight of the KL estimate, 0 or more. A traced beta may be 0, but still
            needs `logp_ref`, as its value is not known when the program is made.
        clip_low: The ratio is clipped below at 1 - clip_low; 0 to 1. Only "clip" reads
            it, and the metric `clipped_low`.
        clip_high: The ratio is clipped above at 1 + clip_high; 0 or more, larger than
            clip_low in DAPO's clip-higher. "clip" and "cispo" read it, and the metric
            `clipped_high`.
        dual_clip: Where A < 0, "clip" bounds the ratio by this number above 1, so that
            one token cannot dominate the loss; below 1 + clip_high, which is not
            refused, it bounds before PPO's clip would, see `clip_surrogate`. None
            leaves it unbounded. Static.
        kl: The estimate of the KL, with d = log pi_ref - log pi: "k1" is -d, "k2"
            d^2 / 2, "k3" e^d - d - 1, "abs" |d|. Read with `logp_ref` only, as
            `kl_clamp` and `kl_ratio`.
        kl_clamp: (a, b) keeps log pi_ref - log pi in [-a, a] and the estimate in
            [-b, b], both in nats and above 0. None clamps nothing.
        kl_ratio: Multiplies the KL estimate by r, the row's with ratio "sequence",
            which makes it unbiased off-policy for the ratio of tokens.
        ratio: "token" for one ratio a token, or "sequence" for GSPO's: one a row, the
            exp of the mean log-ratio of its tokens.
        surrogate: "clip", or "cispo": -sg(min(r, 1 + clip_high)) A log pi, or "sapo":
            -(4 / t) sigmoid(t (r - 1)) A, or "vespo": -sg(phi(w)) A log pi with w the
            ratio of the row, see `cispo_surrogate`, `sapo_surrogate`,
            `vespo_surrogate`. Their papers pair cispo and vespo with "dapo", sapo with
            "grpo".
        reduction: A row of the table; "luspo" is meant for the sequence ratio.
        max_length: The longest a completion could have been, in tokens, 1 or more;
            "dr_grpo" divides by it and refuses to do without, the others do not read
            it.
        denominator: Replaces that of the table, for gradient accumulation. 0 or less
            counts as 1, so that an empty batch has loss 0; NaN makes the loss NaN. It
            is taken as it is, and so has to be that of the whole batch where the rows
            are spread over devices.
        weights: Importance weights, 0 or more, which is not checked, one a token or
            [N, 1] one a row, see `importance_weights`. They multiply the surrogate and
            not the KL. vespo takes them into its own weight, and must have one a token.
        off_policy_threshold: Drops the rows with A < 0 whose tokens are on average
            more than this many nats less likely now than when they were sampled. The KL
            of a dropped row stays, and so does its part in the denominator. None keeps
            all rows.
        logp_sampling: Log-probabilities under what was really sampled from, for that
            drift alone; a NaN keeps its row. None stands for `logp_old`.
        sapo_temperatures: sapo's t in the formula, where A > 0 and elsewhere; above 0.
        vespo_positive: vespo's (k, lambda), each 0 or more, of the rows with A >= 0:
            a row of ratio w weighs w^k e^(lambda (1 - w)), so that k damps rows below
            w = 1 and lambda those above; (0, 0) weighs all alike.
        vespo_negative: vespo's (k, lambda), each 0 or more, of the rows with A < 0.
        axis_name: Inside `shard_map`, the axes that the rows are spread over. Loss,
            denominator and metrics are then those of all devices' rows together, and
            the gradient by parameters that all devices hold is the whole one. An axis
            that an input varies along has to be named, or () given, which takes each
            device for itself. None elsewhere.

    Returns:
        The loss and metrics, all scalars and 0 where nothing counts: `ratio_mean` and
        `ratio_max` over the tokens, over the rows for a sequence ratio; `clipped_low`
        and `clipped_high`, the share of them that PPO's clip takes the gradient from;
        `drift`, the mean of logp_old - logp; the numbers of `tokens` and of `rows` with
        one; `kl` with a reference; `kept`, the share of rows, with an off-policy
        threshold; `phi`, the mean weight of a row, for vespo.

    Raises:
        ValueError: shapes, dtypes or numbers that do not fit, an unknown name, beta
            without a reference, "dr_grpo" without a length, a dual_clip that is 1 or
            less or traced, or an axis that is not named.

    Source: GRPO (arXiv 2402.03300, eq. 3 and 4); DAPO (2503.14476), Dr. GRPO
    (2503.20783), GSPO (2507.18071) and LUSPO (2602.05261) for the reductions and
    ratios.

    Differs from TRL: rows without a token leave the denominator, so that rows which
    only fill a batch change nothing (pass `denominator` for TRL's number).
    """
    check_arrays(
        "grpo_loss",
        logp=(logp, "N T", float),
        logp_old=(logp_old, "N T", float),
        advantages=(advantages, "N", float),
        mask=(mask, "N T", FLAGS),
        logp_ref=(logp_ref, "N T", float),
        beta=(beta, "", (float, int)),
        denominator=(denominator, "", (float, int)),
        # vespo multiplies up the weights of a row's tokens itself
        weights=(weights, "N T" if surrogate == "vespo" else "N #T", float),
        logp_sampling=(logp_sampling, "N T", float),
    )
    _check_options(beta, logp_ref, dual_clip, ratio)
    check_flags("grpo_loss", kl_ratio=kl_ratio)
    check_ranges(
        "grpo_loss",
        beta=(beta, 0, math.inf),
        clip_low=(clip_low, 0, 1),
        clip_high=(clip_high, 0, math.inf),
        max_length=(max_length, 1, math.inf),
    )
    check_reduction("grpo_loss", reduction)
    if denominator is None:
        check_length("grpo_loss", reduction, max_length)
    if logp_ref is not None:
        check_kl("grpo_loss", kl=kl, kl_clamp=kl_clamp)
    _check_surrogate(surrogate, sapo_temperatures, vespo_positive, vespo_negative)
    axes = batch_axes(
        "grpo_loss",
        axis_name,
        logp=logp,
        logp_old=logp_old,
        advantages=advantages,
        mask=mask,
        logp_ref=logp_ref,
        weights=weights,
        logp_sampling=logp_sampling,
    )
    mask = mask.astype(bool)
    rows = jnp.any(mask, axis=-1, keepdims=True)
    dtype = at_least_float32(logp).dtype

    def clean(x: Float[Array, "N #T"], padding: float = 0.0) -> Float[Array, "N T"]:
        # Before any exp: the gradient of where(mask, exp(inf), 0) would be NaN.
        return jnp.where(mask, x.astype(dtype), padding)

    def constant(x: Float[Array, "N #T"], padding: float = 0.0) -> Float[Array, "N T"]:
        return jax.lax.stop_gradient(clean(x, padding))

    logp = clean(logp)
    logp_old = jax.lax.stop_gradient(logp) if logp_old is None else constant(logp_old)
    advantages = jax.lax.stop_gradient(advantages.astype(dtype))[:, None]
    token_log_ratio = logp - logp_old
    if ratio == "token":
        r = jnp.exp(token_log_ratio)
    else:
        log_ratio = masked_mean(token_log_ratio, mask, axis=-1, keepdims=True)
        r = jnp.exp(log_ratio)

    counted = mask if ratio == "token" else rows
    metrics = _ratio_metrics(r, advantages, counted, clip_low, clip_high, axes)
    metrics["drift"] = masked_mean(-token_log_ratio, mask, axis_name=axes)
    if surrogate == "clip":
        loss = surrogates.clip_surrogate(
            r, advantages, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip
        )
    elif surrogate == "cispo":
        loss = surrogates.cispo_surrogate(r, advantages, logp, clip_high=clip_high)
    elif surrogate == "sapo":
        loss = surrogates.sapo_surrogate(
            r,
            advantages,
            temperature_positive=sapo_temperatures[0],
            temperature_negative=sapo_temperatures[1],
        )
    else:
        loss, phi = surrogates.vespo_surrogate(
            token_log_ratio,
            advantages,
            logp,
            mask,
            weights=None if weights is None else constant(weights, 1.0),
            k_positive=vespo_positive[0],
            lambda_positive=vespo_positive[1],
            k_negative=vespo_negative[0],
            lambda_negative=vespo_negative[1],
        )
        weights = None  # they are inside phi
        metrics["phi"] = masked_mean(phi, rows, axis_name=axes)

    if off_policy_threshold is not None:
        sampling = logp_old if logp_sampling is None else constant(logp_sampling)
        keep = off_policy.off_policy_keep(
            logp, sampling, advantages, mask, threshold=off_policy_threshold
        )
        metrics["kept"] = masked_mean(keep, rows, axis_name=axes)
        loss = loss * keep
    if weights is not None:
        loss = loss * constant(weights, 1.0)
    if logp_ref is not None:
        divergence = surrogates.kl_estimate(
            logp, constant(logp_ref), kl=kl, clamp=kl_clamp
        )
        if kl_ratio:
            divergence = divergence * r
        metrics["kl"] = masked_mean(divergence, mask, axis_name=axes)
        if not _is_zero(beta):
            loss = loss + jnp.asarray(beta, dtype) * divergence

    loss = jnp.broadcast_to(loss, mask.shape)
    total = reduce_tokens(loss, mask, reduction=reduction, axis_name=axes)
    if denominator is None:
        denominator = loss_denominator(
            mask, reduction=reduction, max_length=max_length, axis_name=axes
        )
    metrics["tokens"] = marked(mask, dtype, axis_name=axes)
    metrics["rows"] = marked(rows, dtype, axis_name=axes)
    metrics = {name: jax.lax.stop_gradient(x) for name, x in metrics.items()}
    denominator = jnp.asarray(denominator).astype(dtype)
    return total / jnp.where(denominator <= 0, 1, denominator), metrics


def _ratio_metrics(
    r: Float[Array, "N #T"],
    advantages: Float[Array, "N 1"],
    mask: Bool[Array, "N #T"],
    clip_low: float,
    clip_high: float,
    axes: tuple[str, ...],
) -> dict[str, Float[Array, ""]]:
    r = jax.lax.stop_gradient(r)
    low = (r < 1 - clip_low) & (advantages < 0)
    high = (r > 1 + clip_high) & (advantages > 0)
    largest = jnp.max(jnp.where(mask, r, 0), initial=0)
    return {
        "ratio_mean": masked_mean(r, mask, axis_name=axes),
        "ratio_max": jax.lax.pmax(largest, axes) if axes else largest,
        "clipped_low": masked_mean(low.astype(r.dtype), mask, axis_name=axes),
        "clipped_high": masked_mean(high.astype(r.dtype), mask, axis_name=axes),
    }


def _check_options(
    beta: float | Float[Array, ""],
    logp_ref: Float[Array, "N T"] | None,
    dual_clip: float | None,
    ratio: str,
) -> None:
    if ratio not in ("token", "sequence"):
        raise ValueError(f"grpo_loss: ratio {ratio!r}: expected 'token' or 'sequence'")
    if logp_ref is None and not _is_zero(beta):
        value = f"beta is {beta}"
        if isinstance(beta, Tracer):
            value = "a traced beta may be anything"
        raise ValueError(
            f"grpo_loss: logp_ref: expected an array, as {value}; found None; pass the "
            "Python number beta=0 to do without a reference"
        )
    check_static("grpo_loss", dual_clip=dual_clip)
    if dual_clip is not None and not dual_clip > 1:
        raise ValueError(
            f"grpo_loss: dual_clip: expected a number above 1, or None; found "
            f"{dual_clip}"
        )


def _check_surrogate(
    surrogate: str,
    sapo_temperatures: tuple[float, float],
    vespo_positive: tuple[float, float],
    vespo_negative: tuple[float, float],
) -> None:
    """Refuse an unknown surrogate, and numbers that the one asked for cannot take."""
    if surrogate == "sapo":
        positive, other = sapo_temperatures
        check_positive(
            "grpo_loss",
            **{"sapo_temperatures[0]": positive, "sapo_temperatures[1]": other},
        )
    elif surrogate == "vespo":
        pairs = {"vespo_positive": vespo_positive, "vespo_negative": vespo_negative}
        for name, pair in pairs.items():
            both = {f"{name}[{i}]": (pair[i], 0, math.inf) for i in (0, 1)}
            check_ranges("grpo_loss", **both)
    elif surrogate not in ("clip", "cispo"):
        raise ValueError(
            f"grpo_loss: surrogate {surrogate!r}: expected 'clip', 'cispo', 'sapo' or "
            "'vespo'"
        )


def _is_zero(beta: float | Float[Array, ""]) -> bool:
    return not isinstance(beta, jax.Array) and float(beta) == 0
