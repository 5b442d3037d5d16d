"""Boxes as a task: how they are asked for, read, checked, scored and shown."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from medjax.data.batches import Encoding, Parts
from medjax.data.boxes.batches import (
    AnyRecord,
    eval_batches,
    find_records,
    train_batches,
)
from medjax.data.boxes.set_records import SetRecord
from medjax.data.prompting.chat import (
    Style,
    asks_for_sets,
    longest_answers,
    written,
)
from medjax.data.prompting.layout import shown_size
from medjax.data.prompting.prompts import plan_buckets
from medjax.recipes.boxes.exam import box_exam
from medjax.recipes.policy.opened import Policy, check_ramps
from medjax.recipes.policy.scoring import score_results
from medjax.recipes.policy.setup import Setup, Supervised
from medjax.recipes.policy.stages import supervised_stage, training_batches
from medjax.recipes.policy.task import Evaluation, Task
from medjax.rl.text.box_automaton import build_automaton
from medjax.rl.text.box_set_reader import box_set_tables
from medjax.runtime.stages import Stage
from medjax.systems.policy.box_sets import check_set_answers, make_set_evaluate
from medjax.systems.policy.boxes import check_answers, make_evaluate
from medjax.types import BoxSetBatch

_MULTIPLE = 4  # token counts are rounded up to this
_CHECKED = (8, 4)  # pictures and questions about each that the self-test looks at
WARM_TAU = 0.8  # IoU of a tight answer in whole pixels


class BoxFlaws(NamedTuple):
    """How supervised answers are wrong on purpose, as coarse labels are."""

    loose: tuple[float, ...]  # (low, high) factor of a box's sides; empty: tight boxes


def box_setup(
    parts: Parts,
    policy: Policy,
    style: Style,
    *,
    ramps: bool,
    evaluation: Evaluation,
    seed: int,
    workdir: Path,
) -> Setup:
    """Data and policy as the stages take them.

    Args:
        parts: Both parts; sizes and lengths are padded to what they need at most.
        policy: The opened checkpoint, or a fresh policy.
        style: The words around a question, and the form of its answer.
        ramps: Whether the place of a pixel is drawn into the pictures, see `add_ramps`;
            not for coloured ones.
        evaluation: How each stage is evaluated.
        seed: Decides the order, the moves and the questions of training.
        workdir: The run's folder, in which a stage finds the answers of the one before.

    Raises:
        ValueError: The policy's folder was trained with other ramps.
    """
    check_ramps(policy, ramps)
    both = (parts.train, parts.test)
    names = [text for views in both for text in views.reasons or views.names]
    sizes = [shown_size(s, policy.geometry) for views in both for s in views.sizes]
    slots = max(views.slots for views in both)
    buckets = plan_buckets(
        policy.tokenizer,
        [text for views in both for text in views.texts],
        written(
            longest_answers(
                names,
                sizes=sizes,
                style=style.answer,
                most=max(views.most for views in both),
            ),
            style,
        ),
        sizes,
        style=style,
        geometry=policy.geometry,
        slots=slots,
        multiple=_MULTIPLE,
    )
    exam = box_exam(parts, policy.geometry, style, seed=seed)
    task = Task(
        train_batches=partial(draw_batches, BoxFlaws(loose=())),
        eval_batches=_test_batches,
        make_evaluate=make_evaluate,
        score=partial(score_results, exam.score),
        find_records=_records,
        columns=box_columns,
        check_words=_any_words,
    )
    if asks_for_sets(style):
        tables = box_set_tables(think=style.think)
        task = task._replace(make_evaluate=partial(make_set_evaluate, tables))
    encoding = Encoding(policy.tokenizer, style, policy.geometry, buckets, 1, ramps)
    if jax.process_count() > 1:
        encoding = encoding._replace(slots=slots)
    if not style.think:  # which is another right format of boxes
        machine = build_automaton(think=False)
        policy = policy._replace(tables=policy.tables._replace(**machine._asdict()))
    return Setup(task, parts, policy, encoding, evaluation, seed, workdir)


def box_supervised_stage(
    name: str,
    setup: Setup,
    options: Supervised,
    flaws: BoxFlaws,
    *,
    before: Mapping[str, Path],
) -> Stage:
    """A stage that trains on written boxes; see `supervised_stage`.

    Args:
        name: The name of the stage and of its folder.
        setup: What all stages of the run have in common.
        options: Steps, batch and optimiser.
        flaws: How much too large the written boxes are.
        before: Earlier evaluations that get rows of their own in the tables, see
            `scoring`.
    """
    draw = partial(draw_batches, flaws)
    return supervised_stage(
        name,
        setup,
        options,
        source=training_batches(setup, draw, options, seed=setup.seed),
        flaws=flaws,
        check=partial(self_test, setup, tau=WARM_TAU),
        before=before,
    )


def draw_batches(
    flaws: BoxFlaws,
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
        flaws: How much too large written boxes are; the rewards' targets stay tight.
        parts: The training part is drawn from.
        encoding: How pictures become arrays, and Q.
        batch: How many pictures a batch of this host has.
        seed: Decides the order, how pictures are moved, and what is asked.
        process_index: The number of this host, from 0.
        process_count: How many hosts share the draws, 1 or more.
    """
    loose = (float(flaws.loose[0]), float(flaws.loose[1])) if flaws.loose else None
    return train_batches(
        parts.train,
        encoding,
        batch=batch,
        seed=seed,
        loose=loose,
        process_index=process_index,
        process_count=process_count,
    )


def box_columns(records: Sequence[AnyRecord]) -> dict[str, list[Any]]:
    """What a reward in Python is given of each record, a list a column.

    Args:
        records: Of a batch, in its order.

    Returns:
        Lists by name with an entry a record; a `target` is (x1, y1, x2, y2) in pixels
        of the shown picture. Where answers are sets it is a list of such boxes, the
        empty one where there is nothing to find.
    """
    targets = [r.boxes if isinstance(r, SetRecord) else r.box for r in records]
    return {
        "query": [r.query for r in records],
        "structure": [r.structure for r in records],
        "target": [target.tolist() for target in targets],
        "slice_id": [r.slice_id for r in records],
        "plane": [r.plane for r in records],
    }


def self_test(setup: Setup, *, tau: float) -> None:
    """Raise unless ground truth, written as the policy should, earns reward 1.

    Args:
        setup: The first 8 pictures of its test part are looked at, 4 questions about
            each.
        tau: The strictest threshold of the stage, an IoU (or Q) from 0 to 1.

    Raises:
        ValueError: Some ground truth does not earn it, see `check_answers`.
    """
    pictures, questions = _CHECKED
    encoding = setup.encoding._replace(questions=questions)
    first = eval_batches(setup.parts.test, encoding, batch=pictures, seed=0)
    batch, records = next(first)
    labels = iter(f"{r.slice_id}, {r.structure}" for r in records)
    names = [next(labels) if ok else "" for ok in np.asarray(batch.valid)]
    if isinstance(batch, BoxSetBatch):
        tables = setup.policy.tables, box_set_tables(think=encoding.style.think)
        check_set_answers(batch, *tables, tau=tau, names=names)
    else:
        check_answers(batch, setup.policy.tables, tau=tau, names=names)


def _test_batches(
    parts: Parts, encoding: Encoding, *, batch: int, seed: int, limit: int | None
) -> Any:
    return eval_batches(parts.test, encoding, batch=batch, seed=seed, limit=limit)


def _records(
    parts: Parts, encoding: Encoding, *, seed: int
) -> Callable[[Sequence[int]], list[AnyRecord]]:
    return find_records(parts.train, encoding, seed=seed)


def _any_words(stored: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Questions about boxes have no descriptions whose wording could differ."""
