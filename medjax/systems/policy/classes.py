"""What every system about classes shares: reading labels, evaluation, the self-test."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from medjax.masked import finite_rows
from medjax.rl.label_rewards import label_format_reward
from medjax.rl.text.boxes import ParseTables
from medjax.rl.text.label_set_text import NONE, ParsedLabelSets
from medjax.rl.text.label_sets import LabelSetTables, parse_label_sets
from medjax.rl.text.label_text import ParsedLabels
from medjax.rl.text.labels import LabelTables, parse_labels
from medjax.rl.text.recitation import recitation_reward
from medjax.rl.text.reference_tables import RecitationTables
from medjax.systems.policy.answering import answer, answer_metrics, check_earned
from medjax.types import (
    Decoding,
    EvaluateFn,
    Key,
    LabelBatch,
    Params,
    PolicyModel,
    Prefilled,
    TrainState,
)


class Predictions(NamedTuple):
    """The answers to B prompts, one each, and what the policy holds of every class."""

    label: Int[Array, "B"]  # class index, -1 = none was read
    class_logp: Float[Array, "B C"]  # log-probability of each class's answer
    tokens: Int[Array, "B T"]
    mask: Bool[Array, "B T"]


class SetPredictions(NamedTuple):
    """The answers to B prompts of a task of several labels, one each."""

    shown: Bool[Array, "B C"]  # the classes named
    read: Bool[Array, "B"]  # a set of them, the empty one included, could be read
    class_logp: Float[Array, "B C+1"]  # of the answers of one class alone, and "none"
    drawn: Bool[Array, "B K C"]  # the classes that each of K drawn answers names
    tokens: Int[Array, "B T"]
    mask: Bool[Array, "B T"]


class Reading(NamedTuple):
    """How completions about classes are read and weighed."""

    tables: ParseTables  # of the policy's vocabulary
    # what counts as an answer; those of sets where the task has several labels
    labels: LabelTables | LabelSetTables
    references: RecitationTables  # what the reasoning is compared with
    # How each class is answered, stop token included, to be weighed: alike but for the
    # label, so that the words around it decide nothing. Of several labels each class
    # alone, and "none".
    answers: Int[np.ndarray, "C T"]
    answers_mask: Bool[np.ndarray, "C T"]
    max_words: int | None = None  # of the reasoning that are read, see `read_words`
    draws: int = 0  # K, of several labels: answers drawn at temperature 1 for a score


def make_evaluate(
    model: PolicyModel, reading: Reading, *, decoding: Decoding
) -> EvaluateFn:
    """The evaluation of a policy that names classes, as `System.evaluate` takes it.

    Args:
        model: The policy, as a record of functions of its parameters.
        reading: How its answers are read, and the answers of the C classes that are
            weighed.
        decoding: How answers are drawn; temperature 0 takes the most likely tokens.

    Returns:
        (state, batch, key) -> (Predictions or SetPredictions, metrics), see `evaluate`.
    """
    return partial(evaluate, model, reading, decoding)


def evaluate(
    model: PolicyModel,
    reading: Reading,
    decoding: Decoding,
    state: TrainState,
    batch: LabelBatch,
    key: Key,
) -> tuple[Predictions | SetPredictions, dict[str, Array]]:
    """One answer a prompt, greedy where the decoding's temperature is 0.

    Beside it every class's answer has its log-probability: what a policy knows that
    does not write such answers, as before it was taught to. Of several labels K more
    answers are drawn at temperature 1 from all tokens: the share that names a class is
    how likely the policy holds it for shown, whatever stands beside it.

    Metrics of each row, [B]: `right` (of several labels: exactly), `parsed`,
    `well_formed`, `length` in tokens, `recitation` (the overlap of the reasoning with
    the descriptions of all classes, 0 without words), `think_words`, `finite`, whether
    the log-probabilities of the answer and of every class are, and `valid`, which is
    False for rows that only fill a batch.

    Args:
        model: The policy, as a record of functions of its parameters.
        reading: How its answers are read, and the answers of the C classes that are
            weighed.
        decoding: Its `max_tokens` cuts an answer that is longer.
        state: Its parameters alone are read.
        batch: B prompts, their classes and sample ids.
        key: Decides what is drawn, together with the sample ids; a greedy answer needs
            none.
    """
    prefilled = model.prefill(state.params, batch.prompt)
    answers = answer(model, state.params, prefilled, batch, key, decoding)
    tokens, mask, _ = answers
    parsed = read_answers(tokens, mask, reading.tables, reading.labels)
    overlap = recitation_reward(
        tokens,
        mask,
        parsed.think,
        reading.tables,
        reading.references,
        max_words=reading.max_words,
    )
    metrics = answer_metrics(answers, batch) | {
        "right": is_right(parsed, batch.label),
        "parsed": parsed.parsed,
        "well_formed": parsed.well_formed,
        "recitation": overlap,
        "think_words": parsed.think_words,
    }
    logp = answer_logps(
        model,
        state.params,
        prefilled,
        reading.answers,
        reading.answers_mask,
        rows=len(batch.label),
    )
    metrics["finite"] &= finite_rows(logp, jnp.ones(logp.shape, bool))
    if isinstance(parsed, ParsedLabels):
        return Predictions(parsed.label, logp, tokens, mask), metrics
    drawn = jnp.zeros((len(batch.label), 0, parsed.shown.shape[-1]), bool)
    if reading.draws:
        more = model.sample(
            state.params,
            prefilled,
            batch.sample_id,
            key,
            group=reading.draws,
            decoding=decoding._replace(temperature=1.0, top_k=None, top_p=None),
        )
        said = read_answers(more.tokens, more.mask, reading.tables, reading.labels)
        drawn = said.shown if isinstance(said, ParsedLabelSets) else drawn
    found = SetPredictions(parsed.shown, parsed.parsed, logp, drawn, tokens, mask)
    return found, metrics


def read_answers(
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    tables: ParseTables,
    labels: LabelTables | LabelSetTables,
) -> ParsedLabels | ParsedLabelSets:
    """What completions say: a class each, or a set of classes, as the tables are.

    Args:
        tokens: Token ids, with any leading axes.
        mask: True at the tokens of the completion.
        tables: From `parse_tables` for the policy's tokenizer.
        labels: What counts as an answer, from `label_tables` or `label_set_tables`.
    """
    if isinstance(labels, LabelSetTables):
        return parse_label_sets(tokens, mask, tables, labels)
    return parse_labels(tokens, mask, tables, labels)


def is_right(
    parsed: ParsedLabels | ParsedLabelSets,
    target: Int[Array, "*N"] | Bool[Array, "*N C"],
) -> Bool[Array, "*N"]:
    """Whether an answer is the true class, or exactly the true set of them.

    Args:
        parsed: From `read_answers`.
        target: The true class of each, or marks of the true classes.
    """
    if isinstance(parsed, ParsedLabels):
        return jnp.asarray(parsed.label == target)
    return jnp.asarray(parsed.parsed & (parsed.shown == target).all(axis=-1))


def answer_logps(
    model: PolicyModel,
    params: Params,
    prefilled: Prefilled,
    answers: Int[Array | np.ndarray, "C T"],
    mask: Bool[Array | np.ndarray, "C T"],
    *,
    rows: int,
) -> Float[Array, "B C"]:
    """log pi(answer | prompt), in nats, of C answers to each of B prompts.

    One answer comes after the other: memory holds the scores of one, [B, T, V].

    Args:
        model: The policy, as a record of functions of its parameters.
        params: The parameters that the answers are weighed under.
        prefilled: B prompts, as `model.prefill` gives them under `params`.
        answers: Token ids, each answer with its stop token, padded to one length T.
        mask: True for a token that counts; padding behind it has no part in the sum.
        rows: B, which a base model's own record of prompts does not tell.
    """

    def total(answer: tuple[Array, Array]) -> Float[Array, "B"]:
        tokens, counted = (jnp.broadcast_to(x, (rows, 1, *x.shape)) for x in answer)
        logp, _ = model.score(params, prefilled, tokens, counted)
        return jnp.sum(jnp.where(counted, logp, 0), axis=(-2, -1))

    return jax.lax.map(total, (jnp.asarray(answers), jnp.asarray(mask))).T


def check_answers(
    batch: LabelBatch,
    tables: ParseTables,
    labels: LabelTables | LabelSetTables,
    *,
    min_words: int,
    names: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Show that the ground truth, written as the policy should, earns reward 1.

    The supervised answers of a batch go through the parser and the rewards of label and
    format that the completions will go through.

    Args:
        batch: NumPy arrays whose answers name the right class. Rows that are not valid
            are not judged.
        tables: From `parse_tables` for the policy's tokenizer.
        labels: What counts as an answer, from `label_tables` or `label_set_tables`.
        min_words: How many words of reasoning the format asks for, 0 or more.
        names: What the error calls each of the B rows.
        classes: The names of the classes by their index, for the error.

    Raises:
        ValueError: Some ground truth does not earn reward 1; the first five rows are
            named, with what was read from them.
    """
    tokens, mask = jnp.asarray(batch.answer), jnp.asarray(batch.answer_mask)
    parsed = jax.jit(read_answers)(tokens, mask, tables, labels)
    format_right = label_format_reward(parsed, min_words=min_words, require_label=True)
    earned = (format_right > 0) & is_right(parsed, jnp.asarray(batch.label))
    parsed, earned = jax.device_get((parsed, earned))

    def describe(row: int) -> str:
        return (
            f"{names[row]}: {_named(batch.label[row], classes)!r}, read "
            f"{_read(parsed, row, classes)!r} after {parsed.think_words[row]} words of "
            f"reasoning, format {'right' if parsed.well_formed[row] else 'wrong'}"
        )

    check_earned(
        earned,
        batch.valid,
        describe,
        reward="reward 1",
        ask="Are answers within the token limit, and does the reasoning have "
        f"{min_words} words at least?",
    )


def _named(label: np.ndarray, classes: Sequence[str]) -> str:
    """A class's name by its index, or those of a set by its marks."""
    if not np.ndim(label):
        return classes[int(label)]
    return ", ".join(classes[n] for n in np.flatnonzero(label).tolist()) or NONE


def _read(
    parsed: ParsedLabels | ParsedLabelSets, row: int, classes: Sequence[str]
) -> str:
    if not parsed.parsed[row]:
        return "no label"
    read = parsed.label if isinstance(parsed, ParsedLabels) else parsed.shown
    return _named(np.take(np.asarray(read), row, axis=0), classes)
