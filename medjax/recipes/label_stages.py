"""What the stages of a run about classes share: setup, rewards, the self-test."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grain
import numpy as np

from medjax.data.batches import Encoding
from medjax.data.chat import Style
from medjax.data.class_batches import (
    eval_label_batches,
    find_label_records,
    train_label_batches,
)
from medjax.data.knowledge import check_question_length
from medjax.data.labels import Wording, check_task, class_answers, wording_texts
from medjax.data.layout import shown_size
from medjax.data.prompts import answer_rows, plan_buckets
from medjax.data.tokenizer import parse_tables
from medjax.recipes.label_data import LabelParts
from medjax.recipes.label_score import label_baselines, make_score
from medjax.recipes.policy import Policy
from medjax.recipes.policy_stages import Kind, Parts, Setup, exploration_stage
from medjax.recipes.python_rewards import (
    label_columns,
    load_reward,
    make_host_rewards,
)
from medjax.rl.label_rewards import check_grade_table, grade_table
from medjax.rl.labels import LabelTables, label_tables
from medjax.runtime.stages import Stage
from medjax.systems import vrft_aug
from medjax.systems.classification import check_answers, make_evaluate

_MULTIPLE = 4  # token counts are rounded up to this
_CHECKED = 16  # pictures that the self-test looks at
SHOW = ("hit_rate", "reward", "reward_std", "recitation", "kl", "entropy", "length")


def label_words(
    found: LabelParts, style: Style
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Questions, and answers such as a policy will write, for a tiny one's words."""
    planes = found.parts.train.planes
    answers = class_answers(found.wording, answer=style.answer)
    return wording_texts(found.wording, planes, answer=style.answer), answers


def label_corpus(
    found: LabelParts, style: Style
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`label_words` twice: a tokenizer learns no word that occurs only once."""
    texts, answers = label_words(found, style)
    return texts * 2, answers * 2


def label_setup(
    found: LabelParts,
    policy: Policy,
    style: Style,
    *,
    room: int,
    ramps: bool,
    probe: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    seed: int,
    workdir: Path,
) -> Setup:
    """Data and policy as the stages take them.

    Args:
        found: pictures and words.
        policy: to train.
        style: of prompts and answers.
        room: tokens that a question may have, knowledge included.
        ramps: see `add_ramps`.
        probe: options of `probe_answers`.
        evaluation: `every`, `limit`, `batch`, `questions`, and the bootstrap's.
        seed: of data and baselines.
        workdir: of the run.
    """
    wording, parts = found.wording, found.parts
    labels = label_tables(check_task(wording.task, style.answer))
    check_question_length(
        policy.tokenizer, wording, parts.train.planes, style=style, length=room
    )
    sizes = [
        shown_size(size, policy.geometry)
        for part in (parts.train, parts.test)
        for size in part.sizes
    ]
    texts, answers = label_words(found, style)
    buckets = plan_buckets(
        policy.tokenizer,
        texts,
        answers,
        sizes,
        style=style,
        geometry=policy.geometry,
        slots=1,
        multiple=_MULTIPLE,
    )
    tables = parse_tables(policy.tokenizer, policy.config.vocab)
    written, written_mask = answer_rows(
        policy.tokenizer,
        answers,
        origins=wording.task.classes,
        lengths=buckets.answer,
    )

    def eval_batches(parts: Parts, encoding: Encoding, **how: Any) -> Any:
        return eval_label_batches(parts.test, wording, encoding, **how)

    def train_batches(
        parts: Parts, encoding: Encoding, options: Mapping[str, Any], **where: int
    ) -> grain.IterDataset:
        noise = float(options.get("noise", 0.0))
        return train_label_batches(parts.train, wording, encoding, noise=noise, **where)

    kind = Kind(
        train_batches=train_batches,
        eval_batches=eval_batches,
        make_evaluate=partial(
            make_evaluate,
            labels=labels,
            references=found.references,
            answers=written,
            answers_mask=written_mask,
        ),
        make_score=partial(
            make_score,
            wording,
            parts.train,
            parts.test,
            label_baselines(wording.task, parts.train, seed=seed, probe=probe),
        ),
        check=partial(self_test, labels=labels, wording=wording, min_words=1),
    )
    encoding = Encoding(policy.tokenizer, style, policy.geometry, buckets, 1, ramps)
    return Setup(parts, policy, encoding, tables, evaluation, seed, workdir, kind)


def label_stage(
    name: str,
    setup: Setup,
    options: Mapping[str, Any],
    found: LabelParts,
    *,
    before: Mapping[str, Path],
) -> Stage:
    """GRPO with the rewards of `systems.vrft_aug`; the options are those of its build.

    Raises:
        ValueError: a grade rule where classes are not ordinal, a table that does not
            fit.
    """
    task = found.wording.task
    count = len(task.classes)
    rule = options["grade_rule"]
    weighted = {name: w for name, w in options["reward_weights"].items() if w}
    if "grade" in weighted and not task.ordinal:
        raise ValueError(
            f"task {task.name}: its classes are not grades, so none is nearer to the "
            "right one than another; choose grade=exact"
        )
    table = (
        grade_table(rule, count)
        if isinstance(rule, str)
        else check_grade_table(rule, count)
    )
    labels = label_tables(check_task(task, setup.encoding.style.answer))
    functions = {
        name: load_reward(where) for name, where in options["python_rewards"].items()
    }
    host_rewards = None
    if functions:
        asked = setup.encoding._replace(questions=options["questions"])
        records = find_label_records(
            setup.parts.train, found.wording, asked, seed=setup.seed + 1
        )
        host_rewards = make_host_rewards(
            functions, setup.policy.tokenizer, records, label_columns
        )
    build = partial(
        vrft_aug.build,
        labels=labels,
        references=found.references,
        grade_table=table,
        reward_weights=dict.fromkeys(functions, 1.0) | weighted,
        min_words=options["min_words"],
        require_label=options["require_label"],
        min_different=options["min_different"],
        without_words=options["without_words"],
        leak_label=options["leak_label"],
        host_rewards=host_rewards,
    )
    check = partial(
        self_test,
        setup,
        labels=labels,
        wording=found.wording,
        min_words=options["min_words"],
    )
    return exploration_stage(
        name, setup, options, build, before=before, show=SHOW, check=check
    )


def self_test(
    setup: Setup, *, labels: LabelTables, wording: Wording, min_words: int
) -> None:
    """Raise unless ground truth, written as the policy should, earns reward 1."""
    first = setup.kind.eval_batches(
        setup.parts, setup.encoding, batch=_CHECKED, seed=0, limit=None
    )
    batch, records = next(iter(first))
    named = iter(record.slice_id for record in records)
    names = [next(named) if ok else "" for ok in np.asarray(batch.valid)]
    check_answers(
        batch,
        setup.tables,
        labels,
        min_words=min_words,
        names=names,
        classes=wording.task.classes,
    )
