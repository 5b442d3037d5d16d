"""A network's images and their posterior, by an uncertainty that is calibrated."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from medjax.recipes.qmri.compute import Compute, Inputs
from medjax.recipes.qmri.evidence import Fitted, Trusted, gather
from medjax.recipes.qmri.joint_tv import tv_images
from medjax.recipes.qmri.trusted import Trusting, distrust, line_mask, with_posterior
from medjax.systems.puq.calibration import calibrated_sd
from medjax.systems.puq.fits import fit_slices
from medjax.systems.puq.joint_tv import network_features
from medjax.systems.puq.network import Estimator, check_dropout
from medjax.systems.puq.posterior_maps import image_posterior
from medjax.systems.puq.reconstruction import image_moments
from medjax.types import Key, Params, QmriBatch


def make_network_posterior(
    estimator: Estimator,
    params: Params,
    *,
    basis: Float[np.ndarray, "E K"],
    how: Trusting,
    passes: int,
    chunk: int,
) -> Compute:
    """From a slab of k-space to maps of a network's images by `fit_posterior`.

    u is that of the features of network and joint TV, as `--mode=calibrate
    --checkpoint` has calibrated it.

    Args:
        estimator: The network, at the scan's times.
        params: Its trained parameters.
        basis: Of joint TV's subspace.
        how: Of joint TV and the posterior, with the calibration of the network.
        passes: Passes with dropout, at least 2.
        chunk: Passes at a time, a divisor of `passes`.

    Raises:
        ValueError: The network has no dropout, or fewer than 2 passes are asked for.
    """
    check_dropout(estimator.design, passes=passes)
    model, bounds = how.model, how.bounds
    options: dict[str, Any] = {"model": model, "bounds": bounds}
    step = partial(image_moments, estimator, passes=passes, chunk=chunk)

    @jax.jit
    def compute(batch: QmriBatch, key: Key, params: Params) -> Fitted:
        lines, draws = jax.random.split(key)
        scales = jnp.asarray(how.scales, basis.dtype)
        found = tv_images(
            batch, lines, basis=jnp.asarray(basis), scales=scales, search=how.search
        )
        mean, std = step(params["network"], batch, draws)
        times = jnp.asarray(estimator.quantity.times, mean.dtype)
        features = network_features(mean, std, found, coils=batch.kspace.shape[2])
        sampled = jnp.broadcast_to(batch.mask, mean.shape)
        rate = 1 / sampled.mean((1, 2, 3), dtype=jnp.float32)
        u = calibrated_sd(how.calibration, features, rate)
        posterior = image_posterior(mean, u, times, quantiles=how.quantiles, **options)
        maps = fit_slices(mean, times, rank=estimator.rank, **options)
        fitted = gather(mean, times, maps, model=model, magnitude=False)
        reasons = distrust(fitted.maps, posterior, fitted.bright, u, bounds=bounds)
        low, high = posterior.quantiles
        trusted = Trusted(
            posterior.mean, low, high, reasons, found.weight, found.interior, None
        )
        return fitted._replace(
            maps=with_posterior(fitted.maps, posterior, model.time_constant),
            trusted=trusted,
        )

    return _of_lines(lambda inputs: compute(inputs.batch, inputs.key, params))


def _of_lines(compute: Callable[[Inputs], Fitted]) -> Compute:
    """With whole lines as such, so that lines are held out and no points."""

    def computed(inputs: Inputs) -> Fitted:
        mask = line_mask(np.asarray(inputs.batch.mask))
        return compute(inputs._replace(batch=inputs.batch._replace(mask=mask)))

    return computed
