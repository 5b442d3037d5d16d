"""VRFT-Aug: GRPO for classes and grades, with rewards that know about both.

The step of `systems/policy/exploration.py` with up to four rewards, each by its weight:

    R = alpha R_accuracy + gamma R_grade + lambda R_format + delta R_recitation

"accuracy" is 1 for the right class; "grade" (the multi-grade fuzzy reward) also pays
for near misses of ordinal classes and takes the place of "accuracy" there; "format"
asks for reasoning before a readable answer; "recitation" is the overlap of the
reasoning with the descriptions, whose weight may be negative. The two other parts of
the method are data and stages: descriptions in the prompt, localisation first. Where a
picture may show several classes, "accuracy" is the F1 of the set answered, or another
reward of `rl.label_set_rewards`, and a hit is the whole set. Source:
VRFT-Aug (arXiv 2602.10619), whose text was not available: readings are our own.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from medjax.masked import masked_mean
from medjax.rl.label_rewards import (
    fuzzy_grade_reward,
    label_format_reward,
    label_reward,
)
from medjax.rl.label_set_rewards import label_accuracy, label_set_f1, label_set_reward
from medjax.rl.ramps import RampState, RewardRamp, init_ramp, ramp_factor, update_ramp
from medjax.rl.text.boxes import ParseTables
from medjax.rl.text.label_set_text import ParsedLabelSets
from medjax.rl.text.label_sets import LabelSetTables
from medjax.rl.text.label_text import ParsedLabels
from medjax.rl.text.labels import LabelTables
from medjax.rl.text.recitation import bleu, score_words
from medjax.rl.text.reference_tables import RecitationTables
from medjax.rl.text.repetition import repeated_ngrams
from medjax.rl.text.word_reader import read_words
from medjax.rl.visits import VisitState
from medjax.systems.policy import exploration
from medjax.systems.policy.classes import is_right, read_answers
from medjax.systems.policy.exploration import Explorer, Scored, Step
from medjax.systems.policy.host_rewards import HostRewards
from medjax.types import (
    EvaluateFn,
    LabelBatch,
    Params,
    PolicyModel,
    Rollout,
    System,
)

REWARDS = ("accuracy", "grade", "format", "recitation")


class VrftCarry(NamedTuple):
    """The state of `vrft_aug` beside parameters and optimiser."""

    reference: Params  # the frozen initial policy; () where beta is 0
    ramp: RampState | tuple[()] = ()  # of the recitation; () where it has none
    visits: VisitState | tuple[()] = ()  # to each picture; () where not counted


class Rewards(NamedTuple):
    """What an answer is worth; `Step.reward_weights` says which of it is in use.

    A reward of weight 0 is reported and teaches nothing.
    """

    labels: LabelTables | LabelSetTables  # to read answers
    references: RecitationTables  # the descriptions
    grade_table: tuple[float, ...]  # reward by difference, see `grade_table`
    min_words: int  # of the reasoning, see `label_format_reward`
    require_label: bool  # the format asks for a readable answer too
    min_different: int  # of the reasoning's words, see `recitation_reward`
    without_words: float  # what a reasoning of fewer different words counts as
    leak_label: bool = False  # hold it against the right class's description alone
    max_words: int | None = None  # of the reasoning that are read
    set_rule: str = "f1"  # of several labels, what "accuracy" is: `label_set_reward`
    repeat_ngram: int = 0  # words of an n-gram, see `repeated_ngrams`; 0: no guard
    # a reasoning more of whose n-grams are repetitions counts as one without words
    repeat_limit: float = 0.5
    # lets the recitation in once the mean of a reward for right answers has come up,
    # "accuracy" or "grade"; None: it counts from the first step on
    ramp: RewardRamp | None = None
    ramp_by: str = "accuracy"


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
    """The system `vrft_aug`: a policy that names classes or grades, taught by GRPO.

    Every option that a paper tunes is named by the caller.

    Args:
        model: The policy, as a record of functions of its parameters.
        tables: From `parse_tables` for the policy's tokenizer; completions are read by
            them.
        optimizer: Its state is made from the policy's parameters and sharded as they
            are.
        evaluate: Becomes `System.evaluate`; training does not call it.
        rewards: What an answer is worth. The metric `overlap` is the BLEU of its
            reasoning against the descriptions of all classes, a reasoning without words
            being 0.
        step: How a step explores and learns; its `reward_weights` name some of
            "accuracy", "grade", "format" and "recitation" and every host reward, and
            nothing else.
        host_rewards: Rewards in Python as `exploration.build` takes them; None has
            none.
    """
    explorer = make_explorer(model, tables, optimizer, rewards=rewards, step=step)
    return exploration.build(explorer, evaluate, host_rewards)


def make_explorer(
    model: PolicyModel,
    tables: ParseTables,
    optimizer: optax.GradientTransformation,
    *,
    rewards: Rewards,
    step: Step,
) -> Explorer:
    """The parts of `build`, and its arguments.

    Args:
        model: The policy, as a record of functions of its parameters.
        tables: From `parse_tables` for the policy's tokenizer.
        optimizer: Of the policy's parameters.
        rewards: What an answer is worth.
        step: How a step explores and learns.
    """
    weighed = tuple(name for name in REWARDS if name in step.reward_weights)
    return Explorer(
        model,
        optimizer,
        partial(start, rewards.ramp),
        partial(score, tables, rewards, weighed),
        step,
    )


def start(ramp: RewardRamp | None, reference: Params) -> VrftCarry:
    """The carry before the first step.

    Args:
        ramp: That of the recitation, whose numbers are checked here; None for none.
        reference: The frozen initial policy, or () where there is no KL term.
    """
    return VrftCarry(reference, () if ramp is None else init_ramp(ramp))


def score(
    tables: ParseTables,
    rewards: Rewards,
    weighed: tuple[str, ...],
    carry: VrftCarry,
    batch: LabelBatch,
    rollout: Rollout,
    step: Int[Array, ""],
) -> Scored:
    """What completions earn of the rewards that are `weighed`.

    A hit is the right class, of several labels exactly the right ones. Metrics over the
    valid rows: `think_words`, the mean number of words of reasoning, and `overlap`, the
    mean BLEU of the reasoning against the descriptions of all classes; where repetition
    is guarded against `repeated`, the mean share of n-grams that repeat one; of several
    labels also the means of `set_f1` and `label_accuracy`. Where the recitation has a
    ramp, `recitation_ramp` is what its weight is multiplied by in this step.

    Args:
        tables: From `parse_tables` for the policy's tokenizer.
        rewards: How answers are read, and what they are worth.
        weighed: Which of "accuracy", "grade", "format" and "recitation" are computed.
        carry: Its ramp, if there is one, decides the recitation's weight in this step
            and sees what the answers earned.
        batch: The right classes of B prompts, marks [B, C] where there can be several,
            and which of its rows are valid.
        rollout: G completions of each prompt.
        step: The number of the step, which decides nothing here.

    Raises:
        ValueError: `leak_label` or a reward "grade" of a task of several labels, where
            there is no one right class.
    """
    del step
    tokens, mask, references = rollout.tokens, rollout.mask, rewards.references
    parsed = read_answers(tokens, mask, tables, rewards.labels)
    target = jnp.broadcast_to(
        batch.label[:, None], (*parsed.parsed.shape, *batch.label.shape[1:])
    )
    if isinstance(parsed, ParsedLabelSets) and (
        rewards.leak_label or "grade" in weighed
    ):
        raise ValueError(
            f"{'leak_label' if rewards.leak_label else 'reward grade'}: a picture may "
            "show several classes or none, so there is no one right class to hold an "
            "answer against; leave it out"
        )
    words = read_words(
        tokens, mask, parsed.think, tables, references, max_words=rewards.max_words
    )
    earned = _accuracies(rewards, parsed, target) | {
        "format": label_format_reward(
            parsed, min_words=rewards.min_words, require_label=rewards.require_label
        ),
        "recitation": score_words(
            words,
            references,
            target if rewards.leak_label else None,
            rewards.min_different,
            rewards.without_words,
        ),
    }
    said = {"overlap": bleu(words, references)}
    if rewards.repeat_ngram:
        said["repeated"] = repeated_ngrams(words, n=rewards.repeat_ngram)
        earned["recitation"] = jnp.where(
            said["repeated"] > rewards.repeat_limit,
            jnp.float32(rewards.without_words),
            earned["recitation"],
        )
    found = Scored(
        rewards={name: earned[name] for name in weighed},
        hits=is_right(parsed, target),
        parsed=jnp.asarray(parsed.parsed),
        aux=carry,
        metrics=_describe(batch, parsed, target, said),
        read=_read(parsed),
    )
    if rewards.ramp is None or not isinstance(carry.ramp, RampState):
        return found
    factor = ramp_factor(carry.ramp, rewards.ramp)
    counts = jnp.broadcast_to(batch.valid[:, None], parsed.parsed.shape)
    ramp = update_ramp(
        carry.ramp,
        masked_mean(earned[rewards.ramp_by], counts),
        rewards.ramp,
        valid=jnp.any(counts),
    )
    return found._replace(
        aux=carry._replace(ramp=ramp),
        metrics={**found.metrics, "recitation_ramp": factor},
        factors={"recitation": factor},
    )


def _read(parsed: ParsedLabels | ParsedLabelSets) -> dict[str, Array]:
    """What an audit says of completions, by name."""
    several = isinstance(parsed, ParsedLabelSets)
    found = {"shown": parsed.shown} if several else {"label": parsed.label}
    words = {"well_formed": parsed.well_formed, "think_words": parsed.think_words}
    return {name: jnp.asarray(x) for name, x in (found | words).items()}


def _accuracies(
    rewards: Rewards, parsed: ParsedLabels | ParsedLabelSets, target: Array
) -> dict[str, Float[Array, "B G"]]:
    """What the answers earn, by the names of rewards."""
    if isinstance(parsed, ParsedLabelSets):
        found = label_set_reward(rewards.set_rule, parsed.shown, target, parsed.parsed)
        return {"accuracy": found}
    return {
        "accuracy": label_reward(parsed.label, target),
        "grade": fuzzy_grade_reward(parsed.label, target, rewards.grade_table),
    }


def _describe(
    batch: LabelBatch,
    parsed: ParsedLabels | ParsedLabelSets,
    target: Array,
    said: Mapping[str, Float[Array, "B G"]],
) -> Mapping[str, Float[Array, ""]]:
    counts = jnp.broadcast_to(batch.valid[:, None], said["overlap"].shape)
    values = {"think_words": parsed.think_words.astype(jnp.float32), **said}
    if isinstance(parsed, ParsedLabelSets):
        answers = parsed.shown, target, parsed.parsed
        values |= {
            "set_f1": label_set_f1(*answers),
            "label_accuracy": label_accuracy(*answers),
        }
    return {name: masked_mean(value, counts) for name, value in values.items()}
