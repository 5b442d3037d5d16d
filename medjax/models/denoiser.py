"""The networks of `puq`: a convolutional denoiser and a regressor of single voxels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from medjax.types import Key


class Denoiser(nn.Module):
    """Convolutions over all contrasts at once: what to add to the images.

    conv3x3, norm, ReLU; `layers` times conv3x3, norm, ReLU, dropout of whole channels;
    conv3x3, norm. Convolutions have no bias. As PUQ's authors built it (width 128, 4
    layers, dropout 0.3), but that the last norm's scale starts at 0, so that an
    untrained network adds nothing.

    Dropout is drawn from a key per slice, so it does not depend on the batch's layout.
    """

    width: int
    layers: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W D"], keys: Key | None, *, training: bool
    ) -> Float[Array, "B H W D"]:
        """The residual.

        Args:
            x: channels last.
            keys: one a slice, consumed; None = no dropout.
            training: normalise by this batch, and update the running statistics.
        """

        def conv_norm(x, features, scale):
            x = nn.Conv(features, (3, 3), use_bias=False)(x)
            return nn.BatchNorm(
                use_running_average=not training, momentum=0.9, scale_init=scale
            )(x)

        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        hidden = nn.relu(conv_norm(x, self.width, ones))
        for layer in range(self.layers):
            hidden = nn.relu(conv_norm(hidden, self.width, ones))
            if keys is not None and self.dropout > 0:
                hidden = hidden * _kept_channels(
                    keys, layer, self.width, self.dropout, hidden.dtype
                )
        return conv_norm(hidden, x.shape[-1], zeros)


def _kept_channels(keys, layer, width, rate, dtype) -> Float[Array, "B 1 1 D"]:
    """0 or 1 / (1 - rate) for each channel of each slice."""

    def draw(key):
        return jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, (width,))

    return jax.vmap(draw)(keys)[:, None, None].astype(dtype) / (1 - rate)


class Regressor(nn.Module):
    """A perceptron from one voxel's contrasts to a number in (0, 1)."""

    width: int
    layers: int

    @nn.compact
    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N"]:
        """The fraction of the largest value that a map may have."""
        for _ in range(self.layers):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.sigmoid(nn.Dense(1)(x))[..., 0]


def to_channels(images: Complex[Array, "B E H W"]) -> Float[Array, "B H W D"]:
    """[Re x_1 .. Re x_E, Im x_1 .. Im x_E] last."""
    parts = jnp.concatenate([images.real, images.imag], axis=1)
    return jnp.moveaxis(parts, 1, -1)


def from_channels(channels: Float[Array, "B H W D"]) -> Complex[Array, "B E H W"]:
    """The inverse of `to_channels`."""
    real, imag = jnp.split(jnp.moveaxis(channels, -1, 1), 2, axis=1)
    return jax.lax.complex(real, imag)
