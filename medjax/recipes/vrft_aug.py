"""The stages of a `vrft_aug` run: localisation first if wanted, then classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medjax.data.classes.sources import LabelParts, load_label_parts
from medjax.data.classes.tasks import label_instruction
from medjax.data.prompting.chat import Style, named_style
from medjax.recipes import medloc
from medjax.recipes.boxes.task import (
    grounding_setup,
    grounding_words,
    load_grounding,
    make_style,
)
from medjax.recipes.classes.task import label_corpus, label_setup, label_stage
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.stages import Setup, supervised_stage
from medjax.runtime.stages import Stage

BOXES = "boxes_"  # before the names of the localisation stages
ZERO_SHOT = "localisation, zero-shot"


def stages(
    *,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    prompt: Mapping[str, Any],
    data: Mapping[str, Any],
    localisation: Mapping[str, Any],
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> list[Stage]:
    """What `run_stages` runs for the sections of `configs/vrft_aug.py`.

    Args:
        seed: of data and splits.
        workdir: of the run.
        policy: options of `open_policy`.
        prompt: `system`, `answer` (empty: grades of ordinal classes, else letters) and
            `instruct`: say how to answer; `room`: most tokens of a question.
        data: options of `load_label_parts`; `ramps` and `probe`.
        localisation: `use`, and the sections of a `medloc` run that differ: `data`,
            `prompt`, `warm_start`, `train`, `evaluation`. `words`: a tiny policy gets
            the words of boxes also where they are not used.
        warm_start: supervised training on answers before; `steps` 0 leaves it out.
        train: `method` "grpo" or "sft", and its options.
        evaluation: see `label_setup`.
    """
    medloc.check_method(train["method"])
    first = localisation if localisation["use"] else None
    worded = localisation["use"] or (localisation["words"] and not policy["path"])
    geometry, finish = open_policy(policy)
    label_options = {k: x for k, x in data.items() if k not in ("ramps", "probe")}
    found = load_label_parts(seed=seed, **label_options)
    style = make_label_style(prompt, found)
    texts, answers = label_corpus(found, style)
    boxes, box_style = None, make_style(localisation["prompt"])
    if worded:
        boxes = load_grounding(localisation["data"], geometry, seed=seed)
        more_texts, more_answers = grounding_words(boxes, box_style)
        texts, answers = (*texts, *more_texts), (*answers, *more_answers)
    made = finish(texts, answers, style=style)
    where = {"seed": seed, "workdir": workdir}
    setup = label_setup(
        found,
        made,
        style,
        room=prompt["room"],
        ramps=data["ramps"],
        probe=data["probe"],
        evaluation=evaluation,
        **where,
    )
    chain = []
    if first is not None and boxes is not None:
        box_setup = grounding_setup(
            boxes,
            made,
            box_style,
            ramps=first["data"]["ramps"],
            evaluation=first["evaluation"],
            **where,
        )
        options = {"warm_start": first["warm_start"], "train": first["train"]}
        chain += medloc.chain(box_setup, **options, prefix=BOXES)
    chain += label_chain(
        setup, found, warm_start=warm_start, train=train, zero_shot=bool(chain)
    )
    chain[0] = chain[0]._replace(start=made.start)
    return chain


def label_chain(
    setup: Setup,
    found: LabelParts,
    *,
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    zero_shot: bool,
) -> list[Stage]:
    """The stages about classes.

    With `zero_shot` the first of them is evaluated before its first step too: that is
    what the policy knows about classes from the stages before.
    """
    before: dict[str, Path] = {}
    chain = []
    if warm_start["steps"]:
        chain.append(supervised_stage("warm_start", setup, warm_start, before={}))
        before["warm_start"] = setup.workdir / "warm_start" / "eval"
    method = train["method"]
    if zero_shot:
        name = chain[0].name if chain else method
        before[ZERO_SHOT] = setup.workdir / name / "eval" / "0"
    if method == "sft":
        chain.append(supervised_stage("sft", setup, train["sft"], before=before))
    else:
        options = train["grpo"]
        chain.append(label_stage("grpo", setup, options, found, before=before))
    if zero_shot:
        chain[0] = chain[0]._replace(evaluate_first=True)
    return chain


def make_label_style(prompt: Mapping[str, Any], found: LabelParts) -> Style:
    """The words around a question from a config's section."""
    task = found.wording.task
    answer = prompt["answer"] or ("grade" if task.ordinal else "letter")
    suffix = label_instruction(answer) if prompt["instruct"] else ""
    return named_style(system=prompt["system"], suffix=suffix, answer=answer)
