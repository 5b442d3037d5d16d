"""MedLoc-R1: GRPO for visual grounding under a moving IoU threshold.

The step of `systems/policy/exploration.py` with the reward 1[IoU >= tau] (plus the
format); the scheduler sees the IoUs of each step and moves tau. Source: MedLoc-R1
(arXiv 2603.28120); what the paper leaves open follows VLM-R1, on which it is built.
Where an answer is a set of boxes (ours, not the paper's) the quality Q of the set,
`box_set_quality`, takes the place of the IoU everywhere.
"""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from medjax.masked import masked_mean
from medjax.rl.rewards import (
    format_reward,
    progress_reward,
    progress_threshold,
    raw_iou_reward,
    threshold_reward,
)
from medjax.rl.schedules import ThresholdSchedule
from medjax.rl.text.box_set_reader import BoxSetTables
from medjax.rl.text.boxes import ParseTables
from medjax.rl.threshold import init_threshold, update_threshold
from medjax.rl.visits import VisitState
from medjax.rl.window import ThresholdState
from medjax.systems.policy import exploration
from medjax.systems.policy.box_sets import JudgedSets, judge_sets
from medjax.systems.policy.boxes import Judged, judge
from medjax.systems.policy.exploration import Explorer, Scored, Step
from medjax.systems.policy.host_rewards import HostReward, HostRewards
from medjax.types import (
    BoxSetBatch,
    EvaluateFn,
    GroundingBatch,
    Params,
    PolicyModel,
    Rollout,
    System,
)

REWARDS = ("accuracy", "format")
ACCURACY = ("curriculum", "fixed", "raw_iou", "progress")
_RIGHT = 0.5  # the IoU of a right answer where no threshold says it, as in A@0.5


class MedlocCarry(NamedTuple):
    """The state of `medloc` beside parameters and optimiser."""

    threshold: ThresholdState
    reference: Params  # the frozen initial policy; () where beta is 0
    visits: VisitState | tuple[()] = ()  # to each picture; () where not counted


class Rewards(NamedTuple):
    """What an answer is worth, and how the threshold moves."""

    # "curriculum" (1[IoU >= tau], tau moved by the schedule), "fixed"
    # (1[IoU >= schedule.start], VLM-R1), "raw_iou", or "progress" (V-Triune)
    accuracy: str
    schedule: ThresholdSchedule  # only "curriculum" lets it rise
    total_steps: int  # what "progress" measures by
    entries: str = "step"  # what enters the window, see `update_threshold`
    sets: BoxSetTables | None = None  # an answer is a set of boxes; None: one box


def build(
    model: PolicyModel,
    tables: ParseTables,
    optimizer: optax.GradientTransformation,
    evaluate: EvaluateFn,
    *,
    rewards: Rewards,
    step: Step,
    host_rewards: HostRewards | None = None,
) -> System:
    """The system `medloc`: a policy that answers by boxes, taught by GRPO.

    Every option that a paper tunes is named by the caller.

    Args:
        model: The policy, as a record of functions of its parameters.
        tables: From `parse_tables` for the policy's tokenizer; completions are read by
            them.
        optimizer: Its state is made from the policy's parameters and sharded as they
            are.
        evaluate: Becomes `System.evaluate`; training does not call it.
        rewards: Which accuracy is paid, and by which threshold.
        step: How a step explores and learns; its `reward_weights` must name "accuracy",
            "format" and every host reward, and nothing else.
        host_rewards: Rewards in Python: (batch, rollout, step, ThresholdState) on the
            host -> {name: HostReward}. They split the step in two compiled programs;
            None has none.

    Raises:
        ValueError: `rewards.accuracy` is none of "curriculum", "fixed", "raw_iou" and
            "progress".
    """
    explorer = make_explorer(model, tables, optimizer, rewards=rewards, step=step)
    of_threshold = host_rewards and partial(see_threshold, host_rewards)
    return exploration.build(explorer, evaluate, of_threshold)


def make_explorer(
    model: PolicyModel,
    tables: ParseTables,
    optimizer: optax.GradientTransformation,
    *,
    rewards: Rewards,
    step: Step,
) -> Explorer:
    """The parts of `build`; its arguments and errors.

    Args:
        model: The policy, as a record of functions of its parameters.
        tables: From `parse_tables` for the policy's tokenizer.
        optimizer: Of the policy's parameters.
        rewards: Which accuracy is paid, and by which threshold.
        step: How a step explores and learns.

    Raises:
        ValueError: See `build`.
    """
    if rewards.accuracy not in ACCURACY:
        raise ValueError(
            f"reward {rewards.accuracy!r}: expected one of {', '.join(ACCURACY)}"
        )
    return Explorer(
        model,
        optimizer,
        start=partial(start, rewards.schedule),
        score=partial(score, tables, rewards),
        step=step,
    )


def start(schedule: ThresholdSchedule, reference: Params) -> MedlocCarry:
    """The carry before the first step, its threshold at the schedule's start.

    Args:
        schedule: Its numbers are checked here.
        reference: The frozen initial policy, or () where there is no KL term.
    """
    return MedlocCarry(init_threshold(schedule), reference)


def score(
    tables: ParseTables,
    rewards: Rewards,
    carry: MedlocCarry,
    batch: GroundingBatch | BoxSetBatch,
    rollout: Rollout,
    step: Int[Array, ""],
) -> Scored:
    """What completions earn, and the threshold after they were seen.

    The rewards are `accuracy` and `format`; the metrics are `iou` (the mean over valid
    rows; of sets `quality`), `tau` (after the step for "curriculum", else what an
    answer had to reach) and, for "curriculum", those of `update_threshold` as
    window_NAME.

    Args:
        tables: From `parse_tables` for the policy's tokenizer.
        rewards: Which accuracy is paid, and by which threshold.
        carry: Its threshold judges this step; it rises for the next one only, and only
            for "curriculum".
        batch: The targets of B prompts, and which of its rows are valid.
        rollout: G completions of each prompt.
        step: The number of the step, from 0; "progress" alone reads it.
    """
    judged = judge_batch(tables, rewards.sets, batch, rollout)
    quality = judged.quality if isinstance(judged, JudgedSets) else judged.iou
    reward, needed = reward_accuracy(rewards, quality, carry.threshold.tau, step)
    threshold, decision = update_threshold(
        carry.threshold,
        quality,
        rewards.schedule,
        valid=batch.valid[:, None],
        entries=rewards.entries,
    )
    if rewards.accuracy != "curriculum":
        threshold, decision = carry.threshold, {"tau": needed}
    counts = jnp.broadcast_to(batch.valid[:, None], reward.shape)
    metrics = {
        **{f"window_{name}": x for name, x in decision.items() if name != "tau"},
        "tau": decision["tau"],
        "iou" if rewards.sets is None else "quality": masked_mean(quality, counts),
    }
    return Scored(
        rewards={"accuracy": reward, "format": format_reward(judged.well_formed)},
        hits=quality >= (_RIGHT if rewards.accuracy == "raw_iou" else needed),
        parsed=judged.parsed,
        aux=carry._replace(threshold=threshold),
        metrics=metrics,
        read=_read(judged),
    )


def _read(judged: Judged | JudgedSets) -> dict[str, Array]:
    """What an audit says of completions, by name."""
    if isinstance(judged, JudgedSets):
        sets = judged.sets
        found = {"boxes": sets.boxes, "box_valid": sets.box_valid}
        found |= {"quality": judged.quality}
    else:
        found = {"box": judged.boxes, "iou": judged.iou}
    found["well_formed"] = judged.well_formed
    return {name: jnp.asarray(x) for name, x in found.items()}


def judge_batch(
    tables: ParseTables,
    sets: BoxSetTables | None,
    batch: GroundingBatch | BoxSetBatch,
    rollout: Rollout,
) -> Judged | JudgedSets:
    """What the completions of a batch say about its targets, [B, G].

    Args:
        tables: From `parse_tables` for the policy's tokenizer.
        sets: From `box_set_tables` where an answer is a set of boxes, else None.
        batch: The targets of B prompts, of one box or of sets as `sets` has it.
        rollout: G completions of each prompt.

    Raises:
        ValueError: The batch is of the other kind.
    """
    tokens, mask = rollout.tokens, rollout.mask
    if isinstance(batch, BoxSetBatch) != (sets is not None):
        raise ValueError(
            f"a {type(batch).__name__} with sets {'off' if sets is None else 'on'}: "
            "expected a GroundingBatch where an answer is one box, and a BoxSetBatch "
            "where it is a set"
        )
    if isinstance(batch, BoxSetBatch) and sets is not None:
        true = batch.boxes[:, None], batch.box_valid[:, None]
        return judge_sets(tokens, mask, *true, tables, sets)
    targets = jnp.broadcast_to(batch.boxes[:, None], (*mask.shape[:2], 4))
    return judge(tokens, mask, targets, tables)


def reward_accuracy(
    rewards: Rewards,
    quality: Float[Array, "B G"],
    tau: Float[Array, ""],
    step: Int[Array, ""],
) -> tuple[Float[Array, "B G"], Float[Array, ""]]:
    """The reward of each completion, and the IoU (or Q) that it had to reach.

    "raw_iou" pays the IoU itself, so nothing has to be reached: 0. "progress" pays
    `progress_reward`, the other two 1 where the IoU is at least `tau`.

    Args:
        rewards: Names the accuracy, and the length of the training for "progress".
        quality: The IoU of each completion, or Q of its set, 0 to 1.
        tau: The present threshold, 0 to 1.
        step: Updates done before this one, from 0.
    """
    if rewards.accuracy == "raw_iou":
        return raw_iou_reward(quality), jnp.zeros((), jnp.float32)
    if rewards.accuracy == "progress":
        total = rewards.total_steps
        reward = progress_reward(quality, step, total_steps=total)
        return reward, progress_threshold(step, total_steps=total)
    return threshold_reward(quality, tau), tau


def see_threshold(
    host_rewards: HostRewards,
    batch: GroundingBatch | BoxSetBatch,
    rollout: Rollout,
    step: Int[Array, ""],
    carry: MedlocCarry,
) -> dict[str, HostReward]:
    """Rewards in Python, which see the threshold alone of the carry.

    Args:
        host_rewards: (batch, rollout, step, ThresholdState) -> rewards by name.
        batch: Handed on, as the next two.
        rollout: G completions of each of B prompts.
        step: Updates done before this one, from 0.
        carry: Its threshold is handed on.
    """
    return host_rewards(batch, rollout, step, carry.threshold)
