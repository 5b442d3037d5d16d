"""How long a stage goes on without a signal, and what a person may try then."""

from collections.abc import Mapping
from typing import Any


def check_patience(patience: int | None) -> int:
    """A whole number of steps, 0 for None.

    Args:
        patience: The config's.

    Raises:
        ValueError: A negative number.
    """
    if patience is not None and patience < 0:
        raise ValueError(
            f"train.grpo.patience={patience}: expected a number of steps, or 0 or None "
            "to go on without a signal"
        )
    return patience or 0


def advise(accuracy: str, weights: Mapping[str, float], row: Mapping[str, Any]) -> str:
    """What the completions of a step without a signal earned, and what to try.

    Args:
        accuracy: What the reward for right answers is called in the config.
        weights: The weight of every reward.
        row: The metrics of the step; {} where they are not known.
    """
    means = ", ".join(
        f"{name} {row[f'reward_{name}']:.3g} (weight {weight:g})"
        for name, weight in weights.items()
        if f"reward_{name}" in row
    )
    at = f" at tau {row['tau']:.2f}" if "tau" in row else ""
    what = f"Rewards: {accuracy}{at}; in the last step {means or 'unknown'}. "
    if row.get("parse_rate", 1.0) < 0.5:
        return what + (
            f"Of its completions {1 - row['parse_rate']:.0%} could not be read: try a "
            "longer warm start (warm_start.steps) or a prompt that shows the form."
        )
    return what + (
        "Try more variety (train.grpo.group, train.grpo.sampling.temperature), an "
        "easier or graded reward, or a longer warm start (warm_start.steps); in "
        "another workdir."
    )
