"""Classical reconstructions by name, with a config's options."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.mri import reconstruct
from medjax.systems.quantification import Classical
from medjax.types import Key, QmriBatch

Problem = Callable[[QmriBatch, Key, dict[str, Any]], Array]


def _plain(function: Callable[..., Array]) -> Problem:
    def run(batch, key, options):
        del key  # nothing is drawn
        return function(batch.kspace, batch.sens, batch.mask, **options)

    return run


def _drawing(function: Callable[..., Array]) -> Problem:
    def run(batch, key, options):
        return function(batch.kspace, batch.sens, batch.mask, key, **options)

    return run


METHODS: Mapping[str, Problem] = {
    "zero_filled": _plain(reconstruct.zero_filled),
    "cg_sense": _plain(reconstruct.cg_sense),
    "subspace": _plain(reconstruct.subspace_sense),
    "wavelet": _drawing(reconstruct.wavelet_sense),
    "low_rank": _drawing(reconstruct.low_rank_sense),
}


def make_classical(
    methods: Mapping[str, Mapping[str, Any]],
    make_basis: Callable[[Mapping[str, Any]], Float[np.ndarray, "E K"]],
) -> dict[str, Classical]:
    """Functions (batch, key) -> real images by a table's names.

    Args:
        methods: name -> options: `kind` (of `METHODS`), `subspace` (see `make_basis`;
            rank 0 for none) and those of the function.
        make_basis: from the options of a subspace.

    Raises:
        ValueError: an unknown kind.
    """
    return {
        name: _classical(name, dict(options), make_basis)
        for name, options in methods.items()
    }


def _classical(name, options, make_basis) -> Classical:
    kind = options.pop("kind")
    if kind not in METHODS:
        raise ValueError(
            f"method {name!r}: kind {kind!r}, expected one of {', '.join(METHODS)}"
        )
    subspace = options.pop("subspace", None)
    if subspace and subspace["rank"]:
        options["basis"] = jnp.asarray(make_basis(subspace))

    def images(batch: QmriBatch, key: Key) -> Float[Array, "B E H W"]:
        return jnp.real(METHODS[kind](batch, key, {"constraint": "real"} | options))

    return images
