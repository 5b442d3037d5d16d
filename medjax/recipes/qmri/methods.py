"""Classical reconstructions by name, with a config's options."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.mri import reconstruct
from medjax.systems.puq.maps import Classical
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


def in_order(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names by kind, in the order of `METHODS`: a config's own order is the alphabet's.

    Raises:
        ValueError: an unknown kind.
    """
    for name, options in methods.items():
        if options["kind"] not in METHODS:
            raise ValueError(
                f"method {name!r}: kind {options['kind']!r}, expected one of "
                f"{', '.join(METHODS)}"
            )
    kinds = list(METHODS)
    return sorted(methods, key=lambda name: kinds.index(methods[name]["kind"]))


def make_classical(
    methods: Mapping[str, Mapping[str, Any]],
    make_basis: Callable[[Mapping[str, Any]], Float[np.ndarray, "E K"]],
) -> dict[str, Classical]:
    """Reconstructions to real images, by a table's names.

    Args:
        methods: name -> options: `kind` (of `METHODS`), `subspace` (see `make_basis`;
            rank 0 for none) and those of the function.
        make_basis: from the options of a subspace.

    Raises:
        ValueError: an unknown kind.
    """
    return {name: _classical(methods[name], make_basis) for name in in_order(methods)}


def _classical(options, make_basis) -> Classical:
    kind, rank = options["kind"], options.get("subspace", {}).get("rank", 0)
    how = {k: x for k, x in options.items() if k not in ("kind", "subspace")}
    if rank:
        how["basis"] = jnp.asarray(make_basis(options["subspace"]))

    def images(batch: QmriBatch, key: Key) -> Float[Array, "B E H W"]:
        return jnp.real(METHODS[kind](batch, key, {"constraint": "real"} | how))

    return Classical(images, rank or None)
