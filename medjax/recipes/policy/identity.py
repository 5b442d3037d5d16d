"""What a stage was trained on and with: its identity, and what its manifest says."""

from collections.abc import Mapping
from typing import Any

from medjax.data.batches import Parts
from medjax.data.prompting.chat import Style
from medjax.recipes.policy.alike import check_adapter, check_alike
from medjax.recipes.policy.opened import Policy
from medjax.recipes.policy.setup import Setup


def identity(setup: Setup, options: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change when a run resumes, as a JSON document.

    Args:
        setup: Data, policy and encoding of the run.
        options: Those of the stage that bear on numbers.
    """
    shown = shown_with(setup.policy, setup.encoding.style, ramps=setup.encoding.ramps)
    return {
        "data": dict(setup.parts.identity),
        **shown,
        "policy": dict(setup.policy.identity),
        "options": dict(options),
    }


def shown_with(policy: Policy, style: Style, *, ramps: bool) -> dict[str, Any]:
    """What a policy is shown and how it answers, as parts of an identity.

    Args:
        policy: The opened one.
        style: The words around a question, and the form of its answer.
        ramps: Whether the place of a pixel is drawn into pictures, see `add_ramps`.
    """
    prompt = style._asdict()
    if prompt["think"]:  # as older versions have it, which knew nothing else
        del prompt["think"]
    return {
        "images": policy.geometry._asdict() | {"ramps": ramps},
        "ends": policy.ends._asdict(),
        "prompt": prompt,
        "tokenizer": policy.digest,
    }


def check_trained_alike(setup: Setup, stored: Mapping[str, Any]) -> None:
    """Raise ValueError where a policy was trained with other words or other images.

    Args:
        setup: What the policy is about to be evaluated with.
        stored: The identity it was trained with, see `identity`, or what a folder says
            of it; the words of another task, or of other classes, may differ.

    Raises:
        ValueError: What differs, see `check_alike` and `check_adapter`.
    """
    check_alike(identity(setup, {}), stored)
    check_adapter(setup.policy.identity, stored)
    if "data" in stored:
        setup.task.check_words(stored["data"], setup.parts.identity)


def trained_with(setup: Setup) -> dict[str, Any]:
    """What a stage's manifest says that the policy was shown and how it may be used.

    Args:
        setup: What all stages of the run have in common.

    Returns:
        A JSON document: how images became numbers, the ids that end and pad answers,
        the words around questions, the chat template, and how the folder that the
        policy came from wants tokens drawn in prediction, which training did not read.
    """
    about = identity(setup, {})
    return {name: about[name] for name in ("images", "ends", "prompt", "tokenizer")} | {
        "chat_template": setup.policy.tokenizer.chat_template,
        "drawing": setup.policy.drawing._asdict(),
    }


def data_facts(parts: Parts) -> dict[str, Any]:
    """What a stage's manifest says of a user's list: nothing of one without faults.

    Args:
        parts: Lines that were left out are named by file and number, without what was
            wrong with them, which may name a patient.
    """
    left_out = {"lines_left_out": [bad.origin for bad in parts.dropped]}
    said = [*parts.notes, *parts.copies]
    notes = {"data_notes": said} if said else {}
    return (left_out if parts.dropped else {}) | notes
