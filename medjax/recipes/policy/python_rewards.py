"""Rewards written in Python: any function of texts, between two compiled programs."""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from medjax.data.boxes.batches import Record
from medjax.data.classes.batches import LabelRecord
from medjax.rl.threshold import ThresholdState
from medjax.types import GroundingBatch, LabelBatch, Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Reward = Callable[..., Any]  # -> a number or None for each completion


def load_reward(where: str) -> Reward:
    """The function that "FILE.py:NAME" names; the file is run, as any import is."""
    file, _, name = where.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"reward {where!r}: no file {file!r}, give FILE.py:NAME"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"reward {where!r}: {file!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = vars(module).get(name)
    if not callable(function):
        raise ValueError(f"reward {where!r}: {file} has no function {name!r}")
    return function


def box_columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Of boxes; `target` is one in pixels of the picture as shown."""
    return {
        "query": [r.query for r in records],
        "structure": [r.structure for r in records],
        "target": [r.box.tolist() for r in records],
        "slice_id": [r.slice_id for r in records],
        "plane": [r.plane for r in records],
    }


def label_columns(records: Sequence[LabelRecord]) -> dict[str, list[Any]]:
    """Of classes; `target` is the true one's name, `label` its index."""
    return {
        "query": [r.query for r in records],
        "question": [r.question for r in records],
        "target": [r.name for r in records],
        "label": [r.label for r in records],
        "slice_id": [r.slice_id for r in records],
        "plane": [r.plane for r in records],
    }


def make_host_rewards(
    functions: Mapping[str, Reward],
    tokenizer: "PreTrainedTokenizerBase",
    find_records: Callable[[Sequence[int]], list[Any]],
    describe: Callable[[Sequence[Any]], dict[str, list[Any]]],
) -> Callable[..., dict[str, Float[np.ndarray, "N G"]]]:
    """What `build(host_rewards=...)` of a system takes, of functions as for TRL.

    A function gets keywords, those it does not use by **columns. Lists with one entry a
    completion: `completions` (text without special tokens), those of `describe`, and
    what the data's own `columns` hold; numbers: `step` and, of boxes, `tau`. It returns
    a number a completion, or None where it cannot score one.

    Args:
        functions: by name.
        tokenizer: to write completions down.
        find_records: what a batch's sample ids stand for.
        describe: the columns of records.

    Raises:
        ValueError: several processes (each sees its own part only), or a function that
            returns another number of rewards; it is named.
    """
    if jax.process_count() > 1:
        raise ValueError("rewards in Python need a single process; write them in jax")

    def host_rewards(
        batch: GroundingBatch | LabelBatch,
        rollout: Rollout,
        step: Int[Array, ""],
        carry: Any,
    ) -> dict[str, Float[np.ndarray, "N G"]]:
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
