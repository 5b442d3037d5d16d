"""Scoring an evaluation: what boxes and classes share of collecting and writing it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import jax
import numpy as np
from jaxtyping import Bool, Shaped

from medjax.evals.tables import Table, render_text
from medjax.recipes.policy.task import Scored, ScoredStage
from medjax.runtime.writer import write_atomic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Answers = TypeVar("Answers")
NO_IMAGE = "no image: "  # before the names of rows of what sees no picture
START = "before training"  # the row of a policy with weights of its own
BLANK = (
    "no_image"  # folder of answers about blank pictures, below that of an evaluation
)


class Answered(NamedTuple):
    """The valid rows of an evaluation, in order."""

    records: list[Any]
    predictions: dict[str, Shaped[np.ndarray, "B ..."]]  # fields of the predictions
    values: dict[str, Shaped[np.ndarray, "B"]]  # per-example metrics
    texts: list[str | None]  # what was written; None: nothing is known of it


class ScoreFn(Protocol):
    """Scores answers, and writes them into a folder from process 0."""

    def __call__(
        self,
        stage: ScoredStage,
        answered: Answered,
        blank: Answered | None,
        folder: Path,
    ) -> Scored:
        """The scores; the folder gets tables and answers.jsonl.

        Args:
            stage: Its name, and how it is evaluated.
            answered: The answers, one a question.
            blank: Those to the same questions about blank pictures; None: nobody asked.
            folder: STAGE/eval/STEP; STAGE above it gets the report.
        """
        ...


def score_results(
    score: ScoreFn, stage: ScoredStage, results: Iterable[Any], folder: Path
) -> Scored:
    """Scores of an evaluation of a policy, see `task.Score`.

    Args:
        score: Of boxes, or of classes.
        stage: Its name, and how it is evaluated.
        results: (predictions, metrics, records) of each batch, at least one.
        folder: STAGE/eval/STEP: it gets tables and answers, STAGE above it the report.
    """
    every = collect(results, stage.tokenizer)
    return score(stage, *part_blank(every, no_image=stage.evaluation.no_image), folder)


def remembered(
    baselines: Callable[[Sequence[Any]], Answers],
) -> Callable[[Sequence[Any]], Answers]:
    """Baselines computed once: every evaluation of a run asks the same questions.

    The function returned computes at its first call, and gives that result ever after,
    whatever records it is asked about.

    Args:
        baselines: A function of records.
    """
    memory: list[Answers] = []

    def answers(records: Sequence[Any]) -> Answers:
        if not memory:
            memory.append(baselines(records))
        return memory[0]

    return answers


def collect(results: Iterable[Any], tokenizer: "PreTrainedTokenizerBase") -> Answered:
    """Join the (predictions, metrics, records) of all batches.

    Args:
        results: Of each batch, one or more, its predictions, a NamedTuple with `tokens`
            and `mask`; its metrics, whose boolean `valid` says which rows have a
            record, and `finite` whether log-probabilities are; and those records.
        tokenizer: The policy's, by which the texts are written down.

    Raises:
        ValueError: Those of an answer are not finite.
    """
    records, fields, values, texts = [], [], [], []
    for predictions, metrics, rows in results:
        valid = np.asarray(metrics["valid"])
        _check_finite(np.asarray(metrics["finite"])[valid], rows)
        records += rows
        values.append({k: np.asarray(v)[valid] for k, v in metrics.items()})
        kept = {k: np.asarray(v)[valid] for k, v in predictions._asdict().items()}
        tokens, mask = kept.pop("tokens"), kept.pop("mask")
        fields.append(kept)
        texts += [
            tokenizer.decode(row[here], skip_special_tokens=True)
            for row, here in zip(tokens, mask, strict=True)
        ]
    return Answered(records, _join(fields), _join(values), texts)


def part_blank(
    answered: Answered, *, no_image: bool
) -> tuple[Answered, Answered | None]:
    """Answers about pictures, and those to the same questions about blank ones.

    Args:
        answered: All answers of an evaluation; with `no_image` the second half is about
            blank pictures.
        no_image: The option of the evaluation; False leaves all in the first, and the
            second None.

    Raises:
        ValueError: The halves answer different questions.
    """
    if not no_image:
        return answered, None
    half = len(answered.records) // 2
    parts = [_slice(answered, x) for x in (slice(half), slice(half, None))]
    ids = [[record.sample_id for record in part.records] for part in parts]
    if ids[0] != ids[1]:
        raise ValueError(
            f"evaluation.no_image: {len(answered.records)} answers, expected those "
            "about pictures and then as many about blank ones, to the same questions"
        )
    return parts[0], parts[1]


def _slice(answered: Answered, rows: slice) -> Answered:
    return Answered(
        answered.records[rows],
        {name: x[rows] for name, x in answered.predictions.items()},
        {name: x[rows] for name, x in answered.values.items()},
        answered.texts[rows],
    )


def _check_finite(finite: Bool[np.ndarray, "B"], records: Sequence[Any]) -> None:
    """An answer drawn from NaN is the vocabulary's last token, and no answer."""
    broken = np.flatnonzero(~finite)
    if len(broken):
        raise ValueError(
            f"evaluation: the policy's log-probabilities are NaN or infinite for "
            f"{len(broken)} of {len(finite)} answers of a batch, the first about "
            f"{records[broken[0]].slice_id}; expected finite ones. Are its parameters "
            "finite, and is policy.dtype wide enough (float32, or bfloat16)?"
        )


def rows_at_start(folder: Path) -> dict[str, Path]:
    """The rows of a policy that begins with weights of its own, as `before` takes them.

    Args:
        folder: Of the stage that is evaluated before its first step.
    """
    first = folder / "eval" / "0"
    return {START: first, f"{NO_IMAGE}{START}": first / BLANK}


def earlier_rows(folder: Path) -> tuple[dict[str, Any], ...]:
    """The answers of an earlier evaluation, or of the last of several by step.

    Args:
        folder: One with an answers.jsonl, or one with such folders named by their step;
            where it has neither, or does not exist, there are no rows.
    """
    files = [folder / "answers.jsonl"]
    if not files[0].exists():
        found = folder.glob("*/answers.jsonl")
        files = sorted(found, key=lambda path: int(path.parent.name))
    if not files:
        return ()
    lines = files[-1].read_text(encoding="utf-8").splitlines()
    return tuple(map(json.loads, lines))


def rows_of_before(
    before: Mapping[str, Path], asked: Sequence[tuple[int, str]], column: str
) -> Iterator[tuple[str, tuple[dict[str, Any], ...]]]:
    """Name and answers of each earlier evaluation that was asked the same questions.

    Args:
        before: A row's name -> folder, see `earlier_rows`.
        asked: Sample id of each question, and what `column` says of it.
        column: Of answers.jsonl.
    """
    for name, folder in before.items():
        rows = earlier_rows(folder)
        if [(row["sample_id"], row.get(column)) for row in rows] == asked:
            yield name, rows


def write_evaluation(
    folder: Path,
    rows: Iterable[Mapping[str, Any]],
    tables: Sequence[Table],
    *,
    name: str = "answers.jsonl",
    printed: int = 1,
    blank: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Write a line for each thing scored, and the tables; print the first of them.

    Tables go to tables.txt as text, and to tables.json as a list of title, header and
    rows whose cells are the same texts.

    Args:
        folder: It is made, with its parents, if it does not exist; files in it are
            replaced.
        rows: What each line holds, as JSON can.
        tables: All of them are written, in this order.
        name: The name of the file of lines.
        printed: How many of the tables are printed as well, 0 or more.
        blank: Lines about blank pictures, for a file of the same name in the folder
            `BLANK` below; none writes none.
    """
    for where, found in ((folder, rows), (folder / BLANK, blank)):
        lines = [json.dumps(row, ensure_ascii=False) for row in found]
        if lines or where == folder:
            where.mkdir(parents=True, exist_ok=True)
            write_atomic(where / name, "\n".join(lines) + "\n")
    text = "\n\n".join(render_text(table) for table in tables) + "\n"
    write_atomic(folder / "tables.txt", text)
    cells = [table._asdict() for table in tables]
    write_atomic(folder / "tables.json", json.dumps(cells, ensure_ascii=False) + "\n")
    for table in tables[:printed]:
        print(f"\n{render_text(table)}\n", flush=True)  # noqa: T201


def tell(notes: Sequence[str]) -> None:
    """Print what is said of a user's data before it is used; process 0 alone.

    Args:
        notes: A line each.
    """
    if jax.process_index() == 0:
        for line in notes:
            print(line, flush=True)  # noqa: T201


def _join(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
