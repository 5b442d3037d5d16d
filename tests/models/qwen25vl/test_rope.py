"""Rotary embeddings against float64 loops over frequencies and pairs."""

from functools import partial

import jax
import numpy as np
import pytest

from medjax.models.qwen25vl import rope
from medjax.models.qwen25vl.config import VisionConfig
from tests.tiny import tiny_config

# The released models' numbers: heads of 128, sections of 16, 24 and 24 frequencies.
TEXT = tiny_config(head_dim=128, mrope_section=(16, 24, 24))
VISION = VisionConfig(depth=1, width=160, mlp=8, heads=2, full_blocks=())  # heads of 80
# a product of two float32 numbers, one of them a power: a few roundings of 2^-24
RELATIVE = 5e-7

text_angles = jax.jit(partial(rope.text_angles, config=TEXT))
patch_angles = jax.jit(partial(rope.patch_angles, config=VISION))
rotate = jax.jit(rope.rotate)


def text_loop(positions):
    """Frequency i turns with t for i < 16, h for i < 40, w from there on."""
    angles = np.zeros((*positions.shape[:-1], 64))
    for index in np.ndindex(positions.shape[:-1]):
        for i in range(64):
            axis = 0 if i < 16 else 1 if i < 40 else 2
            angles[(*index, i)] = positions[(*index, axis)] * 1e6 ** (-2 * i / 128)
    return angles


def patch_loop(rows_cols):
    """Twenty frequencies for the row, the same twenty for the column."""
    angles = np.zeros((*rows_cols.shape[:-1], 40))
    for index in np.ndindex(rows_cols.shape[:-1]):
        for i in range(20):
            frequency = 1 / 10000 ** (2 * i / 40)
            angles[(*index, i)] = rows_cols[(*index, 0)] * frequency
            angles[(*index, 20 + i)] = rows_cols[(*index, 1)] * frequency
    return angles


def rotate_loop(x, angles):
    """Each pair (i, i + d/2) as a point of the plane."""
    out = np.zeros(x.shape)
    half = x.shape[-1] // 2
    for m, t, h, i in np.ndindex(*x.shape[:-1], half):
        cos, sin = np.cos(angles[m, t, i]), np.sin(angles[m, t, i])
        a, b = x[m, t, h, i], x[m, t, h, i + half]
        out[m, t, h, i], out[m, t, h, i + half] = a * cos - b * sin, a * sin + b * cos
    return out


def test_text_angles_follow_their_axis():
    positions = np.random.default_rng(0).integers(0, 2000, (2, 5, 3)).astype(np.int32)
    found = text_angles(positions)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, text_loop(positions), rtol=RELATIVE)


def test_each_section_turns_with_one_axis():
    for axis, part in enumerate((slice(0, 16), slice(16, 40), slice(40, 64))):
        positions = np.zeros((1, 1, 3), np.int32)
        positions[..., axis] = 7
        turned = np.flatnonzero(np.asarray(text_angles(positions))[0, 0])
        np.testing.assert_array_equal(turned, np.arange(64)[part])


def test_patch_angles_are_row_then_column():
    rows_cols = np.random.default_rng(1).integers(0, 73, (2, 6, 2)).astype(np.int32)
    found = patch_angles(rows_cols)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, patch_loop(rows_cols), rtol=RELATIVE)


@pytest.mark.parametrize("length", [3, 1])
def test_rotation_turns_pairs(length):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, length, 3, 8))
    angles = rng.normal(size=(2, length, 4)) * 10
    np.testing.assert_allclose(rotate(x, angles), rotate_loop(x, angles), atol=1e-14)


def test_angles_of_1e5_rad_are_still_turned_exactly():
    """cos and sin reduce their argument well: the float32 angle itself is what counts.

    The angle has steps of 2^-7 rad there, in transformers as here.
    """
    positions = (
        np.full((1, 4, 3), 100_000, np.int32)
        + np.arange(4, dtype=np.int32)[None, :, None]
    )
    angles = np.asarray(text_angles(positions))
    np.testing.assert_allclose(angles, text_loop(positions), rtol=RELATIVE)
    assert angles.max() > 1e5
    x = np.random.default_rng(3).normal(size=(1, 4, 2, 128)).astype(np.float32)
    expected = rotate_loop(x.astype(np.float64), angles.astype(np.float64))
    # two products of numbers up to 4 in float32
    np.testing.assert_allclose(rotate(x, angles), expected, atol=1e-6)


def test_scores_depend_on_the_distance_alone():
    rng = np.random.default_rng(4)
    q, k = rng.normal(size=(2, 1, 1, 1, 128)).astype(np.float32)

    def score(near, far):
        turned = [
            np.asarray(rotate(x, text_angles(np.full((1, 1, 3), at, np.int32))))
            for x, at in ((q, near), (k, far))
        ]
        return float(np.sum(turned[0] * turned[1]))

    # angles up to 540 rad in float32: 3e-5 each, on a sum of 64 pairs
    assert score(40, 25) == pytest.approx(score(540, 525), abs=2e-3)
    assert score(40, 25) != pytest.approx(score(40, 24), abs=0.1)


def test_bfloat16_is_turned_in_float32():
    rng = np.random.default_rng(5)
    x = jax.numpy.asarray(rng.normal(size=(1, 2, 1, 8)), jax.numpy.bfloat16)
    angles = rng.normal(size=(1, 2, 4)).astype(np.float32) * 50
    found = rotate(x, angles)
    assert found.dtype == jax.numpy.bfloat16
    expected = rotate_loop(np.asarray(x, np.float64), angles.astype(np.float64))
    # one rounding to bfloat16 at the end: 2^-9 of numbers up to 4
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=2**-7)
