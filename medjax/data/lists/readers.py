"""Several readers of the same pictures: whose word counts, and how far they agree."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from medjax.data.lists.reading import Reading

RULES = ("majority", "union")
SAME = 0.5  # IoU above which boxes of two readers are of one finding
Box = tuple[float, float, float, float]


class Agreement(NamedTuple):
    """How far readers agree, over what two or more of them read."""

    readers: tuple[str, ...]
    count: int  # questions or pictures that two or more read
    measures: Mapping[str, float]  # by what they are called

    def __str__(self) -> str:
        found = ", ".join(f"{name} {x:.3f}" for name, x in self.measures.items())
        return f"{len(self.readers)} readers, {self.count} read by several: {found}"


def choose_readers(names: Sequence[str | None], reading: Reading) -> tuple[str, ...]:
    """The readers of a source, sorted; () where there is none or one, and no choice.

    Args:
        names: Of each line, None where the file does not say, as of what readers have
            agreed on: such a line counts as it is.
        reading: Its `readers` says whose word counts: by "majority", of all in "union",
            or of one by name.

    Raises:
        ValueError: There are several readers and none is chosen, or one is chosen that
            is not there.
    """
    known = tuple(sorted({name for name in names if name is not None}))
    told = ", ".join(known[:8]) + (" and more" if len(known) > 8 else "")
    if not reading.readers:
        if len(known) > 1:
            raise ValueError(
                f"{len(known)} readers ({told}); expected data.readers to say whose "
                "word counts: majority, union, or the name of one"
            )
        return ()
    if not known:
        raise ValueError(
            f"data.readers={reading.readers!r}, but no line names its reader; leave "
            "the option out"
        )
    if reading.readers not in (*RULES, *known):
        raise ValueError(
            f"data.readers={reading.readers!r}: expected majority, union, or one of "
            f"{told}"
        )
    return known


def check_named(lines: Sequence[tuple[str, str | None]]) -> None:
    """Refuse a picture of which some lines name their reader and others do not.

    Args:
        lines: Origin and reader of each line of one picture.

    Raises:
        ValueError: There are both; one of each is named.
    """
    without = [origin for origin, name in lines if name is None]
    named = [origin for origin, name in lines if name is not None]
    if without and named:
        raise ValueError(
            f"{without[0]}: no reader, but {named[0]}, of the same picture, has one; "
            "give all lines of a picture a reader or none"
        )


def merge_boxes(boxes: Mapping[str, Sequence[Box]], rule: str) -> tuple[Box, ...]:
    """One set of boxes from those of several readers of one picture.

    Readers are taken in the order of their names. Boxes of one are matched with the
    findings so far for the largest sum of IoU; a pair above 0.5 is one finding, what is
    left begins new ones. A finding's box is the mean of its readers' corners.

    Args:
        boxes: Of each reader, also of those who found nothing.
        rule: "majority" keeps findings of more than half of the readers, "union" keeps
            all of them.
    """
    findings: list[list[Box]] = []
    for reader in sorted(boxes):
        mine = list(boxes[reader])
        found = np.array([np.mean(f, axis=0) for f in findings]).reshape(-1, 4)
        overlap = box_overlaps(np.array(mine, np.float64).reshape(-1, 4), found)
        pairs = zip(*linear_sum_assignment(-overlap), strict=True)
        near = {int(m): int(n) for m, n in pairs if overlap[m, n] > SAME}
        for m, box in enumerate(mine):
            if m in near:
                findings[near[m]].append(box)
            else:
                findings.append([box])
    least = len(boxes) / 2 if rule == "majority" else 0
    kept = [np.mean(f, axis=0).tolist() for f in findings if len(f) > least]
    return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in kept)


def merge_labels(labels: Mapping[str, str], rule: str) -> str | None:
    """The label of more than half of the readers, or the only one; None without any.

    Args:
        labels: Of each reader.
        rule: "majority", or "union", in which all have to agree.
    """
    (label, votes), *others = Counter(labels.values()).most_common()
    enough = 2 * votes > len(labels) if rule == "majority" else not others
    return label if enough else None


def box_agreement(readings: Sequence[Mapping[str, Sequence[Box]]]) -> Agreement:
    """How far boxes of several readers agree, averaged over pairs of readers.

    "F1 at IoU 0.5" is 2 TP / (n + m) of n and m boxes, TP of which are matched one to
    one for the largest sum of IoU, and above 0.5; where neither found anything it is 1.
    "IoU of matched boxes" is the mean over those TP.

    Args:
        readings: The boxes of each question by reader, also of those who found nothing.
    """
    scores, ious = [], []
    several = [reading for reading in readings if len(reading) > 1]
    for reading in several:
        for first, second in itertools.combinations(reading.values(), 2):
            left, right = (
                np.array(b, np.float64).reshape(-1, 4) for b in (first, second)
            )
            overlap = box_overlaps(left, right)
            matched = overlap[linear_sum_assignment(-overlap)]
            matched = matched[matched > SAME]
            total = len(left) + len(right)
            scores.append(2 * len(matched) / total if total else 1.0)
            ious.extend(matched.tolist())
    measures = {"F1 at IoU 0.5": _mean(scores), "IoU of matched boxes": _mean(ious)}
    return Agreement(_readers(readings), len(several), measures)


def label_agreement(readings: Sequence[Mapping[str, str]]) -> Agreement:
    """How far labels of several readers agree: pairs that say the same, and kappa.

    Fleiss' kappa is (P - E) / (1 - E), P being the mean over pictures of the share of
    pairs of readers who agree, and E the sum of the squared shares of the labels; NaN
    where there is one label alone. Of two readers there is Cohen's kappa too, whose E
    is made of each reader's own shares.

    Args:
        readings: The label of each picture by reader. Those with one reader are left
            out.

    Source: J. L. Fleiss, Psychological Bulletin 76 (1971), equations 2 to 7, with as
    many readers a picture as it has; J. Cohen, Educational and Psychological
    Measurement 20 (1960).
    """
    several = [reading for reading in readings if len(reading) > 1]
    total: Counter[str] = Counter()
    agree = []
    for reading in several:
        counts = Counter(reading.values())
        n = len(reading)
        agree.append(sum(c * (c - 1) for c in counts.values()) / (n * (n - 1)))
        total.update(counts)
    shares = np.array(list(total.values()), np.float64) / max(total.total(), 1)
    observed = _mean(agree)
    measures = {
        "share of agreeing pairs": observed,
        "Fleiss' kappa": _kappa(observed, float((shares**2).sum())),
    }
    readers = _readers(readings)
    if len(readers) == 2 and several:
        first, second = ([reading[name] for reading in several] for name in readers)
        expected = (
            sum(first.count(label) * second.count(label) for label in set(first))
            / len(several) ** 2
        )
        measures["Cohen's kappa"] = _kappa(observed, expected)
    return Agreement(readers, len(several), measures)


def box_overlaps(
    first: Float[np.ndarray, "n 4"], second: Float[np.ndarray, "m 4"]
) -> Float[np.ndarray, "n m"]:
    """The IoU of every pair of boxes, each of an area above 0.

    Args:
        first: Corners (x1, y1, x2, y2).
        second: Corners in the same frame.
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=-1) for b in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def _kappa(observed: float, expected: float) -> float:
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _readers(readings: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    return tuple(sorted({name for reading in readings for name in reading if name}))
