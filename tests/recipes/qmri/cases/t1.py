"""Protocols of T1 whose images differ in more than one thing, and their B1+."""

import nibabel
import numpy as np

from tests.oracles.readouts import look_locker
from tests.recipes.qmri.case_phantoms import (
    BRIGHTNESS,
    FA,
    T1,
    TI,
    TR,
    magnitudes,
    put,
    put_series,
    recovery,
    spoiled,
)
from tests.recipes.qmri.cases.case import Case
from tests.recipes.qmri.cases.models import ABSOLUTE, inversions, series
from tests.recipes.qmri.phase_phantoms import CORE, HEAD, coils, measure, object_phase

REPETITIONS = (0.025, 0.012, 0.02, 0.05)  # s, of the flip angles
WAITS = tuple(t + 1.5 for t in TI)  # s from inversion to inversion, by image


def mapped(field, *, name="TB1map", side=32):
    """Flip angles at 0.8 of the nominal, and a map of B1+ beside them."""

    def build(folder):
        images = magnitudes(spoiled(np.multiply(0.8, FA)))
        put_series(folder, "FlipAngle", FA, images, RepetitionTime=TR)
        values = np.full((side, side), field, np.float32)
        path = put(folder.parent, name, values)
        return [f"--input={folder}", f"--config.predict.b1={path}"]

    return build


def with_field_of_inversions(folder):
    arguments = inversions(recovery(), ABSOLUTE)(folder)
    path = put(folder.parent, "TB1map", np.ones((32, 32), np.float32))
    return [*arguments, f"--config.predict.b1={path}"]


def by_image(efficiency):
    """A fixed time to recover after each readout."""
    ti, tr, c = np.array(TI), np.array(WAITS), 2 * efficiency - 1
    return 1 - (1 + c) * np.exp(-ti / T1) + c * np.exp(-tr / T1)


def by_slice(folder):
    """Two slices after one inversion, 40 ms apart, in one file."""
    times = np.array(TI)[:, None] + [0.0, 0.04]
    curve = 1 - 1.9 * np.exp(-times / T1)
    images = 1000 * np.abs(np.multiply.outer(BRIGHTNESS, curve))  # [H, W, E, Z]
    path = folder / "epi.nii"
    data = np.moveaxis(images, 3, 2).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    text = f'{{"InversionTime": {times.tolist()}}}'
    path.with_suffix(".json").write_text(text)
    return [f"--input={path}", ABSOLUTE]


# every 40th of small readouts, 20 ms apart
_ALL = look_locker(
    T1, angle=np.deg2rad(5), repetition=0.02, first=0.02, count=201, efficiency=1.0
)
LATE, READ = (x[::40].tolist() for x in _ALL)
T1STAR = 1e3 / (1 / T1 - np.log(np.cos(np.deg2rad(5))) / 0.02)  # ms


def readouts(name, *options, **fields):
    """Six of the readouts after one inversion, in magnitudes, under a name."""
    fields = {"SeriesDescription": name, **fields}
    return inversions(np.array(READ), ABSOLUTE, *options, times=LATE, **fields)


def two_trains(folder):
    for n, (time, angle) in enumerate([(0.8, 7.0), (2.7, 5.0)], 1):
        fields = {"InversionTime": time, "FlipAngle": angle}
        put(folder, f"sub-1_inv-{n}_MP2RAGE", magnitudes([1.0])[0], **fields)
    return [f"--input={folder}", ABSOLUTE]


def combined(folder):
    path = put(folder, "sub-1_UNIT1", magnitudes([1.0])[0])
    return [f"--input={path}"]


def kspace(key, times, repetition, curve, *options):
    """Fully sampled, of a head of T1 1 s with a core of 1.4 s."""

    def build(folder):
        a, tr = (np.asarray(x)[:, None, None] for x in (times, repetition))
        images = HEAD * curve(a, tr, np.where(CORE, 1.4, 1.0))
        images = images * np.exp(1j * object_phase())
        path, sens = folder / "scan.npz", coils()[None].astype(np.complex64)
        found = {"kspace": measure(images), "sens": sens, "tr": repetition}
        np.savez(path, **found, **{key: times})
        return [f"--input={path}", *options]

    return build


def ernst(angle, repetition, t1):
    decay = np.exp(-repetition / t1)
    return np.sin(angle) * (1 - decay) / (1 - np.cos(angle) * decay)


def recovered(time, repetition, t1):
    return 1 - 1.8 * np.exp(-time / t1) + 0.8 * np.exp(-repetition / t1)


CASES = [
    Case(
        "flip angles at a TR of their own, k-space",
        kspace("fa", np.deg2rad(FA), REPETITIONS, ernst),
        1000,
    ),
    Case(
        "inversions at a TR of their own, k-space",
        kspace("ti", TI, WAITS, recovered),
        1000,
        variant="contrast=t1",
    ),
    Case(
        "inversions at a TR of their own in a subspace",
        kspace("ti", TI, WAITS, recovered, "--config.predict.method=subspace"),
        refusal="no subspace is of TR by image",
        variant="contrast=t1",
    ),
    Case(
        "flip angles at a TR of their own",
        series(
            "FlipAngle",
            FA,
            spoiled(repetition=np.array(REPETITIONS)),
            RepetitionTime=REPETITIONS,
        ),
        1200,
    ),
    Case("flip angles at 0.8 of the nominal, with B1+", mapped(0.8), 1200),
    Case(
        "B1+ in percent",
        mapped(80.0),
        refusal="TB1map.nii: the median .*looks like percent",
    ),
    Case(
        "B1+ on another grid",
        mapped(0.8, side=16),
        refusal="TB1map.nii.*Resample the map to the scan's grid",
    ),
    Case(
        "B1+ of inversions",
        with_field_of_inversions,
        refusal="t1_ir3 has no flip angle",
    ),
    Case(
        "inversions at a TR of their own, efficiency 0.9",
        inversions(by_image(0.9), ABSOLUTE, RepetitionTimePreparation=WAITS),
        1200,
    ),
    Case(
        "inversions at a TR of their own, two parameters asked for",
        inversions(
            by_image(1.0),
            ABSOLUTE,
            "--config.predict.model=t1_ir",
            RepetitionTimePreparation=WAITS,
        ),
        1200,
    ),
    Case(
        "inversions at a TR of their own, below an inversion time",
        inversions(by_image(1.0), ABSOLUTE, RepetitionTime=(*WAITS[:5], 3.0)),
        refusal="InversionTime 4.0 s is not below the repetition time 3.0 s",
    ),
    Case("inversion times by slice", by_slice, 1200),
    Case("Look-Locker", readouts("T1 Look-Locker"), 1200),
    Case("MOLLI", readouts("MOLLI_5(3)3_35deg"), 1200),
    Case(
        "MOLLI as inversions with one readout",
        readouts("MOLLI_5(3)3_35deg", "--config.predict.model=t1_ir3"),
        T1STAR,
        exit_code=3,
        doubt=r"the map is T1\*, which is shorter",
    ),
    Case(
        "Look-Locker that no name tells",
        readouts("T1 map", ScanningSequence="GR\\IR"),
        T1STAR,
        exit_code=3,
        doubt="if they follow one inversion this is a Look-Locker",
    ),
    Case(
        "Look-Locker that the model tells",
        readouts(
            "T1 map",
            "--config.predict.model=t1_look_locker",
            ScanningSequence="GR\\IR",
        ),
        1200,
    ),
    Case(
        "saturation recovery",
        inversions(1 - 0.95 * np.exp(-np.array(TI) / T1), SeriesDescription="SASHA"),
        1200,
    ),
    Case(
        "saturation recovery as an inversion",
        inversions(
            1 - 0.95 * np.exp(-np.array(TI) / T1),
            ABSOLUTE,
            "--config.predict.model=t1_ir3",
            SeriesDescription="SASHA",
        ),
        1200,
    ),
    Case(
        "MP2RAGE",
        two_trains,
        refusal="MP2RAGE.*mp2rage_t1.*lack RepetitionTimePreparation",
    ),
    Case("MP2RAGE's combined image", combined, refusal="combined image of MP2RAGE"),
]
