"""What the stages of a run about classes share: setup, rewards, the self-test."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grain
import numpy as np
from jaxtyping import Bool, Int

from medjax.data.batches import Encoding, Parts
from medjax.data.classes.batches import (
    eval_label_batches,
    find_label_records,
    train_label_batches,
)
from medjax.data.classes.knowledge import check_question_length
from medjax.data.classes.sources import LabelParts
from medjax.data.classes.tasks import Wording, check_task, class_answers, wording_texts
from medjax.data.prompting.chat import Style
from medjax.data.prompting.layout import shown_size
from medjax.data.prompting.prompts import answer_rows, plan_buckets
from medjax.data.prompting.tokenizer import parse_tables
from medjax.recipes.classes.rewards import grade_rewards, reward_weights
from medjax.recipes.classes.score import label_baselines, make_score
from medjax.recipes.policy.opening import Policy
from medjax.recipes.policy.python_rewards import (
    label_columns,
    load_reward,
    make_host_rewards,
)
from medjax.recipes.policy.stages import Kind, Setup, exploration_stage
from medjax.rl.text.labels import LabelTables, label_tables
from medjax.runtime.stages import Stage
from medjax.systems import vrft_aug
from medjax.systems.policy.classes import check_answers, make_evaluate

_MULTIPLE = 4  # token counts are rounded up to this
_CHECKED = 16  # pictures that the self-test looks at
SHOW = ("hit_rate", "reward", "reward_std", "overlap", "kl", "entropy", "length")
_REWARD_OPTIONS = (  # of `vrft_aug.build`, as they are
    *("min_words", "require_label", "min_different", "without_words", "leak_label"),
)


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
    """What a tiny policy's words are made of, twice: none is learnt that occurs once.

    The descriptions are there with and without knowledge in the prompt, so that runs
    with and without it have the same policy.
    """
    texts, answers = label_words(found._replace(wording=found.told), style)
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
    rows = partial(
        answer_rows,
        policy.tokenizer,
        origins=wording.task.classes,
        lengths=buckets.answer,
    )
    plain = class_answers(
        wording._replace(reasons=("",) * len(answers)), answer=style.answer
    )
    weighed, weighed_mask = rows(plain)

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
            answers=weighed,
            answers_mask=weighed_mask,
        ),
        make_score=partial(
            make_score,
            wording,
            found.known,
            parts.test,
            label_baselines(wording.task, found.known, seed=seed, probe=probe),
        ),
        check=partial(
            self_test,
            labels=labels,
            wording=wording,
            written=rows(answers),
            min_words=1,
        ),
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
        ValueError: see `reward_weights` and `grade_rewards`.
    """
    task = found.wording.task
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
        grade_table=grade_rewards(
            options["grade_table"], options["grade_rule"], classes=len(task.classes)
        ),
        reward_weights=reward_weights(
            options["reward_weights"],
            tuple(functions),
            grade=options["grade"],
            task=task,
        ),
        host_rewards=host_rewards,
        **{name: options[name] for name in _REWARD_OPTIONS},
    )
    check = partial(setup.kind.check, setup, min_words=options["min_words"])
    return exploration_stage(
        name, setup, options, build, before=before, show=SHOW, check=check
    )


def self_test(
    setup: Setup,
    *,
    labels: LabelTables,
    wording: Wording,
    written: tuple[Int[np.ndarray, "C T"], Bool[np.ndarray, "C T"]],
    min_words: int,
) -> None:
    """Raise unless ground truth, written as the policy should, earns reward 1.

    Shown of the first pictures of the test, and of every class: `written`.
    """
    first = setup.kind.eval_batches(
        setup.parts, setup.encoding, batch=_CHECKED, seed=0, limit=None
    )
    batch, records = next(iter(first))
    named = iter(record.slice_id for record in records)
    names = [next(named) if ok else "" for ok in np.asarray(batch.valid)]
    classes = wording.task.classes
    how = {"min_words": min_words, "classes": classes}
    check_answers(batch, setup.tables, labels, names=names, **how)
    tokens, mask = written
    each = batch._replace(
        answer=tokens,
        answer_mask=mask,
        label=np.arange(len(classes), dtype=np.int32),
        valid=np.ones(len(classes), bool),
    )
    names = [f"class {name}" for name in classes]
    check_answers(each, setup.tables, labels, names=names, **how)
