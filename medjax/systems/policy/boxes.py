"""What every grounding system shares: reading boxes, judging them, evaluation."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.rl.rewards import parsed_iou
from medjax.rl.text.boxes import ParseTables, parse_completions
from medjax.systems.policy.answering import answer, answer_metrics, check_earned
from medjax.types import (
    Decoding,
    EvaluateFn,
    GroundingBatch,
    Key,
    PolicyModel,
    TrainState,
)


class Judged(NamedTuple):
    """What completions say about their targets, with leading axes [B] or [B, G]."""

    boxes: Float[Array, "*N 4"]  # resized pixels, zeros where none was found
    iou: Float[Array, "*N"]  # 0 where no box was found
    parsed: Bool[Array, "*N"]
    well_formed: Bool[Array, "*N"]  # think and answer blocks as asked for


class Predictions(NamedTuple):
    """The answers to B prompts, one each."""

    boxes: Float[Array, "B 4"]
    tokens: Int[Array, "B T"]
    mask: Bool[Array, "B T"]


def judge(
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    targets: Float[Array, "*N 4"],
    tables: ParseTables,
) -> Judged:
    """Read each completion's box and hold it against its target.

    Args:
        tokens: Completions of any leading axes.
        mask: True for the tokens that count; the others are not read.
        targets: The right boxes (x1, y1, x2, y2) in pixels of the image as shown, one
            each.
        tables: From `parse_tables` for the tokenizer that wrote the tokens.

    Returns:
        One box, IoU (0 without a box) and two flags a completion.
    """
    parsed = parse_completions(tokens, mask, tables)
    iou = parsed_iou(parsed.boxes, parsed.box_found, targets)
    return Judged(parsed.boxes, iou, parsed.box_found, parsed.format)


def make_evaluate(
    model: PolicyModel, tables: ParseTables, *, decoding: Decoding
) -> EvaluateFn:
    """The evaluation of a policy that answers by boxes, as `System.evaluate` takes it.

    Args:
        model: The policy, as a record of functions of its parameters.
        tables: From `parse_tables` for the policy's tokenizer.
        decoding: How answers are drawn; temperature 0 takes the most likely tokens.

    Returns:
        (state, batch, key) -> (Predictions, metrics), see `evaluate`.
    """
    return partial(evaluate, model, tables, decoding)


def evaluate(
    model: PolicyModel,
    tables: ParseTables,
    decoding: Decoding,
    state: TrainState,
    batch: GroundingBatch,
    key: Key,
) -> tuple[Predictions, dict[str, Array]]:
    """One answer a prompt, greedy where the decoding's temperature is 0.

    Metrics of each row, [B]: `iou` (0 without a box), `parsed`, `well_formed`, `length`
    in tokens, `finite`, whether the policy's log-probabilities of its answer are, and
    `valid`, which is False for rows that only fill a batch.

    Args:
        model: The policy, as a record of functions of its parameters.
        tables: From `parse_tables` for the policy's tokenizer.
        decoding: Its `max_tokens` cuts an answer that is longer.
        state: Its parameters alone are read.
        batch: B prompts, their targets and sample ids.
        key: Decides what is drawn, together with the sample ids; a greedy answer needs
            none.
    """
    prefilled = model.prefill(state.params, batch.prompt)
    answers = answer(model, state.params, prefilled, batch, key, decoding)
    judged = judge(answers.tokens, answers.mask, batch.boxes, tables)
    metrics = answer_metrics(answers, batch) | {
        "iou": judged.iou,
        "parsed": judged.parsed,
        "well_formed": judged.well_formed,
    }
    return Predictions(judged.boxes, answers.tokens, answers.mask), metrics


def check_answers(
    batch: GroundingBatch, tables: ParseTables, *, tau: float, names: Sequence[str]
) -> None:
    """Show that the ground truth, written in the prompt's frame, earns reward 1.

    The supervised answers of a batch go through the parser and the reward that the
    completions will go through. Run before training: a wrong coordinate frame, a parser
    that does not know the tokenizer or an answer cut by the token limit are found here
    and not as a reward that stays 0.

    Args:
        batch: NumPy arrays whose answers are the tight boxes, none of them enlarged.
            Rows that are not valid are not judged.
        tables: From `parse_tables` for the policy's tokenizer.
        tau: The strictest threshold of the run, an IoU from 0 to 1; 1e-6 below it
            passes.
        names: What the error calls each of the B rows.

    Raises:
        ValueError: Some ground truth does not earn reward 1; the first five rows are
            named, with what was read from them.
    """
    judged = jax.device_get(
        jax.jit(judge)(
            jnp.asarray(batch.answer),
            jnp.asarray(batch.answer_mask),
            jnp.asarray(batch.boxes),
            tables,
        )
    )

    def describe(row: int) -> str:
        read = judged.boxes[row].tolist() if judged.parsed[row] else "no box"
        return (
            f"{names[row]}: target {batch.boxes[row].tolist()}, read {read}, IoU "
            f"{judged.iou[row]:.3f}, format "
            f"{'right' if judged.well_formed[row] else 'wrong'}"
        )

    check_earned(
        judged.well_formed & (judged.iou >= tau - 1e-6),
        batch.valid,
        describe,
        reward=f"reward 1 at tau {tau:g}",
        ask="Is the box frame the prompt's (resized pixels), are answers within the "
        "token limit, and boxes large enough for corners in whole pixels?",
    )
