"""Score an evaluation of classes: tables, answers to keep, and the report's page."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from medjax.data.classes.batches import LabelRecord
from medjax.data.classes.pictures import Pictures, class_counts
from medjax.data.classes.probe import majority_answers, probe_answers
from medjax.data.classes.tasks import ClassTask
from medjax.evals.classes import (
    LabelAnswers,
    balance_table,
    by_question,
    confusion_table,
    scores,
    summary_table,
    vote_by_group,
)
from medjax.evals.tables import Table
from medjax.recipes.policy.beside import require_beside
from medjax.recipes.policy.privacy import HideFn
from medjax.recipes.policy.score_story import Rated, score_story
from medjax.recipes.policy.scoring import (
    NO_IMAGE,
    Answered,
    remembered,
    rows_of_before,
    write_evaluation,
)
from medjax.recipes.policy.subgroups import subgroup_tables
from medjax.recipes.policy.task import Scored, ScoredStage

Baselines = Callable[[Sequence[LabelRecord]], dict[str, LabelAnswers]]


class Probe(NamedTuple):
    """The section `data.probe` of a config: the options of `probe_answers`."""

    side: int  # pixels that a picture is shrunk to
    draws: int  # pictures drawn of each training picture
    penalty: float  # of the squared weights


def label_baselines(
    task: ClassTask, train: Pictures, *, seed: int, probe: Probe
) -> Baselines:
    """The majority class and a linear probe on pixels as a function of records.

    They are computed at its first call; later calls give the same answers.

    Args:
        task: The task in words, with its questions.
        train: What they know: the training part before its classes are balanced.
        seed: Decides how training pictures are moved, and which of a large part the
            probe is fitted on.
        probe: How small the probe sees pictures, and how it is fitted.
    """

    def answers(records: Sequence[LabelRecord]) -> dict[str, LabelAnswers]:
        linear = probe_answers(task, train, records, seed=seed, **probe._asdict())
        guesses = {
            "majority class": majority_answers(task, train, records),
            "linear probe": linear,
        }
        return {name: make_answers(guess, records) for name, guess in guesses.items()}

    return remembered(answers)


def make_answers(
    predicted: np.ndarray,
    records: Sequence[LabelRecord],
    *,
    length: Sequence[float] | None = None,
    overlap: Sequence[float] | None = None,
) -> LabelAnswers:
    """Answers beside what they are grouped by.

    Args:
        predicted: The class of each answer, -1 where none was read.
        records: The questions, in the same order.
        length: The tokens of each text; None, for what writes none, gives NaN.
        overlap: How much each reasoning overlaps with the descriptions, 0 to 1; None
            gives NaN.
    """
    unknown = np.full(len(records), np.nan)
    return LabelAnswers(
        label=np.array([record.label for record in records], np.int32),
        predicted=np.asarray(predicted, np.int32),
        group=np.array([record.group for record in records]),
        question=np.array([record.question for record in records]),
        length=unknown if length is None else np.asarray(length, np.float64),
        overlap=unknown if overlap is None else np.asarray(overlap, np.float64),
    )


class Asked(NamedTuple):
    """The pictures of an evaluation of classes, and who else answers about them."""

    task: ClassTask
    train: Pictures  # before its classes are balanced
    test: Pictures
    baselines: Baselines  # contenders without a language model
    hide: HideFn = str  # what files call a group
    balanced: Pictures | None = None  # `train` as it is shown, where that differs


def score(
    asked: Asked,
    stage: ScoredStage,
    answered: Answered,
    blank: Answered | None,
    folder: Path,
) -> Scored:
    """Scores of an evaluation, see `ScoreFn`.

    Beside the scores of `evals.classes` there are `ranked accuracy` (of the most likely
    class), `format`, `think_words` (means) and `n` (how many answers there are); of
    slices of volumes also `volume accuracy`, see `vote_by_group`.

    Args:
        asked: The pictures of both parts, and the contenders without a language model.
        stage: Its name, and how it is evaluated.
        answered: The answers, one a question.
        blank: Those to the same questions about blank pictures; None: nobody asked.
        folder: STAGE/eval/STEP: it gets tables and answers, STAGE above it the report.
    """
    task = asked.task
    kind = {"num_classes": len(task.classes), "ordinal": task.ordinal}
    options = {question.name: question.options for question in task.questions}
    values, records = answered.values, answered.records
    offered = [options[record.question] for record in records]
    ranked = answered.predictions.get("ranked")  # other people's may have none
    if "class_logp" in answered.predictions:
        ranked = most_likely(answered.predictions["class_logp"], offered)
    ours = _label_answers(answered)
    truth = np.array([record.label for record in records])
    voted = {}
    if ranked is not None:
        voted = {"ranked accuracy": float(np.mean(ranked == truth))}
    if what := asked.test.voted:
        votes = scores(vote_by_group(ours), **kind)
        voted[f"{what} accuracy"] = votes["accuracy"]
    found = {
        **scores(ours, **kind),
        **voted,
        "format": float(np.mean(values["well_formed"])),
        "think_words": float(np.mean(values["think_words"])),
        "n": len(records),
    }
    if jax.process_index() == 0:
        contenders = {stage.name: ours}
        contenders |= _earlier(stage.before, records)
        require_beside(stage, contenders)
        unseen: Iterable[dict[str, Any]] = ()
        if blank is not None:
            contenders[f"{NO_IMAGE}{stage.name}"] = _label_answers(blank)
            likely = most_likely(blank.predictions["class_logp"], offered)
            unseen = _rows(asked, blank, likely)
        contenders |= asked.baselines(records)
        summary = partial(
            summary_table,
            **kind,
            **stage.evaluation.resampling,
            against=next((x for x in stage.before if x in contenders), None),
        )
        tables = [summary(contenders)]
        if asked.test.voted:
            votes = {name: vote_by_group(x) for name, x in contenders.items()}
            title = f"one answer a {asked.test.voted}, by the most votes"
            tables.append(summary(votes, title=title))
        tables += _confusion_tables(task, stage.name, ours)
        tables += _balance_tables(task, asked.train, asked.test)
        lines = _rows(asked, answered, ranked)
        write_evaluation(folder, lines, tables, blank=unseen)
        rated = Rated(
            "accuracy",
            {n: (x.predicted == x.label) * 1.0 for n, x in contenders.items()},
            ours.group,
            "patients or blocks of slices",
        )
        _write_page(folder, stage, tables, rated, task, answered, found)
    return found


def most_likely(
    logp: Float[np.ndarray, "B C"], offered: Sequence[Sequence[int]]
) -> Int[np.ndarray, "B"]:
    """The most likely class of those that each question offers.

    Of equally likely ones it is the one that is offered first.

    Args:
        logp: The log-probability of each of C classes as the answer to each of N
            questions.
        offered: The class indices that each question offers, at least one.
    """
    chosen = [row[list(n)].argmax() for row, n in zip(logp, offered, strict=True)]
    found = [n[at] for at, n in zip(chosen, offered, strict=True)]
    return np.array(found, np.int32)


def _label_answers(answered: Answered) -> LabelAnswers:
    return make_answers(
        answered.predictions["label"],
        answered.records,
        length=answered.values["length"],
        overlap=answered.values["recitation"],
    )


def _rows(
    asked: Asked, answered: Answered, ranked: Int[np.ndarray, "B"] | None
) -> Iterator[dict[str, Any]]:
    """A line a question."""
    task = asked.task
    predicted, values = answered.predictions["label"], answered.values
    for n, record in enumerate(answered.records):
        label = int(predicted[n])
        yield {
            "sample_id": record.sample_id,
            "picture": record.slice_id,
            "group": asked.hide(record.group),
            "query": record.query,
            "question": record.question,
            "target": record.name,
            "answer": task.classes[label] if label >= 0 else None,
            "label": label,
            "ranked": None if ranked is None else int(ranked[n]),
            "length": known(values["length"][n], int),
            "recitation": known(values["recitation"][n], partial(round, ndigits=6)),
            "text": answered.texts[n],
        }


def known(value: float, shown: Callable[[float], float]) -> float | None:
    """A number as a line of JSON has it, None for NaN, which JSON does not have.

    Args:
        value: Of an answer.
        shown: Makes the number that is written.
    """
    return None if np.isnan(value) else shown(float(value))


def _earlier(
    before: Mapping[str, Path], records: Sequence[LabelRecord]
) -> dict[str, LabelAnswers]:
    """The answers of earlier stages that were asked the same questions.

    Where fewer than half of them could be read, the classes that the policy held for
    most likely have a row too: so a policy is tested that was not taught to answer.
    """
    asked = [(record.sample_id, record.name) for record in records]
    found = {}
    for name, rows in rows_of_before(before, asked, "target"):
        found[name] = make_answers(
            np.array([row["label"] for row in rows]),
            records,
            length=[row["length"] for row in rows],
            overlap=[row["recitation"] for row in rows],
        )
        ranked = [row["ranked"] for row in rows]
        if np.mean(found[name].predicted >= 0) < 0.5 and None not in ranked:
            ranked = np.array(ranked)
            found[f"{name}, most likely"] = make_answers(ranked, records)
    return found


def _confusion_tables(
    task: ClassTask, stage: str, answers: LabelAnswers
) -> Iterator[Table]:
    """One a question; an answer may be a class that it does not offer."""
    for name, part in by_question(answers).items():
        title = f"{stage}, question {name}: confusion matrix"
        yield confusion_table(part, task.classes, title=title)


def _balance_tables(
    task: ClassTask, train: Pictures, test: Pictures
) -> Iterator[Table]:
    """How many pictures of each class the parts have, one table a question."""
    for m, question in enumerate(task.questions):
        parts = {
            name: class_counts(pictures, len(task.classes), m)[list(question.options)]
            for name, pictures in (("train", train), ("test", test))
        }
        yield balance_table([task.classes[n] for n in question.options], parts)


def _write_page(
    folder: Path,
    stage: ScoredStage,
    tables: Sequence[Table],
    rated: Rated,
    task: ClassTask,
    answered: Answered,
    found: Scored,
) -> None:
    from medjax.report.classes import Answer, answer_sheet, confusion_figure
    from medjax.report.page import NARROW, write_report

    predicted = answered.predictions["label"]
    answers = [
        Answer(
            image=record.image,
            truth=record.name,
            said=task.classes[label] if label >= 0 else None,
            text=text or "",
        )
        for record, label, text in zip(
            answered.records, predicted, answered.texts, strict=True
        )
    ]
    labels = np.array([record.label for record in answered.records])
    figures = {
        "answers": answer_sheet(answers, count=6),
        f"answers{NARROW}": answer_sheet(answers, count=2),
        "confusion": confusion_figure(labels, predicted, task.classes),
    }
    parted = subgroup_tables(rated, answered.records, stage.evaluation)
    words = score_story(rated, stage.earlier, stage.evaluation)
    story = stage.story(folder, words)
    write_report(
        folder.parents[1],
        title=f"{stage.name}, step {folder.name}",
        tables=[*tables, *parted, *stage.told(folder)],
        figures=figures,
        story=story.lines,
        doubts=story.doubts,
        evaluated=(int(folder.name), found),
    )
