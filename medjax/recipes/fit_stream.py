"""Fit a volume slab by slab: bounded memory, one compilation, progress."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Inexact, Shaped

from medjax.mri.fit import FitResult, fit_map
from medjax.mri.signal import SignalModel, Times

# Samples and the grid's scores of so many voxels stay in a processor's caches.
BLOCK = 32768


def fit_slabs(
    slabs: Iterable[Inexact[np.ndarray, "E *N"]],
    times: Times,
    *,
    model: SignalModel,
    weights: Iterable[Float[np.ndarray, "E *N"]] | None = None,
    block: int = BLOCK,
    on_voxels: Callable[[int], None] | None = None,
    **options: Any,
) -> Iterator[FitResult]:
    """`fit_map` of each slab, in order, as NumPy arrays.

    Voxels go through one compiled program in blocks of `block`, the last one padded
    with zeros: memory does not grow with the volume, and slabs may differ in size.
    While a block is computed, the next one is copied.

    Args:
        slabs: such as slices read from a file one by one.
        times: [E].
        model: of `mri.signal`.
        weights: an array [E, *N] for each slab; None = as `options` say.
        block: voxels a call.
        on_voxels: told the number of voxels done, after each block.
        options: of `fit_map`.

    Raises:
        ValueError: what `fit_map` raises; `weights` that end before the slabs.
    """
    done = 0
    pairs = ((s, None) for s in slabs)
    if weights is not None:
        pairs = zip(slabs, weights, strict=True)
    for slab, weight in pairs:
        shape = slab.shape[1:]
        flat = np.reshape(slab, (len(slab), -1))
        count = flat.shape[1]
        flat_weight = None if weight is None else np.reshape(weight, flat.shape)
        parts: list[FitResult] = []
        running: deque[tuple[FitResult, int]] = deque()

        def finish(
            running: deque[tuple[FitResult, int]] = running,
            parts: list[FitResult] = parts,
        ) -> int:
            result, size = running.popleft()
            parts.append(jax.tree.map(lambda x: np.asarray(x)[:size], result))
            return size

        for first in range(0, count, block):
            chunk = flat[:, first : first + block]
            given = dict(options)
            if flat_weight is not None:
                given["weights"] = _pad(flat_weight[:, first : first + block], block)
            result = fit_map(_pad(chunk, block), times, model=model, **given)
            running.append((result, chunk.shape[1]))
            if len(running) == 2:
                done += finish()
                if on_voxels is not None:
                    on_voxels(done)
        while running:
            done += finish()
            if on_voxels is not None:
                on_voxels(done)
        yield jax.tree.map(
            lambda *xs, shape=shape: np.concatenate(xs).reshape(shape), *parts
        )


def _pad(x: Shaped[np.ndarray, "E N"], size: int) -> Shaped[np.ndarray, "E M"]:
    missing = size - x.shape[1]
    return np.pad(x, ((0, 0), (0, missing))) if missing else np.ascontiguousarray(x)
