"""Rewards written in Python: any function of texts, between two compiled programs."""

import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import jax
import numpy as np
from jaxtyping import Array, Int

from medjax.rl.window import ThresholdState
from medjax.systems.policy.exploration import HostReward, HostRewards
from medjax.types import PolicyBatch, Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Reward(Protocol):
    """A user's function of completions and columns, as for TRL."""

    def __call__(
        self, *, completions: Sequence[str], **columns: Any
    ) -> Iterable[float | None]:
        """A number for each completion, None where it cannot score one.

        Args:
            completions: What the policy wrote, without special tokens.
            columns: Further keywords, which `make_host_rewards` explains.
        """
        ...


def load_reward(place: str) -> Reward:
    """The function that a place names; its file is run, as any import is.

    Args:
        place: "FILE.py:NAME", the file's path as Python would open it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no Python file, or has no such function.
    """
    file, _, name = place.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"reward {place!r}: no file {file!r}, give FILE.py:NAME"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"reward {place!r}: {file!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Any = vars(module).get(name)
    if not callable(function):
        raise ValueError(f"reward {place!r}: {file} has no function {name!r}")
    return cast(Reward, function)


def make_host_rewards(
    places: Mapping[str, str],
    tokenizer: "PreTrainedTokenizerBase",
    find_records: Callable[[Sequence[int]], list[Any]],
    describe: Callable[[Sequence[Any]], dict[str, list[Any]]],
) -> HostRewards:
    """What `build(host_rewards=...)` of a system takes, of functions as for TRL.

    A function is called with keywords, and takes those that it does not use by
    **columns. Lists with an entry for each completion are `completions` (text without
    special tokens), the columns of `describe`, and what the data's own `columns` hold;
    numbers are `step` and, of boxes, `tau`. It returns a number for each completion, or
    None where it cannot score one.

    Args:
        places: "FILE.py:NAME" of each function, by the name of its reward. The files
            are run here, as any import is.
        tokenizer: The policy's, by which completions are written down.
        find_records: Gives the records of a batch's sample ids, in their order.
        describe: Gives the columns of records: lists with an entry for each.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: There are several processes (each sees its own part only), or a
            place names no function; or later, at a step, a function returns another
            number of rewards, or one that is not finite.
    """
    if jax.process_count() > 1:
        raise ValueError("rewards in Python need a single process; write them in jax")
    functions = {name: load_reward(place) for name, place in places.items()}

    def host_rewards(
        batch: PolicyBatch,
        rollout: Rollout,
        step: Int[Array, ""],
        carry: Any,
    ) -> dict[str, HostReward]:
        prompts, group, length = rollout.tokens.shape
        rows = zip(
            rollout.tokens.reshape(-1, length),
            rollout.mask.reshape(-1, length),
            strict=True,
        )
        texts = [
            tokenizer.decode(tokens[mask], skip_special_tokens=True)
            for tokens, mask in rows
        ]
        records = [
            r for r in find_records(batch.sample_id.tolist()) for _ in range(group)
        ]
        columns: dict[str, Any] = dict(describe(records))
        own = dict.fromkeys(name for r in records for name in r.columns)
        columns |= {name: [r.columns.get(name) for r in records] for name in own}
        columns |= {"step": int(step)}
        if isinstance(carry, ThresholdState):
            columns |= {"tau": float(carry.tau)}
        found = {}
        for name, function in functions.items():
            values = list(function(completions=texts, **columns))
            if len(values) != len(texts):
                raise ValueError(
                    f"reward {name!r} gave {len(values)} numbers for {len(texts)} "
                    "completions; expected one each, None where it cannot score"
                )
            for text, value in zip(texts, values, strict=True):
                if value is not None and not math.isfinite(float(value)):
                    raise ValueError(
                        f"reward {name!r} gave {value} for {text[:80]!r}; expected a "
                        "finite number, or None where it cannot score"
                    )
            numbers = np.array([0.0 if v is None else float(v) for v in values])
            scored = np.array([v is not None for v in values], bool)
            shape = (prompts, group)
            found[name] = HostReward(
                numbers.astype(np.float32).reshape(shape), scored.reshape(shape)
            )
        return found

    return host_rewards
