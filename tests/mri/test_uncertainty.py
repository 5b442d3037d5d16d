"""What tells how wrong images are, against SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.mri.uncertainty import (
    change_level,
    error_sd,
    gradient_level,
    held_out_level,
    replica_level,
    residual_level,
    rms_level,
)

RNG = np.random.default_rng(0)
IMAGES, OTHER = RNG.standard_normal((2, 2, 3, 9, 12))


@pytest.mark.parametrize("width", [0.7, 1.3, 4.0])  # 4: wider than the image
def test_gradient_is_that_of_scipy(width):
    slopes = [
        [ndimage.gaussian_gradient_magnitude(x, width) for x in s] for s in IMAGES
    ]
    expected = np.sqrt(np.mean(np.square(slopes), axis=1))
    found = gradient_level(jnp.array(IMAGES), width=width)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("width", [1.0, 0.4])
def test_change_is_a_smoothed_power(width):
    power = np.mean((IMAGES - OTHER) ** 2, axis=1)
    expected = np.sqrt([ndimage.gaussian_filter(p, width) for p in power])
    found = change_level(jnp.array(IMAGES), jnp.array(OTHER), width=width)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert not change_level(jnp.array(IMAGES), jnp.array(IMAGES)).any()


def test_residual_without_a_fit_counts_as_none():
    residual = np.abs(IMAGES[:, 0])
    residual[0, 2, 3] = np.nan
    power = np.square(np.nan_to_num(residual))
    expected = np.sqrt([ndimage.gaussian_filter(p, 1.0) for p in power])
    found = residual_level(jnp.array(residual))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_replicas_of_a_linear_map_have_its_noise():
    """A sum of two samples, each of complex noise 2 s^2: deviation 2 s."""
    kspace = jnp.array(IMAGES[:, :, None] + 0j)
    noise = jnp.array([0.1, 0.4])

    def both(samples):
        return samples[:, :, 0] + jnp.roll(samples[:, :, 0], 1, -1)

    found = replica_level(both, kspace, jax.random.key(0), noise=noise, replicas=50)
    level = np.sqrt(np.mean(np.square(found), axis=(1, 2)))
    # 108 pixels of 3 contrasts and 50 replicas: standard error below 0.8 %
    np.testing.assert_allclose(level, 2 * np.array(noise), rtol=0.03)
    one = replica_level(both, kspace, jax.random.key(0), noise=0.4, replicas=50)
    np.testing.assert_allclose(one[1], found[1], rtol=1e-9)


def test_held_out_level_takes_the_noise_off():
    misfit = jnp.array([2.0, 8.0, 1.0, np.nan])
    found = held_out_level(misfit, noise=1.0, coils=4)
    np.testing.assert_allclose(
        found, [np.sqrt(0.08), np.sqrt(24), np.sqrt(0.08), np.nan]
    )
    whole = held_out_level(misfit, noise=jnp.zeros(4), coils=4)
    np.testing.assert_allclose(whole, np.sqrt(4 * np.array(misfit)))


def test_error_is_a_product_of_powers():
    features = jnp.abs(jnp.array(IMAGES))[:, :2]
    exponents, level = np.array([0.3, 0.7]), jnp.array([0.2, -0.1])
    found = error_sd(features, exponents=exponents, level=level)
    expected = np.prod(np.array(features) ** exponents[:, None, None, None], axis=0)
    expected = expected * np.exp(np.array(level))[:, None, None]
    # float64 but for voxels below the floor of 1e-3 of the root mean square
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    double = error_sd(2 * features, exponents=exponents, level=level)
    np.testing.assert_allclose(double, 2 * found, rtol=1e-10)


def test_edges_of_the_error():
    features = jnp.ones((2, 3, 4, 4)).at[0, 0, 1, 1].set(0).at[1, 1].set(0)
    features = features.at[0, 2, 2, 2].set(jnp.nan)
    found = np.array(error_sd(features, exponents=np.array([0.5, 0.5]), level=0.0))
    assert 0 < found[0, 1, 1] < 0.05 and found[0, 0, 0] == 1  # a flat voxel is not sure
    assert not found[1].any()  # nothing known of the slice
    assert np.isnan(found[2, 2, 2]) and np.isfinite(found[2]).sum() == 15
    unused = error_sd(features, exponents=np.array([1.0, 0.0]), level=0.0)
    assert (np.array(unused[1]) == 1).all()


@pytest.mark.parametrize(
    ("width", "least", "most"), [(0.5, 0.85, 0.87), (0.7, 0.997, 1)]
)
def test_slopes_of_narrow_filters_are_as_exact_as_the_docstring_says(
    width, least, most
):
    ramp = jnp.tile(jnp.arange(9.0), (1, 9, 1))
    found = gradient_level(ramp, width=width)
    assert least < found[4, 4] < most


@pytest.mark.parametrize("function", [gradient_level, change_level, residual_level])
def test_a_width_that_is_no_width_is_refused(function):
    images = (jnp.array(IMAGES),) * (2 if function is change_level else 1)
    for width in (-1.0, 0.0, np.nan, np.inf, 101.0):
        with pytest.raises(ValueError, match=f"{function.__name__}: width: expected"):
            function(*images, width=width)
    with pytest.raises(ValueError, match="width: expected a Python number"):
        jax.jit(lambda width: function(*images, width=width))(1.0)


def test_a_gradient_of_so_narrow_a_filter_that_it_sees_no_slope_is_refused():
    with pytest.raises(ValueError, match="gradient_level: width: expected from 0.5 to"):
        gradient_level(jnp.array(IMAGES), width=0.4)


def test_wrong_arguments_are_named():
    images, key = jnp.array(IMAGES), jax.random.key(0)
    with pytest.raises(ValueError, match="gradient_level: width"):
        gradient_level(images, width=0.0)
    with pytest.raises(ValueError, match="change_level: other"):
        change_level(images, images[:1])
    with pytest.raises(ValueError, match="change_level: images: expected at least one"):
        change_level(images[:, :0], images[:, :0])
    with pytest.raises(ValueError, match="rms_level: deviation"):
        rms_level(images[:, :0])
    for wrong in (0.6, 0.5002, np.nan):
        with pytest.raises(ValueError, match="exponents: expected a sum of 1"):
            error_sd(images[:2], exponents=np.array([0.5, wrong]), level=0.0)
    with pytest.raises(ValueError, match="held_out_level: coils"):
        held_out_level(images[:, 0, 0, 0], noise=0.1, coils=0)
    with pytest.raises(ValueError, match="replica_level: noise"):
        kspace = jnp.array(IMAGES[:, :, None] + 0j)
        replica_level(lambda k: k[:, :, 0], kspace, key, noise=0.0, replicas=2)
    with pytest.raises(ValueError, match="replica_level: reconstruct_fn"):
        replica_level(lambda k: k, kspace, key, noise=1.0, replicas=2)


def test_a_spoilt_pixel_spoils_its_slice_alone():
    images = jnp.array(IMAGES).at[0, 0, 4, 0].set(jnp.nan)
    for found in (gradient_level(images), change_level(images, jnp.array(OTHER))):
        assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
