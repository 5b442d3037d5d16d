"""Rewards written in Python: any function of texts, between two compiled programs."""

import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from medjax.rl.threshold import ThresholdState
from medjax.systems.policy.exploration import HostRewards
from medjax.types import GroundingBatch, LabelBatch, Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Reward(Protocol):
    """A user's function of completions and columns, as for TRL."""

    def __call__(
        self, *, completions: Sequence[str], **columns: Any
    ) -> Iterable[float | None]:
        """A number for each completion, None where it cannot score one."""
        ...


def load_reward(place: str) -> Reward:
    """The function that "FILE.py:NAME" names; the file is run, as any import is."""
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

    A function gets keywords, those it does not use by **columns. Lists with one entry a
    completion: `completions` (text without special tokens), those of `describe`, and
    what the data's own `columns` hold; numbers: `step` and, of boxes, `tau`. It returns
    a number a completion, or None where it cannot score one.

    Args:
        places: "FILE.py:NAME" of each function, by the name of its reward. The files
            are run, as any import is.
        tokenizer: to write completions down.
        find_records: what a batch's sample ids stand for.
        describe: the columns of records.

    Raises:
        FileNotFoundError: no such file.
        ValueError: several processes (each sees its own part only), or a function that
            returns another number of rewards; it is named.
    """
    if jax.process_count() > 1:
        raise ValueError("rewards in Python need a single process; write them in jax")
    functions = {name: load_reward(place) for name, place in places.items()}

    def host_rewards(
        batch: GroundingBatch | LabelBatch,
        rollout: Rollout,
        step: Int[Array, ""],
        carry: Any,
    ) -> dict[str, Float[np.ndarray, "B G"]]:
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
            numbers = [math.nan if v is None else float(v) for v in values]
            found[name] = np.array(numbers, np.float32).reshape(prompts, group)
        return found

    return host_rewards
