"""What a reward in Python gave, as numbers: nothing is coerced that is none."""

import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from medjax.runtime.errors import RewardError
from medjax.systems.policy.host_rewards import REWARD_LIMIT

_EXPECTED = "expected a list with a number a completion, None where it cannot score"


def read_values(name: str, result: Any, samples: Sequence[str]) -> list[float | None]:  # noqa: ANN401
    """One number a completion, or None where the reward could not score it.

    Args:
        name: The reward's, for errors.
        result: What the function returned: a list, a tuple, an iterator or an array of
            one axis. Its members are numbers, switches (1 and 0), arrays without axes,
            or None.
        samples: What an error calls each completion.

    Raises:
        RewardError: It is no such thing, has another length, or a member is text,
            complex, an array with axes, masked, NaN, infinite or beyond 1e18.
    """
    if isinstance(result, str | bytes | Mapping | Set) or not isinstance(
        result, Iterable
    ):
        raise RewardError(
            f"reward {name!r} returned {_kind(result)}; {_EXPECTED}"
            + (": is a `return` missing?" if result is None else "")
        )
    array: Any = result
    shape = tuple(array.shape) if hasattr(result, "shape") else (0,)
    if len(shape) != 1:
        raise RewardError(
            f"reward {name!r} returned an array of shape {shape}; {_EXPECTED}, of "
            f"shape ({len(samples)},)"
        )
    values = list(result)
    if len(values) != len(samples):
        raise RewardError(
            f"reward {name!r} gave {len(values)} numbers for {len(samples)} "
            f"completions; {_EXPECTED}"
        )
    found = [
        _number(name, value, sample)
        for value, sample in zip(values, samples, strict=True)
    ]
    wrong = [
        n for n, x in enumerate(found) if x is not None and not abs(x) <= REWARD_LIMIT
    ]
    if wrong:
        raise RewardError(
            f"reward {name!r} gave {found[wrong[0]]} for {samples[wrong[0]]} "
            f"({len(wrong)} such of {len(found)} completions); expected a finite "
            f"number up to {REWARD_LIMIT:g}, or None where it cannot score"
        )
    return found


def _number(name: str, value: Any, sample: str) -> float | None:  # noqa: ANN401
    if value is None:
        return None
    if hasattr(value, "item") and hasattr(value, "shape") and not len(value.shape):
        value = "a masked value" if np.ma.is_masked(value) else value.item()
    if not isinstance(value, numbers.Real):  # a bool is one, and so is a fraction
        raise RewardError(
            f"reward {name!r} gave {_kind(value)} for {sample}; {_EXPECTED}"
        )
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return float("inf")


def _kind(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return "None"
    return f"{str(value)[:60]!r} ({type(value).__name__})"
