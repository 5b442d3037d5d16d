"""Joint TV at a held-out weight: its parts, put together by hand, and its features."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.held_out import held_out_misfit, hold_out_lines
from medjax.mri.total_variation import joint_tv_sense
from medjax.mri.uncertainty import change_level, gradient_level, held_out_level
from medjax.systems.puq.joint_tv import (
    NETWORK_FEATURES,
    TV_FEATURES,
    Search,
    joint_tv_images,
    network_features,
    tv_features,
)
from medjax.systems.puq.network import image_scale
from tests.systems.toy_qmri import BASIS, toy_batch

SEARCH = Search((3e-4, 3e-3, 3e-2), share=0.25, center=4, iterations=12, inner=3)
SCALES = np.array([1.0, 0.7], np.float32)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def slices():
    batch = jax.tree.map(lambda x: x[:2], toy_batch())
    return batch.kspace, batch.sens, batch.mask


@pytest.fixture(scope="module")
def found(slices):
    return reconstruct(*slices)


def reconstruct(kspace, sens, mask):
    return joint_tv_images(
        kspace, sens, mask, KEY, basis=BASIS, scales=SCALES, search=SEARCH
    )


def test_images_are_those_of_the_weight(slices, found):
    kspace, sens, mask = slices
    scale = image_scale(kspace, sens)
    again = partial(
        joint_tv_sense,
        iterations=12,
        inner=3,
        basis=BASIS,
        scales=SCALES,
        constraint="real",
    )
    for images, factor in ((found.images, 1), (found.doubled, 2)):
        weight = factor * found.weight * scale.reshape(-1)
        expected = again(kspace, sens, mask, weight=weight)
        np.testing.assert_allclose(images, expected, rtol=1e-3, atol=1e-4)
    # What was held out is predicted no worse by the images of any weight tried.
    tried = misfits(slices, SEARCH.weights, KEY)
    assert (np.array(found.misfit) <= np.min(tried, axis=0) * (1 + 1e-3)).all()


def misfits(slices, weights, key):
    """Of reconstructions without the lines that a key draws."""
    kspace, sens, mask = slices
    scale = image_scale(kspace, sens).reshape(-1)
    kept, held = hold_out_lines(mask, key, share=0.25, center=4)
    how = {"basis": BASIS, "scales": SCALES, "constraint": "real"}
    return np.array(
        [
            held_out_misfit(
                joint_tv_sense(
                    kspace, sens, kept, weight=w * scale, iterations=12, inner=3, **how
                ),
                kspace,
                sens,
                held,
            )
            for w in weights
        ]
    )


def test_the_weight_of_several_draws_predicts_all_of_them_best(slices):
    search = SEARCH._replace(draws=2)
    both = joint_tv_images(*slices, KEY, basis=BASIS, scales=SCALES, search=search)
    assert np.array(both.interior).all()
    keys = jax.random.split(KEY)
    tried = np.mean([misfits(slices, SEARCH.weights, key) for key in keys], axis=0)
    np.testing.assert_allclose(both.misfit, tried.min(0), rtol=1e-3)
    around = np.array([0.25, 1.0, 4.0])
    for n in range(2):
        weights = float(both.weight[n]) * around
        mean = np.mean([misfits(slices, weights, key)[:, n] for key in keys], axis=0)
        assert mean[1] < mean[0] and mean[1] < mean[2]


def test_units_do_not_matter(slices, found):
    kspace, sens, mask = slices
    large = reconstruct(1000 * kspace, sens, mask)
    np.testing.assert_allclose(large.weight, found.weight, rtol=1e-3)
    for name, ours in tv_features(found, coils=3).items():
        theirs = tv_features(large, coils=3)[name]
        np.testing.assert_allclose(theirs, 1000 * ours, rtol=0.01, atol=0.1)


def test_features_are_those_named(found):
    features = tv_features(found, coils=3)
    assert tuple(features) == TV_FEATURES
    np.testing.assert_array_equal(features["gradient"], gradient_level(found.images))
    doubling = change_level(found.images, found.doubled)
    np.testing.assert_array_equal(features["doubling"], doubling)
    level = held_out_level(found.misfit, noise=found.noise, coils=3)
    np.testing.assert_array_equal(features["held_out"][:, 0, 0], level)
    mean, std = found.images + 0.1, jnp.full_like(found.images, 0.2)
    of_network = network_features(mean, std, found, coils=3)
    assert tuple(of_network) == NETWORK_FEATURES
    np.testing.assert_allclose(of_network["dropout"], 0.2, rtol=1e-6)
    np.testing.assert_allclose(of_network["difference"], 0.1, rtol=1e-4)
