"""Facts of pictures: decoded by several threads, once, and remembered between runs."""

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from medjax.data.audit.cache import file_stamp, load_facts, store_facts
from medjax.data.audit.records import THUMB, Facts, Pictures
from medjax.data.images import (
    ImageFile,
    perceptual_hash,
    pixel_digest,
    read_image,
)

# Between these percentiles of its greys a picture without contrast has one level.
_PERCENTILES = (0.5, 99.5)


def measure(image: UInt8[np.ndarray, "h w 3"]) -> Facts:
    """Facts of one decoded picture.

    Args:
        image: RGB, as `read_image` gives it.
    """
    grey = Image.fromarray(image).convert("L")
    low, high = np.percentile(np.asarray(grey), _PERCENTILES, method="nearest")
    small = grey.resize((THUMB, THUMB), Image.Resampling.BOX)
    return Facts(
        digest=pixel_digest(image),
        size=(image.shape[0], image.shape[1]),
        hash=perceptual_hash(image),
        contrast=int(high) - int(low),
        colour=bool((image != image[..., :1]).any()),
        thumb=np.asarray(small).tobytes(),
        levels=_levels(image),
    )


def _levels(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A digest that stays when pixels change places, as they do where it is turned."""
    digest = hashlib.blake2b(digest_size=16)
    for channel in range(3):
        counts = np.bincount(image[..., channel].ravel(), minlength=256)
        digest.update(counts.astype(np.int64))
    return digest.digest()


def look_plainly(files: Mapping[ImageFile, str]) -> Pictures:
    """Facts of every picture, read now; nothing is remembered.

    Args:
        files: The pictures, each with what an error calls the line that names it.
    """
    return read_pictures(files, cache=None)


def read_pictures(
    files: Mapping[ImageFile, str],
    *,
    cache: Path | None,
    tick: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> Pictures:
    """Facts of every picture; those unchanged since an earlier run are not read.

    A picture counts as unchanged while its path, size and time of change are the same.
    Decoding releases Python's lock, so that threads do it side by side.

    Args:
        files: The pictures, each with what an error calls the line that names it.
        cache: The file that remembers facts; it is written anew where something was
            read. A damaged one is made anew, and where the folder cannot be written to
            nothing is remembered. None remembers nothing.
        tick: Called with (pictures read so far, pictures to read).
        threads: How many read side by side; None takes one a core, 16 at most.
    """
    known = load_facts(cache) if cache else {}
    facts: dict[ImageFile, Facts] = {}
    keys: dict[ImageFile, bytes] = {}
    for file in files:
        key = file_stamp(file)
        if key is not None:
            keys[file] = key
            if key in known:
                facts[file] = known[key]
    left = [file for file in files if file not in facts]
    problems: dict[ImageFile, str] = {}

    def one(file: ImageFile) -> Facts | str:
        try:
            return measure(read_image(file, files[file]))
        except (ValueError, OSError) as error:
            return str(error)

    workers = threads or min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for n, (file, found) in enumerate(zip(left, pool.map(one, left), strict=True)):
            if isinstance(found, str):
                problems[file] = found
            else:
                facts[file] = found
            if tick:
                tick(n + 1, len(left))
    new = {keys[f]: facts[f] for f in left if f in facts and f in keys}
    if cache and new:
        store_facts(cache, new)
    ordered = {file: facts[file] for file in files if file in facts}
    return Pictures(ordered, problems, len(left))
