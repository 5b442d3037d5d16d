"""Rewards written in Python: any function of texts, between two compiled programs."""

import contextlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import jax
import numpy as np
from jaxtyping import Array, Int

from medjax.data.lists.columns import REWARD_WORDS
from medjax.recipes.policy.reward_values import read_values
from medjax.rl.window import ThresholdState
from medjax.runtime.errors import RewardError
from medjax.runtime.processes import from_first
from medjax.systems.policy.host_rewards import HostReward, HostRewards
from medjax.types import PolicyBatch, Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHOWN = 80  # characters of a completion in an error


class Reward(Protocol):
    """A user's function of completions and columns, as for TRL."""

    def __call__(
        self, *, completions: Sequence[str], **columns: Any
    ) -> Iterable[float | None]:
        """A number for each completion, None where it cannot score one.

        Args:
            completions: What the policy wrote, without special tokens.
            columns: Further keywords, which `PythonRewards` explains.
        """
        ...


class PythonRewards(NamedTuple):
    """A user's functions, and what they are called with.

    A function is called with keywords, and takes those that it does not use by
    **columns. Lists with an entry for each completion are `completions` (text without
    special tokens), the columns of `describe`, and what the data's own `columns` hold;
    numbers are `step` and, of boxes, `tau`. It returns a number for each completion, or
    None where it cannot score one.
    """

    functions: Mapping[str, Reward]  # by the names of the rewards
    tokenizer: "PreTrainedTokenizerBase"  # the policy's
    find_records: Callable[[Sequence[int]], list[Any]]  # of sample ids, in their order
    describe: Callable[[Sequence[Any]], dict[str, list[Any]]]  # columns of records


def load_reward(place: str) -> Reward:
    """The function that a place names; its file is run, as any import is.

    Args:
        place: "FILE.py:NAME", the file's path as Python would open it.

    Raises:
        FileNotFoundError: There is no such file.
        RewardError: The file is no Python file, cannot be run, or has no such function.
    """
    file, _, name = place.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"reward {place!r}: no file {file!r}, give FILE.py:NAME"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RewardError(f"reward {place!r}: {file!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    with _named(f"reward {place!r}: {file} cannot be run"):
        spec.loader.exec_module(module)
    function: Any = vars(module).get(name)
    if not callable(function):
        raise RewardError(f"reward {place!r}: {file} has no function {name!r}")
    if inspect.iscoroutinefunction(function):
        raise RewardError(
            f"reward {place!r} is `async`; expected a function that returns its numbers"
        )
    return cast(Reward, function)


def load_rewards(
    places: Mapping[str, str],
    tokenizer: "PreTrainedTokenizerBase",
    find_records: Callable[[Sequence[int]], list[Any]],
    describe: Callable[[Sequence[Any]], dict[str, list[Any]]],
) -> PythonRewards:
    """The functions at these places, and what they will be called with.

    Args:
        places: "FILE.py:NAME" of each function, by the name of its reward. The files
            are run here, as any import is.
        tokenizer: The policy's, by which completions are written down.
        find_records: Gives the records of a batch's sample ids, in their order.
        describe: Gives the columns of records: lists with an entry for each.

    Raises:
        FileNotFoundError: A file does not exist.
        RewardError: A place names no function.
    """
    functions = {name: load_reward(place) for name, place in places.items()}
    return PythonRewards(functions, tokenizer, find_records, describe)


def make_host_rewards(rewards: PythonRewards) -> HostRewards:
    """What `build(host_rewards=...)` of a system takes; see `score_rollout`.

    Args:
        rewards: From `load_rewards`.
    """
    return partial(score_rollout, rewards)


def score_rollout(
    rewards: PythonRewards,
    batch: PolicyBatch,
    rollout: Rollout,
    step: Int[Array, ""],
    carry: Any,  # noqa: ANN401
) -> dict[str, HostReward]:
    """What the functions give for the completions of a batch, [B, G] each.

    Over several processes the first calls them, with all rows, and tells the others: a
    function sees what it would see on one process, and one that asks somebody else asks
    once.

    Args:
        rewards: The functions.
        batch: Its sample ids are read.
        rollout: G completions of each of its B prompts, NumPy arrays.
        step: Updates done before this one, from 0.
        carry: Where it is a `ThresholdState`, the functions get its `tau`.

    Raises:
        RewardError: A function raised an error (which is the cause), does not take what
            it is given, or returned what `read_values` refuses.
    """
    shape = rollout.tokens.shape[:2]
    if jax.process_count() == 1:
        scored = _score_rows(rewards, batch, rollout, step, carry)
    else:
        said = from_first(
            lambda: json.dumps(_score_rows(rewards, batch, rollout, step, carry))
        )
        scored = json.loads(said)
    return {name: _as_array(values, shape) for name, values in scored.items()}


def _as_array(values: Sequence[float | None], shape: tuple[int, int]) -> HostReward:
    array = np.array([0.0 if v is None else v for v in values], np.float32)
    some = np.array([v is not None for v in values], bool)
    return HostReward(array.reshape(shape), some.reshape(shape))


def _score_rows(
    rewards: PythonRewards,
    batch: PolicyBatch,
    rollout: Rollout,
    step: Int[Array, ""],
    carry: Any,  # noqa: ANN401
) -> dict[str, list[float | None]]:
    """What each function gives for each completion, prompt by prompt."""
    group, length = rollout.tokens.shape[1:]
    rows = zip(
        rollout.tokens.reshape(-1, length),
        rollout.mask.reshape(-1, length),
        strict=True,
    )
    texts = [
        rewards.tokenizer.decode(tokens[mask], skip_special_tokens=True)
        for tokens, mask in rows
    ]
    found = rewards.find_records(batch.sample_id.tolist())
    numbers = {"step": int(step)}
    if isinstance(carry, ThresholdState):
        numbers |= {"tau": float(carry.tau)}
    records = [record for record in found for _ in range(group)]
    return score_texts(rewards, texts, records, numbers)


def score_texts(
    rewards: PythonRewards,
    texts: Sequence[str],
    records: Sequence[Any],
    numbers: Mapping[str, float],
) -> dict[str, list[float | None]]:
    """What each function gives for each text, None where it could not score it.

    Args:
        rewards: The functions.
        texts: Completions.
        records: The `Record` or `LabelRecord` that each of them answers.
        numbers: What is given beside lists: `step` and, of boxes, `tau`.

    Raises:
        RewardError: See `score_rollout`; or the data has a column by a name that is
            the library's.
    """
    ours = {"completions": list(texts), **rewards.describe(records), **numbers}
    strange = set(ours) - set(REWARD_WORDS)
    if strange:
        raise ValueError(f"{sorted(strange)}: expected only words of REWARD_WORDS")
    own = list(dict.fromkeys(name for r in records for name in r.columns))
    taken = [name for name in own if name in REWARD_WORDS]
    if taken:
        raise RewardError(
            f"column {taken[0]!r} of {records[0].slice_id}: rewards in Python are "
            f"given the library's own by that name; rename it"
        )
    columns = {name: [r.columns.get(name) for r in records] for name in own}
    samples = [
        f"{text[:_SHOWN]!r}, an answer to {record.query!r} about {record.slice_id} "
        f"(sample {record.sample_id})"
        for text, record in zip(texts, records, strict=True)
    ]
    return {
        name: read_values(name, _call(name, function, ours | columns), samples)
        for name, function in rewards.functions.items()
    }


def _call(
    name: str, function: Reward, keywords: Mapping[str, list[Any] | float]
) -> Any:  # noqa: ANN401
    """What a function returns, its errors named; the lists that it gets are its own."""
    keywords = {k: list(x) if isinstance(x, list) else x for k, x in keywords.items()}
    try:
        inspect.signature(function).bind(**keywords)
    except TypeError as error:
        raise RewardError(
            f"reward {name!r} does not take what it is given ({error}); rewards are "
            f"called with the keywords {', '.join(keywords)}. Name those that it uses "
            "and take the rest by **columns"
        ) from None
    with _named(f"reward {name!r} failed at step {keywords['step']}"):
        result = function(**keywords)
        # an iterator runs the user's code, too
        return list(result) if isinstance(result, Iterator) else result


def _named(message: str) -> contextlib.ExitStack:
    """A block whose errors get a name: any, as the code in it is a user's.

    The cause is the error itself, with the user's part of its traceback.
    """

    def leave(kind: Any, error: BaseException | None, trace: Any) -> bool:  # noqa: ANN401
        del kind, trace
        if isinstance(error, Exception | SystemExit):
            own = error.__traceback__ and error.__traceback__.tb_next
            raise RewardError(
                f"{message}: {type(error).__name__}: {error}"
            ) from error.with_traceback(own)
        return False

    stack = contextlib.ExitStack()
    stack.push(leave)
    return stack
