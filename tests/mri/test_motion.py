"""Shifts and rotations between contrasts are found, and none where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.motion import contrast_motion, move_rigid
from tests.mri.heads import echoes

find = jax.jit(contrast_motion)
find_turned = jax.jit(lambda x: contrast_motion(x, rotations=True))
move = jax.jit(move_rigid, static_argnames="inverse")
STILL = np.zeros(8, np.float32)


def noisy(images, snr, seed):
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, 1 / snr, (2, *images.shape))
    return np.float32(np.hypot(images + parts[0], parts[1]))


def moved(shifts, angles=STILL):
    return np.asarray(move(echoes(), np.float32(shifts), np.float32(angles)))


@pytest.mark.parametrize(("snr", "close"), [(1e6, 0.1), (60, 0.15), (20, 0.4)])
def test_shifts_are_found_although_the_contrast_changes(snr, close):
    rng = np.random.default_rng(1)
    for seed in range(5):
        shifts = rng.uniform(-5, 5, (8, 2))
        shifts[0] = 0  # the first echo is the strongest
        motion = find(noisy(moved(shifts), snr, seed))
        known = np.isfinite(motion.shift).all(-1)
        assert known[:6].all()  # late echoes at SNR 20 may not be told
        wrong = np.abs(np.asarray(motion.shift) - shifts)[known]
        assert wrong.max() < close


@pytest.mark.parametrize("snr", [1e6, 60, 20, 10, 3])
def test_what_does_not_move_gives_no_alarm(snr):
    for seed in range(8):
        found = np.asarray(find(noisy(echoes(), snr, seed)).shift)
        assert np.nanmax(np.hypot(*found.T)) < 0.5


def test_images_without_edges_and_of_noise_are_not_known():
    rng = np.random.default_rng(0)
    nothing = np.ones((8, 64, 64), np.float32)
    assert np.isnan(find(nothing).shift).all()
    noise = np.float32(np.hypot(*rng.normal(size=(2, 8, 64, 64))))
    shift = np.asarray(find(noise).shift)
    others = np.isnan(shift).all(-1)
    assert others.sum() == 7  # of the reference with itself it is 0
    np.testing.assert_array_equal(shift[~others], 0)
    holed = echoes().copy()
    holed[3, 30, 30] = np.nan
    assert np.hypot(*np.asarray(find(holed).shift)[3]) < 0.2


def test_slices_are_found_each_for_itself_and_large_images_are_averaged():
    large = echoes(192)
    shifts = np.array([[0, 0], [4.0, -7.0]] * 4, np.float32)
    both = np.stack([large, np.asarray(move_rigid(large, shifts, STILL))], axis=1)
    found = np.asarray(contrast_motion(both).shift)
    assert np.abs(found[:, 0]).max() < 0.3
    assert np.abs(found[:, 1] - shifts).max() < 0.3


@pytest.mark.parametrize("degrees", [0, 2, -5])
def test_a_rotation_is_found_and_taken_back(degrees):
    rng = np.random.default_rng(2)
    shifts, angles = rng.uniform(-3, 3, (8, 2)), np.full(8, np.deg2rad(degrees))
    shifts[0] = angles[0] = 0
    images = noisy(moved(shifts, angles), 60, 0)
    motion = find_turned(images)
    # half a degree is a quarter of a pixel at the rim
    np.testing.assert_allclose(np.rad2deg(motion.angle[1:6]), degrees, atol=0.6)
    np.testing.assert_allclose(motion.shift[:6], shifts[:6], atol=0.2)
    back = move(images, motion.shift, motion.angle, inverse=True)
    clean = echoes()
    left, before = (np.abs(x - clean)[1:].mean() for x in (np.asarray(back), images))
    assert left < 0.5 * before


@pytest.mark.parametrize("images", [np.ones((2, 0, 6), "f4"), np.ones((4, 6), "f2")])
def test_images_that_cannot_be_moved_are_refused(images):
    lead = images.shape[:-2]
    shift, angle = np.zeros((*lead, 2), "f4"), np.zeros(lead, "f4")
    with pytest.raises(ValueError, match="images: expected float32 or float64"):
        move_rigid(images, shift, angle)


def test_moves_are_exact_inverses_and_whole_shifts_are_rolls():
    images = echoes()
    shifts = np.tile(np.float32([3, -2]), (8, 1))
    rolled = np.roll(images, (3, -2), (1, 2))
    np.testing.assert_allclose(move(images, shifts, STILL), rolled, atol=1e-5)
    turns = np.full(8, 0.1, np.float32)
    there = move(images, shifts + 0.3, turns)
    back = move(there, shifts + 0.3, turns, inverse=True)
    # Nyquist's frequency has no half shift: its share of these images is 0.5 %
    np.testing.assert_allclose(back, images, atol=5e-3)
    unknown = move(images, jnp.full((8, 2), jnp.nan), turns)
    np.testing.assert_array_equal(unknown, images)


@pytest.mark.parametrize("shape", [(160, 120), (192, 128)])
def test_a_rotation_stays_one_where_sides_are_averaged(shape):
    """By one factor for both: by two it is a shear, and was found as -6 degrees."""
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    head = (np.hypot(rows / 0.8, columns / 0.6) < 1) - 0.5 * (
        np.hypot((rows - 0.3) / 0.2, (columns + 0.1) / 0.3) < 1
    )
    still = jnp.asarray(np.stack([head, 0.8 * head]), jnp.float32)
    angles = np.float32(np.deg2rad([0, 4]))
    turned = move(still, np.zeros((2, 2), np.float32), angles)
    found = contrast_motion(turned, rotations=True)
    np.testing.assert_allclose(np.rad2deg(found.angle), [0, 4], atol=0.6)
