"""Weights, pictures, tokens and layout of the Qwen2.5-VL parity tests, NumPy only.

Both the PyTorch oracle and our tests build their inputs from this, and the layout
functions (loops, no cleverness) are the oracle of `medjax.data`'s.
"""

import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from medjax.types import Images, Prompt, Segment

PAD, START, END, VISION_START, VISION_END, IMAGE, VIDEO = range(120, 127)
SEED = 1  # greedy decoding of these weights emits no image token
VOCAB = 136  # padded past the last id, as the real ones are
MERGE, TEMPORAL, CHANNELS = 2, 2, 3
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
TOKEN_IDS = {
    "bos_token_id": PAD,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}
# Heights and widths of each row's images in cells of merge * patch pixels. 9x5 and 7x11
# cells leave ragged windows of 4x4 cells on both axes, 4x4 is one exact window, and the
# fractional one is resized. The third row has no image.
ROWS = (((9, 5), (4, 4)), ((3.2, 2.1),), (), ((7, 11),))


class Case(NamedTuple):
    """Four rows: two images, one that is resized, none, a wide one."""

    patch: int  # pixels
    images: list[np.ndarray]  # uint8 [h, w, 3], row after row
    grids: list[tuple[int, int]]  # patches (rows, columns) after resizing
    rows: list[list[int]]  # tokens, image tokens expanded
    splits: list[int]  # tokens of each row that form its context


def text_sizes():
    return {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
    }


def vision_sizes(patch):
    return {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 76,
        "num_heads": 2,
        "in_channels": CHANNELS,
        "patch_size": patch,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": TEMPORAL,
        "tokens_per_second": 2,
        "window_size": 8 * patch,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
    }


def flat_config(patch, tied):
    """The model of the tests as a published config.json would say it."""
    return {
        "model_type": "qwen2_5_vl",
        **text_sizes(),
        "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "tie_word_embeddings": tied,
        **TOKEN_IDS,
        "vision_config": vision_sizes(patch),
    }


def random_tensor(name, shape, *, tied):
    """One tensor of the published layout, from a stream of its own.

    Biases and norm scales are random too: a missing one shows. A tied embedding is
    small, since greedy decoding would repeat its last token otherwise.
    """
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    x = rng.standard_normal(shape)
    if name.endswith("bias"):
        x = 0.1 * x
    elif len(shape) == 1:
        x = 1 + 0.2 * x
    elif "embed_tokens" in name:
        x = (0.03 if tied else 0.5) * x
    else:
        x = x / np.sqrt(np.prod(shape[1:]))
    return x.astype(np.float32)


def picture(height, width, seed):
    """Smooth colour plus noise: faults of resizing and of normalising both show."""
    rng = np.random.default_rng([seed, height, width])
    y, x = np.mgrid[0:height, 0:width]
    smooth = [np.sin(x / 17 + seed), np.cos(y / 23), 2 * (x + y) / (height + width) - 1]
    noisy = 127 + 90 * np.stack(smooth, -1) + rng.normal(0, 8, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def make_case(patch):
    cell = MERGE * patch
    images, grids, rows, splits = [], [], [], []
    rng = np.random.default_rng(7)
    for sizes in ROWS:
        row = [START, *rng.integers(0, PAD, 4), END, START, 3]
        for height, width in sizes:
            images.append(picture(int(height * cell), int(width * cell), len(images)))
            grids.append((MERGE * round(height), MERGE * round(width)))
            count = round(height) * round(width)
            row += [VISION_START, *[IMAGE] * count, VISION_END]
        splits.append(len(row))
        row += [*rng.integers(0, PAD, 5 + 2 * len(rows)), END, START, 4]
        rows.append([int(t) for t in row])
    return Case(patch, images, grids, rows, splits)


def patch_rows(image, grid, patch):
    """Pixels of an image as float32 [patches, (C, T, p, p)], merge-block order."""
    height, width = grid[0] * patch, grid[1] * patch
    if image.shape[:2] != (height, width):
        resized = Image.fromarray(image).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        image = np.asarray(resized)
    x = ((image / 255 - MEAN) / STD).astype(np.float32)
    out = []
    for row, column in merge_order(grid):
        tile = x[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        out.append(np.stack([tile.transpose(2, 0, 1)] * TEMPORAL, 1).ravel())
    return np.stack(out)


def merge_order(grid):
    """(row, column) of each patch: cell by cell, 2x2 patches in each."""
    rows, columns = grid
    return [
        (row + i, column + j)
        for row in range(0, rows, MERGE)
        for column in range(0, columns, MERGE)
        for i in range(MERGE)
        for j in range(MERGE)
    ]


def window_order(grid, window=8):
    """Indices (merge-block order) of each window's patches, in that order."""
    windows = {}
    for index, (row, column) in enumerate(merge_order(grid)):
        windows.setdefault((row // window, column // window), []).append(index)
    return [windows[key] for key in sorted(windows)]


def pack_images(case, window=8):
    """All rows' images in padded window order, and where each feature went.

    Returns Images of [B, K, P, ...] and, for each image, the index of each of its
    features (row-major cells) among the K * P / 4 of its row.
    """
    size = window**2
    windows = [window_order(grid, window) for grid in case.grids]
    slots = max(len(sizes) for sizes in ROWS)
    length = size * max(len(w) for w in windows)
    shape = (len(ROWS), slots, length)
    patches = np.zeros((*shape, CHANNELS * TEMPORAL * case.patch**2), np.float32)
    rows_cols = np.zeros((*shape, 2), np.int32)
    mask = np.zeros(shape, bool)
    places, image = [], 0
    for b, sizes in enumerate(ROWS):
        for k in range(len(sizes)):
            grid = case.grids[image]
            pixels = patch_rows(case.images[image], grid, case.patch)
            coordinates = merge_order(grid)
            place = np.zeros(len(pixels) // 4, np.int64)
            for w, members in enumerate(windows[image]):
                for i, index in enumerate(members):
                    at = w * size + i
                    patches[b, k, at] = pixels[index]
                    rows_cols[b, k, at] = coordinates[index]
                    mask[b, k, at] = True
                    place[index // 4] = (k * length + at) // 4
            places.append(place)
            image += 1
    return Images(patches, rows_cols, mask), places


def positions(row, grids):
    """mRoPE positions [L, 3] of an unpadded row, and that of the next token."""
    grids, out, current, i = list(grids), [], 0, 0
    while i < len(row):
        if row[i] != IMAGE:
            out.append([current] * 3)
            current, i = current + 1, i + 1
            continue
        rows, columns = (n // MERGE for n in grids.pop(0))
        for y in range(rows):
            for x in range(columns):
                out.append([current, current + y, current + x])
        current, i = current + max(rows, columns), i + rows * columns
    return np.array(out), current


def make_prompt(case):
    """The rows as `Prompt`: one question each, both segments padded on the left."""
    images, places = pack_images(case)
    grids, places = list(case.grids), list(places)
    parts = []
    for row, sizes in zip(case.rows, ROWS, strict=True):
        mine = [grids.pop(0) for _ in sizes]
        where, following = positions(row, mine)
        features = np.full(len(row), -1)
        if sizes:
            features[np.array(row) == IMAGE] = np.concatenate(
                [places.pop(0) for _ in sizes]
            )
        parts.append((np.array(row), where, features, following))

    def segment(cut):
        pieces = [
            (t[cut(split)], w[cut(split)], f[cut(split)])
            for (t, w, f, _), split in zip(parts, case.splits, strict=True)
        ]
        length = max(len(tokens) for tokens, _, _ in pieces)
        shape = (len(pieces), length)
        out = Segment(
            np.full(shape, PAD, np.int32),
            np.zeros(shape, bool),
            np.zeros((*shape, 3), np.int32),
            np.full(shape, -1, np.int32),
        )
        for i, (tokens, where, features) in enumerate(pieces):
            at = slice(length - len(tokens), length)
            out.tokens[i, at], out.mask[i, at] = tokens, True
            out.positions[i, at], out.features[i, at] = where, features
        return out

    return Prompt(
        images,
        segment(lambda split: slice(0, split)),
        segment(lambda split: slice(split, None)),
        np.array([following for *_, following in parts], np.int32),
    )


def padded_rows(case):
    """The rows as one left-padded batch: tokens and mask [4, L]."""
    length = max(map(len, case.rows))
    tokens = np.full((len(case.rows), length), PAD, np.int64)
    mask = np.zeros(tokens.shape, np.int64)
    for i, row in enumerate(case.rows):
        tokens[i, length - len(row) :], mask[i, length - len(row) :] = row, 1
    return tokens, mask
