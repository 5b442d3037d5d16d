"""Somebody else's answers: lines of a file laid beside the questions of a test.

    {"image": "images/7.png", "query": "Find the nodule.", "text": "<think>...", ...}

A line names a question by `sample_id`, by what the picture is called in answers.jsonl
(`slice` of boxes, `picture` of classes) or by its `image` as the list of the data has
it, and by its `query`. What it answers, a task reads.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from medjax.data.audit.records import Sample
from medjax.data.batches import Draw, Question, valid_records
from medjax.data.lists.cells import name, number
from medjax.data.lists.files import Line, json_lines
from medjax.data.lists.groups import picture_key
from medjax.data.lists.images import object_image
from medjax.data.lists.reading import Bad
from medjax.data.lists.spellings import spelling_key
from medjax.recipes.policy.beside import rows_beside
from medjax.recipes.policy.scoring import Answered, ScoreFn, earlier_rows, tell
from medjax.recipes.policy.task import Evaluation, ScoredStage

UNANSWERED = ("refuse", "wrong")
FOLDER = "answers"  # in the workdir
_NAMED = 5  # lines that an error names
_PLACES = ("slice", "picture")  # a picture's name in answers.jsonl
_PREDICTED = (
    ". This is a line of --mode=predict: to score a policy of medjax's, have it "
    "evaluated, --mode=eval --checkpoint=FOLDER"
)


class ReadFn(Protocol):
    """Reads lines as answers to questions, one each."""

    def __call__(
        self, lines: Sequence[Line | None], records: Sequence[Any]
    ) -> Answered:
        """The answers.

        Args:
            lines: None where nobody answered, which counts as wrong.
            records: The questions, in the same order.

        Raises:
            ValueError: A line does not answer as it should; file and line are named.
        """
        ...


class Exam(NamedTuple):
    """A test: its questions, and how answers are read and scored, without a policy."""

    # (questions at a time, seed, limit or None) -> all of them
    draws: Callable[[int, int, int | None], Iterable[Draw[Any]]]
    samples: tuple[Sample, ...]  # of a user's data, by which pictures have files
    column: str  # "structure" or "question": what a record and a line call their kind
    keys: tuple[str, ...]  # of a line, beside those that name a question
    read: ReadFn
    doubts: Callable[[Answered], list[str]]  # what makes answers doubtful
    score: ScoreFn


def score_answers(
    exam: Exam,
    path: Path,
    *,
    source: Path,
    evaluation: Evaluation,
    before: Mapping[str, Path],
    workdir: Path,
) -> list[str]:
    """Score a file's answers as an evaluation of a policy is scored.

    The tables have a row by the file's name without its ending, those of earlier stages
    in `workdir` and of `evaluation.beside`, and the baselines. They go to
    WORKDIR/answers/NAME/eval/0 with answers.jsonl, in the form of a run's own, so that
    the folder can be a row beside another run; the report lies above.

    Args:
        exam: The test.
        path: The file, one JSON object a line.
        source: The list of the data, from which `image` of a line starts.
        evaluation: How it is scored; `unanswered` says what a missing answer is.
        before: Earlier evaluations that get rows of their own.
        workdir: The run's folder.

    Returns:
        What makes the scores doubtful: questions without an answer, and boxes that lie
        as if they were measured in another frame than is said.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is broken or answers no question of the test, a question is
            answered twice or not at all, or an answer cannot be what it is said to be.
    """
    if evaluation.unanswered not in UNANSWERED:
        raise ValueError(
            f"evaluation.unanswered={evaluation.unanswered!r}: expected one of "
            f"{', '.join(UNANSWERED)}"
        )
    lines = read_lines(path, (*exam.keys, exam.column))
    limit = evaluation.limit or None
    drawn = exam.draws(evaluation.questions, evaluation.seed, limit)
    records = valid_records(drawn)
    found = match_lines(
        lines,
        _all_asked(records, exam),
        column=exam.column,
        root=source if source.is_dir() else source.parent,
        refuse_missing=evaluation.unanswered == "refuse",
    )
    answered = exam.read(found, records)
    shown = {**before, **rows_beside(evaluation)}
    shown = {title: place for title, place in shown.items() if earlier_rows(place)}
    stage = ScoredStage(path.stem, None, evaluation, shown)
    folder = workdir / FOLDER / path.stem / "eval" / "0"
    exam.score(stage, answered, None, folder)
    tell([f"{path.name}: tables and answers are in {folder}"])
    doubts = [f"{path.name}: {line}" for line in exam.doubts(answered)]
    missing = sum(line is None for line in found)
    if not missing:
        return doubts
    return [
        *doubts,
        f"{path.name}: {missing} of {len(found)} questions have no answer and count as "
        "wrong (evaluation.unanswered=wrong)",
    ]


class Asked(NamedTuple):
    """How a line may name a question."""

    sample_id: int
    picture: str
    files: tuple[str, ...]  # keys of its images; (): it has no files
    query: str
    kind: str


def read_lines(path: Path, keys: Sequence[str]) -> list[Line]:
    """The lines of a file of answers, each of known keys.

    Args:
        path: One JSON object a line.
        keys: Those that a line may have beside the ones that name its question.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is broken, or has a key that is not read.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected answers, one JSON object a line"
        )
    known = ("sample_id", *_PLACES, "image", "query", *keys)
    lines = []
    for line in json_lines(path):
        if isinstance(line, Bad):
            raise ValueError(line.message)
        unknown = [key for key in line.cells if key not in known]
        own = {"parsed", "well_formed", "why"} <= line.cells.keys()
        if unknown:
            raise ValueError(
                f"{line.origin}: keys {unknown} are not read; expected some of "
                f"{', '.join(known)}: take the others out" + _PREDICTED * own
            )
        lines.append(line)
    return lines


def match_lines(
    lines: Sequence[Line],
    asked: Sequence[Asked],
    *,
    column: str,
    root: Path,
    refuse_missing: bool,
) -> list[Line | None]:
    """The line that answers each question, None where there is none.

    Args:
        lines: Of one file.
        asked: The questions of the test.
        column: What a line calls the kind of a question.
        root: The folder from which paths of images start.
        refuse_missing: Whether every question must be answered.

    Raises:
        ValueError: A line answers no question of the test or could answer several, or a
            question is answered twice; all of them are counted, the first five named.
    """
    index: dict[object, list[int]] = {}
    for n, one in enumerate(asked):
        for key in (one.sample_id, ("picture", one.picture), ("files", one.files)):
            index.setdefault(key, []).append(n)
    found: list[Line | None] = [None] * len(asked)
    strange, twice = [], []
    for line in lines:
        rows = _rows(line, asked, index, column, root)
        if not rows:
            strange.append(f"{line.origin} ({_shown(line)})")
        elif len(rows) > 1:
            raise ValueError(
                f"{line.origin}: {_shown(line)} could be {len(rows)} questions of the "
                f"test; expected one: name its 'query', or its 'sample_id'"
            )
        elif (first := found[rows[0]]) is not None:
            twice.append(f"{line.origin} (as {first.origin})")
        else:
            found[rows[0]] = line
    missing = [
        f"{one.picture}, {one.query!r}"
        for one, line in zip(asked, found, strict=True)
        if line is None
    ]
    faults = []
    if strange:
        faults.append(
            f"{len(strange)} of {len(lines)} lines answer questions that are not in "
            f"the test part: {_first(strange)}; expected the data, split, data.test "
            "and evaluation.limit that they were asked with"
        )
    if twice:
        faults.append(
            f"{len(twice)} lines answer a question that another line answers: "
            f"{_first(twice)}; expected one answer each: take one out"
        )
    if missing and refuse_missing:
        faults.append(
            f"{len(missing)} of {len(asked)} questions have no answer: "
            f"{_first(missing)}; --config.evaluation.unanswered=wrong counts them as "
            "wrong"
        )
    if faults:
        raise ValueError("\n".join(faults))
    return found


def said(line: Line) -> str | None:
    """The text of a line, None where it has none.

    Args:
        line: Its `text` may be null.

    Raises:
        ValueError: It is no text.
    """
    text = line.cells.get("text")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{line.origin}: text {text!r}; expected text, in quotes")
    return text


def check_target(line: Line, key: str, target: object) -> None:
    """Refuse a line that knows another right answer than the test has.

    Args:
        line: One of answers.jsonl names the right answer too.
        key: By which.
        target: What the test has, as answers.jsonl writes it.

    Raises:
        ValueError: They differ.
    """
    if key in line.cells and line.cells[key] != target:
        raise ValueError(
            f"{line.origin}: {key} {line.cells[key]!r}, but here it is {target!r}; "
            "expected answers to this test: the same data, split, seed and bounds of "
            "pixels, or lines without that key"
        )


def optional_number(
    line: Line, key: str, *, low: float = 0.0, high: float = float("inf")
) -> float:
    """A number that a line may say, NaN where it does not.

    Args:
        line: Null says nothing.
        key: Its name.
        low: The least that it may be.
        high: The most.

    Raises:
        ValueError: It is no number between these.
    """
    if line.cells.get(key) is None:
        return float("nan")
    value = line.cells[key]
    found = number(value, line.origin, key) if type(value) in (int, float) else low - 1
    if not low <= found <= high:
        raise ValueError(
            f"{line.origin}: {key} {value!r}; expected a number from {low:g} to "
            f"{high:g}"
        )
    return found


def disagree(line: Line, key: str, read: object) -> ValueError:
    """The error of a line whose text says something else than its other cells.

    Args:
        line: The line.
        key: Of the other cell.
        read: What its text, or its box, says.
    """
    return ValueError(
        f"{line.origin}: {key} {line.cells[key]!r}, but what is read of the answer is "
        f"{read!r}; expected the same, or the answer alone: take {key!r} out"
    )


def _all_asked(records: Sequence[Question], exam: Exam) -> list[Asked]:
    files = {
        sample.origin: tuple(map(picture_key, sample.images)) for sample in exam.samples
    }
    return [
        Asked(
            record.sample_id,
            record.slice_id,
            files.get(record.slice_id, ()),
            record.query,
            getattr(record, exam.column),
        )
        for record in records
    ]


def _rows(
    line: Line,
    asked: Sequence[Asked],
    index: Mapping[object, Sequence[int]],
    column: str,
    root: Path,
) -> list[int]:
    """The questions that a line may answer."""
    origin, cells = line
    keys: list[object] = []
    if "sample_id" in cells:
        if type(cells["sample_id"]) is not int:
            raise ValueError(
                f"{origin}: sample_id {cells['sample_id']!r}; expected a whole number"
            )
        keys.append(cells["sample_id"])
    keys += [("picture", name(cells[x], origin, x)) for x in _PLACES if x in cells]
    if "image" in cells:
        listed = (
            cells["image"] if isinstance(cells["image"], list) else [cells["image"]]
        )
        images = [object_image(x, Path(os.path.abspath(root)), origin) for x in listed]
        keys.append(("files", tuple(map(picture_key, images))))
    if not keys:
        raise ValueError(
            f"{origin}: names no picture; expected 'sample_id', 'slice' or 'picture' "
            "as answers.jsonl has them, or 'image' as the list of the data has it"
        )
    rows = set.intersection(*(set(index.get(key, ())) for key in keys))
    if "query" in cells:
        query = spelling_key(str(cells["query"]))
        rows = {n for n in rows if spelling_key(asked[n].query) == query}
    if column in cells:
        rows = {n for n in rows if asked[n].kind == cells[column]}
    return sorted(rows)


def _shown(line: Line) -> str:
    keys = ("sample_id", *_PLACES, "image", "query")
    return ", ".join(f"{x} {line.cells[x]!r}" for x in keys if x in line.cells)


def _first(things: Sequence[str]) -> str:
    more = len(things) - _NAMED
    return "; ".join(things[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
