"""Which opener makes the policy that a config names: a table by base model."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from medjax.data.pretraining.shipped import SHIPPED, shipped_policy
from medjax.data.prompting.layout import Geometry
from medjax.planning.auto import ArrayAxes
from medjax.recipes.policy import qwen25vl
from medjax.recipes.policy.opened import Opener, Opening, Outline
from medjax.runtime.stages import Stage, evaluate_checkpoint
from medjax.sharding import Rules
from medjax.systems.policy.qwen25vl import refuse_adapter
from medjax.types import Params

OPENERS = {"qwen2_5_vl": qwen25vl.OPENER}  # by the model_type of a config.json
FRESH = "qwen2_5_vl"  # the base model of a policy that starts from nothing


def open_policy(section: Mapping[str, Any]) -> Opening:
    """The policy of a config's section, up to the words that it will meet.

    Args:
        section: `path` of a Hugging Face folder, "tiny" for the shipped one, or "" for
            a small policy with random weights; the other options are those of the base
            model's opener.

    Raises:
        FileNotFoundError: There is no checkpoint at `path`.
        ValueError: The checkpoint is of an unknown base model, or its opener refuses
            it.
    """
    section = _with_folder(section)
    return _opener(section).open_section(section)


def open_geometry(section: Mapping[str, Any]) -> Geometry:
    """How a config's policy is shown images; its tokenizer and weights may be absent.

    Args:
        section: As `open_policy` takes it; of a `path` the sizes and the image
            processor are read alone.

    Raises:
        FileNotFoundError: There is no config.json at `path`.
        ValueError: What `open_policy` refuses of these files.
    """
    section = _with_folder(section)
    return _opener(section).section_geometry(section)


def open_outline(section: Mapping[str, Any]) -> Outline:
    """What a mesh has to know of a config's policy; its weights may be absent.

    Args:
        section: As `open_policy` takes it; of a `path` the config.json is read alone.

    Raises:
        FileNotFoundError: There is no config.json at `path`.
        ValueError: What `open_policy` refuses of it.
    """
    section = _with_folder(section)
    return _opener(section).section_outline(section)


def open_arrays(section: Mapping[str, Any]) -> Sequence[ArrayAxes]:
    """The shapes and logical axes of a config's policy, likewise.

    Args:
        section: See `open_outline`, also for what is raised.
    """
    section = _with_folder(section)
    return _opener(section).section_arrays(section)


def _opener(section: Mapping[str, Any]) -> Opener:
    path = section.get("path")
    return OPENERS[base_model(path) if path else FRESH]


def _with_folder(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section with the folder of the shipped policy in place of its word."""
    if section.get("path") != SHIPPED:
        return section
    return {**section, "path": str(shipped_policy())}


def section_for_use(section: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The section `policy` of a config for the checkpoint that is to be used.

    Where that is a Hugging Face folder, it is the policy; where medjax wrote the folder
    pictures are bounded as in its training.

    Args:
        section: Of the config.
        path: A run, a stage of one, or a Hugging Face folder.

    Raises:
        ValueError: A folder that medjax did not write is not the config's: nothing says
            how it is to be asked.
    """
    if not is_policy_folder(path):
        return dict(section)
    images = qwen25vl.trained_images(path)
    own = section.get("path")
    named = bool(own) and os.path.realpath(own) == os.path.realpath(path)
    if not images and not named:
        raise ValueError(
            f"{path}: a folder that medjax did not train; name it in the config as "
            "well, behind the colon: model=FOLDER. That chooses the words by which "
            "such a policy is asked"
        )
    bounds = {k: images[k] for k in ("min_pixels", "max_pixels") if k in images}
    tied = section["tied"] if named else None  # as the folder says
    own = {"path": str(path), "tied": tied, **bounds}
    if "lora" in section:  # the folder is a whole policy
        own["lora"] = {**section["lora"], "rank": None}
    return {**section, **own}


def is_policy_folder(path: Path) -> bool:
    """Whether a path is a Hugging Face folder and not a run.

    Args:
        path: Need not exist.
    """
    return any((path / x).is_file() for x in ("config.json", "adapter_config.json"))


def load_params(
    folder: str | os.PathLike[str], shardings: Params, *, param_dtype: str = "float32"
) -> Params:
    """A Hugging Face folder's parameters, placed as the tree says.

    Args:
        folder: It must hold a config.json of a known base model, and the weights.
        shardings: A jax sharding for each array, in the tree of the parameters.
        param_dtype: They are cast to it on the way, one tensor at a time.

    Raises:
        ValueError: The folder holds other arrays than the tree; they are named.
    """
    load = OPENERS[base_model(folder)].load_weights
    return load(Path(folder), shardings, param_dtype=param_dtype)


def describe(folder: str | os.PathLike[str]) -> Mapping[str, Any]:
    """What a Hugging Face folder says of its training, as parts of an identity.

    Args:
        folder: It must hold a config.json of a known base model.

    Raises:
        ValueError: The folder's files contradict each other, see `open_policy`.
    """
    return OPENERS[base_model(folder)].describe(Path(folder))


def base_model(folder: str | os.PathLike[str]) -> str:
    """The `model_type` of a Hugging Face folder, if there is an opener for it.

    Args:
        folder: A checkpoint with its config.json.

    Raises:
        FileNotFoundError: There is no config.json in the folder.
        ValueError: It is no JSON object, or of a model without an opener; or the folder
            holds an adapter.
    """
    refuse_adapter(Path(folder))
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: expected a Hugging Face folder of a Qwen2.5-VL model, found no "
            "config.json there"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: expected a JSON object ({error})") from error
    if found not in OPENERS:
        raise ValueError(
            f"{path}: model_type is {found!r}, expected {', '.join(OPENERS)}; "
            "Qwen2-VL, Qwen3-VL and others are different architectures"
        )
    return found


def evaluate_chain(
    stages: Sequence[Stage],
    path: str | None,
    *,
    mesh: Mesh,
    rules: Rules,
    seed: int,
    workdir: Path,
) -> list[str]:
    """Evaluate a checkpoint as the last stage of a run does.

    Args:
        stages: Those of the run.
        path: See `evaluate_checkpoint`; None is `workdir`.
        mesh: The devices that evaluate.
        rules: The mesh axes that each logical axis falls on.
        seed: Of the run.
        workdir: Gets tables and answers.

    Returns:
        What makes the data doubtful.
    """
    where = {"mesh": mesh, "rules": rules, "seed": seed, "workdir": workdir}
    last = stages[-1]
    params = jax.eval_shape(last.system.init, jax.random.key(0)).params
    kind = str(jax.tree.leaves(params)[0].dtype)  # of the config's policy
    readers = READERS | {"load": partial(load_params, param_dtype=kind)}
    evaluate_checkpoint(last, path or workdir, **readers, **where)
    return [line for stage in stages for line in stage.doubts]


# How a Hugging Face folder is evaluated, see `evaluate_checkpoint`.
READERS = {"load": load_params, "describe": describe}
