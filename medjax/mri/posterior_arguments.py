"""What `fit_posterior` is given, refused by name or as arrays of one dtype."""

import math
import numbers
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from medjax.checks import check_arrays, check_flags, check_integers, check_static
from medjax.mri.model import SignalModel, check_model
from medjax.mri.parameters import real_dtype, series

_TAIL = 1e-5  # less has too few digits in single precision


def posterior_range(
    low: float | None, high: float | None, model: SignalModel
) -> tuple[float, float]:
    """The ends of the prior in seconds.

    Args:
        low: A Python number, or None for the model's lower bound.
        high: Likewise, for the upper one.
        model: Of `fit_posterior`.
    """
    check_model("fit_posterior", model)
    check_static("fit_posterior", low=low, high=high)
    pair = tuple(
        b if x is None else x for x, b in zip((low, high), model.bounds, strict=True)
    )
    sound = all(isinstance(x, numbers.Real) for x in pair)
    if not sound or not 0 < pair[0] < pair[1] < math.inf:
        raise ValueError(
            f"fit_posterior: low, high of {model.time_constant}: expected two numbers "
            f"0 < low < high < inf in seconds (None: {model.bounds[0]:g} and "
            f"{model.bounds[1]:g}); found {low!r} and {high!r}"
        )
    if pair[0] >= model.bounds[1]:
        raise ValueError(
            f"fit_posterior: low: expected seconds, below {model.bounds[1]:g} for "
            f"{model.name}; found {low!r}, which looks like milliseconds"
        )
    return float(pair[0]), float(pair[1])


def noise_array(
    images: Array, times: Array | np.ndarray, u: Array | float
) -> tuple[Array, Array, Array]:
    """Images, times and u in one real dtype (the images perhaps complex).

    Args:
        images: As `fit_arrays` gives them.
        times: Likewise.
        u: A number, or an array with the axes of the voxels, of the images, or of the
            images with one more of contrasts in front.
    """
    if isinstance(u, numbers.Real) and not 0 < u < math.inf:
        raise ValueError(
            "fit_posterior: u: expected a standard deviation above 0 in the unit of "
            f"the images; found {u!r}"
        )
    known = (np.float32(0), images, *((u,) if hasattr(u, "dtype") else ()))
    u = jnp.asarray(u)
    rank = images.ndim - 1
    axes = {rank: "*#N", rank + 1: "E *#N", rank + 2: "E E *#N"}
    if u.ndim and u.ndim not in axes:
        raise ValueError(
            "fit_posterior: u: expected a standard deviation for each voxel, shape "
            f"{images.shape[1:]}, for each contrast and voxel, {images.shape}, or a "
            f"covariance, {images.shape[:1] + images.shape}; found shape {u.shape}; "
            f"one for each contrast is u.reshape({(-1,) + (1,) * rank})"
        )
    check_arrays(
        "fit_posterior",
        images=(images, "E *N", None),
        u=(u, axes[u.ndim] if u.ndim else "", float),
    )
    dtype = real_dtype(*known)
    if u.ndim == 0:
        u = u.reshape((1,) * rank)
    times = jnp.asarray(times).astype(dtype)
    kind = np.promote_types(dtype, np.complex64) if jnp.iscomplexobj(images) else dtype
    return (
        images.astype(kind),
        series(times, rank) if times.ndim > 1 else times,
        u.astype(dtype),
    )


def prior_array(
    prior: Array | None, points: int, images: Array
) -> Float[Array, "B"] | None:
    """The histogram in the dtype of the computation.

    Args:
        prior: Masses of even bins of log T, or None.
        points: More than there are bins.
        images: Whose real dtype is that of the computation.
    """
    check_integers("fit_posterior", points=(points, 32, None))
    if prior is None:
        return None
    known = not isinstance(prior, Tracer)
    prior = jnp.asarray(prior)
    check_arrays("fit_posterior", prior=(prior, "B", (float, int)))
    if not 1 <= len(prior) < points:
        raise ValueError(
            "fit_posterior: prior: expected 1 to points - 1 bins, as a bin must not be "
            f"narrower than the grid; found {len(prior)} bins and points={points}"
        )
    if known:
        values = np.asarray(prior, float)
        if not np.all(np.isfinite(values)) or values.min() < 0 or not values.max() > 0:
            raise ValueError(
                "fit_posterior: prior: expected finite masses, none negative and one "
                f"above 0; found {values.tolist()}"
            )
    return prior.astype(real_dtype(images))


def check_posterior(
    images: Array,
    model: SignalModel,
    *,
    quantiles: Sequence[float],
    amplitude: str,
    positive: bool,
    magnitude: bool,
    limit: float | None,
    block: int | None,
) -> tuple[float, ...]:
    """Refuse options that do not fit each other; the quantiles as a tuple.

    Raises:
        ValueError: naming the option, what was expected and found, and the way out.
    """
    check_static(
        "fit_posterior",
        quantiles=quantiles,
        limit=limit,
        block=block,
    )
    check_flags("fit_posterior", positive=positive, magnitude=magnitude)
    if model.train or model.units.count("s") > 1:
        raise ValueError(
            f"fit_posterior: model {model.name}: expected one unknown time constant "
            f"and amplitudes; found {', '.join(model.parameters)}"
        )
    several = isinstance(quantiles, Sequence | np.ndarray)
    given = tuple(quantiles) if several and not isinstance(quantiles, str) else None
    if given is None or not all(
        isinstance(q, numbers.Real) and _TAIL <= q <= 1 - _TAIL for q in given
    ):
        raise ValueError(
            f"fit_posterior: quantiles: expected a tuple of numbers from {_TAIL} to "
            f"{1 - _TAIL}, such as (0.025, 0.5, 0.975); found {quantiles!r}"
        )
    if amplitude not in ("profiled", "marginalised"):
        raise ValueError(
            f"fit_posterior: amplitude {amplitude!r}: expected 'profiled' or "
            "'marginalised'"
        )
    if magnitude and jnp.iscomplexobj(images):
        raise ValueError(
            "fit_posterior: magnitude=True, but the images are complex: pass their "
            "jnp.abs"
        )
    if positive and (jnp.iscomplexobj(images) or len(model.parameters) > 2):
        raise ValueError(
            "fit_posterior: positive=True: expected real images and a model of one "
            f"amplitude; found {images.dtype} and {model.name} with "
            f"{', '.join(model.parameters)}"
        )
    if limit is not None and (not isinstance(limit, numbers.Real) or not limit > 0):
        raise ValueError(
            f"fit_posterior: limit: expected seconds above 0, or None; found {limit!r}"
        )
    if block is not None:
        check_integers("fit_posterior", block=(block, 1, None))
    return tuple(float(q) for q in given)
