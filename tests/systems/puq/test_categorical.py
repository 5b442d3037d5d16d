"""A learned density beside the posterior without training, on data of its training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.catalogue import T2
from medjax.mri.fit import fit_map
from medjax.systems.puq.categorical import (
    categorical_inputs,
    categorical_maps,
    train_categorical,
)
from medjax.systems.puq.posterior_maps import dropout_posterior, image_posterior

TIMES = np.linspace(0.012, 0.12, 8)
BOUNDS = (0.01, 2.0)


def subjects(seed, count=2, size=40):
    """Three tissues in squares, noisy images, and what is known of them."""
    rng = np.random.default_rng(seed)
    tissue = rng.integers(0, 3, (count, size // 4, size // 4)).repeat(4, 1).repeat(4, 2)
    t2 = np.array([0.06, 0.08, 1.2])[tissue] * np.exp(
        0.1 * rng.standard_normal(tissue.shape)
    )
    clean = np.exp(-TIMES[:, None, None] / t2[:, None])
    noise = np.full(t2.shape, 0.05, np.float32)
    images = clean + noise[:, None] * rng.standard_normal(clean.shape)
    images = jnp.asarray(images, jnp.float32)
    times = np.asarray(TIMES, np.float32)
    posterior = image_posterior(
        images, noise, times, model=T2, bounds=BOUNDS, quantiles=()
    )
    fit = fit_map(jnp.moveaxis(images, 1, 0), times, model=T2, bounds=BOUNDS)
    inputs = categorical_inputs(
        images,
        jnp.asarray(noise),
        fit.params["t2"],
        posterior,
        jnp.full(count, 6, jnp.float32),
        bounds=BOUNDS,
    )
    return t2.astype(np.float32), inputs, posterior


@pytest.fixture(scope="module")
def trained():
    t2, inputs, _ = subjects(0, count=6)
    return train_categorical(
        inputs.reshape(-1, inputs.shape[-1]),
        jnp.asarray(t2.reshape(-1)),
        jax.random.key(0),
        low=0.03,
        high=2.1,
        steps=300,
        batch=512,
    )


def test_knows_more_than_a_flat_prior_and_covers(trained):
    t2, inputs, posterior = subjects(1)
    found = categorical_maps(trained, inputs, limit=2.0, measured=False)

    def error(values):
        return np.linalg.norm(np.asarray(values) - t2) / np.linalg.norm(t2)

    assert error(found.mean) < 0.8 * error(posterior.mean)
    low, median, high = np.asarray(found.quantiles)
    covered = np.mean((t2 >= low) & (t2 <= high))
    assert 0.9 < covered < 0.99  # of 3,200 voxels, trained for 300 steps
    np.testing.assert_array_equal(found.median, median)
    assert np.mean(found.outside) < 0.01
    assert found.mean.shape == t2.shape


def test_measured_data_are_warned_of_and_bad_voxels_flagged(trained):
    _, inputs, _ = subjects(2, count=1)
    inputs = inputs.at[0, 3, 4, 0].set(jnp.nan).at[0, 5, 6, 0].add(100.0)
    with pytest.warns(UserWarning, match="not reliable on measured data"):
        found = categorical_maps(trained, inputs, quantiles=())
    assert np.argwhere(np.isnan(found.mean)).tolist() == [[0, 3, 4]]
    assert found.quantiles.shape == (0, 1, 40, 40)
    assert found.outside[0, 5, 6] == pytest.approx(1 / 21)


def test_refusals(trained):
    with pytest.raises(ValueError, match="expected 21 numbers a voxel"):
        categorical_maps(trained, jnp.ones((4, 3), jnp.float32))
    data = jnp.ones((5, 3), jnp.float32), jnp.ones(5, jnp.float32)
    with pytest.raises(ValueError, match="expected 0 < low < high"):
        train_categorical(*data, jax.random.key(0), low=2.0, high=1.0)
    with pytest.raises(ValueError, match="bins: expected an integer of at least 8"):
        train_categorical(*data, jax.random.key(0), low=1.0, high=2.0, bins=3)


def test_dropout_s_deviation_is_one_number_a_voxel():
    rng = np.random.default_rng(3)
    t2 = np.array([[[0.05, 0.1, 0.3]]])
    mean = np.exp(-TIMES[:, None, None] / t2[:, None]).astype(np.float32)
    std = rng.uniform(0.001, 0.004, mean.shape).astype(np.float32)
    std[..., 2] = 0
    options = {"model": T2, "bounds": BOUNDS, "quantiles": (0.25,)}
    times = np.asarray(TIMES, np.float32)
    found = dropout_posterior(mean, std, times, **options)
    u = 4.5 * np.sqrt(np.mean(std**2, axis=1))
    plain = image_posterior(mean, u, times, **options)
    np.testing.assert_allclose(found.median[..., :2], plain.median[..., :2], rtol=1e-5)
    assert np.isnan(found.median[0, 0, 2]) and np.isfinite(found.sd[0, 0, 0])
