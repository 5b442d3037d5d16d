"""The offset of each contrast that its own samples ask for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.mri.motion import move_rigid
from medjax.mri.offsets import contrast_offsets
from medjax.mri.sense import sense_forward

RNG = np.random.default_rng(0)
SIDE, COILS, CONTRASTS = 32, 3, 4
SHIFT = np.array([[0.0, 0.0], [0.4, -0.7], [-1.3, 0.2], [0.0, 1.6]])
ANGLE = np.array([0.0, 0.02, -0.03, 0.05])


def scan(dtype=np.float64, mask_rows=1):
    """Smooth images, which a Fourier interpolation moves exactly, lines and coils."""
    images = ndimage.gaussian_filter(RNG.standard_normal((CONTRASTS, 32, 32)), 2)
    images *= np.hanning(SIDE)[:, None] * np.hanning(SIDE) / images.std()
    sens = RNG.standard_normal((COILS, 2, SIDE, SIDE))
    sens = ndimage.gaussian_filter(sens, (0, 0, 6, 6), mode="wrap")
    sens = sens[:, 0] + 1j * sens[:, 1]
    sens /= np.sqrt((abs(sens) ** 2).sum(0))
    mask = RNG.random((CONTRASTS, mask_rows, SIDE)) < 0.4
    mask[..., 13:19] = True
    return (
        jnp.array(images, dtype),
        jnp.array(sens, np.result_type(dtype, np.complex64)),
        jnp.array(mask),
    )


@pytest.mark.parametrize("rows", [1, SIDE])
def test_known_motion_is_found(rows):
    images, sens, mask = scan(mask_rows=rows)
    there = move_rigid(images, jnp.array(SHIFT), jnp.array(ANGLE))
    kspace = sense_forward(there, sens, mask)
    found = contrast_offsets(kspace, images, sens, mask, steps=8)
    np.testing.assert_allclose(found.shift, SHIFT, atol=1e-4)
    np.testing.assert_allclose(found.angle, ANGLE, atol=1e-5)
    spoiled = jnp.where(mask[:, None], kspace, jnp.nan)  # what is not sampled
    other = contrast_offsets(spoiled, images, sens, mask, steps=8)
    np.testing.assert_array_equal(other.shift, found.shift)
    np.testing.assert_array_equal(other.shift_sd, found.shift_sd)


def test_the_phase_of_complex_images_is_kept():
    images, sens, mask = scan()
    rows = jnp.linspace(-1, 1, SIDE)[None, :, None]
    images = jax.lax.complex(images * jnp.cos(rows), images * jnp.sin(rows))
    shift, angle = jnp.array(SHIFT), jnp.zeros(CONTRASTS)
    real, imaginary = (move_rigid(x, shift, angle) for x in (images.real, images.imag))
    kspace = sense_forward(jax.lax.complex(real, imaginary), sens, mask)
    found = contrast_offsets(kspace, images, sens, mask, steps=8)
    np.testing.assert_allclose(found.shift, SHIFT, atol=1e-4)


def test_one_step_is_the_least_squares_solution_of_finite_differences():
    images, sens, mask = scan()
    there = move_rigid(images, jnp.array(SHIFT) / 8, jnp.array(ANGLE) / 8)
    kspace = np.asarray(sense_forward(there, sens, mask))
    found = contrast_offsets(jnp.array(kspace), images, sens, mask, steps=1)
    near, zero = 1e-4, np.zeros((CONTRASTS, 3))
    for e in range(CONTRASTS):
        slopes = []
        for axis in range(3):
            ends = []
            for sign in (-1, 1):
                p = zero.copy()
                p[e, axis] = sign * near
                x = move_rigid(images, jnp.array(p[:, :2]), jnp.array(p[:, 2]))
                ends.append(np.asarray(sense_forward(x, sens, mask))[e].ravel())
            slopes.append((ends[1] - ends[0]) / (2 * near))
        left = kspace[e] - np.asarray(sense_forward(images, sens, mask))[e]
        matrix = np.stack(slopes, 1)
        both = np.concatenate([np.real(matrix), np.imag(matrix)])
        wanted = np.concatenate([np.real(left).ravel(), np.imag(left).ravel()])
        expected = np.linalg.lstsq(both, wanted, rcond=None)[0]
        np.testing.assert_allclose(found.shift[e], expected[:2], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.angle[e], expected[2], rtol=1e-5, atol=1e-7)


def test_noise_alone_moves_nothing_and_its_sd_is_told():
    images, sens, mask = scan()
    clean = np.asarray(sense_forward(images, sens, mask))
    draws = np.stack([RNG.standard_normal((200, *clean.shape)) for _ in range(2)])
    noise = 0.05 * (draws[0] + 1j * draws[1])
    kspace = jnp.where(mask[:, None], clean + noise, 0)
    find = jax.jit(jax.vmap(lambda y: contrast_offsets(y, images, sens, mask, steps=2)))
    found = find(kspace)
    # 200 draws: the standard error of a deviation is 5 %
    for value, sd in ((found.shift, found.shift_sd), (found.angle, found.angle_sd)):
        value, sd = np.asarray(value), np.asarray(sd)
        np.testing.assert_allclose(value.std(0), sd.mean(0), rtol=0.2)
        assert (abs(value.mean(0)) < 4 * sd.mean(0) / np.sqrt(200)).all()


def test_dtypes_and_batches():
    images, sens, mask = scan(np.float32)
    kspace = sense_forward(images, sens, mask)
    found = contrast_offsets(kspace, images, sens, mask)
    assert {x.dtype for x in found} == {jnp.dtype(np.float32)}
    np.testing.assert_allclose(found.shift, 0, atol=1e-4)
    both = contrast_offsets(
        *(jnp.stack([x, x]) for x in (kspace, 2 * images, sens, mask)), steps=1
    )
    assert both.shift.shape == (2, CONTRASTS, 2) and both.angle_sd.shape == (2, 4)
    wide = contrast_offsets(kspace, images.astype(np.float64), sens)
    assert wide.shift.dtype == np.float64


def test_what_tells_nothing_is_nan_and_spoils_no_other():
    images, sens, mask = scan()
    kspace = sense_forward(images, sens, mask)
    flat = images.at[1].set(0).at[2, 3, 3].set(jnp.nan)
    found = contrast_offsets(kspace, flat, sens, mask.at[3].set(False))
    for value in found:
        assert np.isnan(value[1:]).all() and np.isfinite(value[0]).all()
    with pytest.raises(ValueError, match="contrast_offsets: images"):
        contrast_offsets(kspace, images[:3], sens, mask)
    with pytest.raises(ValueError, match="contrast_offsets: steps"):
        contrast_offsets(kspace, images, sens, mask, steps=0)
