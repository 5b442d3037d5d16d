"""How the stages of a policy are evaluated: on what, by what, and told by whom."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medjax.data.batches import Encoding, Parts
from medjax.recipes.policy.beside import check_questions, rows_beside
from medjax.recipes.policy.live import live_page
from medjax.recipes.policy.setup import Setup
from medjax.recipes.policy.subgroups import check_subgroups
from medjax.recipes.policy.task import (
    EvalBatches,
    Evaluation,
    ScoredStage,
    StoryFn,
    TellFn,
)
from medjax.recipes.policy.training_tables import speed_table
from medjax.systems.policy.answering import evaluate_laid_out
from medjax.types import Decoding, EvaluateFn


def greedy_evaluation(setup: Setup, *, max_tokens: int) -> EvaluateFn:
    """`System.evaluate` for the setup's policy, which takes the most likely tokens.

    Args:
        setup: What all stages of the run have in common.
        max_tokens: An answer that is longer is cut.
    """
    policy, make = setup.policy, setup.task.make_evaluate
    decoding = Decoding(policy.ends, max_tokens, temperature=0.0)
    if policy.sampler is None:
        return make(policy.model, policy.tables, decoding=decoding)
    sampler = policy.sampler
    evaluate = make(sampler.model, policy.tables, decoding=decoding)
    return partial(evaluate_laid_out, sampler, evaluate)


def scoring(
    setup: Setup,
    name: str,
    *,
    before: Mapping[str, Path],
    tell: tuple[TellFn, ...] = (),
    words: StoryFn | None = None,
) -> dict[str, Any]:
    """The fields of a `Stage` that say how it is evaluated, the same for all stages.

    Args:
        setup: What all stages of the run have in common.
        name: The stage's name, which its row of the tables has.
        before: Earlier evaluations that get a row in the tables: row's name -> folder
            with an answers.jsonl, or one with such folders by step, the last of which
            is taken.
        tell: Tables about the training for the report, see `ScoredStage`.
        words: About the training, likewise.
    """
    evaluation = setup.evaluation
    batches = partial(
        _in_turn,
        setup.task.eval_batches,
        setup.parts,
        blank_too(setup.encoding._replace(questions=evaluation.questions), evaluation),
        batch=evaluation.batch,
        seed=evaluation.seed,
        limit=evaluation.limit or None,
    )
    shown = {**before, **rows_beside(evaluation)}
    tell = (*tell, speed_table)
    stage = ScoredStage(name, setup.policy.tokenizer, evaluation, shown, tell, words)
    return {
        "eval_batches": batches,
        "score": partial(setup.task.score, stage),
        "evaluate_every": evaluation.every,
        "live": live_page(name, words=words, tell=tell),
    }


def blank_too(encoding: Encoding, evaluation: Evaluation) -> tuple[Encoding, ...]:
    """How the pictures of an evaluation are shown: as they are, and blank if wanted.

    Args:
        encoding: Of the evaluation.
        evaluation: Its `no_image` decides.
    """
    blank = encoding._replace(blank=True)
    return (encoding, blank) if evaluation.no_image else (encoding,)


def _in_turn(
    draw: EvalBatches,
    parts: Parts,
    encodings: Sequence[Encoding],
    *,
    batch: int,
    seed: int,
    limit: int | None,
) -> Iterator[tuple[Any, list[Any]]]:
    """The same questions once for each encoding."""
    for encoding in encodings:
        yield from draw(parts, encoding, batch=batch, seed=seed, limit=limit)


def check_answers(
    check: Callable[[], None],
    evaluation: Evaluation,
    batches: Callable[[], Iterator[tuple[Any, list[Any]]]],
) -> None:
    """The self-test of answers, then whether other runs can stand beside this one.

    Args:
        check: Raises unless ground truth earns reward 1.
        evaluation: Names other runs, and columns by which scores are split.
        batches: Of the evaluation, `eval_batches` of `scoring`.

    Raises:
        ValueError: Another run answered other questions, or no record has a column.
    """
    check()
    check_questions(evaluation, batches)
    check_subgroups(evaluation, batches)
