"""`--mode=predict` of vrft_aug: a trained policy asked its task about pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from medjax.data.lists.reading import split_reading
from medjax.recipes import vrft_aug as recipe
from medjax.recipes.classes.data import LabelData, LabelPrompt
from medjax.recipes.classes.predict import predict_labels
from medjax.recipes.policy.opening import section_for_use
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.policy.using import PredictOptions, check_stage, find_checkpoint
from medjax.recipes.sections import read_section
from medjax.sharding import Rules


def predict(
    pictures: str,
    *,
    ask: str | None,
    checkpoint: str | None,
    mesh: Mesh,
    rules: Rules,
    seed: int,
    workdir: Path,
    policy: Mapping[str, Any],
    prompt: Mapping[str, Any],
    data: Mapping[str, Any],
    localisation: Mapping[str, Any],
    warm_start: Mapping[str, Any],
    train: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    predict: Mapping[str, Any],
) -> list[str]:
    """Ask a trained policy its task about pictures; see `predict_labels`.

    The data that the run was trained on is read: it says what the classes are.

    Args:
        pictures: A picture, a DICOM file, a NIfTI volume, or a folder with such files.
        ask: Is refused: the question is the task's.
        checkpoint: A run, a stage of one, or a Hugging Face folder; None for the
            workdir's run.
        mesh: The devices that a batch is spread over.
        rules: The mesh axes of each logical axis.
        seed: Of `stages`, like all others.
        workdir: Answers that are there already are kept, and not asked for again.
        policy: Section of the config.
        prompt: Section of the config.
        data: Section of the config; how pictures are read is that of these too.
        localisation: Section of the config.
        warm_start: Section of the config, which is not read.
        train: Section of the config; the method and the length of answers are read.
        evaluation: Section of the config.
        predict: Section of the config with the options of a `PredictOptions`.

    Returns:
        What makes the answers doubtful, a line each.

    Raises:
        ValueError: An option, the checkpoint or all pictures do not fit.
        FileNotFoundError: There is no such checkpoint or picture.
    """
    del warm_start
    if ask is not None:
        raise ValueError(
            "--ask: the question is the task's, by which the policy was trained; leave "
            "it out"
        )
    options = read_section(PredictOptions, "predict", predict)
    source = read_section(LabelData, "data", data)
    path = find_checkpoint(checkpoint, workdir, policy["path"])
    check_stage(path, train["method"])
    opened = recipe.open_run(
        source,
        read_section(LabelPrompt, "prompt", prompt),
        recipe.read_localisation(localisation),
        read_section(Evaluation, "evaluation", evaluation),
        policy=section_for_use(policy, path),
        seed=seed,
        workdir=workdir,
    )
    return predict_labels(
        opened.run,
        pictures,
        path=path,
        stage=train["method"],
        reading=split_reading(source._asdict())[0],
        options=options,
        max_tokens=int(train["grpo"]["max_tokens"]),
        identify=source.identify,
        mesh=mesh,
        rules=rules,
    )
