"""The test of a run about boxes: its questions, and answers read from a file."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from medjax.data.batches import Draw, Parts, Showing
from medjax.data.boxes.batches import AnyRecord, Record, eval_draws
from medjax.data.boxes.set_records import SetRecord, pad_set
from medjax.data.lists.cells import number
from medjax.data.lists.files import Line
from medjax.data.prompting.chat import Style, asks_for_sets
from medjax.data.prompting.layout import Geometry
from medjax.recipes.boxes.score import make_baselines, score
from medjax.recipes.boxes.set_score import make_set_baselines, score_sets
from medjax.recipes.policy.answers import (
    Exam,
    check_target,
    disagree,
    optional_number,
    said,
)
from medjax.recipes.policy.scoring import Answered
from medjax.rl.box_sets import MOST_BOXES, box_set_quality
from medjax.rl.boxes import FRAMES, convert_boxes
from medjax.rl.rewards import parsed_iou
from medjax.rl.text.box_set_text import parse_box_set_text
from medjax.rl.text.box_text import parse_text

_ONE = ("text", "box", "frame", "target", "iou")
_SET = ("text", "boxes", "frame", "confidence", "targets", "quality")
_PLACE = 0.0051  # answers.jsonl rounds places to two decimals
_SCORE = 2e-6  # and scores to six
Size = tuple[int, int]
Boxes = Float[np.ndarray, "k 4"]


def box_exam(parts: Parts, geometry: Geometry, style: Style, *, seed: int) -> Exam:
    """The questions of the test part, and how boxes that answer them are scored.

    Args:
        parts: Both parts; baselines know the training part.
        geometry: How images are shown.
        style: The words around a question, and the form of its answer.
        seed: Decides the draws of the baselines.
    """
    sizes = {sample.origin: sample.size for sample in parts.samples}

    def size_of(record: AnyRecord) -> Size:
        return sizes.get(record.slice_id) or parts.test.sizes[0]

    several = asks_for_sets(style)
    read = partial(read_sets if several else read_boxes, style.think, size_of)
    if several:
        baselines = make_set_baselines(parts, geometry, seed=seed)
        scored = partial(score_sets, baselines)
    else:
        scored = partial(score, make_baselines(parts, geometry, seed=seed))
    return Exam(
        draws=partial(_draws, parts, style, geometry),
        samples=parts.samples,
        column="structure",
        keys=_SET if several else _ONE,
        read=read,
        doubts=misplaced,
        score=scored,
    )


def misplaced(answered: Answered) -> list[str]:
    """A line where most boxes lie as if they were measured in another frame.

    Args:
        answered: From `read_boxes` or `read_sets`, in pixels of the pictures as they
            are shown. A box counts that leaves its picture by more than a pixel, or is
            less than a pixel high or wide.
    """
    boxes = answered.predictions["boxes"].reshape(len(answered.records), -1, 4)
    there = answered.predictions.get("box_valid", answered.values["parsed"][:, None])
    sides = np.array([r.image.shape[1::-1] * 2 for r in answered.records])
    away = ((boxes < -1) | (boxes > sides[:, None] + 1)).any(axis=-1)
    speck = (boxes[..., 2:] - boxes[..., :2] < 1).any(axis=-1)
    strange, count = int(((away | speck) & there).sum()), int(there.sum())
    if strange * 2 <= count:
        return []
    return [
        f"{strange} of {count} boxes leave their pictures or are smaller than a pixel: "
        "is 'frame' what they are measured in?"
    ]


def read_boxes(
    think: bool,
    size_of: Callable[[AnyRecord], Size],
    lines: Sequence[Line | None],
    records: Sequence[Record],
) -> Answered:
    """One box of each line, in pixels of the picture as it is shown.

    Args:
        think: Whether a right format has reasoning.
        size_of: (height, width) of a record's picture as it came.
        lines: With `text`, which is read as a policy's, or `box`, four numbers or null.
            `frame` says what they are measured in; it is not needed in a line of
            answers.jsonl, whose `target`, `box` and `iou` show it.
        records: The questions.

    Raises:
        ValueError: A line has neither, no frame, a box that is not four finite numbers,
            or cells that contradict each other.
    """
    boxes = np.zeros((len(records), 4), np.float32)
    found = np.zeros(len(records), bool)
    right = found.copy()
    for n, (line, record) in enumerate(zip(lines, records, strict=True)):
        if line is None:
            continue
        check_target(line, "target", _rounded(record.box))
        text, told = said(line), _one_box(line)
        if text is not None:
            parsed = parse_text(text, think=think)
            right[n] = parsed.format
            box = parsed.boxes[None] if parsed.box_found else None
            if "box" in line.cells and not _alike(told, box):
                raise disagree(line, "box", None if box is None else box[0].tolist())
        elif "box" in line.cells:
            box, right[n] = told, told is not None
        else:
            raise _no_answer(line, "box")
        if box is not None:
            own = {"target", "box", "iou"} <= line.cells.keys()
            boxes[n], found[n] = _shown(line, box, record, size_of, own=own)[0], True
    targets = np.array([record.box for record in records], np.float32).reshape(-1, 4)
    iou = np.asarray(jax.jit(parsed_iou)(*map(jnp.asarray, (boxes, found, targets))))
    _check_scores(lines, "iou", iou)
    return Answered(
        records=list(records),
        predictions={"boxes": boxes},
        values={
            "iou": iou,
            "parsed": found,
            "well_formed": right,
            "length": np.full(len(records), np.nan),
        },
        texts=[None if line is None else said(line) for line in lines],
    )


def read_sets(
    think: bool,
    size_of: Callable[[AnyRecord], Size],
    lines: Sequence[Line | None],
    records: Sequence[SetRecord],
) -> Answered:
    """A set of boxes of each line, in pixels of the picture as it is shown.

    Args:
        think: Whether a right format has reasoning.
        size_of: (height, width) of a record's picture as it came.
        lines: With `text`, or `boxes`, a list of boxes or null; more than 8 are not
            read. `frame` is as in `read_boxes`, `confidence` has a number a box.
        records: The questions.

    Raises:
        ValueError: See `read_boxes`; or other numbers of confidences and boxes.
    """
    count = len(records)
    boxes = np.zeros((count, MOST_BOXES, 4), np.float32)
    valid = np.zeros((count, MOST_BOXES), bool)
    found, right, number_of = np.zeros((3, count), int)
    sure, ranked = np.zeros((count, MOST_BOXES)), True
    for n, (line, record) in enumerate(zip(lines, records, strict=True)):
        if line is None:
            continue
        check_target(line, "targets", [_rounded(x) for x in record.boxes])
        text, told = said(line), _box_list(line)
        if text is not None:
            parsed = parse_box_set_text(text, think=think)
            right[n], number_of[n] = parsed.format, parsed.num_boxes
            some = parsed.boxes[parsed.box_valid] if parsed.found else None
            if "boxes" in line.cells and not _alike(told, some):
                raise disagree(line, "boxes", None if some is None else some.tolist())
        elif "boxes" in line.cells:
            number_of[n] = 0 if told is None else len(told)
            some = told if number_of[n] <= MOST_BOXES else None
            right[n] = some is not None
        else:
            raise _no_answer(line, "boxes")
        if some is None:
            continue
        own = {"targets", "boxes", "quality"} <= line.cells.keys()
        if len(some):
            some = _shown(line, some, record, size_of, own=own)
        found[n], valid[n, : len(some)], boxes[n, : len(some)] = True, True, some
        confidence = _confidence(line, len(some))
        ranked = ranked and confidence is not None
        if confidence is not None:
            sure[n, : len(some)] = confidence
    targets, there = (
        np.stack(x)
        for x in zip(*(pad_set(r.boxes, r.slice_id) for r in records), strict=True)
    )
    quality = jax.jit(box_set_quality)(
        *map(jnp.asarray, (boxes, valid, targets.astype(np.float32), there))
    )
    quality = np.where(found.astype(bool), np.asarray(quality), np.float32(0))
    _check_scores(lines, "quality", quality)
    return Answered(
        records=list(records),
        predictions={"boxes": boxes, "box_valid": valid}
        | ({"confidence": sure} if ranked else {}),
        values={
            "quality": quality,
            "parsed": found.astype(bool),
            "well_formed": right.astype(bool),
            "num_boxes": number_of,
            "length": np.full(count, np.nan),
        },
        texts=[None if line is None else said(line) for line in lines],
    )


def _draws(
    parts: Parts,
    style: Style,
    geometry: Geometry,
    questions: int,
    seed: int,
    limit: int | None,
) -> Iterable[Draw[Any]]:
    showing = Showing(style, geometry, questions)
    return eval_draws(parts.test, showing, seed=seed, limit=limit)


def _shown(
    line: Line,
    boxes: Boxes,
    record: AnyRecord,
    size_of: Callable[[AnyRecord], Size],
    *,
    own: bool,
) -> Boxes:
    """Boxes in pixels of the picture as it is shown."""
    frame = line.cells.get("frame")
    if frame is None and own:  # its target is the test's, in the same pixels
        return boxes
    if frame is None:
        raise ValueError(
            f"{line.origin}: 'frame' is not declared; say what the boxes of the answer "
            f"are measured in, one of {FRAMES}"
        )
    if frame not in FRAMES:
        raise ValueError(f"{line.origin}: frame {frame!r}; expected one of {FRAMES}")
    size, resized = size_of(record), record.image.shape[:2]
    return np.asarray(
        convert_boxes(boxes, frame, "resized", size=size, resized=resized), np.float32
    )


def _one_box(line: Line) -> Boxes | None:
    if line.cells.get("box") is None:
        return None
    return _boxes([line.cells["box"]], line, "box")


def _box_list(line: Line) -> Boxes | None:
    listed = line.cells.get("boxes")
    if listed is None:
        return None
    if not isinstance(listed, list):
        raise ValueError(
            f"{line.origin}: boxes {listed!r}; expected a list of boxes, which is "
            "empty where nothing was found, or null where the answer is none"
        )
    return _boxes(listed, line, "boxes")


def _boxes(listed: Sequence[Any], line: Line, key: str) -> Boxes:
    rows = []
    for box in listed:
        if not isinstance(box, list) or len(box) != 4 or any(map(_is_text, box)):
            raise ValueError(
                f"{line.origin}: {key} {line.cells[key]!r}; expected four numbers [x1, "
                "y1, x2, y2] a box"
            )
        rows.append([number(x, line.origin, f"a number of {key} {box}") for x in box])
    return np.array(rows, np.float32).reshape(-1, 4)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _alike(told: Boxes | None, read: Boxes | None) -> bool:
    if told is None or read is None:
        return told is read
    return told.shape == read.shape and bool(np.all(np.abs(told - read) <= _PLACE))


def _confidence(line: Line, count: int) -> list[float] | None:
    """A number a box; None where the line ranks none of several."""
    listed = line.cells.get("confidence")
    if listed is None or (listed == [] and count):
        return None if count else []
    if not isinstance(listed, list) or len(listed) != count:
        raise ValueError(
            f"{line.origin}: confidence {listed!r}; expected a list with a number for "
            f"each of {count} boxes"
        )
    return [number(x, line.origin, "a number of confidence") for x in listed]


def _check_scores(
    lines: Sequence[Line | None], key: str, scores: Float[np.ndarray, "N"]
) -> None:
    """Refuse lines that say they scored what they did not."""
    for line, value in zip(lines, scores.tolist(), strict=True):
        if line is not None and key in line.cells:
            stated = optional_number(line, key, high=1.0)
            if not abs(stated - value) <= _SCORE:
                raise disagree(line, key, round(value, 6))


def _no_answer(line: Line, key: str) -> ValueError:
    return ValueError(
        f"{line.origin}: no answer; expected 'text', or {key!r} (null where there is "
        "none)"
    )


def _rounded(box: Iterable[Any]) -> list[float]:
    return [round(float(x), 2) for x in box]
