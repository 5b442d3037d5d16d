"""Small scans to predict from: the same files for both trees, made by NumPy alone."""

import json

import nibabel
import numpy as np

# s: those that the networks of `configs/puq.py:smoke` are trained on
TIMES = np.array([0.0, 0.025, 0.035, 0.045, 0.065, 0.085, 0.105, 0.125])
SLICES, COILS, SIDE, CENTER = 2, 4, 32, 8


def write_kspace(path):
    """Undersampled k-space of discs of different T2, as `scan.npz` of our layout."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    radius = np.hypot(rows, 1.2 * columns)
    t2 = np.where(np.hypot(rows - 0.2, columns) < 0.3, 0.15, 0.07)
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    sens = np.stack(
        [
            np.exp(
                -0.3 * ((rows - y) ** 2 + (columns - x) ** 2) + 0.5j * (y * rows + x)
            )
            for y, x in corners
        ]
    )
    decay = np.exp(-TIMES[:, None, None] / t2)
    discs = np.stack([radius < 0.8, radius < 0.7])
    images = discs[:, None, None] * decay[None, :, None] * sens
    kspace = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(images, (-2, -1)), norm="ortho"), (-2, -1)
    )
    noise = rng.normal(0, 0.01, (2, *kspace.shape))
    sampled = rng.random((len(TIMES), 1, 1, SIDE)) < 0.3
    sampled[..., (SIDE - CENTER) // 2 : (SIDE + CENTER) // 2] = True
    kspace = ((kspace + noise[0] + 1j * noise[1]) * sampled).astype(np.complex64)
    np.savez(path, kspace=kspace, te=TIMES, voxel_mm=np.array([6.5, 6.5, 8.0]))


def write_images(path):
    """Echoes of a random T2 map with one voxel that is not finite, as NIfTI."""
    t2 = np.random.default_rng(0).uniform(0.04, 0.2, (8, 7, 3, 1))
    images = (800 * np.exp(-TIMES / t2)).astype(np.float32)
    images[1, 1, 1, 2] = np.nan
    nibabel.save(nibabel.Nifti1Image(images, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    sidecar.write_text(json.dumps({"EchoTime": TIMES.tolist()}))
