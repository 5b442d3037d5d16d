"""Motion between contrasts of simulated brains: told of, refused, or nothing said."""

import jax
import numpy as np
import pytest

from medjax.data.qmri.brains import load_template, slice_height
from medjax.data.qmri.rendering import render_slice
from medjax.data.qmri.simulate import make_protocol, signals
from medjax.data.qmri.subjects import draw_subject
from medjax.mri.catalogue import signal_model
from medjax.mri.motion import contrast_motion, move_rigid
from medjax.recipes.qmri.moved import NOTED, REFUSED, distances, noticeable

SIDE, SNR = 160, 20
find, move = jax.jit(contrast_motion), jax.jit(move_rigid)
MODELS = {"t2": signal_model("t2"), "t1": signal_model("t1_ir3")}


def brain(contrast, number):
    template = load_template("synthetic")
    subject = draw_subject(
        template, seed=0, number=number, lesion_share=0.0, time_spread=0.05
    )
    z = slice_height(template, len(template.slices) // 2)
    found = render_slice(template, subject, z, size=SIDE, field=224)
    return signals(found, make_protocol(contrast)).astype(np.float32)


def looked_at(images, seed):
    """Pixels by contrast, of magnitudes."""
    parts = np.random.default_rng(seed).normal(0, 0.6 / SNR, (2, *images.shape))
    noisy = np.hypot(images + parts[0], parts[1]).astype(np.float32)
    return distances([np.asarray(find(noisy).shift)])


@pytest.mark.parametrize("contrast", ["t2", "t1"])
def test_brains_that_moved_and_that_did_not(contrast):
    limit = noticeable((SIDE, SIDE), MODELS[contrast])
    for number in range(3):
        images = brain(contrast, number)
        assert looked_at(images, number).max() < limit
        for distance, contrasts in ((1.2, (2, 4, 7)), (2.5, (2, 4, 7))):
            shift = np.zeros((8, 2), np.float32)
            shift[list(contrasts)] = distance * np.array([0.6, -0.8])
            moved = np.asarray(move(images, shift, np.zeros(8, np.float32)))
            far = looked_at(moved, number)
            np.testing.assert_allclose(far[list(contrasts)], distance, atol=0.35)
            assert (far[list(contrasts)] > limit).all()
            assert (far > REFUSED).any() == (distance > REFUSED)


def test_the_limit_grows_with_the_points_that_are_averaged():
    for shape in ((64, 64), (256, 200), (512, 512)):
        assert noticeable(shape, MODELS["t2"]) == NOTED
    assert noticeable((64, 48), MODELS["t1"]) == NOTED
    assert noticeable((160, 160), MODELS["t1"]) == pytest.approx(0.9)
    assert noticeable((200, 256), MODELS["t1"]) == pytest.approx(1.2)
