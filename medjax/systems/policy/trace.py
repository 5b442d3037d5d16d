"""What became of every completion of a step, and the same computed from it again.

A trace holds what a step has at hand anyway: handing it out adds no equation to the
program. With it rewards can be computed again without a policy.
"""

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from medjax.systems.policy.earning import Earned, Scored
from medjax.types import PolicyBatch, Rollout

PADDING = ("prompt", "answer", "answer_mask")  # of a batch: what no reward reads


class Trace(NamedTuple):
    """G completions of each of B prompts, with what was read and paid."""

    tokens: Int[Array, "B G T"]
    mask: Bool[Array, "B G T"]  # up to and including the first stop token
    question: Int[Array, "B L"]  # the tokens of each prompt after its last image
    question_mask: Bool[Array, "B L"]
    batch: Mapping[str, Array]  # fields of the batch: sample_id, valid and targets
    rewards: Mapping[str, Float[Array, "B G"]]  # by name, not weighed
    scored: Mapping[str, Bool[Array, "B G"]]  # by name, of rewards in Python alone
    read: Mapping[str, Array]  # by name, [B, G, ...], as a system's `Scored.read`
    hits: Bool[Array, "B G"]  # the answer counts as right
    parsed: Bool[Array, "B G"]  # an answer could be read
    total: Float[Array, "B G"]  # the weighed sum of the rewards
    counted: Bool[Array, "B G"]  # where the total counts
    advantages: Float[Array, "B G"]


def make_trace(
    batch: PolicyBatch, rollout: Rollout, scored: Scored, earned: Earned
) -> Trace:
    """The trace of a step, of arrays that it has.

    Args:
        batch: B prompts with their targets; its pictures and answers are left out.
        rollout: G completions of each.
        scored: What a system read and paid.
        earned: What that was worth in its group.
    """
    question = batch.prompt.question
    fields = {k: x for k, x in batch._asdict().items() if k not in PADDING}
    return Trace(
        tokens=rollout.tokens,
        mask=rollout.mask,
        question=question.tokens,
        question_mask=question.mask,
        batch=fields,
        rewards=dict(earned.rewards),
        scored=dict(earned.host_scored),
        read=dict(scored.read or {}),
        hits=scored.hits,
        parsed=scored.parsed,
        total=earned.total,
        counted=earned.counted,
        advantages=earned.advantages,
    )
