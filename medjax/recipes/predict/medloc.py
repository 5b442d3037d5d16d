"""`--mode=predict` of medloc: a trained policy asked about a user's pictures."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from medjax.data.asking.pictures import Asked, find_pictures
from medjax.data.asking.questions import read_questions
from medjax.data.batches import Parts
from medjax.data.lists.reading import split_reading
from medjax.data.prompting.chat import (
    Style,
    answer_length,
    asks_for_sets,
    longest_answers,
    written,
)
from medjax.recipes.boxes.data import (
    BoxData,
    BoxPrompt,
    box_style,
    box_words,
    load_box_parts,
)
from medjax.recipes.boxes.replies import box_reader
from medjax.recipes.policy.opened import Opening, Policy
from medjax.recipes.policy.opening import open_policy, section_for_use
from medjax.recipes.policy.predicting import Asking, Use, predict_all
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.policy.using import (
    PredictOptions,
    check_stage,
    check_usable,
    choose_decoding,
    find_checkpoint,
)
from medjax.recipes.sections import read_section
from medjax.rl.box_sets import MOST_BOXES
from medjax.sharding import Rules

_MULTIPLE = 4  # token counts are rounded up to this


def predict(
    source: str,
    *,
    ask: str | None,
    checkpoint: str | None,
    workdir: Path,
    seed: int,
    mesh: Mesh,
    rules: Rules,
    policy: Mapping[str, Any],
    data: Mapping[str, Any],
    prompt: Mapping[str, Any],
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    predict: Mapping[str, Any],
    **unused: Mapping[str, Any],
) -> list[str]:
    """Write what a policy answers about pictures to `workdir`/predict/answers.jsonl.

    The data that a run was trained on is read only where the policy's words come from
    it: of a policy that starts from nothing, not of a Hugging Face folder.

    Args:
        source: A picture, a DICOM file, a NIfTI volume, or a folder with such files.
        ask: A question, or a file of questions, see `read_questions`.
        checkpoint: A run, a stage of one, or a Hugging Face folder; None for the
            workdir's run.
        workdir: Answers that are there already are kept, and not asked for again.
        seed: Of the run, which the parts of its data depend on.
        mesh: The devices that a batch is spread over.
        rules: The mesh axes of each logical axis.
        policy: Section of the config.
        data: Section of the config; how pictures are read, `window` and `pixels`, is
            that of these pictures too.
        prompt: Section of the config.
        train: Section of the config; the method and the length of answers are read.
        evaluation: Section of the config; its `batch` and `questions` are read.
        predict: Section of the config.
        unused: Sections of the config that are not read.

    Returns:
        What makes the answers doubtful, a line each.

    Raises:
        ValueError: A question, an option, the checkpoint or all pictures do not fit.
        FileNotFoundError: There is no such checkpoint, picture or file of questions.
    """
    del unused
    options = read_section(PredictOptions, "predict", predict)
    box_data = read_section(BoxData, "data", data)
    style = box_style(
        read_section(BoxPrompt, "prompt", prompt), answers=box_data.answers
    )
    if ask is None:
        raise ValueError(
            '--mode=predict: expected --ask, a question such as --ask="Where is the '
            'nodule?", or a file with one a line'
        )
    reading, _ = split_reading(box_data._asdict())
    asked, faults = find_pictures(
        source,
        read_questions(ask),
        plane=options.plane,
        reading=reading,
        identify=box_data.identify,
    )
    path = find_checkpoint(checkpoint, workdir, policy["path"])
    stage = train["method"]
    check_stage(path, stage)
    section = section_for_use(policy, path)
    opening = open_policy(section)
    opened, parts = _finish(opening, box_data, style, seed, fresh=not section["path"])
    ramps = box_data.ramps if opened.ramps is None else opened.ramps
    longest = options.max_tokens or int(train["grpo"]["max_tokens"])
    longest = longest or _longest(opened, style, asked, parts)
    use = Use(
        policy=opened,
        style=style,
        read=box_reader(style),
        ramps=ramps,
        several=False,
        path=path,
        stage=stage,
        accepts=partial(check_usable, opened, style, ramps),
    )
    folder = bool(section["path"]) and path == Path(section["path"])
    asking = Asking(
        asked,
        faults,
        reading,
        choose_decoding(opened, options, folder=folder, max_tokens=longest),
        options,
        read_section(Evaluation, "evaluation", evaluation),
    )
    doubts = predict_all(use, asking, workdir=workdir, mesh=mesh, rules=rules)
    return doubts + ([] if parts is None else _strange(asked, parts))


def _finish(
    opening: Opening, data: BoxData, style: Style, seed: int, *, fresh: bool
) -> tuple[Policy, Parts | None]:
    """The policy, and the data of its words where it has them from there."""
    if not fresh:
        return opening.finish((), written(_examples(style), style), style=style), None
    parts = load_box_parts(data, opening.geometry, seed=seed)
    return opening.finish(*box_words(parts, style), style=style), parts


def _examples(style: Style) -> Sequence[str]:
    """Answers that a folder's tokenizer has to be able to write."""
    return longest_answers(("target",), sizes=[(100, 100)], style=style.answer)


def _longest(
    policy: Policy, style: Style, asked: Sequence[Asked], parts: Parts | None
) -> int:
    """Tokens of the longest right answer; what is asked for stands for its name."""
    names: Sequence[str] = [query for one in asked for query in one.queries]
    most = MOST_BOXES if asks_for_sets(style) else 1
    if parts is not None:
        names = [*(parts.train.reasons or parts.train.names), *names]
        most = parts.train.most
    geometry = policy.geometry
    side = geometry.max_pixels // geometry.factor  # no picture is shown larger
    answers = longest_answers(
        list(dict.fromkeys(names)), sizes=[(side, side)], style=style.answer, most=most
    )
    tokens = answer_length(policy.tokenizer, written(answers, style))
    return -(-tokens // _MULTIPLE) * _MULTIPLE


def _strange(asked: Sequence[Asked], parts: Parts) -> list[str]:
    """A policy that starts from nothing knows the questions of its training alone."""
    known = set(parts.train.texts)
    strange = {q for one in asked for q in one.queries} - known
    if not strange:
        return []
    return [
        f"{len(strange)} questions are none that the policy was trained with, the "
        f"first {min(strange)!r}: one that starts from nothing knows no others. It was "
        f"trained with such as {parts.train.texts[0]!r}"
    ]
