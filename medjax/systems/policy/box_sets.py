"""Answers that are sets of boxes: reading them, judging them, evaluation."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.rl.box_sets import MOST_BOXES, box_set_quality
from medjax.rl.text.box_set_reader import (
    BoxSetTables,
    box_confidence,
    parse_box_sets,
)
from medjax.rl.text.box_set_text import ParsedSets
from medjax.rl.text.boxes import ParseTables
from medjax.systems.policy.answering import answer, answer_metrics, check_earned
from medjax.types import (
    BoxSetBatch,
    Decoding,
    EvaluateFn,
    Key,
    PolicyModel,
    TrainState,
)


class JudgedSets(NamedTuple):
    """What completions say about their true sets, with leading axes [B] or [B, G]."""

    sets: ParsedSets  # boxes in resized pixels
    quality: Float[Array, "*N"]  # Q, 0 where no set was found
    parsed: Bool[Array, "*N"]  # the answer is a set of 0 to 8 boxes
    well_formed: Bool[Array, "*N"]  # think and answer blocks as asked for


class SetPredictions(NamedTuple):
    """The answers to B prompts, one each."""

    boxes: Float[Array, "B 8 4"]
    box_valid: Bool[Array, "B 8"]
    confidence: Float[Array, "B 8"]  # mean probability of a box's tokens
    tokens: Int[Array, "B T"]
    mask: Bool[Array, "B T"]


def judge_sets(
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    targets: Float[Array, "*#N 8 4"],
    target_valid: Bool[Array, "*#N 8"],
    tables: ParseTables,
    sets: BoxSetTables,
) -> JudgedSets:
    """Read each completion's boxes and hold them against the true set.

    Args:
        tokens: Completions of any leading axes.
        mask: True for the tokens that count; the others are not read.
        targets: The right boxes (x1, y1, x2, y2) in pixels of the image as shown, 8
            places each; a leading axis may be 1.
        target_valid: Which of the places hold a box.
        tables: From `parse_tables` for the tokenizer that wrote the tokens.
        sets: From `box_set_tables`.

    Returns:
        The sets, and Q of each: 0 where no set was found, also where the truth is that
        there is none: silence and nonsense are no finding of "no finding".
    """
    parsed = parse_box_sets(tokens, mask, tables, sets)
    quality = box_set_quality(parsed.boxes, parsed.box_valid, targets, target_valid)
    found, right_format = map(jnp.asarray, (parsed.found, parsed.format))
    return JudgedSets(parsed, jnp.where(found, quality, 0), found, right_format)


def make_set_evaluate(
    sets: BoxSetTables, model: PolicyModel, tables: ParseTables, *, decoding: Decoding
) -> EvaluateFn:
    """The evaluation of a policy that answers by sets, as `System.evaluate` takes it.

    Args:
        sets: From `box_set_tables`.
        model: The policy, as a record of functions of its parameters.
        tables: From `parse_tables` for the policy's tokenizer.
        decoding: How answers are drawn; temperature 0 takes the most likely tokens.

    Returns:
        (state, batch, key) -> (SetPredictions, metrics), see `evaluate_sets`.
    """
    return partial(evaluate_sets, model, tables, sets, decoding)


def evaluate_sets(
    model: PolicyModel,
    tables: ParseTables,
    sets: BoxSetTables,
    decoding: Decoding,
    state: TrainState,
    batch: BoxSetBatch,
    key: Key,
) -> tuple[SetPredictions, dict[str, Array]]:
    """One answer a prompt, greedy where the decoding's temperature is 0.

    Metrics of each row, [B]: `quality` (Q, 0 without a set), `parsed`, `well_formed`,
    `num_boxes` (as written, also above 8), `length` in tokens, `finite`, whether the
    policy's log-probabilities of its answer are, and `valid`, which is False for rows
    that only fill a batch.

    Args:
        model: The policy, as a record of functions of its parameters.
        tables: From `parse_tables` for the policy's tokenizer.
        sets: From `box_set_tables`.
        decoding: Its `max_tokens` cuts an answer that is longer.
        state: Its parameters alone are read.
        batch: B prompts, their true sets and sample ids.
        key: Decides what is drawn, together with the sample ids; a greedy answer needs
            none.
    """
    prefilled = model.prefill(state.params, batch.prompt)
    answers = answer(model, state.params, prefilled, batch, key, decoding)
    tokens, mask, logp = answers
    judged = judge_sets(tokens, mask, batch.boxes, batch.box_valid, tables, sets)
    read = judged.sets
    confidence = box_confidence(logp, tokens, mask, read.spans, tables)
    metrics = answer_metrics(answers, batch) | {
        "quality": judged.quality,
        "parsed": judged.parsed,
        "well_formed": judged.well_formed,
        "num_boxes": read.num_boxes,
    }
    return (
        SetPredictions(read.boxes, read.box_valid, confidence, tokens, mask),
        metrics,
    )


def check_set_answers(
    batch: BoxSetBatch,
    tables: ParseTables,
    sets: BoxSetTables,
    *,
    tau: float,
    names: Sequence[str],
) -> None:
    """Show that true sets, written in the prompt's frame, earn reward 1.

    Args:
        batch: NumPy arrays whose answers are the tight boxes, none of them enlarged.
            Rows that are not valid are not judged.
        tables: From `parse_tables` for the policy's tokenizer.
        sets: From `box_set_tables`.
        tau: The strictest threshold of the run, a Q from 0 to 1; 1e-6 below it passes.
        names: What the error calls each of the B rows.

    Raises:
        ValueError: Some true set does not earn reward 1; the first five rows are named,
            with what was read from them.
    """
    judged = jax.device_get(
        jax.jit(judge_sets)(
            *map(jnp.asarray, (batch.answer, batch.answer_mask, batch.boxes)),
            jnp.asarray(batch.box_valid),
            tables,
            sets,
        )
    )

    def describe(row: int) -> str:
        true = batch.boxes[row][batch.box_valid[row]]
        read = judged.sets.boxes[row][judged.sets.box_valid[row]]
        return (
            f"{names[row]}: targets {true.tolist()}, read {read.tolist()}, Q "
            f"{judged.quality[row]:.3f}, format "
            f"{'right' if judged.well_formed[row] else 'wrong'}"
        )

    check_earned(
        judged.well_formed & (judged.quality >= tau - 1e-6),
        batch.valid,
        describe,
        reward=f"reward 1 at tau {tau:g}",
        ask="Are the boxes in resized pixels, is the answer within the token limit, "
        f"are there at most {MOST_BOXES} boxes, and are they large enough for corners "
        "in whole pixels?",
    )
