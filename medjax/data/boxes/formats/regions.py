"""Tight boxes of COCO's segmentations: polygons, and run lengths in both spellings."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def polygon_box(shape: Any) -> tuple[float, float, float, float] | str:  # noqa: ANN401
    """(x1, y1, x2, y2) around polygons, or what is wrong with them.

    Args:
        shape: [[x, y, x, y, ...], ...] as JSON has it, three points or more each.
    """
    polygons = shape if isinstance(shape, list) else [shape]
    for polygon in polygons:
        if (
            not isinstance(polygon, list)
            or len(polygon) < 6
            or len(polygon) % 2
            or not all(type(x) in (int, float) and math.isfinite(x) for x in polygon)
        ):
            return (
                f"segmentation {_short(polygon)}; expected polygons [[x, y, x, y, ...]]"
                " of three points or more"
            )
    points = np.array(list(itertools.chain(*polygons)), np.float64).reshape(-1, 2)
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    if x2 <= x1 or y2 <= y1:
        return f"segmentation {_short(shape)} is flat; expected an area"
    return x1, y1, x2, y2


def rle_box(shape: Mapping[str, Any]) -> tuple[float, float, float, float] | str:
    """(x1, y1, x2, y2) of run lengths, right and bottom edges included; or the fault.

    Runs alternate between outside and inside, beginning outside, down each column and
    from left to right.

    Args:
        shape: {"size": [height, width], "counts": [...] or "..."} as JSON has it. Text
            is COCO's own compression, five bits a character.
    """
    size, counts = shape.get("size"), shape.get("counts")
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(n) is int and n > 0 for n in size)
    ):
        return f"segmentation size {_short(size)}; expected [height, width]"
    runs = _decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(n) is int and n >= 0 for n in runs):
        return (
            f"segmentation counts {_short(counts)}; expected run lengths, or COCO's "
            "text of them"
        )
    height, width = size
    if sum(runs) != height * width:
        return (
            f"segmentation: runs of {sum(runs)} pixels in all, but size says "
            f"{height} x {width}"
        )
    ends = np.cumsum(np.array([0, *runs], np.int64))
    starts, stops = ends[1:-1:2], ends[2::2]  # of what is inside
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return "segmentation is empty; expected an area"
    left, right = starts // height, (stops - 1) // height
    across = right > left  # a run over the border of columns touches top and bottom
    top = 0 if across.any() else (starts % height).min()
    bottom = height if across.any() else ((stops - 1) % height).max() + 1
    return float(left.min()), float(top), float(right.max() + 1), float(bottom)


def _decompress(text: str) -> list[int] | None:
    """The runs of COCO's text; None where it is none.

    Each is in groups of five bits from character 48 on, the lowest first, bit 32 where
    more follow, bit 16 of the last the sign; from the third on it is the difference to
    the one before the last (pycocotools' maskApi.c, rleFrString).
    """
    runs: list[int] = []
    value, shift = 0, 0
    for letter in text:
        group = ord(letter) - 48
        if not 0 <= group < 64 or shift > 60:
            return None
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return runs if shift == 0 else None


def _short(value: Any) -> str:  # noqa: ANN401
    """A value as an error shows it, cut after 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
