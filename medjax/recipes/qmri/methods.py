"""Classical reconstructions by name, with a config's options."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax import mri
from medjax.recipes.qmri.options import Method, Subspace
from medjax.systems.puq.maps import Classical
from medjax.types import Key, QmriBatch


class Kind(NamedTuple):
    """A reconstruction of `mri`, and the options that it takes of a `Method`."""

    function: Any  # (kspace, sens, mask[, key], *, constraint, ...) -> images
    draws: bool  # from the key
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()  # besides


METHODS: Mapping[str, Kind] = {
    "zero_filled": Kind(mri.zero_filled, False),
    "cg_sense": Kind(mri.cg_sense, False, ("damping", "iterations")),
    "subspace": Kind(mri.subspace_sense, False, ("subspace", "damping", "iterations")),
    "wavelet": Kind(
        mri.wavelet_sense, True, ("threshold", "iterations"), ("subspace",)
    ),
    "low_rank": Kind(
        mri.low_rank_sense, True, ("threshold", "iterations"), ("subspace",)
    ),
}


def in_order(methods: Mapping[str, Method]) -> list[str]:
    """Names of methods, in the order in which `METHODS` has their kinds.

    A config's own order is that of the alphabet.

    Args:
        methods: Options of each, by the name that it has in tables.

    Raises:
        ValueError: A kind is unknown, or has options that are not those of the kind.
    """
    for name, method in methods.items():
        _check(name, method)
    kinds = list(METHODS)
    return sorted(methods, key=lambda name: kinds.index(methods[name].kind))


def rank(method: Method) -> int | None:
    """K of the subspace that the images lie in; None where they have all contrasts."""
    return (method.subspace and method.subspace.rank) or None


def make_classical(
    methods: Mapping[str, Method],
    make_basis: Callable[[Subspace], Float[np.ndarray, "E K"]],
) -> dict[str, Classical]:
    """Reconstructions to real images by a table's names, in the order of `in_order`.

    Args:
        methods: Options of each, by the name that it has in tables.
        make_basis: Gives the basis of a subspace at the scan's times; called for those
            of rank 1 or more.

    Raises:
        ValueError: A kind is unknown, or has options that are not those of the kind.
    """
    return {name: _classical(methods[name], make_basis) for name in in_order(methods)}


def _classical(
    method: Method, make_basis: Callable[[Subspace], Float[np.ndarray, "E K"]]
) -> Classical:
    kind = METHODS[method.kind]
    options = {x: getattr(method, x) for x in kind.needs if x != "subspace"}
    if method.subspace and rank(method):
        options["basis"] = jnp.asarray(make_basis(method.subspace))
    return Classical(partial(_images, kind, options), rank(method))


def make_separate(method: Method) -> Classical:
    """A reconstruction that takes nothing of phases, to magnitudes.

    Complex images of each contrast, and their absolute values: a phase that is taken
    from the centre of k-space would take 17 % of T2* with it where the field is steep.

    Args:
        method: One without a subspace: a basis is of signals that share their phase.
    """
    kind = METHODS[method.kind]
    options = {x: getattr(method, x) for x in kind.needs}

    def images(batch: QmriBatch, key: Key) -> Float[Array, "B E H W"]:
        samples = _samples(kind, batch, key)
        return jnp.abs(kind.function(*samples, constraint="complex", **options))

    return Classical(images, None)


def _samples(kind: Kind, batch: QmriBatch, key: Key) -> tuple[Any, ...]:
    return (batch.kspace, batch.sens, batch.mask, *((key,) if kind.draws else ()))


def _images(
    kind: Kind, options: Mapping[str, float | Array], batch: QmriBatch, key: Key
) -> Float[Array, "B E H W"]:
    samples = _samples(kind, batch, key)
    return jnp.real(kind.function(*samples, constraint="real", **options))


def _check(name: str, method: Method) -> None:
    if method.kind not in METHODS:
        raise ValueError(
            f"method {name!r}: kind {method.kind!r}, expected one of "
            f"{', '.join(METHODS)}"
        )
    kind = METHODS[method.kind]
    given = {x for x in Method._fields[1:] if getattr(method, x) is not None}
    if not rank(method):
        given -= {"subspace"}
    if not set(kind.needs) <= given <= {*kind.needs, *kind.takes}:
        optional = "".join(f" (and may have {option})" for option in kind.takes)
        raise ValueError(
            f"method {name!r}: kind {method.kind!r} has the options "
            f"{', '.join(kind.needs) or 'none'}{optional}, found "
            f"{', '.join(sorted(given)) or 'none'}"
        )
