"""The first answers of a prediction, drawn into their pictures."""

import itertools
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.data.asking.pictures import Asked
from medjax.data.images import read_image
from medjax.recipes.policy.predicted import ANSWERS, Place, place_of

OVERLAYS = "overlays"  # in the folder of the answers
_NOTHING = "says that there is none"


class Shown(NamedTuple):
    """What a figure shows of an answer."""

    place: Place
    boxes: Float[np.ndarray, "k 4"] | None  # pixels of the picture; None: not of boxes
    scores: tuple[str, ...]  # of each box, or of the classes
    said: str  # below: the classes, or why there is no box


def draw_overlays(folder: Path, asked: Sequence[Asked], most: int) -> None:
    """Write the first answers of answers.jsonl as pictures into overlays/.

    They are drawn from that file, once all is answered: no answer waits for a figure,
    and a prediction that went on has the figures of one that never stopped.

    Args:
        folder: Of the answers.
        asked: The pictures, those of the answers among them.
        most: How many are drawn; 0: none.

    Raises:
        ValueError: A picture can no longer be read.
    """
    from medjax.report.predictions import draw_prediction
    from medjax.report.qmri import write_png

    pictures = {(one.name, one.image.frame, one.image.plane): one for one in asked}
    with (folder / ANSWERS).open(encoding="utf-8") as file:
        lines = list(itertools.islice(file, max(0, most)))
    for line in lines:
        told = read_line(line)
        place = told.place
        one = pictures[place.image, place.frame, place.plane]
        figure = draw_prediction(
            read_image(one.image, one.called),
            query=place.query,
            boxes=told.boxes,
            notes=told.scores,
            said=told.said,
        )
        write_png(folder / OVERLAYS / overlay_name(place, one.called), figure)


def read_line(line: str) -> Shown:
    """What a line of answers.jsonl has to be drawn.

    Args:
        line: As `answer_line` writes it.
    """
    row = json.loads(line)
    sure, why = row["confidence"], row["why"]
    scores = np.ravel([] if sure is None else sure).tolist()
    scores = tuple(f"{x:.2f}" for x in scores)
    if "boxes" in row:
        boxes = None if row["boxes"] is None else np.reshape(row["boxes"], (-1, 4))
        said = why or (_NOTHING if row["boxes"] == [] else "")
        return Shown(place_of(line), boxes, scores, said)
    named = row["labels"] or [row["label"]] * bool(row["parsed"])
    return Shown(place_of(line), None, scores, ", ".join([*named, *scores]) or why)


def overlay_name(place: Place, called: str) -> str:
    """The name of an answer's figure: no two answers of a prediction share one.

    Args:
        place: Which question about which picture.
        called: What the picture is called, see `Asked`.
    """
    name = re.sub(r"[^\w.-]+", "_", called)
    return f"{name}_{zlib.crc32(repr(tuple(place)).encode()):08x}.png"
