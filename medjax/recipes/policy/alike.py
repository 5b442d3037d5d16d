"""What a policy was trained with, and the refusal to evaluate it with anything else."""

import json
from collections.abc import Mapping
from typing import Any

from medjax.data.prompting.chat import ANSWERS

# Part of an identity and its key -> the option that sets it.
_OPTIONS = {
    "images.min_pixels": "policy.min_pixels",
    "images.max_pixels": "policy.max_pixels",
    "images.ramps": "data.ramps",
    "prompt.system": "prompt.system",
    "prompt.think": "prompt.think",
}


def check_alike(ours: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raise where a policy was trained with other images, ends or words than ours.

    What an identity does not hold is not compared: those of older versions hold less,
    and those of folders nothing of a prompt. Prompts are compared where both ask for
    boxes, or both for classes; other classes may be answered in another form.

    Args:
        ours: An identity as `identity.identity` makes it.
        stored: The one that a checkpoint or a folder was trained with.

    Raises:
        ValueError: All that differs, each with both values, and the options that make
            it equal.
    """
    mine, theirs = _named(ours), _named(stored)
    free = _free(_answers(ours, stored))
    changed = [
        key
        for key in theirs
        if key in mine and key not in free and theirs[key] != mine[key]
    ]
    if changed:
        faults = [f"{key} ({theirs[key]}, here {mine[key]})" for key in changed]
        ways = [
            f"--config.{_OPTIONS[key]}={_written(theirs[key])}"
            for key in changed
            if key in _OPTIONS
        ]
        name = "config that it was trained with"
        if "data" not in stored:  # a folder
            name = "folder in the config as well, model=FOLDER"
        raise ValueError(
            f"the checkpoint was trained with another {', '.join(faults)}: name the "
            f"{name}{', ' * bool(ways)}{' '.join(ways)}"
        )


def _named(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The compared parts under dotted names, as JSON holds them."""
    plain = json.loads(json.dumps(identity))
    if plain.get("prompt"):
        plain["prompt"] = {"think": True} | plain["prompt"]
    found = {"tokenizer": plain["tokenizer"]} if "tokenizer" in plain else {}
    for part in ("images", "ends", "prompt"):
        found |= {f"{part}.{key}": x for key, x in plain.get(part, {}).items()}
    return found


def _answers(*identities: Mapping[str, Any]) -> list[str]:
    prompts = [identity.get("prompt") for identity in identities]
    return [prompt["answer"] for prompt in prompts if prompt]


def _free(answers: list[str]) -> tuple[str, ...]:
    """The keys of prompts that may differ between these forms of answers."""
    if len({answer in ANSWERS for answer in answers}) > 1:
        return ("prompt.system", "prompt.suffix", "prompt.answer", "prompt.think")
    if len(set(answers)) > 1 and answers[0] not in ANSWERS:
        return ("prompt.suffix", "prompt.answer")
    return ()


def _written(value: Any) -> str:
    return repr(value or "") if value is None or isinstance(value, str) else str(value)
