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
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.checks import FLAGS, check_arrays, check_positive, check_ranges
from medjax.masked import masked_sum

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
    """Loss -min(min(r, dual) A, clip(r, 1 - low, 1 + high) A), PPO's pessimistic bound.

    For A < 0 the loss is at most max(dual, 1 + high) |A| (dual clip; TRL's `delta`, and
    equal to verl's `clip_ratio_c` as long as dual >= 1 + high). A dual between 1 and
    1 + high bounds nothing there, and for A > 0 it takes the place of 1 + high.

    Args:
        ratio: r = pi / pi_old, 0 or more, which is not checked: [N, T] one a token, or
            [N, 1] one a row. The gradient flows through it alone, and is 0 where the
            clip binds. NaN gives NaN; an infinite one (exp of a large log ratio) the
            loss of 1 + clip_high for A > 0, of `dual_clip` for A < 0 (infinity without
            one) and NaN for A = 0 without one. Tokens that do not count are for the
            caller to mask.
        advantages: A in a column, [N, 1]: one finite number a row, of either sign, a
            constant of the loss; NaN makes its row NaN.
        clip_low: The ratio is clipped below at 1 - clip_low; 0 to 1. The three clips
            may be traced, and their ranges are then not looked at.
        clip_high: The ratio is clipped above at 1 + clip_high; 0 or more.
        dual_clip: The ratio of the first product is at most this number above 1, for A
            of either sign; None leaves it unbounded.

    Returns:
        The loss to be made small, of the shape of `ratio`.

    Raises:
        ValueError: shapes or dtypes that do not fit, or a clip out of its range.

    Source: Schulman et al., PPO (arXiv 1707.06347), eq. 7.
    """
    check_rows("clip_surrogate", ratio=(ratio, "N _"), advantages=(advantages, "N 1"))
    check_ranges(
        "clip_surrogate", clip_low=(clip_low, 0, 1), clip_high=(clip_high, 0, math.inf)
    )
    if not (dual_clip is None or isinstance(dual_clip, jax.Array) or dual_clip > 1):
        raise ValueError(
            f"clip_surrogate: dual_clip: expected a number above 1, or None; found "
            f"{dual_clip}"
        )
    advantages = jax.lax.stop_gradient(advantages)
    clipped = jnp.clip(ratio, 1 - clip_low, 1 + clip_high)
    if dual_clip is not None:
        ratio = jnp.minimum(ratio, dual_clip)
    return -jnp.minimum(ratio * advantages, clipped * advantages)


def cispo_surrogate(
    ratio: PerToken, advantages: PerSequence, logp: LogP, *, clip_high: float
) -> LogP:
    """Loss -sg(min(r, 1 + high)) A log pi: every token keeps a gradient (MiniMax-M1).

    sg stops the gradient: the weight is a constant, with an upper bound and no lower
    one. TRL's `epsilon_high` is 1 + high.

    Args:
        ratio: r = pi / pi_old, 0 or more, which is not checked: [N, T] one a token, or
            [N, 1] one a row; a constant. An infinite one counts as 1 + clip_high.
        advantages: A in a column, [N, 1]: one finite number a row, of either sign, a
            constant; NaN makes its row NaN.
        logp: log pi of the tokens in nats, finite, which alone carry the gradient. -inf
            makes the loss of its token infinite, and NaN where A or r is 0.
        clip_high: The weight is bounded by 1 + clip_high; 0 or more. A traced one is
            not looked at.

    Returns:
        The loss of each token, [N, T]; NaN where one of its numbers is. Tokens that do
        not count are for the caller to mask.

    Raises:
        ValueError: shapes or dtypes that do not fit, or a negative `clip_high`.

    Source: MiniMax-M1 (arXiv 2506.13585), section 3.1.
    """
    check_rows(
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
    """Loss -(4 / tau) sigmoid(tau (r - 1)) A: a smooth gate in the place of the clip.

    Slope -A at r = 1, as PPO's; tau is one temperature for A > 0 and one for the rest.

    Args:
        ratio: r = pi / pi_old, 0 or more, which is not checked: [N, T] one a token, or
            [N, 1] one a row. The gradient flows through it. An infinite one has the
            loss -(4 / tau) A. Tokens that do not count are for the caller to mask.
        advantages: A in a column, [N, 1]: one finite number a row, of either sign, a
            constant; NaN makes its row NaN.
        temperature_positive: tau where A > 0, above 0: the larger, the sooner the
            gradient fades away from r = 1. The paper takes 1.0. Both temperatures may
            be traced, and are then not looked at.
        temperature_negative: tau elsewhere, above 0; the paper takes 1.05.

    Returns:
        The loss to be made small, of the shape of `ratio`; NaN where `ratio` is.

    Raises:
        ValueError: shapes or dtypes that do not fit, a temperature of 0 or less.

    Source: Gao et al., SAPO (arXiv 2511.20347).
    """
    check_positive(
        "sapo_surrogate",
        temperature_positive=temperature_positive,
        temperature_negative=temperature_negative,
    )
    check_rows("sapo_surrogate", ratio=(ratio, "N _"), advantages=(advantages, "N 1"))
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
    """Loss -sg(phi(w)) A log pi with phi(w) = e^lambda w^k e^(-lambda w) (VESPO).

    sg stops the gradient; phi(1) = 1; w is the ratio of the whole sequence (a sum of
    logs, not a mean), times the token `weights` for a sampler that differs. The log of
    a token's ratio is kept in [-20, 20], that of its weight and that of w in
    [log 1e-8, 20].

    Args:
        log_ratio: log(pi / pi_old) of the tokens in nats; a constant. What stands where
            the mask is False is not read; NaN where it is True makes its row NaN.
        advantages: A in a column, [N, 1]: one finite number a row, a constant; 0 counts
            as positive, and NaN makes its row NaN.
        logp: log pi of the tokens in nats, which alone carry the gradient. NaN makes
            its own token NaN, whatever the mask says.
        mask: True (or an integer that is not 0) at the tokens whose logs are added up.
            A row without one has w = 1.
        weights: pi_old / pi_sampling of the tokens, 0 or more, where the sampler
            differs; None where it does not. A negative one or NaN that the mask lets
            count makes its row NaN.
        k_positive: k of the rows with A >= 0, 0 or more: larger damps rows below w = 1.
            The four may be traced, and are then not looked at.
        lambda_positive: lambda of these rows, 0 or more: larger damps rows above w = 1.
            `grpo_loss` has TRL's (2, 3).
        k_negative: k of the rows with A < 0, 0 or more.
        lambda_negative: lambda of these rows, 0 or more; `grpo_loss` has TRL's (3, 2).

    Returns:
        The loss of each token, [N, T], and phi in a column, [N, 1].

    Raises:
        ValueError: shapes or dtypes that do not fit, a negative k or lambda.

    Source: VESPO (arXiv 2602.10693), with the clipping of TRL.
    """
    check_ranges(
        "vespo_surrogate",
        k_positive=(k_positive, 0, math.inf),
        lambda_positive=(lambda_positive, 0, math.inf),
        k_negative=(k_negative, 0, math.inf),
        lambda_negative=(lambda_negative, 0, math.inf),
    )
    check_rows(
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
        logp: log pi of the sampled tokens, in nats, 0 or less, which is not checked.
            Where only one of the two is -inf, d is infinite and `clamp` bounds it;
            where both are, d is NaN.
        logp_ref: log pi_ref of the same tokens, a constant.
        kl: One of the four names above; static.
        clamp: (a, b), above 0, keeps d in [-a, a] and the estimate in [-b, b] (verl: 20
            and 10), two numbers; the gradient is 0 where a bound holds. None clamps
            nothing, and "k3" may then overflow. A traced bound is not looked at.

    Returns:
        One estimate a token, [N, T], in nats; NaN where an input is. Tokens that do not
        count are for the caller to mask.

    Raises:
        ValueError: shapes or dtypes that do not fit, an unknown name, a bound of 0 or
            less, or another number of bounds than two.

    Source: Schulman, "Approximating KL divergence" (2020); DeepSeekMath (arXiv
    2402.03300), eq. 4, has "k3".
    """
    check_rows("kl_estimate", logp=(logp, "N T"), logp_ref=(logp_ref, "N T"))
    check_kl("kl_estimate", kl=kl, clamp=clamp)
    d = jax.lax.stop_gradient(logp_ref) - logp
    if clamp is not None:
        d = jnp.clip(d, -clamp[0], clamp[0])
    if kl == "k1":
        estimate = -d
    elif kl == "abs":
        estimate = jnp.abs(d)
    elif kl == "k2":
        estimate = d**2 / 2
    else:
        estimate = jnp.expm1(d) - d  # expm1: near d = 0 float32 loses all of d^2 / 2
    return estimate if clamp is None else jnp.clip(estimate, -clamp[1], clamp[1])


def check_kl(function: str, *, kl: str, **clamp: tuple[float, float] | None) -> None:
    """Refuse an unknown estimate, and a bound that is not above 0.

    Args:
        function: The public function's name, with which the message begins.
        kl: Of `kl_estimate`.
        clamp: The pair of bounds, or None, by the name that the function has for it.
    """
    if kl not in ("k1", "k2", "k3", "abs"):
        raise ValueError(f"{function}: kl {kl!r}: expected 'k1', 'k2', 'k3' or 'abs'")
    for name, pair in clamp.items():
        if pair is not None:
            if np.shape(pair)[:1] != (2,):
                raise ValueError(
                    f"{function}: {name}: expected two bounds above 0, or None; found "
                    f"{pair!r}"
                )
            check_positive(function, **{f"{name}[{i}]": pair[i] for i in (0, 1)})


def check_rows(
    function: str,
    mask: Bool[Array, "N T"] | None = None,
    **rows: tuple[Float[Array, "..."] | None, str],
) -> None:
    """`check_arrays` of floats, and of the mask that goes with them.

    Args:
        function: The public function's name, with which the message begins.
        mask: Flags [N, T], or None where the function has none.
        rows: By the name of the argument: the array, or None, and its axes.
    """
    floats = {name: (x, axes, float) for name, (x, axes) in rows.items()}
    check_arrays(function, **floats, mask=(mask, "N T", FLAGS))
