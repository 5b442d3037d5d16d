"""Classical reconstructions by name, with a config's options."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax import mri
from medjax.recipes.qmri.joint_tv import tv_images
from medjax.recipes.qmri.options import Method, Subspace
from medjax.recipes.qmri.weighed import (
    Weighing,
    check_weights,
    middle_lines,
    weighed_images,
)
from medjax.systems.puq.calibration import Calibration, calibrated_sd
from medjax.systems.puq.joint_tv import Search, TvImages, tv_features
from medjax.systems.puq.maps import Classical
from medjax.types import Key, QmriBatch


class Kind(NamedTuple):
    """A reconstruction of `mri`, and the options that it takes of a `Method`."""

    function: Any  # (kspace, sens, mask[, key], *, constraint, ...) -> images
    draws: bool  # from the key
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()  # besides


SEARCH = ("weights", "share")  # of the weight, by lines held out

METHODS: Mapping[str, Kind] = {
    "zero_filled": Kind(mri.zero_filled, False),
    "cg_sense": Kind(mri.cg_sense, False, ("damping", "iterations"), SEARCH),
    "subspace": Kind(
        mri.subspace_sense, False, ("subspace", "damping", "iterations"), SEARCH
    ),
    "wavelet": Kind(
        mri.wavelet_sense, True, ("threshold", "iterations"), ("subspace", *SEARCH)
    ),
    "low_rank": Kind(
        mri.low_rank_sense, True, ("threshold", "iterations"), ("subspace", *SEARCH)
    ),
    "joint_tv": Kind(
        tv_images,
        True,
        ("subspace", "scales", "weights", "share", "draws", "iterations", "inner"),
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


def tv_search(name: str, method: Method, center: int) -> Search:
    """How a method of the kind "joint_tv" finds its weight.

    Args:
        name: That it has in tables, for the message.
        method: Its options.
        center: Lines in the middle that are never held out.

    Raises:
        ValueError: Options are those of another kind or out of their range.
    """
    _check(name, method)
    check_weights(name, method)
    weights, share = method.weights or (), method.share or 0.0
    scales = method.scales or ()
    if not scales or not min(scales) > 0:
        raise ValueError(f"method {name!r}: scales {scales}: expected some above 0")
    draws = method.draws or 0
    if draws < 1:
        raise ValueError(f"method {name!r}: draws {draws}: expected 1 or more")
    steps = (method.iterations or 0, method.inner or 0)
    # One draw is a quick search. With few outer lines, at R = 10, a part costs 3 % of
    # the NRMSE, and more draws are the same lines.
    return Search(weights, share, center, *steps, draws, draws == 1)


def tv_scales(method: Method) -> tuple[float, ...]:
    """Scales of all coefficients of a method's subspace; the last one is repeated."""
    scales, count = method.scales or (1.0,), rank(method) or 1
    return (*scales, *[scales[-1]] * max(count - len(scales), 0))[:count]


def make_classical(
    methods: Mapping[str, Method],
    make_basis: Callable[[Subspace], Float[np.ndarray, "E K"]],
    *,
    center: int | float = 0,
    calibration: Calibration | None = None,
) -> dict[str, Classical]:
    """Reconstructions to real images by a table's names, in the order of `in_order`.

    Args:
        methods: Options of each, by the name that it has in tables.
        make_basis: Gives the basis of a subspace at the scan's times; called for those
            of rank 1 or more.
        center: Lines in the middle that are never held out, a number or, as a float,
            the share of the columns.
        calibration: Makes the uncertainty of joint TV's images; None leaves it out.

    Raises:
        ValueError: A kind is unknown, or has options that are not those of the kind.
    """
    return {
        name: _joint_tv(name, methods[name], make_basis, center, calibration)
        if methods[name].kind == "joint_tv"
        else _classical(name, methods[name], make_basis, center)
        for name in in_order(methods)
    }


def _joint_tv(
    name: str,
    method: Method,
    make_basis: Callable[[Subspace], Float[np.ndarray, "E K"]],
    center: int | float,
    calibration: Calibration | None,
) -> Classical:
    search = tv_search(name, method, 0)
    subspace = method.subspace
    if subspace is None or not rank(method):
        raise ValueError(f"method {name!r}: expected a subspace of rank 1 or more")
    basis = jnp.asarray(make_basis(subspace))
    how = {"basis": basis, "scales": jnp.asarray(tv_scales(method), basis.dtype)}

    def make(batch: QmriBatch, key: Key) -> TvImages:
        kept = search._replace(center=middle_lines(center, batch))
        return tv_images(batch, key, search=kept, **how)

    return Classical(
        lambda batch, key: make(batch, key).images,
        rank(method),
        None if calibration is None else partial(_with_error, make, calibration),
    )


def _with_error(
    make: Callable[[QmriBatch, Key], TvImages],
    calibration: Calibration,
    batch: QmriBatch,
    key: Key,
) -> tuple[Float[Array, "B E H W"], Float[Array, "B H W"]]:
    """Images, and their u."""
    found = make(batch, key)
    return found.images, image_error(found, batch, calibration)


def image_error(
    found: TvImages, batch: QmriBatch, calibration: Calibration
) -> Float[Array, "B H W"]:
    """u of joint TV's images by a calibration, at the acceleration of each slice."""
    size = found.images.shape
    sampled = jnp.broadcast_to(batch.mask, size).mean((1, 2, 3), dtype=jnp.float32)
    features = tv_features(found, coils=batch.kspace.shape[2])
    return calibrated_sd(calibration, features, 1 / sampled)


def _classical(
    name: str,
    method: Method,
    make_basis: Callable[[Subspace], Float[np.ndarray, "E K"]],
    center: int | float,
) -> Classical:
    kind = METHODS[method.kind]
    options = {x: getattr(method, x) for x in kind.needs if x != "subspace"}
    if method.subspace and rank(method):
        options["basis"] = jnp.asarray(make_basis(method.subspace))
    if method.weights is None:
        return Classical(partial(_images, kind, options), rank(method))
    check_weights(name, method)
    (option,) = {"damping", "threshold"} & {*kind.needs}
    how = Weighing(option, options[option], method.weights, method.share or 0.0)

    def reconstruct(
        batch: QmriBatch, key: Key, weight: Mapping[str, float | Array]
    ) -> Float[Array, "B E H W"]:
        return _images(kind, {**options, **weight}, batch, key)

    return Classical(partial(weighed_images, reconstruct, how, center), rank(method))


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
        optional = f" (and may have {', '.join(kind.takes)})" if kind.takes else ""
        raise ValueError(
            f"method {name!r}: kind {method.kind!r} has the options "
            f"{', '.join(kind.needs) or 'none'}{optional}, found "
            f"{', '.join(sorted(given)) or 'none'}"
        )
    if (method.weights is None) != (method.share is None):
        raise ValueError(
            f"method {name!r}: weights and share: expected both, of which held-out "
            "lines choose, or neither; found one of them"
        )
