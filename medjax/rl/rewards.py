"""Rewards of boxes, as arrays: one number a completion, no text.

NaN is a reward's way of saying "this completion cannot be scored"; `combine_rewards`
leaves it out and `group_advantages` gives it advantage 0.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import NUMBERS, check_arrays
from medjax.masked import at_least_float32, masked_mean
from medjax.rl.boxes import box_iou


def parsed_iou(
    boxes: Float[Array, "*batch 4"],
    found: Bool[Array, "*batch"],
    targets: Float[Array, "*batch 4"],
) -> Float[Array, "*batch"]:
    """IoU of each parsed box with its target; 0 where no box was found.

    Args:
        boxes: Corners (x1, y1, x2, y2) as `parse_completions` reads them. What stands
            where no box was found is not read.
        found: Whether the completion holds a box.
        targets: True corners, in the frame that the policy answers in; an axis of
            length 1 stands for all of the boxes', as [B, 1, 4] for G answers each.
    """
    check_arrays(
        "parsed_iou",
        boxes=(boxes, "*N 4", (float, int)),
        found=(found, "*N", bool),
        targets=(targets, "*#N 4", (float, int)),
    )
    return jnp.where(found, box_iou(boxes, targets), 0)


def threshold_reward(
    iou: Float[Array, "*batch"], tau: Float[Array, ""] | float
) -> Float[Array, "*batch"]:
    """1[IoU >= tau], MedLoc-R1's reward; at a fixed 0.5 its VLM-R1 baseline.

    ">=" as the paper has it; VLM-R1's code has ">", which differs on ties only. Both
    sides are compared in float32, so that an IoU of 0.8 reaches a tau of 0.8 whatever
    their dtypes. A NaN IoU gives NaN.

    Args:
        iou: Of each completion with its target, 0 to 1, with any axes.
        tau: The threshold, 0 to 1; one for all, `ThresholdState.tau` as a rule.
    """
    check_arrays(
        "threshold_reward", iou=(iou, "...", float), tau=(tau, "", (float, int))
    )
    hit = iou.astype(jnp.float32) >= jnp.asarray(tau, jnp.float32)
    return jnp.where(jnp.isnan(iou), iou, hit.astype(iou.dtype))


def raw_iou_reward(iou: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The IoU itself: the Raw-IoU baseline, and VLM-R1 since March 2025.

    Args:
        iou: Of each completion with its target, 0 to 1, with any axes. NaN stays NaN.
    """
    check_arrays("raw_iou_reward", iou=(iou, "...", float))
    return iou


def progress_reward(
    iou: Float[Array, "*batch"],
    step: Int[Array, ""],
    *,
    total_steps: int,
    boundaries: tuple[float, ...] = (0.10, 0.25),
    thresholds: tuple[float, ...] = (0.85, 0.95, 0.99),
    binary: bool = False,
) -> Float[Array, "*batch"]:
    """IoU * 1[IoU >= threshold(step / total_steps)], V-Triune's baseline.

    V-Triune mixes in a completeness term for several boxes; with one box and weight 0
    this is what is left.

    Args:
        iou: Of each completion with its target, 0 to 1, with any axes. NaN stays NaN.
        step: Updates done before this one, from 0; may be traced.
        total_steps: Updates of the whole training, 1 or more.
        boundaries: Rising shares of the training, as in `progress_threshold`.
        thresholds: The IoU asked for before, between and after the boundaries.
        binary: Pays 1 for reaching the threshold, and not the IoU.
    """
    check_arrays("progress_reward", iou=(iou, "...", float), step=(step, "", int))
    tau = progress_threshold(
        step, total_steps=total_steps, boundaries=boundaries, thresholds=thresholds
    )
    hit = threshold_reward(iou, tau)
    return hit if binary else hit * iou


def progress_threshold(
    step: Int[Array, ""],
    *,
    total_steps: int,
    boundaries: tuple[float, ...] = (0.10, 0.25),
    thresholds: tuple[float, ...] = (0.85, 0.95, 0.99),
) -> Float[Array, ""]:
    """V-Triune's IoU threshold after `step` of `total_steps`; the defaults are its own.

    Args:
        step: Updates done, from 0; may be traced. Beyond `total_steps` the last
            threshold goes on.
        total_steps: Updates of the whole training, 1 or more.
        boundaries: Rising shares of the training, 0 to 1. A threshold holds up to its
            boundary, this included.
        thresholds: The IoU asked for before, between and after the boundaries: one
            number more than there are boundaries.

    Raises:
        ValueError: another number of thresholds, or a training without a step.
    """
    check_arrays("progress_threshold", step=(step, "", int))
    if len(thresholds) != len(boundaries) + 1 or total_steps < 1:
        raise ValueError(
            f"{len(thresholds)} thresholds, {len(boundaries)} boundaries, total_steps "
            f"{total_steps}: expected one threshold more than boundaries, steps >= 1"
        )
    progress = jnp.asarray(step).astype(jnp.float32) / total_steps
    tau = jnp.asarray(thresholds[0], jnp.float32)
    for boundary, threshold in zip(boundaries, thresholds[1:], strict=True):
        # The slack keeps step 30 of 300 at 10 % whatever the division rounds to.
        tau = jnp.where(progress > boundary + 1e-6, threshold, tau)
    return tau


def format_reward(well_formed: Bool[Array, "*batch"]) -> Float[Array, "*batch"]:
    """1 where the completion has the asked-for think and answer blocks, else 0.

    Args:
        well_formed: `Parsed.format` of each completion, with any axes.
    """
    check_arrays("format_reward", well_formed=(well_formed, "...", bool))
    return at_least_float32(well_formed)


def combine_rewards(
    rewards: Mapping[str, Float[Array, "B G"]],
    weights: Mapping[str, float],
    *,
    valid: Bool[Array, "B"] | None = None,
) -> tuple[Float[Array, "B G"], dict[str, Float[Array, ""]]]:
    """Weighted sum over the rewards that could score a completion, and each one's mean.

    total_i = sum over k, not NaN, of w_k r_ki; NaN only if every reward is NaN.

    Args:
        rewards: By name, a number for each of G completions of B prompts, each in its
            own unit; NaN says that this reward could not score the completion.
            Integers and flags become float32.
        weights: By the same names, a number of either sign; may be traced. A reward of
            weight 0 is reported and teaches nothing.
        valid: The rows that count in the metrics, None for all; the total is that of
            every row.

    Returns:
        The total, in the widest float of the rewards, and metrics over the valid rows:
        `NAME`, the mean of a reward where it scored (0 if nowhere), in its own unit,
        and `NAME_unscorable`, the share of completions that it could not score.

    Raises:
        ValueError: the names of `rewards` and `weights` differ, there are none, or
            their shapes do.
    """
    if not rewards or set(rewards) != set(weights):
        raise ValueError(
            f"rewards {sorted(rewards)} and weights {sorted(weights)} must be named "
            "alike, with at least one"
        )
    check_arrays(
        "combine_rewards",
        **{f"rewards[{name!r}]": (x, "B G", NUMBERS) for name, x in rewards.items()},
        **{f"weights[{name!r}]": (x, "", NUMBERS) for name, x in weights.items()},
        valid=(valid, "B", bool),
    )
    names = sorted(rewards)
    parts = [at_least_float32(rewards[name]) for name in names]
    dtype = max((part.dtype for part in parts), key=lambda d: d.itemsize)
    values = jnp.stack([part.astype(dtype) for part in parts])  # [K, B, G]
    scored = ~jnp.isnan(values)
    weight = jnp.stack([jnp.asarray(weights[name], values.dtype) for name in names])
    total = jnp.sum(jnp.where(scored, values, 0) * weight[:, None, None], axis=0)
    total = jnp.where(jnp.any(scored, axis=0), total, jnp.nan)

    counted = jnp.ones(total.shape, bool)
    if valid is not None:
        counted = counted & valid[:, None]
    metrics = {}
    for name, value, is_scored in zip(names, values, scored, strict=True):
        missing = (~is_scored).astype(value.dtype)
        metrics[name] = masked_mean(value, is_scored & counted)
        metrics[f"{name}_unscorable"] = masked_mean(missing, counted)
    return total, metrics
