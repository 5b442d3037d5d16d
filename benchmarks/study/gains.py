"""What training gained over several seeds: t intervals over seeds, and over blocks.

An interval over seeds asks what another seed would give, one over blocks what another
test would. Neither holds the other: both are shown.
"""

import json
import math
import statistics

import numpy as np
from scipy.special import stdtrit

from medjax.evals.tables import group_intervals

LEVEL = 0.95
SAMPLES = 2000  # of the bootstrap over blocks


def seed_interval(values, *, level=LEVEL):
    """Mean of a number a seed, and its t interval: mean -+ t sd / sqrt(n).

    It takes seeds as draws from a normal distribution; with five of them t is 2.78.

    Args:
        values: One a seed, at least one, in any unit.
        level: Of the interval, above 0 and below 1.

    Returns:
        mean, sd (with n - 1), low, high, and `seeds`: n. Of one seed there is no
        interval: sd, low and high are None.
    """
    count, mean = len(values), statistics.fmean(values)
    found = {"mean": mean, "sd": None, "low": None, "high": None, "seeds": count}
    if count < 2:
        return found
    deviation = statistics.stdev(values)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * deviation / math.sqrt(count)
    return found | {"sd": deviation, "low": mean - half, "high": mean + half}


def block_interval(values, groups):
    """Mean over answers and its percentile interval, groups of answers resampled.

    Args:
        values: A number an answer.
        groups: What each answer's block of slices, or patient, is called. A single
            group gives no interval: low and high are None.
    """
    groups = np.asarray(groups)
    found = group_intervals(
        {"x": np.asarray(values, np.float64)},
        groups,
        num_samples=SAMPLES,
        level=LEVEL,
        seed=0,
    )["x"]
    count = len(np.unique(groups))
    alone = {"low": None, "high": None} if count < 2 else {}
    return {**found._asdict(), **alone, "groups": count}


def answer_scores(rows):
    """Metric -> a number an answer, of those metrics that are means over answers.

    Args:
        rows: Lines of an answers.jsonl, about boxes, sets of boxes or classes.
    """
    if "iou" in rows[0]:
        iou = np.array([row["iou"] for row in rows])
        return {"mIoU": iou, "A@0.5": iou >= 0.5, "A@0.8": iou >= 0.8}
    if "quality" in rows[0]:
        return {"Q": np.array([row["quality"] for row in rows])}
    if "label" in rows[0]:
        return {"accuracy": np.array([x["answer"] == x["target"] for x in rows])}
    return {}  # several labels a picture: no score is a mean over answers


def questions_of(rows):
    """What was asked, one hashable thing an answer."""
    names = ("sample_id", "structure", "target", "targets")
    return [json.dumps([row.get(name) for name in names]) for row in rows]


def groups_of(rows):
    """What each answer's group is called; a slice where there is no larger one."""
    return [row.get("group", row.get("slice")) for row in rows]


def gained(first, last):
    """Metric -> (a difference an answer, last minus first); refuses other questions.

    Args:
        first: Lines of answers.jsonl.
        last: Likewise.

    Raises:
        ValueError: They answer different questions.
    """
    if questions_of(first) != questions_of(last):
        raise ValueError(
            f"{len(first)} and {len(last)} answers that are not about the same "
            "questions in the same order: their difference would mean nothing"
        )
    before, after = answer_scores(first), answer_scores(last)
    return {name: after[name] * 1.0 - before[name] * 1.0 for name in after}


def summarise(runs):
    """Start, end and gain of each metric over seeds, with both kinds of intervals.

    Args:
        runs: Seed -> start and end (metric -> number) and gains: (metric -> a
            difference an answer), questions and groups, one an answer.

    Returns:
        Metric -> start, end and gain over seeds (see `seed_interval`; `gain` has
        `positive` too: how many seeds gained), `each`: the same three of each seed,
        with `blocks` where the metric is a mean over answers; and `blocks` of the mean
        gain, None where the seeds were asked different questions.
    """
    every = list(runs.values())
    names = [
        name
        for name in every[0]["end"]
        if all(name in run[part] for run in every for part in ("start", "end"))
    ]
    same = all(run["questions"] == every[0]["questions"] for run in every)
    found = {}
    for name in names:
        parts = {p: [run[p][name] for run in every] for p in ("start", "end")}
        gain = [b - a for a, b in zip(parts["start"], parts["end"], strict=True)]
        each = {
            str(seed): {"start": a, "end": b, "gain": b - a, "blocks": None}
            for seed, a, b in zip(runs, parts["start"], parts["end"], strict=True)
        }
        blocks = None
        if all(name in run["gains"] for run in every):
            for seed, run in runs.items():
                between = block_interval(run["gains"][name], run["groups"])
                each[str(seed)]["blocks"] = between
            if same:
                mean = np.mean([run["gains"][name] for run in every], axis=0)
                blocks = block_interval(mean, every[0]["groups"])
        found[name] = {
            "start": seed_interval(parts["start"]),
            "end": seed_interval(parts["end"]),
            "gain": seed_interval(gain) | {"positive": sum(x > 0 for x in gain)},
            "blocks": blocks,
            "each": each,
        }
    return found
