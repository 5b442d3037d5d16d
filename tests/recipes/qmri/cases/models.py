"""What a model may take for granted: inversions, repetition times, first echoes."""

import numpy as np

from tests.recipes.qmri.case_phantoms import (
    FA,
    TE,
    TI,
    TR,
    decay,
    magnitudes,
    put_series,
    recovery,
    spoiled,
)
from tests.recipes.qmri.cases.case import Case

ABSOLUTE = "--config.predict.magnitude=True"


def series(key, times, curve, *options, signed=False, **fields):
    """A folder with an image and a sidecar for each time."""

    def build(folder):
        images = magnitudes(curve, signed=signed)
        put_series(folder, key, times, images, **fields)
        return [f"--input={folder}", *options]

    return build


def inversions(curve, *options, times=TI, **fields):
    return series("InversionTime", times, curve, *options, **fields)


def first_echo(loss):
    """A decay whose first echo has lost a share, as that of a CPMG train."""
    return decay() * np.where(np.arange(len(TE)) == 0, 1 - loss, 1)


SHORT = (0.05, 0.2, 0.5, 1.0, 1.8, 2.8)  # below a TR of 3 s
CASES = [
    Case("magnitudes of a recovery", inversions(recovery(), ABSOLUTE), 1200),
    Case("signed recovery", inversions(recovery(), signed=True), 1200),
    Case(
        "magnitudes said to be signed",
        inversions(recovery()),
        refusal="without negative values.*magnitude=True",
    ),
    Case(
        "signed values said to be magnitudes",
        inversions(recovery(), ABSOLUTE, signed=True),
        refusal="with negative values.*magnitude=False",
    ),
    Case(
        "inversion efficiency 0.8",
        inversions(recovery(efficiency=0.8), ABSOLUTE),
        1200,
    ),
    Case(
        "T1 2200 at TR 3 s",
        inversions(
            recovery(SHORT, 2.2, repetition=3.0),
            ABSOLUTE,
            times=SHORT,
            RepetitionTime=3.0,
        ),
        2200,
    ),
    Case(
        "T1 2200 at TR 3 s, two parameters asked for",
        inversions(
            recovery(SHORT, 2.2, repetition=3.0),
            ABSOLUTE,
            "--config.predict.model=t1_ir",
            times=SHORT,
            RepetitionTime=3.0,
        ),
        2200,
    ),
    Case(
        "an inversion time above TR",
        inversions(recovery(), ABSOLUTE, RepetitionTime=3.0),
        refusal="InversionTime 4.0 s is not below the repetition time 3.0 s",
    ),
    Case(
        "inversion times in milliseconds",
        inversions(recovery(), ABSOLUTE, times=[1e3 * t for t in TI]),
        refusal="milliseconds",
    ),
    Case(
        "flip angles",
        series("FlipAngle", FA, spoiled(), RepetitionTime=TR),
        1200,
    ),
    Case(
        "flip angles without TR",
        series("FlipAngle", FA, spoiled()),
        refusal="flip angles without a repetition time",
    ),
    Case(
        "flip angles in radians",
        series("FlipAngle", np.deg2rad(FA).tolist(), spoiled(), RepetitionTime=TR),
        refusal="look like radians, expected degrees",
    ),
    Case(
        "flip angles of spin echoes",
        series("FlipAngle", FA, spoiled(), RepetitionTime=TR, ScanningSequence="SE"),
        refusal="expected spoiled gradient echoes",
    ),
    Case(
        "first echo left out",
        series("EchoTime", TE, first_echo(0.1), "--config.predict.skip=1"),
        80,
    ),
    Case(
        "all echoes left out",
        series("EchoTime", TE, decay(), "--config.predict.skip=5"),
        refusal=r"predict.skip 5; expected 0, or up to 4 of 6 echo times",
    ),
    Case(
        "T2* of 1.5 ms",
        series(
            "EchoTime",
            [t / 20 for t in TE],
            decay(t2=0.03),
            "--config.predict.model=t2star",
        ),
        1.5,
    ),
]
