"""Rewards of boxes, as arrays: one number a completion, no text.

A reward that cannot score a completion says so in flags beside its numbers, the
`scored` of `combine_rewards`. NaN is an error, and reaches whatever is made of it.
"""

import sys
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import (
    FLAGS,
    NUMBERS,
    AxisName,
    batch_axes,
    check_arrays,
    check_flags,
    check_groups,
    check_ranges,
    check_static,
)
from medjax.masked import at_least_float32, marked_values, marks, masked_mean
from medjax.rl.boxes import box_iou


def parsed_iou(
    boxes: Float[Array, "*batch 4"],
    found: Bool[Array, "*batch"],
    targets: Float[Array, "*#batch 4"],
) -> Float[Array, "*batch"]:
    """IoU of each parsed box with its target; 0 where no box was found.

    Args:
        boxes: Corners (x1, y1, x2, y2) as `parse_completions` reads them, integers or
            floats. An empty or inverted box earns 0, one with a NaN gives NaN. What
            stands where no box was found is not read.
        found: Whether the completion holds a box.
        targets: True corners, in the frame that the policy answers in; an axis of
            length 1 stands for all of the boxes', as [B, 1, 4] for G answers each. They
            are not read where no box was found; a NaN elsewhere gives NaN.

    Returns:
        A number from 0 to 1 a completion, float32 at least.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_arrays(
        "parsed_iou",
        boxes=(boxes, "*N 4", (float, int)),
        found=(found, "*N", FLAGS),
        targets=(targets, "*#N 4", (float, int)),
    )
    found = found.astype(bool)
    # Before the overlap: its gradient at a NaN would be NaN, even where it is not used.
    boxes = jnp.where(found[..., None], boxes, 0)
    targets = jnp.where(found[..., None], targets, 0)
    return jnp.where(found, box_iou(boxes, targets), 0)


def threshold_reward(
    iou: Float[Array, "*batch"], tau: Float[Array, ""] | float
) -> Float[Array, "*batch"]:
    """1[IoU >= tau], MedLoc-R1's reward; at a fixed 0.5 its VLM-R1 baseline.

    ">=" as the paper has it; VLM-R1's code has ">", which differs on ties only. Both
    sides are compared in float32, so that an IoU of 0.8 in float32 reaches a tau of 0.8
    that is a Python number or in float64. What was rounded to bfloat16 or float16 is
    compared as it was rounded, and may miss an equal tau. No gradient flows.

    Args:
        iou: Of each completion with its target, 0 to 1, with any axes. NaN gives NaN.
        tau: The threshold, 0 to 1; one for all, `ThresholdState.tau` as a rule. 0 or
            less is reached by every IoU, and what is above 1 by none; NaN gives NaN.

    Returns:
        1 or 0 of the shape and dtype of `iou`.

    Raises:
        ValueError: an IoU that is not of floats, or a `tau` that is no scalar.

    Source: MedLoc-R1 (arXiv 2603.28120).
    """
    check_arrays(
        "threshold_reward", iou=(iou, "...", float), tau=(tau, "", (float, int))
    )
    tau = jnp.asarray(tau, jnp.float32)
    hit = (iou.astype(jnp.float32) >= tau).astype(iou.dtype)
    hit = jnp.where(jnp.isnan(tau), tau.astype(iou.dtype), hit)
    return jax.lax.stop_gradient(jnp.where(jnp.isnan(iou), iou, hit))


def raw_iou_reward(iou: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The IoU itself, unchanged: the Raw-IoU baseline, and VLM-R1 since March 2025.

    Args:
        iou: Of each completion with its target, 0 to 1, with any axes. NaN stays NaN,
            and what is outside of 0 to 1 stays as it is.

    Raises:
        ValueError: an IoU that is not of floats.
    """
    check_arrays("raw_iou_reward", iou=(iou, "...", float))
    return jnp.asarray(iou)


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
        iou: Of each completion with its target, 0 to 1, which is not checked, with any
            axes. NaN stays NaN.
        step: Updates done before this one, from 0; may be traced. Beyond `total_steps`
            the last threshold goes on, and below 0 the first one holds.
        total_steps: Updates of the whole training, a finite number of 1 or more;
            static.
        boundaries: Rising shares of the training, 0 to 1: up to 10 % of it the first
            threshold holds, at 10 % too, up to 25 % the second. V-Triune's own. ()
            leaves one threshold for the whole training. Traced ones are not looked at.
        thresholds: The IoU asked for before, between and after the boundaries, 0 to 1,
            one number more than there are boundaries. V-Triune's own.
        binary: Pays 1 for reaching the threshold, and not the IoU; static.

    Returns:
        A number from 0 to 1 of the shape and dtype of `iou`.

    Raises:
        ValueError: an IoU that is not of floats, a step that is no integer, or what
            `progress_threshold` refuses.
    """
    check_arrays("progress_reward", iou=(iou, "...", float), step=(step, "", int))
    check_flags("progress_reward", binary=binary)
    tau = _progress("progress_reward", step, total_steps, boundaries, thresholds)
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
            threshold goes on, and below 0 the first one holds.
        total_steps: Updates of the whole training, a finite number of 1 or more;
            static.
        boundaries: Rising shares of the training, 0 to 1; () for none. A threshold
            holds up to its boundary, this included. Traced ones are not looked at.
        thresholds: The IoU asked for before, between and after the boundaries, 0 to 1:
            one number more than there are boundaries.

    Returns:
        A scalar, float32.

    Raises:
        ValueError: another number of thresholds, one outside of 0 to 1, boundaries that
            fall or leave 0 to 1, or a training without a step or with a traced number
            of them.
    """
    check_arrays("progress_threshold", step=(step, "", int))
    return _progress("progress_threshold", step, total_steps, boundaries, thresholds)


def _progress(
    function: str,
    step: Int[Array, ""],
    total_steps: int,
    boundaries: tuple[float, ...],
    thresholds: tuple[float, ...],
) -> Float[Array, ""]:
    """The threshold of V-Triune; `function` is what messages begin with."""
    check_static(function, total_steps=total_steps)
    check_ranges(function, total_steps=(total_steps, 1, sys.float_info.max))
    if len(thresholds) != len(boundaries) + 1:
        raise ValueError(
            f"{function}: thresholds: expected one more than the {len(boundaries)} "
            f"boundaries; found {len(thresholds)} thresholds"
        )
    least = 0.0
    for boundary in boundaries:
        check_ranges(function, boundaries=(boundary, least, 1))
        least = least if isinstance(boundary, jax.Array) else boundary
    for threshold in thresholds:
        check_ranges(function, thresholds=(threshold, 0, 1))
    progress = jnp.asarray(step).astype(jnp.float32) / total_steps
    tau = jnp.asarray(thresholds[0], jnp.float32)
    for boundary, threshold in zip(boundaries, thresholds[1:], strict=True):
        # The slack keeps step 30 of 300 at 10 % whatever the division rounds to.
        tau = jnp.where(progress > boundary + 1e-6, threshold, tau)
    return tau


def format_reward(well_formed: Bool[Array, "*batch"]) -> Float[Array, "*batch"]:
    """1 where the completion has the format of boxes, else 0.

    `parse_completions` has read it: `<think>..</think><answer>..</answer>` with white
    space alone around and between, each tag once, and a box in the answer.

    Args:
        well_formed: `Parsed.format` of each completion, with any axes.

    Returns:
        float32 of the same shape.

    Raises:
        ValueError: flags that are not bool.
    """
    check_arrays("format_reward", well_formed=(well_formed, "...", bool))
    return at_least_float32(well_formed)


def combine_rewards(
    rewards: Mapping[str, Float[Array, "B G"]],
    weights: Mapping[str, float | Float[Array, ""]],
    *,
    scored: Mapping[str, Bool[Array, "B #G"]] | None = None,
    valid: Bool[Array, "B #G"] | None = None,
    axis_name: AxisName = None,
) -> tuple[Float[Array, "B G"], Bool[Array, "B G"], dict[str, Float[Array, ""]]]:
    """Weighted sum over the rewards that could score a completion, and each one's mean.

    total_i = sum over k that could score i of w_k r_ki.

    Args:
        rewards: By name, a number for each of G completions of B prompts, each in its
            own unit. Integers and flags become float32. A NaN at a place that counts
            reaches the total, whatever its weight.
        weights: By the same names, a finite number of either sign; may be traced. That
            it is finite is not checked: NaN makes the total NaN where that reward
            scored. A reward of weight 0 is reported and teaches nothing.
        scored: By name, True (or an integer that is not 0) where that reward could
            score the completion; [B, 1] marks whole groups. What stands elsewhere is
            not read. A reward that is not named here could score all.
        valid: The same of the completions that count at all, None for all; the others
            only fill the batch.
        axis_name: Inside `shard_map`, the axes that the prompts are spread over; the
            metrics are then those of all devices' prompts. An axis that an input varies
            along has to be named, or () given, which takes each device for itself.

    Returns:
        The total, in the widest float of the rewards, and 0 where it does not count;
        where it counts, the `valid` of what is made of it (False also where no reward
        could score); and metrics over the valid completions: `NAME`, the mean of a
        reward where it scored (0 if nowhere), in its own unit, and `NAME_unscorable`,
        the share of completions that it could not score.

    Raises:
        ValueError: the names of `rewards` and `weights` differ, there are none,
            `scored` has another, or shapes or dtypes do not fit.
    """
    if not rewards or set(rewards) != set(weights):
        raise ValueError(
            f"combine_rewards: rewards {sorted(rewards)} and weights {sorted(weights)} "
            "must be named alike, with at least one"
        )
    scored = {} if scored is None else scored
    if set(scored) - set(rewards):
        raise ValueError(
            f"combine_rewards: scored: expected names of rewards {sorted(rewards)}; "
            f"found {sorted(scored)}"
        )
    arrays = {f"rewards[{name!r}]": x for name, x in rewards.items()}
    flags = {f"scored[{name!r}]": x for name, x in scored.items()}
    check_groups(
        "combine_rewards",
        valid,
        **{name: (x, "B G", NUMBERS) for name, x in arrays.items()},
        **{f"weights[{name!r}]": (x, "", NUMBERS) for name, x in weights.items()},
        **{name: (x, "B #G", FLAGS) for name, x in flags.items()},
    )
    axes = batch_axes("combine_rewards", axis_name, **arrays, **flags, valid=valid)
    names = sorted(rewards)
    counts = marks(valid, rewards[names[0]].shape)
    places = [counts & marks(scored.get(name), counts.shape) for name in names]
    parts = [
        marked_values(rewards[name], place)
        for name, place in zip(names, places, strict=True)
    ]
    dtype = max((part.dtype for part in parts), key=lambda d: d.itemsize)
    values = jnp.stack([part.astype(dtype) for part in parts])  # [K, B, G]
    weight = jnp.stack([jnp.asarray(weights[name], dtype) for name in names])
    total = jnp.sum(values * weight[:, None, None], axis=0)

    metrics = {}
    for name, value, place in zip(names, values, places, strict=True):
        metrics[name] = masked_mean(value, place, axis_name=axes)
        missing = (~place).astype(dtype)
        metrics[f"{name}_unscorable"] = masked_mean(missing, counts, axis_name=axes)
    return total, jnp.any(jnp.stack(places), axis=0), metrics
