"""Classes as a task: how they are asked for, read, checked, scored and shown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Bool, Int

from medjax.data.batches import Encoding, Parts
from medjax.data.classes.batches import (
    LabelRecord,
    eval_label_batches,
    find_label_records,
    train_label_batches,
)
from medjax.data.classes.knowledge import check_question_length, check_same_wording
from medjax.data.classes.sources import LabelParts
from medjax.data.classes.tasks import (
    Wording,
    check_task,
    class_answers,
    labels_answer,
    wording_texts,
)
from medjax.data.prompting.chat import Style, written
from medjax.data.prompting.layout import shown_size
from medjax.data.prompting.prompts import Buckets, answer_rows, plan_buckets
from medjax.recipes.classes.exam import label_exam
from medjax.recipes.classes.score import Probe
from medjax.recipes.policy.opened import Policy, check_ramps
from medjax.recipes.policy.privacy import HideFn
from medjax.recipes.policy.scoring import score_results
from medjax.recipes.policy.setup import Setup, Supervised
from medjax.recipes.policy.stages import supervised_stage, training_batches
from medjax.recipes.policy.task import Evaluation, Task
from medjax.rl.text.boxes import ParseTables
from medjax.rl.text.label_set_text import NONE
from medjax.rl.text.label_sets import LabelSetTables, label_set_tables
from medjax.rl.text.labels import LabelTables, label_tables
from medjax.runtime.stages import Stage
from medjax.systems.policy.classes import Reading, check_answers, make_evaluate
from medjax.types import Decoding, EvaluateFn, LabelBatch, PolicyModel

_MULTIPLE = 4  # token counts are rounded up to this
_CHECKED = 16  # pictures that the self-test looks at


class LabelFlaws(NamedTuple):
    """How supervised answers are wrong on purpose, as coarse labels are."""

    noise: float  # share of the answers that are of another class


class LabelRun(NamedTuple):
    """A run about classes: its setup, and how its answers are read."""

    setup: Setup
    source: LabelParts
    labels: LabelTables | LabelSetTables
    # the right answer of each class, and of several labels "none", for the self-test
    answers: Int[np.ndarray, "C T"]
    answers_mask: Bool[np.ndarray, "C T"]


def label_words(
    source: LabelParts, style: Style
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every question of the training part, and the supervised answer of each class.

    Args:
        source: The pictures of both parts, and the words of their task.
        style: By what classes are called in an answer.
    """
    planes = source.parts.train.planes
    answers = written(class_answers(source.wording, answer=style.answer), style)
    return wording_texts(source.wording, planes, answer=style.answer), answers


def label_corpus(
    source: LabelParts, style: Style
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a tiny policy's words are made of, twice: none is learnt that occurs once.

    The descriptions are there with and without knowledge in the prompt, so that runs
    with and without it have the same policy.

    Args:
        source: The pictures of both parts, and the words of their task.
        style: By what classes are called in an answer.
    """
    told = source.told
    texts, answers = label_words(source._replace(wording=told), style)
    if told.task.multi:  # so that commas between labels are learnt too
        every = range(len(told.task.classes))
        answers += written([labels_answer(told, every, answer=style.answer)], style)
    return texts * 2, answers * 2


def label_run(
    source: LabelParts,
    policy: Policy,
    style: Style,
    *,
    room: int,
    ramps: bool,
    probe: Probe,
    evaluation: Evaluation,
    seed: int,
    workdir: Path,
    hide: HideFn = str,
) -> LabelRun:
    """Data and policy as the stages take them.

    Args:
        source: The pictures of both parts, and the words of their task.
        policy: The opened checkpoint, or a fresh policy.
        style: The words around a question, and the form of its answer.
        room: How many tokens a question may have, knowledge included; more are an
            error.
        ramps: Whether the place of a pixel is drawn into the pictures, see `add_ramps`.
        probe: How small the linear probe sees pictures, and how it is fitted.
        evaluation: How each stage is evaluated.
        seed: Decides the draws of training and of the baselines.
        workdir: The run's folder, in which a stage finds the answers of the one before.
        hide: What files call a group, see `make_hide`.

    Raises:
        ValueError: The policy's folder was trained with other ramps.
    """
    check_ramps(policy, ramps)
    wording, parts = source.wording, source.parts
    multi, forms = wording.task.multi, check_task(wording.task, style.answer)
    labels = (label_set_tables if multi else label_tables)(forms, think=style.think)
    check_question_length(
        policy.tokenizer, wording, parts.train.planes, style=style, length=room
    )
    buckets = _plan(source, policy, style)
    rows = partial(
        answer_rows,
        policy.tokenizer,
        origins=_answer_names(wording),
        lengths=buckets.answer,
    )
    exam = label_exam(source, style, policy.geometry, probe=probe, seed=seed, hide=hide)
    bare = wording._replace(reasons=("",) * len(wording.reasons))
    task = Task(
        train_batches=partial(draw_batches, LabelFlaws(noise=0.0), wording),
        eval_batches=partial(_test_batches, wording),
        make_evaluate=partial(
            _make_evaluate,
            labels,
            source,
            evaluation.draws,
            *rows(written(class_answers(bare, answer=style.answer), style)),
        ),
        score=partial(score_results, exam.score),
        find_records=partial(_records, wording),
        columns=label_columns,
        check_words=check_words,
    )
    encoding = Encoding(policy.tokenizer, style, policy.geometry, buckets, 1, ramps)
    setup = Setup(task, parts, policy, encoding, evaluation, seed, workdir)
    right = rows(written(class_answers(wording, answer=style.answer), style))
    return LabelRun(setup, source, labels, *right)


def label_supervised_stage(
    name: str,
    run: LabelRun,
    options: Supervised,
    flaws: LabelFlaws,
    *,
    before: Mapping[str, Path],
) -> Stage:
    """A stage that trains on written answers; see `supervised_stage`.

    Args:
        name: The name of the stage and of its folder.
        run: What all stages of the run have in common.
        options: Steps, batch and optimiser.
        flaws: How many written answers are of another class.
        before: Earlier evaluations that get rows of their own in the tables.
    """
    setup = run.setup
    draw = partial(draw_batches, flaws, run.source.wording)
    return supervised_stage(
        name,
        setup,
        options,
        source=training_batches(setup, draw, options, seed=setup.seed),
        flaws=flaws,
        check=partial(self_test, run, min_words=int(setup.encoding.style.think)),
        before=before,
    )


def draw_batches(
    flaws: LabelFlaws,
    wording: Wording,
    parts: Parts,
    encoding: Encoding,
    *,
    batch: int,
    seed: int,
    process_index: int,
    process_count: int,
) -> grain.IterDataset:
    """Training batches, their written answers right unless there are flaws.

    Args:
        flaws: How many written answers are of another class; labels stay true.
        wording: The words of the task.
        parts: The training part is drawn from.
        encoding: How pictures become arrays, and Q.
        batch: How many pictures a batch of this host has.
        seed: Decides the order, how pictures are moved, and what is asked.
        process_index: The number of this host, from 0.
        process_count: How many hosts share the draws, 1 or more.
    """
    return train_label_batches(
        parts.train,
        wording,
        encoding,
        batch=batch,
        seed=seed,
        noise=float(flaws.noise),
        process_index=process_index,
        process_count=process_count,
    )


def label_columns(records: Sequence[LabelRecord]) -> dict[str, list[Any]]:
    """What a reward in Python is given of each record, a list a column.

    Args:
        records: Of a batch, in its order.

    Returns:
        Lists by name with an entry a record; a `target` is a class's name and a `label`
        its index; of a task of several labels the names with commas, or "none", and a
        tuple of indices.
    """
    return {
        "query": [r.query for r in records],
        "question": [r.question for r in records],
        "target": [r.name for r in records],
        "label": [r.labels if r.several else r.label for r in records],
        "slice_id": [r.slice_id for r in records],
        "plane": [r.plane for r in records],
    }


def check_words(stored: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise ValueError where the same classes were described in other words.

    Args:
        stored: The identity of the data that a policy was trained with.
        ours: That of the data it meets here; other classes may have any words.
    """
    mine, theirs = ours.get("words"), stored.get("words")
    if mine and theirs and mine["classes"] == theirs["classes"]:
        check_same_wording(theirs, mine)


def self_test(run: LabelRun, *, min_words: int) -> None:
    """Raise unless ground truth, written as the policy should, earns reward 1.

    Args:
        run: The first 16 questions of its test part are answered, and every class is.
        min_words: How many words of reasoning the format asks for, 0 or more.

    Raises:
        ValueError: Some ground truth does not earn it, see `check_answers`.
    """
    setup, wording = run.setup, run.source.wording
    first = eval_label_batches(
        setup.parts.test, wording, setup.encoding, batch=_CHECKED, seed=0
    )
    batch, records = next(iter(first))
    named = iter(record.slice_id for record in records)
    classes, names = wording.task.classes, _answer_names(wording)
    label = np.arange(len(names), dtype=np.int32)
    every = batch._replace(
        answer=run.answers,
        answer_mask=run.answers_mask,
        label=np.eye(len(names), len(classes), dtype=bool)
        if wording.task.multi
        else label,
        valid=np.ones(len(names), bool),
    )
    rows = [next(named) if ok else "" for ok in np.asarray(batch.valid)]
    for some, called in ((batch, rows), (every, [f"class {x}" for x in names])):
        check_answers(
            some,
            setup.policy.tables,
            run.labels,
            names=called,
            min_words=min_words,
            classes=classes,
        )


def _answer_names(wording: Wording) -> tuple[str, ...]:
    """What errors call the answers of `class_answers`."""
    empty = (NONE,) if wording.task.multi else ()
    return wording.task.classes + empty


def _plan(source: LabelParts, policy: Policy, style: Style) -> Buckets:
    parts = source.parts
    sizes = [
        shown_size(size, policy.geometry)
        for part in (parts.train, parts.test)
        for size in part.sizes
    ]
    texts, answers = label_words(source, style)
    if source.wording.task.multi:
        rows = np.concatenate([parts.train.labels, parts.test.labels])
        shown = [np.flatnonzero(row).tolist() for row in np.unique(rows, axis=0)]
        answers += written(
            [labels_answer(source.wording, x, answer=style.answer) for x in shown],
            style,
        )
    return plan_buckets(
        policy.tokenizer,
        texts,
        answers,
        sizes,
        style=style,
        geometry=policy.geometry,
        slots=1,
        multiple=_MULTIPLE,
    )


def _make_evaluate(
    labels: LabelTables | LabelSetTables,
    source: LabelParts,
    draws: int,
    answers: Int[np.ndarray, "C T"],
    answers_mask: Bool[np.ndarray, "C T"],
    model: PolicyModel,
    tables: ParseTables,
    *,
    decoding: Decoding,
) -> EvaluateFn:
    reading = Reading(
        tables, labels, source.references, answers, answers_mask, draws=draws
    )
    return make_evaluate(model, reading, decoding=decoding)


def _test_batches(
    wording: Wording,
    parts: Parts,
    encoding: Encoding,
    *,
    batch: int,
    seed: int,
    limit: int | None,
) -> Iterator[tuple[LabelBatch, list[LabelRecord]]]:
    return eval_label_batches(
        parts.test, wording, encoding, batch=batch, seed=seed, limit=limit
    )


def _records(
    wording: Wording, parts: Parts, encoding: Encoding, *, seed: int
) -> Callable[[Sequence[int]], list[LabelRecord]]:
    return find_label_records(parts.train, wording, encoding, seed=seed)
