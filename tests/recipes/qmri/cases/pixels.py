"""What the pixels show: misfits, noise floors, values that are no samples."""

import numpy as np

from tests.recipes.qmri.case_phantoms import (
    COLUMNS,
    DISC,
    ROWS,
    TE,
    decay,
    put_series,
)
from tests.recipes.qmri.cases.case import Case

SNR = 12.0


def echoes(*options, noise=0.002, coils=1, change=None, t2=0.08, **fields):
    """A folder of magnitudes with noise all over, of a disc in air."""

    def build(folder):
        rng = np.random.default_rng(0)
        shape = (2 * coils, len(TE), *DISC.shape)
        parts = rng.normal(0, noise, shape)
        shape = DISC * (1 + 0.2 * ROWS * COLUMNS)
        parts[0] += np.multiply.outer(decay(t2=t2), shape)
        images = 1000 * np.sqrt((parts**2).sum(0))
        images = images if change is None else change(images)
        put_series(folder, "EchoTime", TE, images.astype(np.float32), **fields)
        return [f"--input={folder}", *options]

    return build


def lost(share):
    """A first echo that is too low, as of a CPMG train or of another scaling."""
    return lambda images: (
        images * np.where(np.arange(len(TE)) == 0, 1 - share, 1)[:, None, None]
    )


def shifted(rows, columns=0.0):
    """The third and later echoes moved by points, as by a nod between acquisitions."""

    def change(images):
        k = [np.fft.fftfreq(n) for n in images.shape[-2:]]
        turn = np.exp(-2j * np.pi * np.add.outer(rows * k[0], columns * k[1]))
        late = np.real(np.fft.ifft2(np.fft.fft2(images[2:]) * turn))
        return np.concatenate([images[:2], np.abs(late)])

    return change


INNER = np.hypot(ROWS, 1.2 * COLUMNS) < 0.5
LEVEL = 1000 / SNR
SAY = f"--config.predict.noise={LEVEL}"
CASES = [
    Case("noise of SNR 60 in air", echoes(noise=1 / 60), 80, inside=DISC),
    Case(
        "a first echo 15 % too low",
        echoes(change=lost(0.15)),
        exit_code=3,
        doubt="t2 does not fit: contrasts 0",
    ),
    Case(
        "T2 above TR",
        echoes(t2=0.3, RepetitionTime=0.2),
        300,
        exit_code=3,
        doubt="above the repetition time, 200 ms",
        inside=DISC,
    ),
    Case(
        "noise floor, T2 30 ms",
        echoes(noise=1 / SNR, t2=0.03),
        exit_code=3,
        doubt=r"below twice the noise \(its level is 8\d\.\d+ by the background\)",
    ),
    Case(
        "noise floor of one channel, its level given",
        echoes(SAY, noise=1 / SNR, t2=0.03),
        30,
        inside=DISC,
    ),
    Case(
        "noise floor of 8 channels, its level given",
        echoes(SAY, "--config.predict.coils=8", noise=1 / SNR, coils=8),
        80,
        inside=DISC,
    ),
    Case(
        "a noise level below 0",
        echoes("--config.predict.noise=-3"),
        refusal="predict.noise -3.0: expected a finite number above 0",
    ),
    Case(
        "channels out of range",
        echoes("--config.predict.coils=0"),
        refusal="predict.coils 0: expected 1 to 64",
    ),
    Case(
        "saturated first echoes",
        echoes(change=lambda images: np.minimum(images, 700)),
        80,
        exit_code=3,
        doubt="at the largest value that the images hold: saturated",
        inside=DISC,
    ),
    Case(
        "late echoes clipped to 0",
        echoes(change=lambda images: np.where(images < 320, 0, images)),
        80,
        exit_code=3,
        doubt="clipped to 0",
        inside=DISC,
    ),
    Case(
        "a background of one value",
        echoes(change=lambda images: np.where(DISC, images, 300)),
        80,
        inside=DISC,
    ),
    Case(
        "echoes that moved by 1.2 pixels",
        echoes(noise=1 / 60, change=shifted(1.2)),
        80,
        exit_code=3,
        doubt=r"contrasts 2 to 5 lie up to 1\.\d pixels from the strongest.*register",
        inside=INNER,
    ),
    Case(
        "echoes that moved by 3.5 pixels",
        echoes(noise=1 / 60, change=shifted(3.0, -1.8)),
        refusal=r"slice.*: contrast \d lies 3\.\d pixels .*predict.register=rigid",
    ),
    Case(
        "echoes that moved by 3.5 pixels, brought together",
        echoes(
            "--config.predict.register=rigid",
            noise=1 / 60,
            change=shifted(3.0, -1.8),
        ),
        80,
        inside=np.hypot(ROWS, 1.2 * COLUMNS) < 0.72,
    ),
    Case(
        "another registration",
        echoes("--config.predict.register=affine"),
        refusal="predict.register 'affine': expected '' or 'rigid'",
    ),
]
