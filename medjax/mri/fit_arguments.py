"""What `fit_map` is given, refused by name or as arrays of one dtype."""

import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from medjax.checks import check_arrays, check_flags, check_static
from medjax.mri.epg import train_echoes
from medjax.mri.model import SignalModel, check_contrasts, check_model, is_range
from medjax.mri.parameters import real_dtype
from medjax.mri.times import Times, check_times


def fit_arrays(
    function: str,
    images: Array,
    times: Times,
    weights: Array | None,
    model: SignalModel,
    skip: Sequence[int],
) -> tuple[Array, Array | np.ndarray, Array | None, SignalModel]:
    """Arrays of one real dtype, float32 at least, and the model: of what is kept.

    Args:
        function: The public function's name, with which a message begins.
        images: Of `fit_map`, like all others.
        times: Numbers, an array, or numbers of which some are traced.
        weights: None stays None.
        model: Decides which times can be meant; its constants may differ by contrast.
        skip: Indices of contrasts.
    """
    check_model(function, model)
    images = jnp.asarray(images)
    traced = any(isinstance(t, Tracer) for t in jax.tree.leaves(times))
    given: Any = jnp.asarray(times) if traced else np.asarray(times)
    weights = None if weights is None else jnp.asarray(weights)
    if images.shape[-1:] == given.shape[:1] != images.shape[:1]:
        raise ValueError(
            f"{function}: images: expected {len(given)} contrasts, as many as times, "
            f"on the first axis; found shape {images.shape}: contrasts are last, use "
            "jnp.moveaxis(images, -1, 0)"
        )
    check_arrays(
        function,
        images=(images, "E *N", (float, complex)),
        times=(given, "E" if given.ndim < 2 else "E *#N", (float, int)),
        weights=(
            weights,
            "E" if np.ndim(weights) < 2 else "E *#N",
            (float, int, bool),
        ),
    )
    check_contrasts(function, model, len(images))
    dtype = real_dtype(images, np.float32(0), *() if weights is None else (weights,))
    keep = _kept(function, skip, len(images))
    if len(keep) < len(images):
        images, given = images[keep], given[keep]
        weights = None if weights is None else weights[keep]
        constants = (
            tuple(c[e] for e in keep) if isinstance(c, tuple) else c
            for c in model.constants
        )
        model = model._replace(constants=tuple(constants))
    check_times(given, model=model)
    weights = None if weights is None else weights.astype(dtype)
    times = jnp.asarray(given).astype(dtype) if traced else np.asarray(given, dtype)
    return images, times, weights, model


def numbered(
    function: str, model: SignalModel, times: Times, skip: Sequence[int]
) -> SignalModel:
    """A model of an echo train with the echoes that are fitted; others as they are.

    Args:
        function: The public function's name, with which a message begins.
        model: Of `fit_map`, like the others.
        times: Those with values say which echoes they are; traced ones are 1, 2, .., E
            where the model does not know better.
        skip: Indices of times that are left out.
    """
    check_model(function, model)
    if not model.train or not len(times):
        return model
    echoes = train_echoes(function, model, times)
    kept = _kept(function, skip, len(echoes))
    return model._replace(echoes=tuple(echoes[e] for e in kept))


def known_angle(
    function: str, angle: Array | float | None, model: SignalModel, images: Array
) -> Array | None:
    """The refocusing angle as an array, for a model that has one.

    Args:
        function: The public function's name, with which a message begins.
        angle: Radians, or None.
        model: Of `fit_map`.
        images: As `fit_arrays` gives them: the angle broadcasts to their voxels.
    """
    if angle is None:
        return None
    if not model.train:
        raise ValueError(
            f"{function}: angle: {model.name} has no refocusing angle; leave it out, "
            "or take signal_model('t2_epg')"
        )
    angle = jnp.asarray(angle)
    axes = "*#N" if angle.ndim else ""
    check_arrays(function, images=(images, "E *N", None), angle=(angle, axes, float))
    return angle


def _kept(function: str, skip: Sequence[int], contrasts: int) -> np.ndarray:
    check_static(function, skip=skip)
    if not isinstance(skip, Sequence) or not all(
        isinstance(e, numbers.Integral) and 0 <= e < contrasts for e in skip
    ):
        raise ValueError(
            f"{function}: skip: expected 0 to {contrasts - 1}, found {skip}"
        )
    return np.array([e for e in range(contrasts) if e not in skip], np.int32)


def fit_bounds(
    function: str, bounds: tuple[float, float] | None, model: SignalModel
) -> tuple[float, float]:
    """Shortest and longest time constant in seconds.

    Args:
        function: The public function's name, with which a message begins.
        bounds: A pair of Python numbers, or None for the model's own.
        model: Its upper bound is one for the lower one.
    """
    if bounds is None:
        return model.bounds
    check_static(function, bounds=bounds)
    pair = tuple(bounds) if isinstance(bounds, Sequence | np.ndarray) else bounds
    if not is_range(pair) or pair[0] >= model.bounds[1]:
        raise ValueError(
            f"{function}: bounds of {model.time_constant}: expected two numbers "
            f"0 < low < high in seconds, low below {model.bounds[1]:g}; found {bounds}"
        )
    low, high = pair
    return float(low), float(high)


def check_options(
    images: Array,
    weights: Array | None,
    model: SignalModel,
    *,
    noise: str,
    magnitude: bool,
    start: str,
    points: int,
    iterations: int,
) -> None:
    """Refuse options of `fit_map`, given as they came, that do not fit each other.

    Raises:
        ValueError: static options that are traced, an unknown word, magnitudes that are
            complex or of a model whose sign they hide, a start that the model does not
            have, "known" noise without weights, fewer than 8 points, negative
            iterations.
    """
    check_static("fit_map", points=points, iterations=iterations)
    check_flags("fit_map", magnitude=magnitude)
    if magnitude and jnp.iscomplexobj(images):
        raise ValueError(
            "fit_map: magnitude=True, but the images are complex: pass their jnp.abs"
        )
    if noise not in ("estimated", "known"):
        raise ValueError(f"fit_map: noise {noise!r}: expected 'estimated' or 'known'")
    if noise == "known" and weights is None:
        raise ValueError(
            "fit_map: noise 'known' needs weights: inverse variances of the samples"
        )
    if start not in ("grid", "log-linear"):
        raise ValueError(f"fit_map: start {start!r}: expected 'grid' or 'log-linear'")
    if start == "log-linear" and not model.exponential:
        raise ValueError(
            f"fit_map: start 'log-linear': log S of {model.name} is no line"
        )
    whole = isinstance(points, numbers.Integral) and isinstance(
        iterations, numbers.Integral
    )
    if not whole or points < 8 or iterations < 0:
        raise ValueError(
            "fit_map: expected at least 8 points and no negative iterations; found "
            f"points={points!r}, iterations={iterations!r}"
        )
