"""The smallest sigma an unbiased fit can have: choosing echo and inversion times."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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
        times: [E], or [E, *N].
        model: of `signal`.
        params: true values by name, scalars or [*N].
        noise_sd: of a sample of weight 1, in the unit of s0; scalar or [*N].
        weights: of contrasts, such as numbers of averages; 0 = not acquired.

    Returns:
        The smallest sd of each parameter, in its unit; inf where the samples do not
        determine it.

    Raises:
        ValueError: times that do not fit the model, unknown or missing parameters.
    """
    check_times(times, model=model)
    samples = jnp.real(signal(model, params, times))
    dtype, shape = samples.dtype, samples.shape[1:]
    rate = 1 / jnp.asarray(params[model.time_constant]).astype(dtype)
    if weights is None:
        weights = np.ones(len(samples))
    weights = jnp.asarray(weights).astype(dtype)
    if weights.shape not in (samples.shape[:1], samples.shape):
        raise ValueError(
            f"weights: expected {samples.shape[:1]} or {samples.shape}, "
            f"found {weights.shape}"
        )
    roots = list(jnp.sqrt(weights))
    channel = [root * y for root, y in zip(roots, samples, strict=True)]
    data = Weighted([channel], roots, list(jnp.asarray(times).astype(dtype)))
    log_rate = jnp.broadcast_to(jnp.log(rate), shape)
    solution = solve(model, log_rate, data)
    _, errors = parameters_and_errors(model, log_rate, solution)
    sd = jnp.asarray(noise_sd).astype(dtype)
    return {
        name: jnp.where(solution.determined, sd * error, jnp.inf)
        for name, error in zip(model.parameters, errors, strict=True)
    }
