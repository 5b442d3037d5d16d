"""The unrolled network of `puq`: its parameters and one pass over a batch."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from medjax.models.denoiser import Denoiser, from_channels, to_channels
from medjax.mri.sense import sense_adjoint
from medjax.mri.unroll import unrolled_reconstruction
from medjax.types import Key, Params

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
    unroll: int = (
        1  # stages compiled one after the other, see `unrolled_reconstruction`
    )

    @property
    def denoiser(self) -> Denoiser:
        """The Linen module of one stage."""
        return Denoiser(self.width, self.layers, self.dropout)

    @property
    def damped(self) -> bool:
        """Whether there is a damping to learn."""
        return self.consistency == "cg" or self.start_iterations > 0


def init_network(design: Design, key: Key) -> Params:
    """{"trained": weights (and log damping), "statistics": running norms}.

    Arrays of unshared stages have a leading axis S.
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
    design: Design,
    network: Params,
    kspace: Complex[Array, "B E C H W"],
    mask: Bool[Array, "B E H W"],
    sens: Complex[Array, "B C H W"],
    keys: Key | None,
    *,
    basis: Float[Array, "E K"] | None,
    training: bool,
) -> tuple[Float[Array, "B E H W"], Any]:
    """The real part of the reconstructed images, and the new running statistics.

    Each slice is scaled to the network's range and back, so a scanner's units do not
    matter.

    Args:
        design: of the network.
        network: from `init_network`.
        kspace: 0 where not sampled.
        mask: or [B E 1 W] for whole lines.
        sens: normalised.
        keys: [B], one a slice, for dropout; None = none.
        basis: of the subspace, where the design's channels are its K.
        training: norms by this batch.
    """

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
    scale = image_scale(kspace, sens)
    images, statistics = unrolled_reconstruction(
        denoise,
        (per_stage(trained["weights"]), per_stage(network["statistics"]), stage_keys),
        kspace / scale[:, None].astype(kspace.dtype),
        mask,
        sens,
        consistency=design.consistency,
        basis=basis,
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
    """A high quantile of the zero-filled images; 1 for a slice without signal."""
    images = jnp.abs(sense_adjoint(kspace, sens))
    flat = images.reshape(images.shape[0], -1)
    scale = jnp.quantile(flat, SCALE_QUANTILE, axis=1)[:, None, None, None]
    return jnp.where(scale > 0, scale, 1)
