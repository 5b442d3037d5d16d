"""What a replay changes: numbers of each step, and tables of all."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from medjax.evals.calibration import spearman
from medjax.evals.tables import Table
from medjax.recipes.policy.audit_reading import Recorded
from medjax.systems.policy.replay import Replayed

_CLOSE = 1e-4  # of an advantage: more than another device's rounding
_SHOWN = 40  # raises that the table of a threshold's path has at most


class Outcome(NamedTuple):
    """What came of a step."""

    threshold: float  # tau, or the recitation's factor; NaN where there is neither
    hit_rate: float  # over the completions of valid rows
    signal: float  # share of the groups whose advantages are not all 0
    reward: float  # mean total of the completions that count


class Compared(NamedTuple):
    """A step as it ran, and as it would have been."""

    step: int
    ran: Outcome
    here: Outcome
    rank: float  # Spearman's, of the advantages; NaN where either do not vary
    counted: int  # completions that count in both
    kept: tuple[int, int, int]  # in a group with a signal: in both, as run, replayed
    turned: int  # advantages whose sign changed
    differs: bool  # beyond rounding
    ran_parts: Mapping[str, float]  # mean of each reward, by name
    here_parts: Mapping[str, float]


def compare(recorded: Recorded, replayed: Replayed) -> Compared:
    """The numbers of a step.

    Args:
        recorded: As its lines tell it.
        replayed: As another config would pay it, on the host.
    """
    valid = np.broadcast_to(recorded.batch.valid[:, None], recorded.parsed.shape)
    theirs, ours = ~np.isnan(recorded.total), np.asarray(replayed.counted)
    both = theirs & ours
    old, new = recorded.advantages, np.asarray(replayed.advantages)
    signal = [_taught(old, theirs), _taught(new, ours)]
    metrics = {name: float(x) for name, x in replayed.metrics.items()}
    tau = metrics.get("tau", metrics.get("recitation_ramp", float("nan")))
    ran = Outcome(
        recorded.threshold,
        _mean(recorded.hits, valid),
        _mean(signal[0].any(axis=1), theirs.any(axis=1)),
        _mean(recorded.total, theirs),
    )
    effective = metrics["groups_effective"] / max(metrics["groups"], 1)
    here = Outcome(tau, metrics["hit_rate"], effective, metrics["reward"])
    far = np.abs(old - new)[both] > _CLOSE
    paths = np.array([recorded.threshold, tau])
    return Compared(
        step=recorded.step,
        ran=ran,
        here=here,
        rank=spearman(old[both], new[both]),
        counted=int(both.sum()),
        kept=(
            int((signal[0] & signal[1]).sum()),
            int((signal[0] & ~signal[1]).sum()),
            int((~signal[0] & signal[1]).sum()),
        ),
        turned=int((old * new < 0)[both].sum()),
        differs=bool(far.any() or np.abs(np.diff(paths)) > _CLOSE),
        ran_parts={
            name: _mean(x, valid & ~np.isnan(x)) for name, x in recorded.rewards.items()
        },
        here_parts={name: metrics[f"reward_{name}"] for name in replayed.rewards},
    )


def comparison_tables(
    name: str, rows: Sequence[Compared], changed: Sequence[str]
) -> list[Table]:
    """What a replay changes, as tables.

    Args:
        name: Of the stage.
        rows: Its steps in order, at least one.
        changed: The options that are others than the run's, a line each.
    """
    tables = [_summary(name, rows), _parts(rows), _advantages(rows)]
    if _moves([row.ran for row in rows]) or _moves([row.here for row in rows]):
        tables.insert(1, _raises(rows))
    if changed:
        cells = tuple(tuple(line.partition(": ")[::2]) for line in changed)
        tables.insert(
            0, Table(f"replay of {name}: what is changed", ("", "value"), cells)
        )
    return tables


def _summary(name: str, rows: Sequence[Compared]) -> Table:
    completions = sum(row.counted for row in rows)
    cells = [
        (label, *(f"{np.mean([x[place] for x in some]):.4f}" for some in _sides(rows)))
        for label, place in (
            ("mean reward", 3),
            ("hit rate", 1),
            ("groups with a signal", 2),
        )
    ]
    cells.append(
        (
            "steps without any signal",
            *(str(sum(x.signal == 0 for x in some)) for some in _sides(rows)),
        )
    )
    if not np.isnan([rows[-1].ran.threshold, rows[-1].here.threshold]).all():
        last = (rows[-1].ran.threshold, rows[-1].here.threshold)
        cells.append(("threshold at the end", *(_cell(x) for x in last)))
        moves = [_moves(some) for some in _sides(rows)]
        cells.append(("times it rose", *(str(len(x)) for x in moves)))
    title = f"replay of {name}: {len(rows)} steps, {completions} completions"
    return Table(title, ("", "as it ran", "replayed"), tuple(cells))


def _raises(rows: Sequence[Compared]) -> Table:
    ran, here = ([(rows[n].step, x) for n, x in _moves(some)] for some in _sides(rows))
    count = max(len(ran), len(here))
    cells = [
        (str(n + 1), *(cell for path in (ran, here) for cell in _move(path, n)))
        for n in range(min(count, _SHOWN))
    ]
    title = "the threshold's path: the first step under a new value"
    if count > _SHOWN:
        title += f" (the first {_SHOWN} of {count}; all are in steps.jsonl)"
    header = ("", "ran: step", "to", "replayed: step", "to")
    return Table(title, header, tuple(cells))


def _parts(rows: Sequence[Compared]) -> Table:
    names = dict.fromkeys((*rows[0].ran_parts, *rows[0].here_parts))
    cells = []
    for name in names:
        ran = [row.ran_parts.get(name, np.nan) for row in rows]
        here = [row.here_parts.get(name, np.nan) for row in rows]
        cells.append((name, *(_cell(_known_mean(x)) for x in (ran, here))))
    return Table("mean of each reward", ("", "as it ran", "replayed"), tuple(cells))


def _advantages(rows: Sequence[Compared]) -> Table:
    ranks = np.array([row.rank for row in rows])
    known = ranks[~np.isnan(ranks)]
    kept = np.sum([row.kept for row in rows], axis=0).tolist()
    cells = [
        ("rank correlation, mean over steps", _cell(_known_mean(ranks))),
        ("rank correlation, lowest", _cell(known.min() if len(known) else np.nan)),
        ("steps where it is defined", str(len(known))),
        ("completions taught by, both", str(kept[0])),
        ("as it ran alone", str(kept[1])),
        ("replayed alone", str(kept[2])),
        ("advantages of the other sign", str(sum(row.turned for row in rows))),
    ]
    return Table("advantages, replayed beside as it ran", ("", "value"), tuple(cells))


def _taught(
    advantages: Float[np.ndarray, "B G"], counted: Bool[np.ndarray, "B G"]
) -> Bool[np.ndarray, "B G"]:
    """The completions that count, of groups with a signal."""
    return (advantages != 0).any(axis=1, keepdims=True) & counted


def _sides(rows: Sequence[Compared]) -> tuple[list[Outcome], list[Outcome]]:
    return [row.ran for row in rows], [row.here for row in rows]


def _moves(path: Sequence[Outcome]) -> list[tuple[int, float]]:
    """Where the threshold is larger than in the step before, and what it is there."""
    pairs = zip(path[:-1], path[1:], strict=True)
    return [
        (n, after.threshold)
        for n, (before, after) in enumerate(pairs, 1)
        if after.threshold > before.threshold + 1e-6
    ]


def _move(path: Sequence[tuple[int, float]], n: int) -> tuple[str, str]:
    return (str(path[n][0]), _cell(path[n][1])) if n < len(path) else ("-", "-")


def _cell(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"


def _known_mean(values: Sequence[float] | Float[np.ndarray, "N"]) -> float:
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _mean(values: np.ndarray, where: Bool[np.ndarray, "..."]) -> float:
    return float(np.mean(values[where], dtype=np.float64)) if where.any() else 0.0
