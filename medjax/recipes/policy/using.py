"""A trained policy for use: which checkpoint, whether it fits, how it draws tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from medjax.data.prompting.chat import ANSWERS, SET_ANSWERS, Style
from medjax.recipes.policy.alike import check_adapter, check_alike
from medjax.recipes.policy.identity import shown_with
from medjax.recipes.policy.opened import Policy
from medjax.recipes.policy.opening import READERS, is_policy_folder
from medjax.recipes.policy.predictor import Answer, folder_decoding
from medjax.recipes.policy.scoring import tell
from medjax.runtime.stages import read_state
from medjax.sharding import Rules
from medjax.types import Decoding, Key, Params, QuestionBatch, System, TrainState


class PredictOptions(NamedTuple):
    """The section `predict` of a config."""

    batch: int  # pictures at a time; 0: as evaluation.batch
    questions: int  # about each in one row; 0: as evaluation.questions
    max_tokens: int  # of an answer; 0: train.grpo.max_tokens, or the longest right one
    temperature: float | None  # None: 0, or as the folder says; 0: the likeliest tokens
    top_k: int | None
    top_p: float | None
    seed: int  # of drawn answers
    plane: str  # of the slices of volumes
    overlays: int  # pictures with what was answered drawn in, at most


def find_checkpoint(checkpoint: str | None, workdir: Path, path: str) -> Path:
    """What is to be used: `--checkpoint`, or the workdir, or the config's own folder.

    Args:
        checkpoint: Of the command line; None or "" where it says nothing.
        workdir: Is used where it is a run's.
        path: `policy.path` of the config; "" where there is none.

    Raises:
        FileNotFoundError: There is no such folder, or nothing at all to use.
    """
    if checkpoint:
        if not Path(checkpoint).is_dir():
            raise FileNotFoundError(f"no checkpoint at {checkpoint}: no such folder")
        return Path(checkpoint)
    if stages_in(workdir):
        return workdir
    if path:
        tell([f"answers are those of {path} as it came: {workdir} holds no run"])
        return Path(path)
    raise FileNotFoundError(
        f"{workdir} holds no run; expected --checkpoint, a run's folder, a stage's, or "
        "a Hugging Face folder"
    )


def stages_in(folder: Path) -> list[str]:
    """The names of a run's stages that have checkpoints.

    Args:
        folder: Need not exist.
    """
    return sorted(path.parent.name for path in folder.glob("*/checkpoints"))


def check_stage(path: Path, stage: str) -> None:
    """Raise where a folder is neither a policy nor a run with this stage.

    Args:
        path: It exists.
        stage: The run's last, as the config has it.

    Raises:
        FileNotFoundError: The stages that it has are named.
    """
    if is_policy_folder(path) or (path / "checkpoints").is_dir():
        return
    if not (path / stage / "checkpoints").is_dir():
        found = stages_in(path)
        has = f"it has the stages {', '.join(found)}: name one" if found else "no run"
        raise FileNotFoundError(
            f"{path}: no checkpoint of a stage {stage!r} ({has}); expected a run of "
            "this config, --checkpoint=RUN/STAGE, or a Hugging Face folder"
        )


def check_usable(
    policy: Policy, style: Style, ramps: bool, stored: Mapping[str, Any]
) -> None:
    """Raise where a policy was trained to answer otherwise, or on other images.

    Args:
        policy: The one to be used.
        style: How it will be asked here.
        ramps: Whether the place of a pixel is drawn into pictures.
        stored: The identity that it was trained with, or what a folder says of it.

    Raises:
        ValueError: Both kinds of answers, or all that differs otherwise.
    """
    trained, here = (stored.get("prompt") or {}).get("answer"), style.answer
    if trained is not None and _kind(trained) != _kind(here):
        raise ValueError(
            f"the checkpoint was trained to answer by {_kind(trained)}, this config "
            f"asks for {_kind(here)}: name the config that it was trained with"
        )
    if trained is not None and trained != here:
        raise ValueError(
            f"the checkpoint was trained to answer in the form {trained!r}, here "
            f"{here!r}; --config.prompt.answer={trained.removeprefix('set-')}"
        )
    check_alike(shown_with(policy, style, ramps=ramps), stored)
    check_adapter(policy.identity, stored)


def _kind(answer: str) -> str:
    if answer in SET_ANSWERS:
        return "sets of boxes (data.answers=set)"
    return "one box a question" if answer in ANSWERS else "classes"


def choose_decoding(
    policy: Policy, options: PredictOptions, *, folder: bool, max_tokens: int
) -> Decoding:
    """How tokens are drawn: as the options say, else as the folder, else greedily.

    One line says what a folder wishes, and what of it is not done.

    Args:
        policy: Its folder's wishes and the ends of its completions.
        options: What they say counts; a temperature replaces all of the folder's.
        folder: Whether the policy is a folder as it came: a run's own checkpoints are
            used greedily.
        max_tokens: Of an answer.

    Raises:
        ValueError: `top_k` or `top_p` where nothing is drawn, or a value out of range.
    """
    vocabulary = len(policy.tables.vocab_length)
    drawing = policy.drawing if folder else policy.drawing._replace(do_sample=None)
    if options.temperature is None:
        found = folder_decoding(
            drawing, policy.ends, max_tokens=max_tokens, vocabulary=vocabulary
        )
        found = found._replace(
            top_k=found.top_k if options.top_k is None else options.top_k,
            top_p=found.top_p if options.top_p is None else options.top_p,
        )
    else:
        found = Decoding(
            policy.ends, max_tokens, options.temperature, options.top_k, options.top_p
        )
    if found.temperature == 0 and (found.top_k or found.top_p):
        raise ValueError(
            "predict.top_k and predict.top_p limit what is drawn, and nothing is: set "
            "predict.temperature above 0"
        )
    if not found.temperature >= 0 or not 0 < (found.top_p or 1) <= 1:
        raise ValueError(
            f"predict.temperature={found.temperature}, top_p={found.top_p}: expected a "
            "temperature of 0 or more and top_p above 0 and at most 1"
        )
    if not 1 <= (found.top_k or 1) <= vocabulary:
        raise ValueError(
            f"predict.top_k={found.top_k}: expected 1 to {vocabulary}, the vocabulary"
        )
    tell(_told(found, options, policy, folder=folder))
    return found


def _told(
    found: Decoding, options: PredictOptions, policy: Policy, *, folder: bool
) -> list[str]:
    """What a person is told of the decoding."""
    lines = []
    if found.temperature:
        own = options.temperature is None
        lines.append(
            f"answers are drawn at temperature {found.temperature:g}, top_k "
            f"{found.top_k}, top_p {found.top_p}, seed {options.seed}"
            + ", as generation_config.json says; --config.predict.temperature=0 takes "
            "the likeliest tokens" * own
        )
    penalty = policy.drawing.repetition_penalty
    if folder and penalty not in (None, 1):
        lines.append(
            f"generation_config.json has a repetition_penalty of {penalty:g}, which is "
            "not applied: numbers of boxes repeat for good reasons"
        )
    return lines


def policy_system(params_like: Policy, answer: Answer) -> System:
    """A policy in use as the loop takes it; it cannot be trained.

    Args:
        params_like: Its model says what the parameters are.
        answer: (params, batch, key) -> `Answers`.
    """
    model = params_like.model

    def init(key: Key, params: Params | None = None) -> TrainState:
        start = model.init(key) if params is None else params
        return TrainState(start, (), jnp.zeros((), jnp.int32))

    def evaluate(
        state: TrainState, batch: QuestionBatch, key: Key
    ) -> tuple[Any, dict[str, jax.Array]]:
        return answer(state.params, batch, key), {"valid": jnp.asarray(batch.valid)}

    axes = TrainState(model.axes, (), PartitionSpec())
    return System(init, _no_update, evaluate, axes, adapter=model.adapter)


def _no_update(*_: Any) -> Any:  # noqa: ANN401
    raise TypeError("a policy in use is not trained")


def load_state(
    system: System,
    policy: Policy,
    path: Path,
    *,
    stage: str,
    accepts: Any,
    mesh: Mesh,
    rules: Rules,
) -> TrainState:
    """The parameters that answer, on the mesh.

    Args:
        system: From `policy_system`.
        policy: Loads a folder in the config's dtypes where it is the policy's own.
        path: See `find_checkpoint`.
        stage: The run's last.
        accepts: Given the identity that they were trained with; raises.
        mesh: All devices.
        rules: The mesh axes of each logical axis.
    """
    readers = READERS
    if policy.load is not None and is_policy_folder(path):
        own = policy.load
        readers = READERS | {"load": lambda _, shardings: own(shardings)}
    where = {"name": stage, "accepts": accepts, "mesh": mesh, "rules": rules}
    return read_state(system, path, base=policy.base, **readers, **where)
