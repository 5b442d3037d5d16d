"""Spin-echo trains with stimulated echoes, which a decay takes for a longer T2."""

import nibabel
import numpy as np

from tests.oracles.spin_echoes import echoes
from tests.recipes.qmri.case_phantoms import DISC, T2, decay, magnitudes, put_volume
from tests.recipes.qmri.cases.case import Case

TRAIN = tuple(0.01 * n for n in range(1, 7))
SE = {"ScanningSequence": "SE"}
UNEVEN = (0.01, 0.025, 0.03, 0.042, 0.06, 0.09)


def train(angle=120, *options, curve=None, times=TRAIN, **fields):
    """One file of all echoes at a refocusing angle, and options of run.py."""

    def build(folder):
        found = echoes(T2, np.deg2rad(angle), 0.01, 6) if curve is None else curve
        images = magnitudes(found)
        path = put_volume(folder / "a.nii", images, EchoTime=list(times), **fields)
        return [f"--input={path}", *options]

    return build


def part(angle, *echoes_kept):
    """Some echoes of a train, 10 ms apart, in a file that says it is one."""
    kept = np.array(echoes_kept)
    curve = np.asarray(echoes(T2, np.deg2rad(angle), 0.01, kept.max()))[kept - 1]
    return train(curve=curve, times=(0.01 * kept).tolist(), **SE)


def mapped(scale, *options, angle=120, **fields):
    """Beside it a map of B1+ that is 120/180 everywhere, times a scale."""

    def build(folder):
        field = np.where(DISC, scale * angle / 180, 0)[..., None].astype(np.float32)
        path = folder / "TB1map.nii"
        nibabel.save(nibabel.Nifti1Image(field, np.diag([2.0, 2.0, 3.0, 1.0])), path)
        where = f"--config.predict.b1={path}"
        return train(angle, where, *options, **fields)(folder)

    return build


EPG = "--config.predict.model=t2_epg"
MONO = "--config.predict.model=t2"
TRUE = 1e3 * T2

CASES = [
    Case("train-at-120-degrees", train(120, **SE), TRUE),
    Case("train-at-150-degrees", train(150, **SE), TRUE),
    Case("train-at-180-degrees", train(180, **SE), TRUE),
    Case("train-of-nominal-140", train(120, RefocusingFlipAngle=140, **SE), TRUE),
    Case("train-by-its-name", train(120, SeriesDescription="T2_MESE"), TRUE),
    # A decay's value, 112 ms, and what says that it is none.
    Case("train-without-words", train(120), 112, exit_code=3, doubt="even and odd"),
    Case("train-without-words-named", train(120, EPG), TRUE),
    Case("train-named-a-decay", train(180, MONO, **SE), TRUE),
    Case("train-skips-its-first", train(120, "--config.predict.skip=1", **SE), TRUE),
    Case("train-with-b1", mapped(1.0, **SE), TRUE),
    Case("train-with-b1-in-percent", mapped(100.0, **SE), refusal="percent: divide"),
    Case(
        "train-uneven",
        train(curve=decay(UNEVEN), times=UNEVEN, **SE),
        TRUE,
        exit_code=3,
        doubt="t2_epg cannot be fitted to",
    ),
    Case(
        "train-uneven-named-a-decay",
        train(180, MONO, curve=decay(UNEVEN), times=UNEVEN, **SE),
        TRUE,
    ),
    # 120, 43 and 94 ms by a decay, which leaves residuals below half a per cent
    *(
        Case(f"train-of-{name}", part(*of), exit_code=3, doubt="cannot be fitted to")
        for name, of in {
            "two-echoes": (140, 1, 4),
            "two-late-echoes": (140, 2, 3),
            "every-other-echo": (140, 1, 3, 5),
        }.items()
    ),
    Case(
        "train-uneven-named",
        train(120, EPG, curve=decay(UNEVEN), times=UNEVEN),
        refusal=r"a.nii: times: t2_epg: expected echoes n \* spacing",
    ),
]
