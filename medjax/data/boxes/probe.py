"""Boxes from a linear probe on pixels: what a blurred picture tells without a policy.

A policy that does not beat it did not need to see more than a blur. It learns from the
tight boxes of the training part, as many labels as the policy's rewards are made of.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from medjax.data.boxes.batches import Record
from medjax.data.boxes.views import Views
from medjax.rl.boxes import convert_boxes


def probe_boxes(
    train: Views,
    records: Sequence[Record],
    *,
    side: int,
    draws: int,
    most: int,
    penalty: float,
    seed: int,
) -> Float[np.ndarray, "n 4"]:
    """What ridge regressions from grey pixels to corners answer to the records.

    There is one for each structure in each plane, see `fit_ridge`. Corners are fitted
    as shares of the picture's sides, answers are cut at its edges.

    Args:
        train: The training part, whose boxes are true; its pictures are drawn anew.
        records: What is asked, one or more; their boxes are not read.
        side: Pictures are shrunk to side x side, 1 or more, whatever their shape.
        draws: How often each training picture is looked at, 1 or more; those that are
            the same at every draw, as pictures in files are, are looked at once.
        most: So many training pictures are looked at, at most, chosen at random.
        penalty: Of the squared weights, above 0, see `fit_ridge`.
        seed: Decides the choice, and how pictures are moved.

    Returns:
        Corners (x1, y1, x2, y2) in pixels of each record's picture. A structure that
        training does not show in that plane gets zeros.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(train.count)[:most]).tolist()
    pixels, found = [], {}
    for index in chosen:
        for draw in range(1 if train.outline else draws):
            view = train.view(index, np.random.default_rng((seed, index, draw)))
            size = view.images[-1].shape[:2]
            corners = convert_boxes(
                view.boxes, "original", "unit", size=size, resized=None
            )
            for name, box in zip(view.names, np.asarray(corners), strict=True):
                rows = found.setdefault((name, view.plane), ([], []))
                rows[0].append(len(pixels))
                rows[1].append(box)
            pixels.append(shrink_grey(view.images[-1], side))
    known = np.stack(pixels)
    asked = np.stack([shrink_grey(record.image, side) for record in records])
    answers = np.zeros((len(records), 4), np.float32)
    for (name, plane), (rows, boxes) in found.items():
        wanted = [
            n
            for n, record in enumerate(records)
            if (record.structure, record.plane) == (name, plane)
        ]
        if wanted:
            answers[wanted] = fit_ridge(
                known[rows], np.stack(boxes), asked[wanted], penalty=penalty
            )
    answers = np.clip(answers, 0, 1)
    low, high = np.sort(answers.reshape(-1, 2, 2), axis=1).transpose(1, 0, 2)
    sides = np.array([record.image.shape[1::-1] for record in records], np.float32)
    return np.concatenate([low * sides, high * sides], axis=1)


def fit_ridge(
    pixels: Float[np.ndarray, "n F"],
    targets: Float[np.ndarray, "n K"],
    asked: Float[np.ndarray, "m F"],
    *,
    penalty: float,
) -> Float[np.ndarray, "m K"]:
    """Answers of a ridge regression: min |Y - X W|^2 / n + penalty |W|^2, both centred.

    Pixels are divided by one scale, the standard deviation of them all, so that the
    penalty means the same for pale pictures. The mean is not penalised: with a large
    penalty, a single picture or pictures that are all the same it is the answer.

    Args:
        pixels: Of n >= 1 training pictures, finite.
        targets: What is fitted, finite, in any unit.
        asked: Of the pictures that are asked about.
        penalty: Above 0.
    """
    middle, mean = pixels.mean(axis=0), targets.mean(axis=0)
    known, new = pixels - middle, asked - middle
    scale = float(known.std()) or 1.0
    known, new = known / scale, new / scale
    gram = known.T @ known + penalty * len(known) * np.eye(known.shape[1])
    return new @ np.linalg.solve(gram, known.T @ (targets - mean)) + mean


def shrink_grey(
    image: UInt8[np.ndarray, "h w 3"], side: int
) -> Float[np.ndarray, "side*side"]:
    """Mean grey of side x side areas of a picture, 0 to 1, row by row.

    Args:
        image: Of any shape; its aspect ratio is not kept.
        side: 1 or more.
    """
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, np.float64).mean(axis=-1).reshape(-1) / 255
