"""Patches back to the picture that was cut: what a policy sees, for a person to see."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from medjax.data.prompting.layout import Geometry


def join_patches(
    patches: Float[np.ndarray, "P E"],
    rows_cols: Int[np.ndarray, "P 2"],
    mask: Bool[np.ndarray, "P"],
    geometry: Geometry,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of one image's patches, normalisation undone: `cut_patches` back.

    Args:
        patches: As `pack_images` gives them, (x / levels - mean) / std; of each the
            first of its repetitions in time is shown.
        rows_cols: The row and column of each patch in the picture.
        mask: Which patches belong to the picture, at least one.
        geometry: How the picture was cut.
    """
    side = geometry.patch
    where = rows_cols[mask]
    rows, cols = where.max(axis=0) + 1
    cut = patches[mask].reshape(-1, 3, geometry.temporal, side, side)[:, :, 0]
    grid = np.zeros((rows, cols, side, side, 3), np.float32)
    grid[where[:, 0], where[:, 1]] = cut.transpose(0, 2, 3, 1)
    pixels = grid.transpose(0, 2, 1, 3, 4).reshape(rows * side, cols * side, 3)
    values = (pixels * geometry.std + geometry.mean) * geometry.levels
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
