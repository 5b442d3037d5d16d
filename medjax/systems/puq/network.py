"""The unrolled network of `puq`: its parameters and one pass over a batch."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from medjax.checks import check_arrays
from medjax.models.denoiser import Denoiser, Regressor, from_channels, to_channels
from medjax.mri.model import SignalModel
from medjax.mri.sense import sense_adjoint
from medjax.mri.unroll import unrolled_reconstruction
from medjax.types import Key, Params, QmriBatch

SCALE_QUANTILE = 0.99  # of |A^H y| becomes 1: one bright pixel decides nothing


class Design(NamedTuple):
    """What an unrolled network is made of."""

    channels: int  # complex images it sees: E, or K of a subspace
    width: int
    layers: int
    dropout: float
    stages: int
    shared: bool  # one denoiser for all stages, as MoDL
    consistency: str  # "hard" (PUQ) or "cg" (MoDL)
    damping: float = 0.05  # of "cg" before training
    iterations: int = 0
    start_iterations: int = 0
    remat: bool = False
    unroll: int = 1  # stages compiled in a row, see `unrolled_reconstruction`

    @property
    def denoiser(self) -> Denoiser:
        """The Linen module of one stage."""
        return Denoiser(self.width, self.layers, self.dropout)

    @property
    def damped(self) -> bool:
        """Whether there is a damping to learn."""
        return self.consistency == "cg" or self.start_iterations > 0


class Quantity(NamedTuple):
    """What is measured, and how it is fitted; hashable."""

    model: SignalModel
    times: tuple[float, ...]  # s
    bounds: tuple[float, float]  # of the time constant, s

    @property
    def longest(self) -> float:
        """Largest value of a map, s."""
        return self.bounds[1]


class Extras(NamedTuple):
    """What a run has beside the paper's parts; hashable, nothing by default."""

    bins: int = 0  # classes of a learned density of log T, see `categorical`; 0: none
    width: int = 64  # of its hidden layers
    factors: tuple[float, ...] = ()  # on dropout's deviation, see `dropout_factor`


class Estimator(NamedTuple):
    """From k-space to maps, but for the parameters: the network, and what fits it."""

    design: Design
    basis: Float[Array, "E K"] | None  # of a subspace with K = the design's channels
    regressor: Regressor  # the shape of both kinds, see `guided_fit`
    normalisation: str  # of the regressors' inputs, see `regressor_inputs`
    quantity: Quantity
    extras: Extras = Extras()

    @property
    def rank(self) -> int | None:
        """K of the subspace that the network's images lie in; None = all contrasts."""
        return None if self.basis is None else self.design.channels


def check_dropout(design: Design, *, passes: int) -> None:
    """Refuse Monte-Carlo passes that would all be the same, or only one.

    Args:
        design: Of the network; its dropout is read.
        passes: How many passes are asked for.

    Raises:
        ValueError: The network has no dropout, or fewer than 2 passes are asked for.
    """
    if not design.dropout > 0:
        raise ValueError(
            f"network.dropout {design.dropout:g}: passes with dropout tell a network's "
            "uncertainty, and all would be equal; train one with dropout above 0, or "
            "take error bars of joint total variation"
        )
    if passes < 2:
        raise ValueError(
            f"passes {passes}: a deviation needs at least 2 passes with dropout"
        )


def init_network(design: Design, key: Key) -> Params:
    """{"trained": weights (and log damping), "statistics": running norms}.

    Arrays of unshared stages have a leading axis S. All are float32.

    Args:
        design: The network's shape; static.
        key: One typed key, not to be used again.
    """

    def init(key):
        x = jnp.zeros((1, 4, 4, 2 * design.channels), jnp.float32)
        variables = design.denoiser.init(key, x, None, training=False)
        return variables["params"], variables["batch_stats"]

    if design.shared:
        weights, statistics = init(key)
    else:
        weights, statistics = jax.vmap(init)(jax.random.split(key, design.stages))
    trained = {"weights": weights}
    if design.damped:
        log_damping = jnp.full((design.stages,), jnp.log(design.damping), jnp.float32)
        trained["log_damping"] = log_damping
    return {"trained": trained, "statistics": statistics}


def reconstruct(
    estimator: Estimator,
    network: Params,
    batch: QmriBatch,
    keys: Key | None,
    *,
    training: bool,
) -> tuple[Float[Array, "B E H W"], Any]:
    """The real part of the reconstructed images, and the new running statistics.

    Each slice is scaled to the network's range and back, so a scanner's units do not
    matter.

    Args:
        estimator: Gives the network's design, and the subspace that it works in.
        network: Parameters as `init_network` makes them.
        batch: Only its k-space (in any unit), mask and sensitivities are read.
        keys: One typed key a slice, [B], for dropout; None leaves all channels in.
        training: A static bool. Norms use this batch and update the running
            statistics; otherwise they use the statistics, which are returned as they
            were.
    """
    design = estimator.design

    def per_stage(tree):
        if not design.shared:
            return tree
        return jax.tree.map(
            lambda x: jnp.broadcast_to(x[None], (design.stages, *x.shape)), tree
        )

    def denoise(stage, x):
        weights, statistics, keys = stage
        variables = {"params": weights, "batch_stats": statistics}
        if not training:
            y = design.denoiser.apply(variables, to_channels(x), keys, training=False)
            return from_channels(y), statistics
        y, updated = design.denoiser.apply(
            variables, to_channels(x), keys, training=True, mutable=["batch_stats"]
        )
        return from_channels(y), updated["batch_stats"]

    stage_keys = None
    if keys is not None:
        stages = jnp.arange(design.stages, dtype=jnp.int32)
        fold = jax.vmap(jax.random.fold_in, (0, None))
        stage_keys = jax.vmap(fold, (None, 0))(keys, stages)
    trained = network["trained"]
    damping = jnp.exp(trained["log_damping"]) if design.damped else None
    scale = image_scale(batch.kspace, batch.sens)
    images, statistics = unrolled_reconstruction(
        denoise,
        (per_stage(trained["weights"]), per_stage(network["statistics"]), stage_keys),
        batch.kspace / scale[:, None].astype(batch.kspace.dtype),
        batch.sens,
        batch.mask,
        consistency=design.consistency,
        basis=estimator.basis,
        damping=damping,
        iterations=design.iterations,
        start_iterations=design.start_iterations,
        remat=design.remat,
        unroll=design.unroll,
    )
    if design.shared:
        statistics = jax.tree.map(lambda x: x.mean(0), statistics)
    return images.real * scale, statistics


def image_scale(
    kspace: Complex[Array, "B E C H W"], sens: Complex[Array, "B C H W"]
) -> Float[Array, "B 1 1 1"]:
    """The 0.99 quantile of |A^H y| over contrasts and pixels; 1 without signal.

    Args:
        kspace: Centred k-space in any unit, which the scale has; 0 where not sampled.
            At least one contrast and pixel. A slice with a number that is not finite
            gets 1.
        sens: Maps with sum_c |S_c|^2 = 1, or 0 outside the object.

    Raises:
        ValueError: shapes that do not fit, no contrast or no pixel.
    """
    check_arrays(
        "image_scale",
        kspace=(kspace, "B E C H W", complex),
        sens=(sens, "B C H W", complex),
    )
    if 0 in (kspace.shape[1], *kspace.shape[-2:]):
        raise ValueError(
            "image_scale: kspace: expected at least one contrast and pixel, found "
            f"{kspace.shape}"
        )
    images = jnp.abs(sense_adjoint(kspace, sens))
    flat = images.reshape(images.shape[0], -1)
    scale = jnp.quantile(flat, SCALE_QUANTILE, axis=1)[:, None, None, None]
    return jnp.where(scale > 0, scale, 1)
