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

    width: int  # channels between the first and the last convolution
    layers: int  # those between the two; 0 leaves the first and the last alone
    dropout: float  # probability that a channel is zeroed, from 0 (never) to below 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W D"], keys: Key | None, *, training: bool
    ) -> Float[Array, "B H W D"]:
        """The residual: what to add to `x`, of its shape and unit.

        Args:
            x: B slices of H x W pixels with D channels, as `to_channels` gives them.
                Borders are padded with zeros, so any H and W will do.
            keys: B typed keys, one a slice, consumed; None switches dropout off.
            training: True normalises by this batch, and updates the running mean and
                variance, which must then be mutable; False normalises by those.
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

    width: int  # units of a hidden layer
    layers: int  # hidden layers; 0 is a logistic regression

    @nn.compact
    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N"]:
        """The map's value as a fraction of the largest it may have.

        Args:
            x: D numbers for each of any number of voxels, of order 1 to train well.
        """
        for _ in range(self.layers):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.sigmoid(nn.Dense(1)(x))[..., 0]


def to_channels(images: Complex[Array, "B E H W"]) -> Float[Array, "B H W D"]:
    """E complex images as D = 2 E real channels: Re x_1 .. Re x_E, Im x_1 .. Im x_E.

    Args:
        images: B slices of E contrasts, H x W pixels, in any unit, which stays.
    """
    parts = jnp.concatenate([images.real, images.imag], axis=1)
    return jnp.moveaxis(parts, 1, -1)


def from_channels(channels: Float[Array, "B H W D"]) -> Complex[Array, "B E H W"]:
    """D / 2 complex images from D channels: the inverse of `to_channels`.

    Args:
        channels: Real parts first, then as many imaginary parts; D must be even.
    """
    real, imag = jnp.split(jnp.moveaxis(channels, -1, 1), 2, axis=1)
    return jax.lax.complex(real, imag)
