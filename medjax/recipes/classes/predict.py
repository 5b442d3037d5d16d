"""A trained policy asked its own task about a user's pictures."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from medjax.data.asking.pictures import find_pictures
from medjax.data.asking.questions import Questions
from medjax.data.classes.knowledge import check_same_wording
from medjax.data.classes.tasks import question_texts
from medjax.data.lists.reading import Reading
from medjax.recipes.classes.replies import label_reader
from medjax.recipes.classes.task import LabelRun
from medjax.recipes.policy.predicting import Asking, Use, predict_all
from medjax.recipes.policy.using import PredictOptions, check_usable, choose_decoding
from medjax.sharding import Rules


def task_questions(run: LabelRun, *, plane: str) -> Questions:
    """Every question of a run's task in its shortest phrasing.

    Args:
        run: Its wording, and the form of its answers.
        plane: What a question that names a plane calls it, where training did.
    """
    wording, planes = run.source.wording, run.source.parts.train.planes
    called = plane if plane in planes else planes[0]
    answer = run.setup.encoding.style.answer
    texts = (
        question_texts(wording, index, plane=called, answer=answer)[0]
        for index in range(len(wording.task.questions))
    )
    return Questions(tuple(dict.fromkeys(texts)))


def predict_labels(
    run: LabelRun,
    source: str,
    *,
    path: Path,
    stage: str,
    reading: Reading,
    options: PredictOptions,
    max_tokens: int,
    identify: bool,
    mesh: Mesh,
    rules: Rules,
) -> list[str]:
    """Write which class a policy sees in pictures to predict/answers.jsonl.

    Args:
        run: The policy and its task; the setup's workdir gets the answers.
        source: A picture, a DICOM file, a NIfTI volume, or a folder with such files.
        path: Of the parameters, see `find_checkpoint`.
        stage: The last of the config's.
        reading: How pictures are read, as those of training.
        options: The section `predict` of the config.
        max_tokens: Of an answer; 0: the longest right one's.
        identify: Whether pictures are called by their paths, see `find_pictures`.
        mesh: The devices that a batch is spread over.
        rules: The mesh axes of each logical axis.

    Returns:
        What makes the answers doubtful, a line each.

    Raises:
        ValueError: The checkpoint is of other classes or words, or see `predict_all`.
    """
    setup, task = run.setup, run.source.wording.task
    style, ramps = setup.encoding.style, setup.encoding.ramps
    asked, faults = find_pictures(
        source,
        task_questions(run, plane=options.plane),
        plane=options.plane,
        reading=reading,
        identify=identify,
    )
    longest = options.max_tokens or max_tokens or setup.answer_length
    own = setup.policy.load is not None and (path / "config.json").is_file()
    decoding = choose_decoding(setup.policy, options, folder=own, max_tokens=longest)
    use = Use(
        policy=setup.policy,
        style=style,
        read=label_reader(task, style),
        ramps=ramps,
        several=task.multi,
        path=path,
        stage=stage,
        accepts=partial(check_same_task, run),
    )
    asking = Asking(asked, faults, reading, decoding, options, setup.evaluation)
    return predict_all(use, asking, workdir=setup.workdir, mesh=mesh, rules=rules)


def check_same_task(run: LabelRun, stored: Mapping[str, Any]) -> None:
    """Raise where a checkpoint was trained on other classes, or in other words.

    Args:
        run: What the policy will be asked.
        stored: The identity that it was trained with, or what a folder says of it.

    Raises:
        ValueError: It was, or see `check_usable`.
    """
    style, ramps = run.setup.encoding.style, run.setup.encoding.ramps
    check_usable(run.setup.policy, style, ramps, stored)
    theirs = stored.get("data", {}).get("words")
    if theirs is None:
        return
    mine = run.setup.parts.identity["words"]
    if theirs["classes"] != mine["classes"]:
        raise ValueError(
            "the checkpoint was trained on other classes than this config's "
            f"({', '.join(run.source.wording.task.classes[:8])}): its letters and "
            "grades would be read as these; name the config that it was trained with"
        )
    check_same_wording(theirs, mine)
