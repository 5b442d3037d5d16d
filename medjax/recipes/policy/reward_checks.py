"""What can be known of a run's rewards before it trains: names, weights, one trial."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from medjax.recipes.policy.python_rewards import PythonRewards, score_texts
from medjax.systems.policy.advantages import Advantages
from medjax.types import PolicyBatch

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SUFFIXES = ("_std", "_tied", "_unscorable")  # of a reward's own metrics
_FLOOR = Advantages("group").floor
_FAR = 100  # times the other rewards together: they then decide nothing


def check_weights(
    weights: Mapping[str, float], own: Sequence[str], functions: Sequence[str]
) -> dict[str, float]:
    """The weight of every reward of a run as it is.

    Args:
        weights: By the rewards' names, of either sign; 0 reports a reward and teaches
            nothing by it. A function that is not named weighs 1.
        own: The rewards that the system has.
        functions: The names of rewards in Python.

    Raises:
        ValueError: A weight is of no reward or no finite number, all are 0, a function
            is called as one of the system's rewards, or by a name that no metric can
            have.
    """
    for name in functions:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"python_rewards: {name!r} is no name; expected letters, digits, _ or -"
            )
        if name in own:
            raise ValueError(
                f"python_rewards: {name!r} is a reward of the system's own and would "
                f"be replaced; expected another name than {', '.join(own)}"
            )
    metrics = ["std", *(x + suffix for x in (*own, *functions) for suffix in _SUFFIXES)]
    if taken := [name for name in functions if name in metrics]:
        raise ValueError(
            f"python_rewards: {taken[0]!r} would have the column reward_{taken[0]} of "
            "metrics.jsonl, which says something else; rename it"
        )
    if unknown := [name for name in weights if name not in (*own, *functions)]:
        raise ValueError(
            f"reward_weights: no reward {', '.join(unknown)}; expected some of "
            f"{', '.join((*own, *functions))}"
        )
    found = dict.fromkeys(functions, 1.0) | dict(weights)
    for name, weight in found.items():
        if not math.isfinite(weight):
            raise ValueError(
                f"reward_weights.{name}={weight}: expected a finite number"
            )
    if not any(found.values()):
        raise ValueError(
            f"reward_weights: all are 0 ({', '.join(found)}), so no answer is better "
            "than another; expected one at least that is not"
        )
    return found


def try_rewards(
    rewards: PythonRewards,
    batch: PolicyBatch,
    weights: Mapping[str, float],
    numbers: Mapping[str, float],
) -> list[str]:
    """Call each function once, and say what is strange about what it gives.

    Each question is answered rightly, by the right answer to another question, by
    some words, and not at all.

    Args:
        rewards: The functions.
        batch: Training data of NumPy arrays, whose right answers are written.
        weights: Of every reward of the run, the system's own included: these give 0 to
            1.
        numbers: What functions are given beside lists, `step` excepted.

    Returns:
        A line for a reward that scores nothing, gives one number to all, or weighs so
        much that the others decide nothing.

    Raises:
        RewardError: See `score_texts`.
    """
    right = [
        rewards.tokenizer.decode(tokens[mask], skip_special_tokens=True)
        for tokens, mask in zip(batch.answer, batch.answer_mask, strict=True)
    ]
    kinds = (right, right[1:] + right[:1], ["I do not know."] * len(right))
    texts = [text for kind in (*kinds, [""] * len(right)) for text in kind]
    records = rewards.find_records(np.asarray(batch.sample_id).tolist()) * 4
    found = score_texts(rewards, texts, records, {"step": 0, **numbers})
    spreads = {name: abs(weight) for name, weight in weights.items()}
    lines = []
    for name, values in found.items():
        some = [x for x in values if x is not None]
        spread = max(some, default=0.0) - min(some, default=0.0)
        spreads[name] = abs(weights[name]) * spread
        share = spreads[name] if weights[name] else spread
        if not some:
            lines.append(
                f"reward {name!r} could score none of {len(values)} answers to "
                f"{len(right)} training questions, right and wrong ones"
            )
        elif share <= _FLOOR:
            lines.append(
                f"reward {name!r} gives {some[0]:g} to each of {len(values)} answers "
                f"to {len(right)} training questions, right, wrong and empty ones "
                f"(they differ by {share:g}, weight included): a reward that does not "
                f"differ by more than {_FLOOR:g} teaches nothing"
            )
    for name, spread in spreads.items():
        rest = sum(x for other, x in spreads.items() if other != name)
        if name in found and rest and spread > _FAR * rest:
            lines.append(
                f"reward {name!r} differs by {spread:.3g} between answers (weight "
                f"included), the others together by {rest:.3g}: they decide nothing "
                f"beside it; set reward_weights.{name} to bring it to their scale"
            )
    return lines
