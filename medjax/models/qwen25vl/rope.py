"""Rotary position embeddings: three axes for text (mRoPE), two for patches."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from medjax.models.qwen25vl.config import Qwen25VLConfig, VisionConfig


def text_angles(
    positions: Int[Array, "R L 3"], config: Qwen25VLConfig
) -> Float[Array, "R L d/2"]:
    """mRoPE angles in rad: frequency i turns with the axis its section names.

    angle_i = position[axis_i] * theta^(-2i/d), axes (t, h, w) in blocks of
    `mrope_section` frequencies (Qwen2-VL, section 2.1). float32: angles reach 1e5 rad.

    Args:
        positions: (t, h, w) of L tokens in R rows, from 0 on; padding may hold
            anything.
        config: `head_dim` is d, and `mrope_section` sums to d / 2.
    """
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    sections = np.array(config.mrope_section)
    axis = jnp.repeat(positions, sections, axis=-1, total_repeat_length=half)
    return axis.astype(jnp.float32) * frequency[None, None]


def patch_angles(
    rows_cols: Int[Array, "R P 2"], config: VisionConfig
) -> Float[Array, "R P d/2"]:
    """Angles of a patch in rad: its row on the first half, its column on the second.

    Args:
        rows_cols: Row and column of P patches in R images, counted in patches from 0
            on; padding may hold anything.
        config: width / heads is d, a multiple of 4.
    """
    quarter = config.width // config.heads // 4
    frequency = 10000.0 ** (-jnp.arange(quarter, dtype=jnp.float32) / quarter)
    angles = rows_cols.astype(jnp.float32)[..., None] * frequency[None, None, None]
    return angles.reshape(*rows_cols.shape[:-1], 2 * quarter)


def rotate(
    x: Float[Array, "R L H d"], angles: Float[Array, "R L d/2"]
) -> Float[Array, "R L H d"]:
    """Rotate the pairs (i, i + d/2) of each head by their angle.

    Args:
        x: R rows of L tokens with H heads; d is even. Its dtype is given back.
        angles: In rad, the same for all heads; their dtype is that of the rotation.
    """
    cos = jnp.cos(angles)[:, :, None, :]
    sin = jnp.sin(angles)[:, :, None, :]
    first, second = jnp.split(x.astype(angles.dtype), 2, axis=-1)
    rotated = jnp.concatenate(
        [first * cos - second * sin, second * cos + first * sin], axis=-1
    )
    return rotated.astype(x.dtype)
