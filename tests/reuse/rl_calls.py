"""Calls of `medjax.rl`, the text functions apart (`text_calls.py`)."""

import numpy as np

from medjax import rl
from tests.reuse.calls import Call

RNG = np.random.default_rng(0)
BOXES = np.sort(RNG.uniform(0, 100, (8, 3, 2, 2)).astype(np.float32), axis=-2)
BOXES = BOXES.reshape(8, 3, 4)

CALLS = [
    Call("box_iou", rl.box_iou, (BOXES, BOXES[:, ::-1]), batch=(0, 0)),
]
