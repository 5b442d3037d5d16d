"""The files of a prediction: a line an answer, errors, what they were made with."""

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medjax.data.asking.batches import AskedRecord
from medjax.data.asking.pictures import Asked, Fault
from medjax.data.images import ImageFile
from medjax.data.json_files import read_json
from medjax.recipes.policy.replies import Reply
from medjax.runtime.naming import differences
from medjax.runtime.writer import write_atomic

ANSWERS, ERRORS, SETTINGS = "answers.jsonl", "errors.jsonl", "predict.json"
PICTURES = "pictures.jsonl"  # which files the answers are about
_DIGITS = 6  # of a confidence
_PLACES = 3  # of pixels and mm behind the point


class Place(NamedTuple):
    """Which question a line answers."""

    image: str
    frame: int | None
    plane: str
    query: str


def image_value(name: str, file: ImageFile) -> Any:  # noqa: ANN401
    """An image as lists in JSONL name it: a path, or an object with frame and plane.

    Args:
        name: What answers call its file.
        file: Its frame and plane are named where it has them.
    """
    rest = {"frame": file.frame, "plane": file.plane}
    rest = {key: value for key, value in rest.items() if value not in (None, "")}
    return {"path": name, **rest} if rest else name


def answer_line(record: AskedRecord, reply: Reply, *, several: bool) -> str:
    """One line of answers.jsonl, without its end.

    Args:
        record: What was asked.
        reply: What was answered, boxes in pixels of the picture.
        several: Whether a picture may have several classes, or none.
    """
    asked = record.asked
    row: dict[str, Any] = {
        "image": image_value(asked.name, asked.image),
        "size": list(record.image.shape[:2]),
        "query": record.query,
    }
    if reply.boxes is not None:
        scores = [round(x, _DIGITS) for x in reply.confidence]
        row |= {
            "boxes": _rounded(reply.boxes) if reply.parsed else None,
            "frame": "original",
            "boxes_mm": _millimetres(record, reply) if reply.parsed else None,
            "labels": list(reply.labels),
            "confidence": scores if reply.parsed else None,
        }
    else:
        named = ", ".join(reply.labels) or ("none" if several else None)
        row |= {
            "label": named if reply.parsed else None,
            "labels": list(reply.labels),
            "confidence": round(reply.confidence[0], _DIGITS) if reply.parsed else None,
        }
    row |= {
        "text": reply.text,
        "parsed": reply.parsed,
        "well_formed": reply.well_formed,
        "why": reply.why,
        "length": reply.length,
    }
    return json.dumps(row, ensure_ascii=False)


def _millimetres(record: AskedRecord, reply: Reply) -> Any:  # noqa: ANN401
    """Boxes in mm from the picture's upper left corner; None where nobody knows."""
    if record.distances is None or reply.boxes is None:
        return None
    rows, columns = record.distances
    return _rounded(np.asarray(reply.boxes, np.float64) * ([columns, rows] * 2))


def _rounded(boxes: np.ndarray) -> list[list[float]]:
    return np.round(np.asarray(boxes, np.float64), _PLACES).tolist()


class Told(NamedTuple):
    """Whether something could be read of an answer, and what is odd about it."""

    parsed: bool
    why: str


def read_answered(path: Path) -> dict[Place, Told]:
    """The questions that a file of answers answers; a last line cut short is taken out.

    Args:
        path: Need not exist.

    Raises:
        ValueError: A whole line is none that `answer_line` writes.
    """
    found = {}
    for number, line in enumerate(_whole_lines(path), 1):
        try:
            row = json.loads(line)
            found[place_of(line)] = Told(bool(row["parsed"]), str(row["why"]))
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: no answer of medjax ({error}); take the line "
                "out, or choose another workdir"
            ) from error
    return found


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that need not exist; one cut short is taken out of it."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if whole != raw:
        write_atomic(path, whole)
    return whole.splitlines()


def place_of(line: str | bytes) -> Place:
    """Which question a line of answers.jsonl answers.

    Args:
        line: As `answer_line` writes it.

    Raises:
        ValueError: It is no JSON.
        LookupError: It names no image or no question.
        TypeError: It is no object.
    """
    row = json.loads(line)
    image = row["image"]
    image = image if isinstance(image, dict) else {"path": image}
    return Place(
        image["path"], image.get("frame"), image.get("plane", ""), row["query"]
    )


def left_to_ask(asked: Sequence[Asked], answered: Collection[Place]) -> list[Asked]:
    """The pictures with the questions that are not answered yet.

    Args:
        asked: All of them.
        answered: From `read_answered`.

    Raises:
        ValueError: Something else was answered: another question, or a picture that is
            not there.
    """
    wanted = {place: None for one in asked for place in _places(one)}
    strange = sorted(set(answered) - wanted.keys(), key=str)
    if strange:
        raise ValueError(
            f"{ANSWERS} has {len(strange)} answers to what is not asked now, the first "
            f"about {strange[0].image}: {strange[0].query!r}. Ask the same questions "
            "about the same pictures to go on, or choose another workdir"
        )
    left = []
    for one in asked:
        queries = tuple(p.query for p in _places(one) if p not in answered)
        if queries:
            left.append(one._replace(queries=queries))
    return left


def _places(asked: Asked) -> list[Place]:
    image = asked.image
    return [Place(asked.name, image.frame, image.plane, q) for q in asked.queries]


def check_settings(folder: Path, settings: Any, *, going_on: bool) -> None:  # noqa: ANN401
    """Refuse to go on with other settings than there were; write them at the start.

    Args:
        folder: Of the answers.
        settings: A JSON document: the policy, how it is asked and how it draws.
        going_on: Whether there are answers already.

    Raises:
        ValueError: Something is another; each is named with both values.
    """
    path, ours = folder / SETTINGS, json.loads(json.dumps(settings))
    if going_on:
        stored = read_json(path, expected="what the answers were made with")
        changed = differences(stored, ours)
        if changed:
            raise ValueError(
                f"{folder / ANSWERS} was made otherwise:\n  "
                + "\n  ".join(changed)
                + "\nset these back to go on, or choose another workdir"
            )
    write_atomic(path, json.dumps(ours, indent=1, ensure_ascii=False) + "\n")


def check_pictures(
    folder: Path, asked: Sequence[Asked], answered: Collection[Place]
) -> dict[str, str]:
    """Refuse other pictures under the names of those that were answered.

    Answers name files without their folders, and scanners call each patient's alike.

    Args:
        folder: Of the answers.
        asked: The pictures.
        answered: From `read_answered`.

    Returns:
        SHA-256 of the files that were noted, by their names.

    Raises:
        ValueError: A file is another than that of its name was.
    """
    rows = [json.loads(line) for line in _whole_lines(folder / PICTURES)]
    known = {row["image"]: row["sha256"] for row in rows}
    names = {place.image for place in answered} & known.keys()
    files = {one.name: one.image.path for one in asked if one.name in names}
    others = [name for name, file in files.items() if _digest(file) != known[name]]
    if others:
        raise ValueError(
            f"{folder / ANSWERS} is about other pictures: {len(others)} files of the "
            f"same names have other contents, the first is {others[0]}. Ask about the "
            "same files to go on, or choose another workdir"
        )
    return known


def note_pictures(
    folder: Path, asked: Sequence[Asked], known: dict[str, str]
) -> dict[str, str]:
    """Write down which files will have answers, and return all that are.

    Args:
        folder: Of the answers.
        asked: The pictures of a batch, before its answers are written.
        known: SHA-256 of the files that are written down, by their names.
    """
    new = {one.name: one.image.path for one in asked if one.name not in known}
    digests = {name: _digest(path) for name, path in new.items()}
    rows = ({"image": name, "sha256": x} for name, x in digests.items())
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    append_lines(folder / PICTURES, lines)
    return known | digests


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Add whole lines to a file.

    Args:
        path: It is made where it does not exist.
        lines: Without their ends.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def write_faults(folder: Path, faults: Sequence[Fault]) -> None:
    """Write errors.jsonl anew: a line for each picture that could not be read.

    Args:
        folder: Of the answers. Without faults there is no such file afterwards.
        faults: All of this prediction so far.
    """
    path = folder / ERRORS
    if not faults:
        path.unlink(missing_ok=True)
        return
    rows = ({"image": fault.image, "error": fault.message} for fault in faults)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
