"""Small files in the layouts of MedMNIST's `chestmnist.npz` and 3-D sets."""

import numpy as np


def write_chest(path, *, counts=(24, 8, 8), side=28, classes=14, seed=0):
    """Pictures with a bright block for each class shown; every fourth shows none."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        labels = (rng.random((count, classes)) < 0.12).astype(np.uint8)
        labels[np.arange(count), np.arange(count) % classes] = 1
        labels[::4] = 0
        images = rng.integers(0, 40, (count, side, side))
        for n, row in enumerate(labels):
            for label in np.flatnonzero(row):
                y, x = divmod(7 * int(label), side)
                images[n, 7 * y : 7 * y + 7, x : x + 7] += 150
        arrays[f"{part}_images"] = images.astype(np.uint8)
        arrays[f"{part}_labels"] = labels
    np.savez(path, **arrays)
    return arrays


def write_volumes(path, *, classes, counts=(6, 3, 4), side=28, seed=0):
    """Volumes in which every voxel tells its volume, its slice and its class."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        labels = np.arange(count) % classes
        images = rng.integers(0, 30, (count, side, side, side))
        images += 60 * labels[:, None, None, None]
        arrays[f"{part}_images"] = images.astype(np.uint8)
        arrays[f"{part}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(path, **arrays)
    return arrays
