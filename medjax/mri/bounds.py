"""The smallest sigma an unbiased fit can have: choosing echo and inversion times."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.checks import check_arrays
from medjax.mri.signals import SignalModel, Times, Value, check_times, signal
from medjax.mri.varpro import Weighted, parameters_and_errors, solve


def cramer_rao_bound(
    times: Times,
    *,
    model: SignalModel,
    params: dict[str, Value],
    noise_sd: Value,
    weights: Float[Array | np.ndarray, "E *#N"] | None = None,
) -> dict[str, Float[Array, "*N"]]:
    """Square roots of the diagonal of the inverse Fisher information.

        sigma^2 >= diag((J^T W J)^-1),   W = weights / noise_sd^2,   J = dS / d params

    for Gaussian noise; `fit_map` reaches it at a good signal-to-noise ratio. It holds
    for complex samples as well (noise_sd of each part; the modulus of s0), and for
    magnitudes where the signal is well above the noise.

    Args:
        times: Echo or inversion times in seconds, flip angles in radians: one list for
            all voxels, or one for each. At least as many different ones as the model
            has parameters, none negative.
        model: As `signal_model` names them.
        params: The true values by name, exactly the model's own: a number, or an array
            [*N], real. Time constants are seconds and above 0, s0 and offset are in
            the unit of the image.
        noise_sd: Standard deviation of the noise of a sample of weight 1, above 0, in
            the unit of s0. A scalar, or one value for each of the voxels that `params`
            describe.
        weights: Relative weights of the contrasts, at least 0, such as their numbers
            of averages: weight 4 halves the noise, 0 leaves a contrast out. For all
            voxels [E] or for each. None = all 1.

    Returns:
        The smallest sd of each parameter, in its unit. It is inf where the samples do
        not determine the parameters: too few weights above 0, s0 = 0, or a number that
        is not finite or out of its range.

    Raises:
        ValueError: times that do not fit the model, unknown or missing parameters,
            shapes that do not fit each other.
    """
    check_times(times, model=model)
    samples = jnp.real(signal(model, params, times))
    dtype, shape = samples.dtype, samples.shape[1:]
    rate = 1 / jnp.asarray(params[model.time_constant]).astype(dtype)
    if weights is None:
        weights = np.ones(len(samples))
    weights, sd = (jnp.asarray(x).astype(dtype) for x in (weights, noise_sd))
    check_arrays(
        "cramer_rao_bound",
        signal=(samples, "E *N", float),
        weights=(weights, "E" if weights.ndim < 2 else "E *N", float),
        noise_sd=(sd, "*N" if sd.ndim else "", float),
    )
    roots = list(jnp.sqrt(weights))
    channel = [root * y for root, y in zip(roots, samples, strict=True)]
    data = Weighted([channel], roots, list(jnp.asarray(times).astype(dtype)))
    log_rate = jnp.broadcast_to(jnp.log(rate), shape)
    solution = solve(model, log_rate, data)
    _, errors = parameters_and_errors(model, log_rate, solution)
    return {
        name: jnp.where(solution.determined, sd * error, jnp.inf)
        for name, error in zip(model.parameters, errors, strict=True)
    }
