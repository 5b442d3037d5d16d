"""VRFT-Aug: GRPO for classes and grades, with rewards that know about both.

The step of `systems/exploration.py` with up to four rewards, each by its weight:

    R = alpha R_accuracy + gamma R_grade + lambda R_format + delta R_recitation

"accuracy" is 1 for the right class; "grade" (the multi-grade fuzzy reward) also pays
for near misses of ordinal classes and takes the place of "accuracy" there; "format"
asks for reasoning before a readable answer; "recitation" is the overlap of the
reasoning with the descriptions, whose weight may be negative. The two other parts of
the method are data and stages: descriptions in the prompt, localisation first. Source:
VRFT-Aug (arXiv 2602.10619), whose text was not available: readings are our own.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from medjax.masked import masked_mean
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.rl.label_rewards import (
    fuzzy_grade_reward,
    label_format_reward,
    label_reward,
)
from medjax.rl.text.boxes import ParseTables
from medjax.rl.text.labels import LabelTables, parse_labels
from medjax.rl.text.recitation import bleu, read_words, score_words
from medjax.rl.text.reference_tables import RecitationTables
from medjax.systems.policy import exploration
from medjax.systems.policy.exploration import Scored
from medjax.types import LabelBatch, Params, Rollout, System

REWARDS = ("accuracy", "grade", "format", "recitation")


class VrftCarry(NamedTuple):
    """What `vrft_aug` carries beside parameters and optimiser."""

    reference: Params  # the frozen initial policy; () where beta is 0


def build(
    config: Qwen25VLConfig,
    tables: ParseTables,
    optimizer: optax.GradientTransformation,
    evaluate: Callable[..., Any],
    *,
    labels: LabelTables,
    references: RecitationTables,
    grade_table: tuple[float, ...],
    reward_weights: Mapping[str, float],
    min_words: int,
    require_label: bool,
    min_different: int,
    without_words: float,
    leak_label: bool = False,
    max_words: int | None = None,
    host_rewards: Callable[..., dict[str, Any]] | None = None,
    **step: Any,
) -> System:
    """The system; every option that a paper tunes is named by the caller.

    Args:
        config: the policy's sizes.
        tables: to read the policy's tokens.
        optimizer: for its parameters.
        evaluate: as `System.evaluate`.
        labels: to read answers.
        references: the descriptions.
        grade_table: reward by difference, see `grade_table`.
        reward_weights: of those of `REWARDS` that are in use, and of every host reward.
            A reward of weight 0 is reported and teaches nothing.
        min_words: see `label_format_reward`; so is `require_label`.
        require_label: the format asks for a readable answer.
        min_different: see `recitation_reward`; so are the next three.
        without_words: of a reasoning of fewer different words. The metric `overlap` is
            the BLEU against all classes, silence being 0.
        leak_label: hold the reasoning against the right class's description alone.
        max_words: of the reasoning that are read.
        host_rewards: rewards in Python, see `exploration.build`.
        step: the other options of `exploration.build`.
    """

    def start(reference: Params) -> VrftCarry:
        return VrftCarry(reference)

    def score(
        carry: VrftCarry, batch: LabelBatch, rollout: Rollout, step: Array
    ) -> Scored:
        del step
        tokens, mask = rollout.tokens, rollout.mask
        parsed = parse_labels(tokens, mask, tables, labels)
        target = jnp.broadcast_to(batch.label[:, None], parsed.label.shape)
        words = read_words(
            tokens, mask, parsed.think, tables, references, max_words=max_words
        )
        leaked = target if leak_label else None
        earned = {
            "accuracy": label_reward(parsed.label, target),
            "grade": fuzzy_grade_reward(parsed.label, target, grade_table),
            "format": label_format_reward(
                parsed, min_words=min_words, require_label=require_label
            ),
            "recitation": score_words(
                words, references, leaked, min_different, without_words
            ),
        }
        return Scored(
            rewards={k: x for k, x in earned.items() if k in reward_weights},
            hits=parsed.label == target,
            parsed=parsed.parsed,
            aux=carry,
            metrics=_describe(batch, parsed.think_words, bleu(words, references)),
        )

    return exploration.build(
        config,
        optimizer,
        evaluate,
        start,
        score,
        reward_weights=reward_weights,
        host_rewards=host_rewards,
        **step,
    )


def _describe(
    batch: LabelBatch, words: Array, overlap: Array
) -> dict[str, Float[Array, ""]]:
    counts = jnp.broadcast_to(batch.valid[:, None], words.shape)
    return {
        "think_words": masked_mean(words.astype(jnp.float32), counts),
        "overlap": masked_mean(overlap, counts),
    }
