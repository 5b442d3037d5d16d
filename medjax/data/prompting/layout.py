"""Index work of Qwen2.5-VL's vision tower and positions, on the host in NumPy.

Images become patch rows in padded window order (see `types.Images`), image tokens get
the index of their feature, and every token its mRoPE position. Shapes are padded to
given sizes, so nothing that varies from image to image is ever read inside `jit`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from medjax.rl.boxes import smart_resize
from medjax.types import Images

# CLIP's statistics, which Qwen2.5-VL's image processor subtracts and divides by.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Geometry(NamedTuple):
    """How images become numbers: cut, within bounds of their size, and normalised.

    Published checkpoints have patch 14, merge 2, temporal 2 and window 112, and the
    last three fields as they stand here.
    """

    patch: int  # pixels
    merge: int  # patches a side of a feature
    temporal: int  # times a still image is repeated
    window: int  # pixels
    min_pixels: int
    max_pixels: int
    mean: tuple[float, float, float] = MEAN  # of red, green, blue; subtracted
    std: tuple[float, float, float] = STD  # divided by afterwards
    levels: float = 255.0  # what pixels are divided by first

    @property
    def factor(self) -> int:
        """Pixels a side of a feature: sides of shown images are multiples of it."""
        return self.patch * self.merge

    @property
    def window_features(self) -> int:
        """Features a side of a window."""
        return self.window // self.factor

    @property
    def window_extent(self) -> int:
        """Pixels a side of a window of whole features."""
        return self.window_features * self.factor

    @property
    def window_patches(self) -> int:
        """S: patches of a window."""
        return (self.window_features * self.merge) ** 2


class Patches(NamedTuple):
    """One image cut into P = W * S patches in padded window order."""

    patches: Float[np.ndarray, "P E"]
    rows_cols: Int[np.ndarray, "P 2"]
    mask: Bool[np.ndarray, "P"]


def shown_size(size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """(height, width) in pixels at which an image is shown to the policy.

    Both are multiples of `geometry.factor`, the area lies within the geometry's bounds
    (`smart_resize`).

    Args:
        size: (height, width) of the image as it came.
        geometry: How the vision tower cuts images.

    Raises:
        ValueError: a side below 1, or one over 200 times the other.
    """
    return smart_resize(
        *size,
        factor=geometry.factor,
        min_pixels=geometry.min_pixels,
        max_pixels=geometry.max_pixels,
    )


def resize_image(
    image: UInt8[np.ndarray, "a b 3"], geometry: Geometry
) -> UInt8[np.ndarray, "h w 3"]:
    """The image at its shown size: PIL's antialiased bicubic on uint8.

    The size is that of `smart_resize`: both sides are multiples of `geometry.factor`,
    the area lies between `geometry.min_pixels` and `geometry.max_pixels` (a thin image,
    a side of which is one factor, may exceed the larger), and the aspect ratio is kept
    as nearly as that allows.

    Args:
        image: RGB, uint8, 0 to 255, rows first. One that has its shown size already is
            returned as it is, and not copied.
        geometry: How the vision tower cuts images, and the bounds of an image's size.

    Returns:
        RGB, uint8.

    Raises:
        ValueError: an image that is not [h, w, 3] of uint8, a side below 1, or one over
            200 times the other.
    """
    _check_pixels("resize_image", image)
    height, width = shown_size(image.shape[:2], geometry)
    if (height, width) == image.shape[:2]:
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _check_pixels(function: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Numbers from 0 to 1 would be divided by 255 once more, and look black."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"{function}: image: expected uint8 of shape [h, w, 3], 0 to 255; found "
            f"{image.dtype} of shape {image.shape}"
        )


def num_windows(size: tuple[int, int], geometry: Geometry) -> int:
    """W: windows of an image, those cut by its edge included.

    Args:
        size: (height, width) in pixels at which it is shown.
        geometry: How the vision tower cuts images.
    """
    rows, cols = (-(-n // geometry.window_extent) for n in size)
    return rows * cols


def cut_patches(image: UInt8[np.ndarray, "h w 3"], geometry: Geometry) -> Patches:
    """Normalise a shown image, (x / levels - mean) / std, and cut it.

    Windows and the features in them are in row-major order, as are the merge x merge
    patches of a feature; a patch is (C, T, p, p).

    Args:
        image: As it is shown, 0 to 255.
        geometry: How the vision tower cuts images, and the levels (255 unless a
            checkpoint's folder says otherwise), mean and std of each colour.

    Returns:
        W windows of S patches each, zeros where an image's edge cuts a window, with the
        row and column of each patch, and False at what is no patch of the image.

    Raises:
        ValueError: An image that is not [h, w, 3] of uint8, or a side that is no
            multiple of `geometry.factor`.
    """
    _check_pixels("pack_images", image)
    height, width = image.shape[:2]
    if height % geometry.factor or width % geometry.factor:
        raise ValueError(
            f"image of {height} x {width}: sides must be multiples of "
            f"{geometry.factor}; resize_image does that"
        )
    side, merge, patch = geometry.window_features, geometry.merge, geometry.patch
    extent = geometry.window_extent
    rows, cols = -(-height // extent), -(-width // extent)
    pixels = np.zeros((rows * extent, cols * extent, 3), np.float32)
    mean, std = np.array([geometry.mean, geometry.std], np.float32)
    levels = np.float32(geometry.levels)
    pixels[:height, :width] = (image.astype(np.float32) / levels - mean) / std
    cut = pixels.reshape(rows, side, merge, patch, cols, side, merge, patch, 3)
    cut = cut.transpose(0, 4, 1, 5, 2, 6, 8, 3, 7)  # [.., merge, merge, C, p, p]
    count = rows * cols * geometry.window_patches
    still = np.repeat(cut.reshape(count, 3, 1, patch, patch), geometry.temporal, axis=2)
    where = np.indices((rows * side * merge, cols * side * merge), dtype=np.int32)
    where = where.reshape(2, rows, side, merge, cols, side, merge)
    where = where.transpose(1, 4, 2, 5, 3, 6, 0).reshape(count, 2)
    return Patches(
        patches=still.reshape(count, -1),
        rows_cols=where,
        mask=np.all(where < (height // patch, width // patch), axis=-1),
    )


def feature_index(
    size: tuple[int, int], geometry: Geometry
) -> Int[np.ndarray, "tokens"]:
    """Where in padded window order the feature of each image token is.

    Image tokens are in row-major order over the features of the image.

    Args:
        size: (height, width) in pixels at which the image is shown.
        geometry: How the vision tower cuts images.
    """
    side = geometry.window_features
    rows, cols = (n // geometry.factor for n in size)
    row, col = np.indices((rows, cols))
    window = row // side * -(-cols // side) + col // side
    return (window * side**2 + row % side * side + col % side).ravel().astype(np.int32)


def pack_images(
    images: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]],
    geometry: Geometry,
    *,
    windows: int,
    slots: int,
) -> Images:
    """Shown images of M contexts as arrays; slots without an image are masked.

    Args:
        images: The images of each of M contexts as they are shown, see `resize_image`:
            RGB, uint8, 0 to 255; at most `slots` each, and perhaps none.
        geometry: How the vision tower cuts images.
        windows: W, the windows that each image is padded to with zeros; an image of
            more is refused.
        slots: K, the number of images that a context has room for, 0 or more.

    Returns:
        NumPy arrays: `patches` [M, K, P, E] in float32, (x / levels - mean) / std of
        the geometry, P = W S patches of E = 3 temporal patch^2 numbers; `rows_cols` in
        int32; `mask` False at padding and in empty slots.

    Raises:
        ValueError: images that are not [h, w, 3] of uint8, sides that are no multiples
            of `geometry.factor`, or an image of more than W windows (NumPy's message).
        IndexError: a context of more than K images.
    """
    length = windows * geometry.window_patches
    width = 3 * geometry.temporal * geometry.patch**2
    lead = (len(images), slots, length)
    packed = Images(
        patches=np.zeros((*lead, width), np.float32),
        rows_cols=np.zeros((*lead, 2), np.int32),
        mask=np.zeros(lead, bool),
    )
    for b, row in enumerate(images):
        for k, image in enumerate(row):
            cut = cut_patches(image, geometry)
            for array, part in zip(packed, cut, strict=True):
                array[b, k, : len(part)] = part
    return packed


def mrope_positions(
    tokens: Int[np.ndarray, "L"],
    grids: Sequence[tuple[int, int]],
    image_token: int,
) -> tuple[Int[np.ndarray, "L 3"], int]:
    """mRoPE positions (t, h, w) of a row without padding, and the next position.

    A text token takes the counter on all axes and adds 1 to it. An image of (H, W)
    features takes counter + (0, h, w), then adds max(H, W). The next position is that
    of the first generated token; with images it is not the number of tokens.

    Args:
        tokens: A row with each image token repeated once a feature.
        grids: (H, W) in features of each image, in the order of the row.
        image_token: The id of the token that stands for a feature.

    Raises:
        ValueError: The row has another number of image tokens than the grids have
            features.
    """
    positions = np.empty((len(tokens), 3), np.int32)
    image_at = np.flatnonzero(tokens == image_token)
    at, counter, used = 0, 0, 0
    for rows, cols in grids:
        count = rows * cols
        if used + count > len(image_at):
            break
        start = int(image_at[used])
        text = np.arange(counter, counter + start - at, dtype=np.int32)
        positions[at:start] = text[:, None]
        counter += start - at
        row, col = np.indices((rows, cols), dtype=np.int32).reshape(2, -1)
        grid = np.stack([np.zeros_like(row), row, col], axis=-1)
        positions[start : start + count] = grid + counter
        at, counter, used = start + count, counter + max(rows, cols), used + count
    if used != len(image_at) or used != sum(r * c for r, c in grids):
        raise ValueError(
            f"{len(image_at)} image tokens for features of {list(grids)}, "
            f"{sum(r * c for r, c in grids)} in all"
        )
    text = np.arange(counter, counter + len(tokens) - at, dtype=np.int32)
    positions[at:] = text[:, None]
    return positions, counter + len(tokens) - at
