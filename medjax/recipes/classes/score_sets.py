"""Score an evaluation of several labels: tables, answers to keep, and the report."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.data.classes.batches import LabelRecord
from medjax.data.classes.label_sets import (
    most_common_set,
    prevalence_draws,
    probe_sets,
)
from medjax.data.classes.pictures import Pictures
from medjax.data.classes.tasks import ClassTask, labels_name
from medjax.evals.label_sets import (
    LabelSetAnswers,
    label_set_scores,
    label_set_summary,
    label_table,
    prevalence_table,
    set_f1,
)
from medjax.evals.tables import Table
from medjax.recipes.classes.score import Asked, Probe, known
from medjax.recipes.policy.beside import require_beside
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

if TYPE_CHECKING:
    from collections.abc import Callable


def label_set_baselines(
    task: ClassTask, train: Pictures, *, seed: int, probe: Probe
) -> "Callable[[Sequence[LabelRecord]], dict[str, LabelSetAnswers]]":
    """Answers without a language model as a function of records.

    "none" for every picture, the most common training set for every picture, each class
    drawn as often as training pictures show it, and a linear probe on pixels, which
    names the classes whose log odds are above 0.

    Args:
        task: The task in words.
        train: What they know: the training part before it is balanced.
        seed: Decides draws, and which of a large part the probe is fitted on.
        probe: How small the probe sees pictures, and how it is fitted.
    """
    marks, classes = train.labels, len(task.classes)

    def answers(records: Sequence[LabelRecord]) -> dict[str, LabelSetAnswers]:
        count = len(records)
        odds = probe_sets(train, records, seed=seed, **probe._asdict())
        common = np.tile(most_common_set(marks), (count, 1))
        chance = prevalence_draws(marks, count, seed=seed)
        every = {
            "none": (np.zeros((count, classes), bool), None),
            "most common set": (common, None),
            "prevalence, drawn": (chance, None),
            "linear probe": (odds > 0, odds),
        }
        return {
            name: make_set_answers(records, classes, named, score=score)
            for name, (named, score) in every.items()
        }

    return remembered(answers)


def make_set_answers(
    records: Sequence[LabelRecord],
    classes: int,
    named: Bool[np.ndarray, "N C"],
    *,
    read: Sequence[bool] | None = None,
    score: Float[np.ndarray, "N C"] | None = None,
    length: Sequence[float] | None = None,
    overlap: Sequence[float] | None = None,
) -> LabelSetAnswers:
    """Answers beside the truth and what they are grouped by.

    Args:
        records: The questions, N of them.
        classes: C.
        named: The classes that each answer names.
        read: Whether a set could be read; None: from all.
        score: The higher, the more likely is a class shown; None where there is none.
        length: The tokens of each text; None, for what writes none, gives NaN.
        overlap: How much each reasoning overlaps with the descriptions, 0 to 1; None
            gives NaN.
    """
    truth = np.zeros((len(records), classes), bool)
    for n, record in enumerate(records):
        truth[n, list(record.labels)] = True
    unknown = np.full(len(records), np.nan)
    return LabelSetAnswers(
        truth=truth,
        named=np.asarray(named, bool),
        read=np.ones(len(records), bool) if read is None else np.asarray(read, bool),
        group=np.array([record.group for record in records]),
        length=unknown if length is None else np.asarray(length, np.float64),
        overlap=unknown if overlap is None else np.asarray(overlap, np.float64),
        score=score,
    )


def score_sets(
    asked: Asked,
    stage: ScoredStage,
    answered: Answered,
    blank: Answered | None,
    folder: Path,
) -> Scored:
    """Scores of an evaluation, see `ScoreFn`.

    Beside the scores of `evals.label_sets` there are `format`, `think_words` (means)
    and `n` (how many answers there are).

    Args:
        asked: The pictures of both parts, and the contenders without a language model.
        stage: Its name, and how it is evaluated.
        answered: The answers, one a question.
        blank: Those to the same questions about blank pictures; None: nobody asked.
        folder: STAGE/eval/STEP: it gets tables and answers, STAGE above it the report.
    """
    classes = asked.task.classes
    values, records = answered.values, answered.records
    ours = _set_answers(answered, len(classes))
    scored = _how_scored(answered, ours, stage.evaluation.draws)
    found = label_set_scores(ours) | {
        "format": float(np.mean(values["well_formed"])),
        "think_words": float(np.mean(values["think_words"])),
        "n": len(records),
    }
    if jax.process_index() == 0:
        contenders = {stage.name: ours}
        contenders |= _earlier(stage.before, records, len(classes))
        require_beside(stage, contenders)
        unseen: Iterable[dict[str, Any]] = ()
        if blank is not None:
            theirs = _set_answers(blank, len(classes))
            contenders[f"{NO_IMAGE}{stage.name}"] = theirs
            unseen = _rows(asked, blank, theirs)
        contenders |= asked.baselines(records)
        tables = [
            label_set_summary(
                contenders,
                **stage.evaluation.resampling,
                against=next((x for x in stage.before if x in contenders), None),
            ),
            label_table(ours, classes, title=f"{stage.name}: each class{scored}"),
            prevalence_table(classes, _marks(asked)),
        ]
        lines = _rows(asked, answered, ours)
        write_evaluation(folder, lines, tables, blank=unseen)
        rated = Rated(
            "set F1",
            {name: set_f1(x) for name, x in contenders.items()},
            ours.group,
            "patients or volumes",
        )
        _write_page(folder, stage, tables, rated, asked.task, answered, found)
    return found


def drawn_shares(drawn: Bool[np.ndarray, "N K C"]) -> Float[np.ndarray, "N C"] | None:
    """The share of K answers that name each class, the score of AUROC; None for K of 0.

    An answer that cannot be read names none.

    Args:
        drawn: The classes that each of the answers names, drawn at temperature 1.
    """
    return drawn.mean(axis=1, dtype=np.float64) if drawn.shape[1] else None


def log_odds(class_logp: Float[np.ndarray, "N C+1"]) -> Float[np.ndarray, "N C"]:
    """log pi(class alone | picture) - log pi("none" | picture), in nats.

    Likelihoods of two whole answers without reasoning: above 0 the policy holds the
    class for likelier than none. It is what a policy knows that writes no such answers
    yet; one that does reasons first, and has `drawn_shares`.

    Args:
        class_logp: Log-probability of the answer of each class alone, and of "none".
    """
    return np.asarray(class_logp[:, :-1] - class_logp[:, -1:], np.float64)


def _how_scored(answered: Answered, ours: LabelSetAnswers, draws: int) -> str:
    """Where scores come from, for a title: no option says how they were drawn.

    A file of answers has shares without their number: it is that of the config where
    all could be shares of so many.
    """
    if ours.score is None:
        return ""
    if "drawn" in answered.predictions:
        draws = answered.predictions["drawn"].shape[1]
    elif not draws or np.abs(ours.score * draws % 1 - 0.5).min() < 0.5 - 1e-4 * draws:
        return ", scores as the answers say"
    return f", scores from {draws} answers drawn at temperature 1"


def _marks(asked: Asked) -> dict[str, Int[np.ndarray, "n C"]]:
    """By part, also of training pictures as they are shown, if classes are balanced."""
    parts = {"train": asked.train, "train, balanced": asked.balanced}
    parts["test"] = asked.test
    return {name: one.labels for name, one in parts.items() if one is not None}


def _set_answers(answered: Answered, classes: int) -> LabelSetAnswers:
    predictions, values = answered.predictions, answered.values
    return make_set_answers(
        answered.records,
        classes,
        predictions["shown"],
        read=predictions["read"],
        score=predictions["shares"]  # of a file of answers
        if "shares" in predictions
        else drawn_shares(predictions["drawn"])
        if "drawn" in predictions
        else None,
        length=values["length"],
        overlap=values["recitation"],
    )


def _rows(
    asked: Asked, answered: Answered, ours: LabelSetAnswers
) -> Iterator[dict[str, Any]]:
    """A line a question."""
    task = asked.task
    values, shares = answered.values, ours.score
    odds = answered.predictions.get("odds")  # of a file of answers, which may have none
    if "class_logp" in answered.predictions:
        odds = log_odds(answered.predictions["class_logp"])
    for n, record in enumerate(answered.records):
        labels = np.flatnonzero(ours.named[n]).tolist()
        read = bool(ours.read[n])
        yield {
            "sample_id": record.sample_id,
            "picture": record.slice_id,
            "group": asked.hide(record.group),
            "query": record.query,
            "question": record.question,
            "target": record.name,
            "answer": labels_name(task, labels) if read else None,
            "labels": labels if read else None,
            "shares": None if shares is None else np.round(shares[n], 6).tolist(),
            "odds": None if odds is None else np.round(odds[n], 6).tolist(),
            "length": known(values["length"][n], int),
            "recitation": known(values["recitation"][n], partial(round, ndigits=6)),
            "text": answered.texts[n],
        }


def _earlier(
    before: Mapping[str, Path], records: Sequence[LabelRecord], classes: int
) -> dict[str, LabelSetAnswers]:
    """The answers of earlier stages that were asked the same questions.

    Where fewer than half of them could be read, the classes that the policy held for
    likelier than none have a row too.
    """
    asked = [(record.sample_id, record.name) for record in records]
    found = {}
    for name, rows in rows_of_before(before, asked, "target"):
        named = np.zeros((len(rows), classes), bool)
        for n, row in enumerate(rows):
            named[n, row["labels"] or []] = True
        shares = [row["shares"] for row in rows]
        odds = [row["odds"] for row in rows]
        found[name] = make_set_answers(
            records,
            classes,
            named,
            read=[row["labels"] is not None for row in rows],
            score=None if None in shares else np.array(shares, np.float64),
            length=[row["length"] for row in rows],
            overlap=[row["recitation"] for row in rows],
        )
        if np.mean(found[name].read) < 0.5 and None not in odds:
            held = np.array(odds, np.float64)
            likelier = make_set_answers(records, classes, held > 0, score=held)
            found[f"{name}, likelier than none"] = likelier
    return found


def _write_page(
    folder: Path,
    stage: ScoredStage,
    tables: Sequence[Table],
    rated: Rated,
    task: ClassTask,
    answered: Answered,
    found: Scored,
) -> None:
    from medjax.report.classes import Answer, answer_sheet
    from medjax.report.page import NARROW, write_report

    answers = [
        Answer(
            image=record.image,
            truth=record.name,
            said=labels_name(task, np.flatnonzero(shown).tolist()) if read else None,
            text=text or "",
        )
        for record, shown, read, text in zip(
            answered.records,
            answered.predictions["shown"],
            answered.predictions["read"],
            answered.texts,
            strict=True,
        )
    ]
    parted = subgroup_tables(rated, answered.records, stage.evaluation)
    words = score_story(rated, stage.earlier, stage.evaluation)
    story = stage.story(folder, words)
    write_report(
        folder.parents[1],
        title=f"{stage.name}, step {folder.name}",
        tables=[*tables, *parted, *stage.told(folder)],
        figures={
            "answers": answer_sheet(answers, count=6),
            f"answers{NARROW}": answer_sheet(answers, count=2),
        },
        story=story.lines,
        doubts=story.doubts,
        evaluated=(int(folder.name), found),
    )
