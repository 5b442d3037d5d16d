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


def check_adapter(ours: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raise where a checkpoint's adapter is not of our base, or not of our form.

    Args:
        ours: The identity of the opened policy.
        stored: The identity that the checkpoint was trained with; of a folder, which
            says nothing of a policy, nothing is asked.

    Raises:
        ValueError: One of the two is an adapter and the other is not, or both are and
            base, rank, alpha or targets differ; what differs is named.
    """
    if "policy" not in stored:
        return
    theirs, mine = stored["policy"].get("lora"), ours.get("lora")
    if theirs is None:
        if mine is None:
            return
        raise ValueError(
            "the checkpoint holds a whole policy, and this config trains an adapter "
            f"(policy.lora.rank={mine['rank']}): --config.policy.lora.rank=None; or "
            "export the checkpoint and name its folder as the base, model=FOLDER"
        )
    if mine is None:
        raise ValueError(
            "the checkpoint holds an adapter alone, and this config has none: "
            f"{_lora_options(theirs)}, on the base that it was trained on"
        )
    if theirs["base"] != mine["base"]:
        raise ValueError(
            "the checkpoint's adapter was made for another base: weights with sha256 "
            f"{theirs['base'][:12]}, those of policy.path have {mine['base'][:12]}; "
            "name the folder that it was trained on, model=FOLDER"
        )
    plain = {name: mine[name] for name in theirs if name in mine}
    changed = [name for name, x in theirs.items() if plain.get(name) != x]
    if changed:
        faults = [f"{name} {theirs[name]}, here {mine[name]}" for name in changed]
        raise ValueError(
            f"the checkpoint's adapter has another form: {'; '.join(faults)}: "
            f"{_lora_options(theirs)}"
        )


def _lora_options(lora: Mapping[str, Any]) -> str:
    written = {"rank": lora["rank"], "alpha": lora["alpha"]}
    written["targets"] = ",".join(lora["targets"])
    return " ".join(f"--config.policy.lora.{k}={x}" for k, x in written.items())


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
