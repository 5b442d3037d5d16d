"""A made phantom for `predict.reference`: images, labels, names and references.

    python benchmarks/vial_phantom.py FOLDER

Fourteen vials with the T2 of the T2 array of the ISMRM/NIST system phantom (3 T; Stupic
et al., Magn. Reson. Med. 86 (2021)) in a bath of 300 ms; 96 x 96 x 3 voxels of 2 x 2 x
6 mm, 16 echoes of 10 to 160 ms, magnitudes of one coil with noise of 8 where the vials
have the amplitude 1000. Labels lie a voxel and a half inside of the vials' walls; sd of
the references is half a per cent.
"""

import json
import math
import pathlib
import sys

import nibabel
import numpy as np

T2_MS = (581.3, 403.5, 278.1, 190.94, 133.27, 96.89, 64.07, 46.42, 31.97, 22.56,
         15.813, 11.237, 7.911, 5.592)  # fmt: skip
SIZE, SLICES, NOISE = 96, 3, 8.0
TIMES = np.arange(10, 161, 10) / 1e3  # s


def main(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    middle = SIZE / 2
    t2 = np.full((SIZE, SIZE), 0.3)
    amplitude = np.where(np.hypot(rows - middle, columns - middle) < 45, 600.0, 0.0)
    labels = np.zeros((SIZE, SIZE), np.int16)
    for n, value in enumerate(T2_MS):
        ring, turn = (34, n / 10) if n < 10 else (15, (n - 10) / 4 + 0.06)
        centre = (
            middle + ring * math.sin(math.tau * turn),
            middle + ring * math.cos(math.tau * turn),
        )
        far = np.hypot(rows - centre[0], columns - centre[1])
        t2[far < 6.5], amplitude[far < 6.5] = value / 1e3, 1000.0
        labels[far < 5] = n + 1
    signal = amplitude[..., None, None] * np.exp(-TIMES / t2[..., None, None])
    signal = np.repeat(signal, SLICES, axis=2)
    noise = np.random.default_rng(0).normal(0, NOISE, (2, *signal.shape))
    images = np.hypot(signal + noise[0], noise[1]).astype(np.float32)
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    affine[:3, 3] = -96, -96, -6
    volumes = {"phantom": images, "vials": np.repeat(labels[..., None], SLICES, axis=2)}
    for name, values in volumes.items():
        nibabel.save(nibabel.Nifti1Image(values, affine), folder / f"{name}.nii.gz")
    fields = {"EchoTime": TIMES.tolist(), "RepetitionTime": 5.0}
    (folder / "phantom.json").write_text(json.dumps(fields))
    names = [f"T2-{n + 1}" for n in range(len(T2_MS))]
    lines = [f"{n + 1}\t{name}" for n, name in enumerate(names)]
    (folder / "vials.tsv").write_text("\n".join(["index\tname", *lines, ""]))
    lines = [
        f"{name}\t{value}\tms\t{0.005 * value:.3f}"
        for name, value in zip(names, T2_MS, strict=True)
    ]
    head = "name\treference\tunit\tsd"
    (folder / "reference.tsv").write_text("\n".join([head, *lines, ""]))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
