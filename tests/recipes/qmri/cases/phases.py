"""k-space whose contrasts do not share a phase, and what of it is asked for by name."""

import numpy as np

from tests.recipes.qmri.cases.case import Case
from tests.recipes.qmri.phase_phantoms import (
    CORE,
    ECHOES,
    INSIDE,
    INVERSIONS,
    coils,
    echoes,
    measure,
    recoveries,
)

TURNS = np.random.default_rng(1).uniform(-3, 3, len(INVERSIONS))
STAR = "--config.predict.model=t2star"


def kspace(key, images, *options, acceleration=1, snr=np.inf):
    """A scan with its coils' sensitivities."""

    def build(folder):
        path, times = folder / "scan.npz", {"te": ECHOES, "ti": INVERSIONS}[key]
        data = measure(images, acceleration=acceleration, snr=snr)
        sens = coils()[None].astype(np.complex64)
        np.savez(path, kspace=data, sens=sens, **{key: times})
        return [f"--input={path}", *options]

    return build


def efficiency(value):
    return recoveries(efficiency=value)[0]


OUTER = INSIDE & ~CORE
FOURTH = {"acceleration": 4, "snr": 20}
SUBSPACE = "--config.predict.method=subspace"
CASES = [
    Case("one phase", kspace("te", echoes()[0]), 60),
    Case("20 Hz off", kspace("te", echoes(20)[0], STAR), 60),
    Case("50 Hz off, curved", kspace("te", echoes(50, curved=True)[0], STAR), 60),
    Case(
        "20 Hz off, 4x", kspace("te", echoes(20)[0], STAR, **FOURTH), 60, inside=OUTER
    ),
    Case(
        "20 Hz off, subspace by name",
        kspace("te", echoes(20)[0], SUBSPACE, **FOURTH),
        refusal="contrasts differ in phase.*without a subspace: CG-SENSE",
    ),
    Case(
        "receiver phase of an inversion recovery",
        kspace("ti", recoveries(TURNS)[0]),
        1000,
        variant="contrast=t1",
    ),
    Case(
        "receiver phase, 4x",
        kspace("ti", recoveries(TURNS)[0], **FOURTH),
        1000,
        variant="contrast=t1",
        inside=OUTER,
    ),
    Case(
        "inversion efficiency 0.8 of k-space",
        kspace("ti", efficiency(0.8)),
        1000,
        variant="contrast=t1",
    ),
    Case(
        "inversion efficiency 0.8 in a subspace",
        kspace("ti", efficiency(0.8), SUBSPACE, acceleration=2, snr=100),
        1000,
        variant="contrast=t1",
    ),
    Case(
        "a recovery in a subspace of decays",
        kspace("ti", efficiency(1.0), SUBSPACE, acceleration=2),
        refusal="a t1 scan, but the subspace of 'subspace' is one of t2",
    ),
]
