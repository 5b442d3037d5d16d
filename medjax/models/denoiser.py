"""The networks of `puq`: a convolutional denoiser and a regressor of single voxels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from medjax.checks import check_arrays
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
            x: B slices of H x W pixels with D channels, as `to_channels` gives them,
                of order 1. Borders are padded with zeros, so any H and W of at least 1
                will do. A number that is not finite spreads over its slice, in training
                over the batch.
            keys: B typed keys, one a slice, not to be used again; None switches
                dropout off.
            training: A static bool. True normalises by the mean and the variance of
                this batch (at least one slice), and updates the running ones, which
                must be mutable: `apply(.., mutable=["batch_stats"])`. On a mesh they
                are those of the whole batch; inside `shard_map` those of a device.
                False normalises by the running ones.
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
    kept = jnp.float32(1 - rate)  # a Python number would draw in x64's precision

    def draw(key):
        return jax.random.bernoulli(jax.random.fold_in(key, layer), kept, (width,))

    return jax.vmap(draw)(keys)[:, None, None].astype(dtype) / (1 - rate)


class Regressor(nn.Module):
    """A perceptron from one voxel's contrasts to a number in (0, 1)."""

    width: int  # units of a hidden layer
    layers: int  # hidden layers; 0 is a logistic regression

    @nn.compact
    def __call__(self, x: Float[Array, "*N D"]) -> Float[Array, "*N"]:
        """The map's value as a fraction of the largest it may have.

        Args:
            x: D numbers for each of any number of voxels (none will do), of order 1 to
                train well. A number that is not finite makes its own voxel NaN.
        """
        for _ in range(self.layers):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.sigmoid(nn.Dense(1)(x))[..., 0]


def to_channels(images: Complex[Array, "B E H W"]) -> Float[Array, "B H W D"]:
    """E complex images as D = 2 E real channels: Re x_1 .. Re x_E, Im x_1 .. Im x_E.

    Args:
        images: Complex, B slices of E contrasts, H x W pixels, in any unit, which the
            channels keep; any axis may be empty.

    Raises:
        ValueError: another number of axes, or numbers that are not complex.
    """
    check_arrays("to_channels", images=(images, "B E H W", complex))
    parts = jnp.concatenate([images.real, images.imag], axis=1)
    return jnp.moveaxis(parts, 1, -1)


def from_channels(channels: Float[Array, "B H W D"]) -> Complex[Array, "B E H W"]:
    """E = D / 2 complex images from D channels: the inverse of `to_channels`.

    Args:
        channels: Real, in single or double precision: first the real parts of all
            images, then as many imaginary parts.

    Raises:
        ValueError: an odd number of channels, another number of axes, or numbers that
            are not real.
    """
    check_arrays("from_channels", channels=(channels, "B H W D", float))
    if channels.shape[-1] % 2:
        raise ValueError(
            "from_channels: channels: expected an even number, real parts and as many "
            f"imaginary ones, found [B, H, W, D] = {channels.shape}"
        )
    real, imag = jnp.split(jnp.moveaxis(channels, -1, 1), 2, axis=1)
    return jax.lax.complex(real, imag)
