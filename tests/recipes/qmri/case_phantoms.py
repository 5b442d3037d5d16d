"""Series of images of a disc of one material, as scanners and converters leave them."""

import json

import nibabel
import numpy as np

SIDE = 32
ROWS, COLUMNS = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
DISC = np.hypot(ROWS, 1.2 * COLUMNS) < 0.8
BRIGHTNESS = DISC * (1 + 0.3 * ROWS)
NOISE = 0.002  # of brightness 1: the largest error is then far below 2 %
TE = (0.01, 0.02, 0.03, 0.045, 0.06, 0.09)  # s
TI = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)  # s
FA = (3, 8, 15, 25)  # degrees
T2, T1, TR = 0.08, 1.2, 0.02  # s; TR of the flip angles


def magnitudes(curve, *, seed=0, signed=False):
    """[E, H, W]: a signal for each contrast with a little noise, 0 around the disc."""
    rng = np.random.default_rng(seed)
    images = np.multiply.outer(np.asarray(curve, float), BRIGHTNESS)
    noise = NOISE * DISC * rng.normal(size=(2, *images.shape))
    images = images + noise[0]
    found = images if signed else np.abs(images + 1j * noise[1])
    return (1000 * found).astype(np.float32)


def decay(times=TE, t2=T2):
    """Signals of a spin or gradient echo."""
    return np.exp(-np.asarray(times) / t2)


def recovery(times=TI, t1=T1, *, efficiency=1.0, repetition=np.inf):
    """Signed signals after an inversion."""
    times = np.asarray(times)
    return 1 - 2 * efficiency * np.exp(-times / t1) + np.exp(-repetition / t1)


def spoiled(angles=FA, t1=T1, repetition=TR):
    """Ernst's signals, angles in degrees."""
    a, e = np.deg2rad(angles), np.exp(-repetition / t1)
    return np.sin(a) * (1 - e) / (1 - np.cos(a) * e)


def put(folder, name, image, **fields):
    """One image [H, W] and its sidecar."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.nii"
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(image[..., None], affine), path)
    if fields:
        (folder / f"{name}.json").write_text(json.dumps(fields))
    return path


def put_series(folder, key, times, images, name="e{}", **fields):
    """An image for each time; a tuple stands for a value an image."""
    for n, (time, image) in enumerate(zip(times, images, strict=True)):
        own = {k: v[n] if isinstance(v, tuple) else v for k, v in fields.items()}
        put(folder, name.format(n + 1), image, **{key: time}, **own)
    return folder


def put_volume(path, images, kind=nibabel.Nifti1Image, **fields):
    """One file [H, W, 1, E] and its sidecar, whose lists hold a value an image."""
    data = np.moveaxis(images, 0, -1)[:, :, None]
    nibabel.save(kind(data, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    path.with_name(f"{path.name.split('.')[0]}.json").write_text(json.dumps(fields))
    return path
