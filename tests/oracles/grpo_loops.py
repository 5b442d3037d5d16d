"""Advantages and GRPO losses as plain loops over Python floats."""

import math

import numpy as np


def moments(values, ddof):
    values = [float(v) for v in values if not math.isnan(v)]
    if not values:
        return 0.0, 0.0
    mean = math.fsum(values) / len(values)
    if len(values) <= ddof:
        return mean, 0.0
    square = math.fsum((v - mean) ** 2 for v in values) / (len(values) - ddof)
    return mean, math.sqrt(square)


def advantages(  # NaN: does not count
    rewards, *, scale, ddof=1, eps=1e-4, floor=1e-6, leave_one_out=False, valid=None
):
    rewards = np.asarray(rewards, float)
    valid = np.ones(len(rewards), bool) if valid is None else valid
    _, batch_std = moments(rewards[valid].ravel(), ddof)
    out = np.zeros_like(rewards)
    for b, group in enumerate(rewards):
        mean, std = moments(group, ddof)
        for i, r in enumerate(group):
            if not valid[b] or math.isnan(r) or std <= floor:
                continue
            if leave_one_out:
                others = [v for j, v in enumerate(group) if j != i]
                mean, _ = moments(others, ddof)
            divisor = {"group": std + eps, "batch": batch_std + eps, "none": 1.0}[scale]
            out[b, i] = (r - mean) / divisor
    return out


def gdpo(rewards, weights, *, ddof=1, eps=1e-4):
    """As TRL writes it: normalise each, weighted nansum, whiten over the batch."""
    rewards = np.asarray(rewards, float)
    total = np.zeros(rewards.shape[1:])
    for reward, weight in zip(rewards, weights, strict=True):
        for b, group in enumerate(reward):
            mean, std = moments(group, ddof)
            for i, r in enumerate(group):
                if not math.isnan(r):
                    total[b, i] += weight * (r - mean) / (std + eps)
    total[np.isnan(rewards).all(axis=0)] = math.nan
    mean, std = moments(total.ravel(), ddof)
    return np.where(np.isnan(total), 0.0, (total - mean) / (std + eps))


def kl(lp, ref, kind, clamp):
    d = ref - lp
    if clamp:
        d = min(max(d, -clamp[0]), clamp[0])
    value = {"k1": -d, "abs": abs(d), "k2": d * d / 2, "k3": math.exp(d) - d - 1}[kind]
    return min(max(value, -clamp[1]), clamp[1]) if clamp else value


def loss(
    logp,
    logp_old,
    advantages,
    mask,
    *,
    detached=None,
    logp_ref=None,
    beta=0.0,
    clip_low=0.2,
    clip_high=0.2,
    dual_clip=None,
    kl_kind="k3",
    kl_clamp=None,
    kl_ratio=False,
    ratio="token",
    surrogate="clip",
    reduction="grpo",
    max_length=None,
    denominator=None,
    weights=None,
    off_policy_threshold=None,
    logp_sampling=None,
):
    """The loss; `detached` is what logp is where no gradient flows (default: logp)."""
    detached = logp if detached is None else detached
    rows = []
    for n in range(len(logp)):
        tokens = [t for t in range(len(logp[n])) if mask[n][t]]
        if not tokens:
            continue
        a = float(advantages[n])
        gap = [logp[n][t] - logp_old[n][t] for t in tokens]
        frozen = [detached[n][t] - logp_old[n][t] for t in tokens]
        if ratio == "sequence":
            gap = [math.fsum(gap) / len(tokens)] * len(tokens)
            frozen = [math.fsum(frozen) / len(tokens)] * len(tokens)
        keep = 1.0
        if off_policy_threshold is not None and a < 0:
            origin = logp_old if logp_sampling is None else logp_sampling
            drift = [origin[n][t] - detached[n][t] for t in tokens]
            keep = float(math.fsum(drift) / len(tokens) <= off_policy_threshold)
        phi = 1.0
        if surrogate == "vespo":
            k, rate = (2.0, 3.0) if a >= 0 else (3.0, 2.0)
            log_w = math.fsum(frozen)
            if weights is not None:
                log_w += math.fsum(math.log(weights[n][t]) for t in tokens)
            phi = math.exp(rate + k * log_w - rate * math.exp(log_w))
        values = []
        for i, t in enumerate(tokens):
            r, fixed = math.exp(gap[i]), math.exp(frozen[i])
            if surrogate == "clip":
                clipped = min(max(r, 1 - clip_low), 1 + clip_high)
                value = max(-r * a, -clipped * a)
                if dual_clip is not None and a < 0:  # verl's form of the dual clip
                    value = min(value, -dual_clip * a)
            elif surrogate == "cispo":
                value = -min(fixed, 1 + clip_high) * a * logp[n][t]
            elif surrogate == "sapo":
                tau = 1.0 if a > 0 else 1.05
                value = -a * 4 / tau / (1 + math.exp(-tau * (r - 1)))
            else:
                value = -phi * a * logp[n][t]
            value *= keep
            if weights is not None and surrogate != "vespo":
                value *= weights[n][t]
            if beta:
                term = kl(logp[n][t], logp_ref[n][t], kl_kind, kl_clamp)
                value += beta * term * (r if kl_ratio else 1.0)
            values.append(value)
        rows.append(values)
    count = sum(len(values) for values in rows)
    if denominator is None:
        denominator = {
            "grpo": len(rows),
            "luspo": len(rows),
            "bnpo": count,
            "dapo": count,
            "dr_grpo": len(rows) * (max_length or 0),
        }[reduction]
    if reduction == "grpo":
        total = math.fsum(math.fsum(values) / len(values) for values in rows)
    else:
        total = math.fsum(v for values in rows for v in values)
    return total / (denominator or 1)


def gradient(logp, *args, step=1e-6, **options):
    """d loss / d logp by central differences, with the detached parts held still."""
    logp = np.asarray(logp, float)
    out = np.zeros_like(logp)
    for index in np.ndindex(*logp.shape):
        shift = np.zeros_like(logp)
        shift[index] = step
        high = loss(logp + shift, *args, detached=logp, **options)
        low = loss(logp - shift, *args, detached=logp, **options)
        out[index] = (high - low) / (2 * step)
    return out
