"""An audit trail under other rewards: every step computed again, without a policy."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from medjax.recipes.policy.audit import stage_options
from medjax.recipes.policy.audit_reading import (
    Recorded,
    changes,
    check_same,
    read_header,
    read_steps,
)
from medjax.recipes.policy.identity import identity
from medjax.recipes.policy.replay_tables import (
    Compared,
    compare,
    comparison_tables,
)
from medjax.recipes.policy.scoring import write_evaluation
from medjax.recipes.policy.setup import Exploration, Setup, without_idle_cap
from medjax.report.qmri import write_png
from medjax.report.replay import Path as Drawn
from medjax.report.replay import replay_paths
from medjax.runtime.audit import FOLDER as TRAIL
from medjax.runtime.audit import audit_files
from medjax.runtime.progress import progress
from medjax.systems.policy.advantages import check_advantages
from medjax.systems.policy.exploration import Explorer
from medjax.systems.policy.host_rewards import HostRewards
from medjax.systems.policy.replay import Replayed, replay_step

FOLDER = "replay"
# Options of `Exploration` that a reward depends on; the rest is as it was sampled.
_USED = ("steps", "advantages", "reward_weights", "python_rewards")
_FAR = 1e-4  # of an IoU or a Q: more than another device's rounding
_NOTE = (
    "completions are those of the run: other rewards would have taught another policy, "
    "so this tells what changes at equal completions"
)


class Replay(NamedTuple):
    """A stage as a config would pay it."""

    name: str  # of the stage and of its folder
    setup: Setup
    options: Exploration
    own: NamedTuple  # the system's own options
    explorer: Explorer  # its rewards; its model is not asked
    host_rewards: HostRewards | None = None  # given the whole carry


def check_explored(method: str) -> None:
    """Refuse a run without completions that were sampled to learn from.

    Args:
        method: The one of `train`.

    Raises:
        ValueError: It is not "grpo".
    """
    if method != "grpo":
        raise ValueError(
            f"--mode=replay: train.method={method} samples no completions; expected "
            "method=grpo, and the workdir of such a run"
        )


def has_audit(stage: Path) -> bool:
    """Whether a stage has an audit trail.

    Args:
        stage: The stage's folder.
    """
    return bool(audit_files(stage / TRAIL))


def replay_stage(replay: Replay) -> list[str]:
    """Compare what a stage's rewards were with what a config's would have been.

    STAGE/replay/ gets the tables as text and JSON, a line a step (steps.jsonl), and the
    paths of threshold, hit rate and signal (paths.png); the tables are printed too.

    Args:
        replay: The rewards of a config, and the stage whose audit is read.

    Returns:
        What makes the result doubtful: rewards that no option changes, and that come
        out otherwise than in the run all the same.

    Raises:
        FileNotFoundError: The stage has no audit.
        ValueError: The audit is of another version, data, tokenizer or words, an option
            has changed that rewards do not depend on, or the audit is not whole.
    """
    setup, stage = replay.setup, replay.setup.workdir / replay.name
    header = read_header(stage)
    ours = identity(setup, {})
    if replay.host_rewards is not None:  # which find what was asked by its number
        ours |= {"seed": setup.seed}
    check_same(stage, header, ours)
    check_advantages(replay.options.advantages)
    changed = _changed(replay, header)
    rows, lines = [], []
    with progress(f"replay {replay.name}", first=0, total=0, show=()) as report:
        for recorded, replayed in replay_steps(replay, stage, header):
            rows.append(compare(recorded, replayed))
            lines.append(_line(rows[-1], replayed))
            report.step(recorded.step, {})
    if not rows:
        raise ValueError(f"{stage}: its audit has no step; was it stopped before one?")
    tables = comparison_tables(replay.name, rows, changed)
    folder = stage / FOLDER
    write_evaluation(folder, lines, tables, name="steps.jsonl", printed=len(tables))
    print(_NOTE, flush=True)  # noqa: T201
    steps = np.array([row.step for row in rows])
    paths = {
        name: Drawn(steps, *np.array([x[:3] for x in some], np.float64).T)
        for name, some in (
            ("as it ran", [row.ran for row in rows]),
            ("replayed", [row.here for row in rows]),
        )
    }
    figure = replay_paths(paths, threshold=_threshold_name(header))
    write_png(folder / "paths.png", figure)
    first = next((row.step for row in rows if row.differs), None)
    if changed or first is None:
        return []
    return [
        f"{replay.name}: no option is another than the run's, and the replay differs "
        f"from it from step {first} on; has the file of a reward in Python changed?"
    ]


def replay_steps(
    replay: Replay, stage: Path, header: Mapping[str, Any]
) -> Iterator[tuple[Recorded, Replayed]]:
    """Each step as it was recorded, and as it would have been.

    Args:
        replay: The rewards of a config.
        stage: The stage's folder.
        header: Of its trail.

    Raises:
        ValueError: What was read of a completion is read otherwise here; or a line is
            wrong, see `read_steps`.
    """
    run = jax.jit(partial(replay_step, replay.explorer))
    carry: Any = replay.explorer.start(())
    for recorded in read_steps(stage, header):
        number = np.int32(recorded.step - 1)
        batch, rollout = recorded.batch, recorded.rollout
        host = {}
        if replay.host_rewards is not None:
            on_host = jax.device_get(carry)
            host = replay.host_rewards(batch, rollout, number, on_host)
        shape = recorded.parsed.shape
        replayed = jax.device_get(
            run(
                carry,
                batch,
                rollout,
                number,
                {k: np.asarray(x.values, np.float32) for k, x in host.items()},
                {
                    k: np.ones(shape, bool) if x.scored is None else x.scored
                    for k, x in host.items()
                },
            )
        )
        _check_read(stage, recorded, replayed)
        if not recorded.broken:
            carry = replayed.aux
        yield recorded, replayed


def _changed(replay: Replay, header: Mapping[str, Any]) -> list[str]:
    """The options of rewards that are others than the run's; others are refused."""
    theirs = {k: x for k, x in header["rewards"].items() if k != "weights"}
    options = without_idle_cap(replay.options, replay.setup.policy)
    ours = stage_options(options, replay.own)
    used = {*_USED, *replay.own._fields}
    rest = [
        line
        for name in sorted(theirs.keys() | ours.keys())
        if name not in used
        for line in changes(theirs.get(name), ours.get(name), f"train.grpo.{name}")
    ]
    if rest:
        raise ValueError(
            "--mode=replay: completions are those of the run, and no reward depends on"
            "\n  " + "\n  ".join(rest) + "\nset these back; what may change are "
            f"{', '.join(sorted(used))} of train.grpo"
        )
    return [
        line
        for name in sorted(used)
        for line in changes(theirs.get(name), ours.get(name), name)
    ]


def _check_read(stage: Path, recorded: Recorded, replayed: Replayed) -> None:
    """Refuse completions that are read otherwise than when they were written down."""
    found = {"parsed": replayed.parsed, **replayed.read}
    for name, theirs in {"parsed": recorded.parsed, **recorded.read}.items():
        ours = np.asarray(found[name])
        if np.issubdtype(theirs.dtype, np.inexact):
            same = np.abs(ours - theirs) <= _FAR
        else:
            same = ours == theirs
        same = same.reshape(*recorded.parsed.shape, -1).all(axis=-1)
        if name in ("box", "boxes", "box_valid", "label", "shown"):
            same |= ~recorded.parsed  # there is no answer to compare
        if not same.all():
            row, place = np.argwhere(~same)[0].tolist()
            raise ValueError(
                f"{stage}: step {recorded.step}, row {row}, completion {place} is read "
                f"otherwise than when it was written down: {name} was "
                f"{theirs[row, place].tolist()}, here {ours[row, place].tolist()}; "
                "expected the same. Replay it with the version of medjax, and the "
                "classes, that it was written with"
            )


def _threshold_name(header: Mapping[str, Any]) -> str:
    if not header["classes"]:
        return "threshold tau"
    return "share of the recitation's weight"


def _line(row: Compared, replayed: Replayed) -> dict[str, Any]:
    """A step for steps.jsonl; the metrics by the names of metrics.jsonl."""
    metrics = {k: np.asarray(x).tolist() for k, x in replayed.metrics.items()}
    ran = {k: None if x != x else x for k, x in row.ran._asdict().items()}
    rank = None if row.rank != row.rank else row.rank
    return {"step": row.step, "ran": ran, "replayed": metrics, "rank": rank}
