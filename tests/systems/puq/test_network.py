from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.systems.puq.network import (
    check_dropout,
    image_scale,
    init_network,
    reconstruct,
)
from tests.systems.toy_qmri import BASIS, DESIGN, HARD, LOW_RANK, SUBSPACE, toy_batch


@pytest.fixture(scope="module")
def batch():
    return toy_batch()


def test_the_scanner_s_units_do_not_matter(batch):
    network = init_network(DESIGN, jax.random.key(0))

    @jax.jit
    def run(kspace):
        measured = batch._replace(kspace=kspace)
        return reconstruct(HARD, network, measured, None, training=False)[0]

    images = run(batch.kspace)
    np.testing.assert_allclose(run(1e4 * batch.kspace), 1e4 * images, rtol=1e-4, atol=1)
    assert not jnp.any(run(jnp.zeros_like(batch.kspace)))


def test_before_training_the_subspace_form_is_a_subspace_reconstruction(batch):
    """The network adds nothing yet: what remains is a regularised least-squares fit."""
    network = init_network(SUBSPACE, jax.random.key(0))
    run = jax.jit(partial(reconstruct, LOW_RANK, training=False))
    images, statistics = run(network, batch, None)
    outside = images - jnp.einsum("ek,fk,bfxy->bexy", BASIS, BASIS, images)
    np.testing.assert_allclose(outside, 0, atol=1e-5)
    zero_filled = reconstruct_zero_filled(batch)
    roi = batch.roi[:, None]
    error = jnp.where(roi, images - batch.target, 0)
    before = jnp.where(roi, zero_filled - batch.target, 0)
    assert jnp.linalg.norm(error) < 0.8 * jnp.linalg.norm(before)
    for x, y in zip(
        jax.tree.leaves(statistics),
        jax.tree.leaves(network["statistics"]),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)


def reconstruct_zero_filled(batch):
    from medjax.mri.sense import sense_adjoint

    return sense_adjoint(batch.kspace, batch.sens).real


def test_scale_is_near_1_for_simulated_images_and_1_without_signal(batch):
    scale = image_scale(batch.kspace, batch.sens)
    assert scale.shape == (8, 1, 1, 1)
    assert (scale > 0.1).all() and (scale < 2).all()
    np.testing.assert_array_equal(image_scale(0 * batch.kspace, batch.sens), 1)


def test_passes_that_tell_nothing_are_refused():
    check_dropout(DESIGN, passes=2)
    with pytest.raises(ValueError, match="network.dropout 0: passes with dropout"):
        check_dropout(DESIGN._replace(dropout=0.0), passes=20)
    with pytest.raises(ValueError, match="passes 1: .* at least 2"):
        check_dropout(DESIGN, passes=1)
