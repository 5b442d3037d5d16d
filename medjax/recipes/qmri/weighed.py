"""Classical reconstructions whose weight is found by slice, from held-out lines."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.mri import held_out_weight, hold_out_lines
from medjax.mri.readout import middle_third, readout_rows
from medjax.recipes.qmri.options import Method
from medjax.systems.puq.reconstruction import slice_keys
from medjax.types import Key, QmriBatch

Reconstruct = Callable[
    [QmriBatch, Key, Mapping[str, float | Array]], Float[Array, "B E H W"]
]


class Weighing(NamedTuple):
    """How a weight is found, and which one a slice has without lines to hold out."""

    option: str  # the reconstruction's: "damping" or "threshold"
    usual: float
    weights: tuple[float, ...]  # rising, in the unit of the images
    share: float  # of the outer lines


def check_weights(name: str, method: Method) -> None:
    """Refuse weights of which held-out lines cannot choose one.

    Args:
        name: That the method has in tables, for the message.
        method: One with `weights` and `share`.

    Raises:
        ValueError: fewer than 3 weights, that do not rise from above 0, or a share that
            is not between 0 and 1.
    """
    weights, share = method.weights or (), method.share or 0.0
    rising = all(a < b for a, b in zip(weights, weights[1:], strict=False))
    if len(weights) < 3 or not rising or not weights[0] > 0:
        raise ValueError(
            f"method {name!r}: weights {weights}: expected 3 or more that rise from "
            "above 0, each by about the same factor"
        )
    if not 0 < share < 1:
        raise ValueError(
            f"method {name!r}: share {share}: expected one between 0 and 1"
        )


def middle_lines(center: int | float, batch: QmriBatch) -> int:
    """How many lines in the middle of a batch are never held out.

    Args:
        center: Their number, or as a float their share of the columns.
        batch: Any, for its number of columns.
    """
    if isinstance(center, int):
        return center
    return round(center * batch.kspace.shape[-1])


def weighed_images(
    reconstruct: Reconstruct,
    how: Weighing,
    center: int | float,
    batch: QmriBatch,
    key: Key,
) -> Float[Array, "B E H W"]:
    """Images of all samples, with the weight of each slice by `held_out_weight`.

    Args:
        reconstruct: (batch, key, options) -> real images; `options` has the weight [B].
        how: Of the method.
        center: See `middle_lines`.
        batch: k-space that is ready, with images of about 1 as the weights are for.
        key: One typed key. A slice's lines follow its `sample_id`.
    """
    lines, grid = jax.random.split(key)
    tried = middle_part(batch)
    hold = partial(hold_out_lines, share=how.share, center=middle_lines(center, batch))
    kept, held = jax.vmap(hold)(batch.mask, slice_keys(lines, batch.sample_id))

    def images(weight: Array) -> Float[Array, "B E rows W"]:
        part = tried._replace(mask=kept)
        return reconstruct(part, grid, {how.option: weight})

    found = held_out_weight(
        images,
        tried.kspace,
        tried.sens,
        held,
        weights=np.array(how.weights, np.float32),
        extensions=1,
    )
    weight = jnp.where(jnp.isfinite(found.weight), found.weight, how.usual)
    return reconstruct(batch, grid, {how.option: weight})


def middle_part(batch: QmriBatch) -> QmriBatch:
    """The middle third of the rows as a batch, see `middle_third`.

    Args:
        batch: Its target and region of interest are not cut.
    """
    size = batch.kspace.shape[-2]
    start, rows = middle_third(batch.mask, size)
    if rows == size:
        return batch
    kspace = readout_rows(batch.kspace, start=start, rows=rows)
    return batch._replace(kspace=kspace, sens=batch.sens[..., start : start + rows, :])
