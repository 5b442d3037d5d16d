"""An audit trail read back: its header, and its lines step by step as arrays."""

import heapq
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.recipes.policy.audit import BROKEN, SAME
from medjax.rl.box_sets import MOST_BOXES
from medjax.rl.text import READERS
from medjax.runtime.audit import FOLDER, VERSION, audit_files
from medjax.types import BoxSetBatch, GroundingBatch, LabelBatch, PolicyBatch, Rollout

_NOTHING: Any = ()  # in place of what no reward reads
_WAY = (
    "; replay it with the version of medjax that wrote it, or train again with "
    "--config.train.grpo.audit=on"
)


class Recorded(NamedTuple):
    """A step as its lines tell it."""

    step: int  # its number in metrics.jsonl, from 1
    batch: PolicyBatch  # without prompt and answers
    rollout: Rollout  # without log-probabilities
    # what was read, by name, as `Scored.read`; where nothing could be read 0 or -1
    read: Mapping[str, np.ndarray]
    parsed: Bool[np.ndarray, "B G"]
    hits: Bool[np.ndarray, "B G"]
    rewards: Mapping[str, Float[np.ndarray, "B G"]]  # NaN where it could not score
    total: Float[np.ndarray, "B G"]  # NaN where it does not count
    advantages: Float[np.ndarray, "B G"]
    threshold: float  # tau of the step, or the recitation's factor; NaN where neither
    broken: bool  # it was not finite, and the state stayed as it was


def read_header(stage: Path) -> dict[str, Any]:
    """The header of a stage's trail.

    Args:
        stage: The stage's folder.

    Raises:
        FileNotFoundError: It has no trail.
        ValueError: The trail has lines of another version, its completions were read by
            other readers, or its files have headers that differ.
    """
    files = [path for _, _, path in audit_files(stage / FOLDER)]
    if not files:
        raise FileNotFoundError(
            f"no audit in {stage / FOLDER}: a run writes one with "
            "--config.train.grpo.audit=on; name its folder by --workdir"
        )
    headers = [_header(path) for path in files]
    for path, header in zip(files, headers, strict=True):
        changed = [x for x in headers[0] if headers[0][x] != header.get(x)]
        changed = [x for x in changed if x not in ("process", "versions")]
        if changed:
            raise ValueError(
                f"{path}, line 1: {', '.join(changed)} differ from those of "
                f"{files[0].name}; expected files of one run"
            )
    return headers[0]


def _header(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        header = _parse(path, 1, file.readline())
    if header.get("audit") != VERSION:
        raise ValueError(
            f"{path}, line 1: audit {header.get('audit')!r}; expected lines of version "
            f"{VERSION}{_WAY}"
        )
    if header.get("readers") != READERS:
        raise ValueError(
            f"{path}, line 1: completions were read by readers of version "
            f"{header.get('readers')!r} (medjax {header['versions']['medjax']}); "
            f"expected {READERS}, ours, which may read them otherwise{_WAY}"
        )
    return header


def check_same(stage: Path, header: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse a trail of other data, words, ends or tokens than a config has.

    Args:
        stage: The stage's folder, for the message.
        header: From `read_header`.
        ours: The identity of the config's run, see `identity`, and its `seed` where
            that matters.

    Raises:
        ValueError: What differs, each with both values.
    """
    parts = [part for part in (*SAME, "seed") if part in ours]
    changed = changes({k: header[k] for k in parts}, {k: ours[k] for k in parts})
    if changed:
        raise ValueError(
            f"{stage / FOLDER} is of another run:\n  "
            + "\n  ".join(changed)
            + "\nset these back; what --mode=replay may change is the section "
            "train.grpo"
        )


def changes(theirs: Any, ours: Any, name: str = "") -> list[str]:  # noqa: ANN401
    """Where two JSON values differ, a line each.

    Args:
        theirs: The audit's.
        ours: The config's; tuples count as lists.
        name: The dotted path of both.
    """
    ours = json.loads(json.dumps(ours))
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        keys = sorted(theirs.keys() | ours.keys())
        dotted = {key: f"{name}.{key}" if name else key for key in keys}
        found = [changes(theirs.get(k), ours.get(k), dotted[k]) for k in keys]
        return list(itertools.chain(*found))
    return [] if theirs == ours else [f"{name}: {theirs} in the audit, {ours} here"]


def read_steps(stage: Path, header: Mapping[str, Any]) -> Iterator[Recorded]:
    """The steps of a trail in their order, from 1 on.

    Args:
        stage: The stage's folder.
        header: From `read_header`.

    Raises:
        ValueError: A line is no line of an audit, or a step is missing or not whole.
    """
    shards: dict[int, list[Path]] = {}
    for process, _, path in audit_files(stage / FOLDER):
        shards.setdefault(process, []).append(path)
    readers = [_by_step(paths) for paths in shards.values()]
    merged = heapq.merge(*readers, key=lambda pair: pair[0])
    steps = itertools.groupby(merged, key=lambda pair: pair[0])
    for expected, (step, parts) in enumerate(steps, 1):
        if step != expected:
            raise ValueError(
                f"{stage / FOLDER}: step {expected} is missing, the next is {step}; "
                "expected every step from 1 on, as a threshold depends on all before "
                "it: was the audit off for a part of the run?"
            )
        lines = [line for _, part in parts for line in part]
        yield _record(stage / FOLDER, header, step, lines)


def _by_step(paths: Sequence[Path]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for path in paths:
        with path.open(encoding="utf-8") as file:
            numbered = ((n, x) for n, x in enumerate(file, 1) if n > 1)
            lines = (_parse(path, n, x) for n, x in numbered if x.endswith("\n"))
            for step, found in itertools.groupby(lines, lambda line: line["step"]):
                yield step, list(found)


def _parse(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    first = number == 1
    if not isinstance(found, dict) or not first and "step" not in found:
        raise ValueError(
            f"{path}, line {number}: expected a JSON object"
            f"{' that names an audit' if first else ' with a step'}, found "
            f"{text.strip()[:60]!r}"
        )
    return found


def _record(
    trail: Path, header: Mapping[str, Any], step: int, lines: list[dict[str, Any]]
) -> Recorded:
    """The lines of a step as arrays."""
    options = header["rewards"]
    prompts, group = options["batch"] * options["questions"], options["group"]
    places = [(line["row"], line["completion"]) for line in lines]
    whole = sorted(itertools.product(range(prompts), range(group)))
    if sorted(places) != whole:
        raise ValueError(
            f"{trail}: step {step} has {len(lines)} lines; expected {len(whole)}, "
            f"{group} for each of {prompts} prompts: is the file of a process missing, "
            "or was the run stopped while it wrote?"
        )
    lines = [line for _, line in sorted(zip(places, lines, strict=True))]
    shape, heads = (prompts, group), lines[::group]
    tokens = np.zeros((*shape, header["tokens"]), np.int32)
    mask = np.zeros(tokens.shape, bool)
    for line, row, marks in zip(
        lines, tokens.reshape(len(lines), -1), mask.reshape(len(lines), -1), strict=True
    ):
        row[: len(line["tokens"])] = line["tokens"]
        marks[: len(line["tokens"])] = True

    def column(name: str, kind: type) -> np.ndarray:
        return np.array([line[name] for line in lines], kind).reshape(shape)

    def numbers(values: Sequence[Any]) -> np.ndarray:
        some = [np.nan if x is None else float(x) for x in values]
        return np.array(some, np.float32).reshape(shape)

    names = lines[0]["rewards"]
    return Recorded(
        step=step,
        batch=_batch(header["classes"], heads),
        rollout=Rollout(tokens, mask, _NOTHING, _NOTHING),
        read=_read(header["classes"], lines, shape),
        parsed=column("parsed", bool),
        hits=column("hit", bool),
        rewards={n: numbers([line["rewards"][n] for line in lines]) for n in names},
        total=numbers([line["reward"] for line in lines]),
        advantages=numbers([line["advantage"] for line in lines]),
        threshold=float(
            lines[0].get("tau", lines[0].get("recitation_ramp", float("nan")))
        ),
        broken=any(line["why"] == BROKEN for line in lines),
    )


def _batch(classes: Sequence[str], heads: Sequence[Mapping[str, Any]]) -> PolicyBatch:
    """What was asked in a step, a line a prompt."""
    same = {
        "prompt": _NOTHING,
        "valid": np.array([line["valid"] for line in heads], bool),
        "sample_id": np.array([line["sample"] for line in heads], np.int32),
        "answer": _NOTHING,
        "answer_mask": _NOTHING,
    }
    targets = [line["target"] for line in heads]
    if "boxes" in heads[0]:
        boxes, marks = _sets(targets)
        return BoxSetBatch(boxes=boxes, box_valid=marks, **same)
    if "box" in heads[0]:
        return GroundingBatch(boxes=np.array(targets, np.float32), **same)
    return LabelBatch(label=_labels(classes, targets), **same)


def _read(
    classes: Sequence[str], lines: Sequence[Mapping[str, Any]], shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    """What was read of each completion, as a system's `Scored.read`."""
    found: dict[str, np.ndarray] = {}
    if "box" in lines[0]:
        boxes = [line["box"] or [0.0] * 4 for line in lines]
        found["box"] = np.array(boxes, np.float32)
    if "boxes" in lines[0]:
        sets = _sets([line["boxes"] or [] for line in lines])
        found["boxes"], found["box_valid"] = sets
    if "label" in lines[0]:
        found["label"] = _labels(classes, [line["label"] for line in lines])
    if "labels" in lines[0]:
        found["shown"] = _labels(classes, [line["labels"] or [] for line in lines])
    for name in ("iou", "quality", "well_formed", "think_words"):
        if name in lines[0]:
            kind = {"well_formed": bool, "think_words": np.int32}.get(name, np.float32)
            found[name] = np.array([line[name] for line in lines], kind)
    return {name: x.reshape(*shape, *x.shape[1:]) for name, x in found.items()}


def _sets(
    sets: Sequence[Sequence[Any]],
) -> tuple[Float[np.ndarray, "N 8 4"], Bool[np.ndarray, "N 8"]]:
    boxes = np.zeros((len(sets), MOST_BOXES, 4), np.float32)
    marks = np.zeros(boxes.shape[:2], bool)
    for n, some in enumerate(sets):
        boxes[n, : len(some)] = np.reshape(np.array(some, np.float32), (-1, 4))
        marks[n, : len(some)] = True
    return boxes, marks


def _labels(
    classes: Sequence[str], named: Sequence[Any]
) -> Int[np.ndarray, "N"] | Bool[np.ndarray, "N C"]:
    """Indices of names, -1 for None; or marks of lists of names."""
    places = {name: n for n, name in enumerate(classes)}
    if not isinstance(named[0], list):
        some = [-1 if name is None else places[name] for name in named]
        return np.array(some, np.int32)
    marks = np.zeros((len(named), len(classes)), bool)
    for row, names in zip(marks, named, strict=True):
        row[[places[name] for name in names]] = True
    return marks
