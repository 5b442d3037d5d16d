"""Forms in which sound scans are stored, and files that are none."""

import json

import nibabel
import numpy as np

from tests.recipes.qmri.case_phantoms import TE, decay, magnitudes, put_volume
from tests.recipes.qmri.cases.case import Case
from tests.recipes.qmri.phase_phantoms import ECHOES, coils, echoes, measure

IMAGES = magnitudes(decay())
KSPACE = measure(echoes()[0])
SENS = coils()[None].astype(np.complex64)


def volume(name="a.nii", kind=nibabel.Nifti1Image, images=IMAGES, times=TE, **fields):
    """One file with all echoes."""

    def build(folder):
        path = put_volume(folder / name, images, kind, EchoTime=list(times), **fields)
        return [f"--input={path}"]

    return build


def saved(folder, kspace, **more):
    """A file of our own layout."""
    np.savez(folder / "scan.npz", kspace=kspace, te=ECHOES, sens=SENS, **more)
    return [f"--input={folder / 'scan.npz'}"]


def pairs(folder):
    """Real and imaginary parts as a last axis of two."""
    return saved(folder, np.stack([KSPACE.real, KSPACE.imag], -1))


def records(folder):
    """An HDF5 file whose complex numbers are records of h5py's kind."""
    import h5py

    path = folder / "scan.h5"
    kinds = {"kspace": KSPACE, "sens": SENS}
    with h5py.File(path, "w") as file:
        for name, values in kinds.items():
            parts = np.empty(values.shape, [("real", "<f4"), ("imag", "<f4")])
            parts["real"], parts["imag"] = values.real, values.imag
            file[name] = parts
        file["te"] = ECHOES
    return [f"--input={path}"]


def cut_short(folder):
    volume("a.nii.gz")(folder)
    path = folder / "a.nii.gz"
    path.write_bytes(path.read_bytes()[:-800])
    return [f"--input={path}"]


def named(name, content=b"\0" * 200):
    """A file that only its name, or its first bytes, tell."""

    def build(folder):
        (folder / name).write_bytes(content)
        return [f"--input={folder / name}"]

    return build


def colours(folder):
    path = folder / "a.nii"
    data = np.zeros((8, 8, 1, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    (folder / "a.json").write_text(json.dumps({"EchoTime": [0.01, 0.02, 0.03]}))
    return [f"--input={path}"]


def without_times(folder):
    np.savez(folder / "scan.npz", kspace=KSPACE, sens=SENS)
    return [f"--input={folder / 'scan.npz'}"]


def given_times(folder):
    given = ",".join(f"{t:g}" for t in ECHOES)
    more = [f"--config.predict.times={given}", "--config.predict.contrast=t2"]
    return without_times(folder) + more


CASES = [
    Case("one file with a list of times", volume(), 80),
    Case("NIfTI-2, packed", volume("a.nii.gz", nibabel.Nifti2Image), 80),
    Case("stored as integers", volume(images=IMAGES.round().astype(np.int16)), 80),
    Case("stored as doubles", volume(images=IMAGES.astype(np.float64)), 80),
    Case("float pairs as the last axis", pairs, 60),
    Case("records in HDF5", records, 60),
    Case("times from the command line", given_times, 60),
    Case("no times anywhere", without_times, refusal="no times for its 8 images"),
    Case("a list too short", volume(times=TE[:-1]), refusal="no times for its 6"),
    Case("a file cut short", cut_short, refusal="cut short or damaged"),
    Case("colours", colours, refusal=r"colours \(RGB\); expected magnitudes"),
    Case("DICOM", named("IM0001.dcm"), refusal="DICOM, which is not read.*dcm2niix"),
    Case("DICOM by its mark", named("0001", b"\0" * 128 + b"DICM"), refusal="dcm2niix"),
    Case("PAR/REC", named("a.par"), refusal="Philips PAR/REC.*dcm2niix"),
    Case("empty", named("a.nii", b""), refusal="cut short or damaged"),
]
