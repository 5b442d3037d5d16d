"""Fit a volume slab by slab: bounded memory, one compilation."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Inexact, Shaped

from medjax.mri.fit import FitResult, fit_map
from medjax.mri.signal import SignalModel, Times


def fit_slabs(
    slabs: Iterable[Inexact[np.ndarray, "E *N"]],
    times: Times,
    *,
    model: SignalModel,
    weights: Iterable[Float[np.ndarray, "E *N"]] | Float[np.ndarray, "E"] | None = None,
    block: int = 32768,
    **options: Any,
) -> Iterator[FitResult]:
    """`fit_map` of each slab, in order, as NumPy arrays of the slab's shape.

    Voxels go through one compiled program in blocks, the last one padded with zeros:
    memory does not grow with the volume, and slabs may differ in size. The caller
    counts what it takes from here: that is the progress.

    Args:
        slabs: such as slices, read from a file when they are asked for.
        times: [E].
        model: of `mri.signal`.
        weights: an array for each slab, or one [E] for all.
        block: voxels a call; samples and grid of 32,768 stay in a processor's caches.
        options: of `fit_map`.

    Raises:
        ValueError: what `fit_map` raises, and weights for more or fewer slabs.
    """
    shared = weights is None or isinstance(weights, np.ndarray)
    each = itertools.repeat(weights) if shared else weights
    for slab, weight in zip(slabs, each, strict=not shared):
        flat = np.reshape(slab, (len(slab), -1))
        parts, last = [], None
        for first in range(0, flat.shape[1], block):
            part = slice(first, first + block)
            if not shared:
                given = _pad(np.reshape(weight, flat.shape)[:, part], block)
            else:
                given = weight
            result = fit_map(
                _pad(flat[:, part], block), times, model=model, weights=given, **options
            )
            if last is not None:  # copied while this block is computed
                parts.append(jax.tree.map(np.asarray, last))
            last = result
        parts.append(jax.tree.map(np.asarray, last))
        shape = slab.shape[1:]

        def join(
            *xs: np.ndarray, size: int = flat.shape[1], shape: tuple[int, ...] = shape
        ) -> np.ndarray:
            return np.concatenate(xs)[:size].reshape(shape)

        yield jax.tree.map(join, *parts)


def _pad(x: Shaped[np.ndarray, "E N"], size: int) -> Shaped[np.ndarray, "E M"]:
    return np.pad(x, ((0, 0), (0, size - x.shape[1])))
