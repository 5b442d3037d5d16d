"""What a scan's samples, two halves of its lines, and its fit say of its error bars."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.qmri.simulate import sample_kspace
from medjax.mri.motion import move_rigid
from medjax.systems.puq.calibration import Calibration, Protocol
from medjax.systems.puq.joint_tv import TV_FEATURES, Search, joint_tv_images
from medjax.systems.puq.scan_checks import (
    Checks,
    check_slices,
    judge_scan,
    verdict_text,
)
from tests.systems.toy_qmri import BASIS, QUANTITY, TIMES, toy_batch

SEARCH = Search((3e-4, 3e-3, 3e-2), share=0.25, center=4, iterations=12, inner=3)
SCALES = np.array([1.0, 0.7], np.float32)
MADE = Calibration(
    reconstruction="joint TV",
    protocol=Protocol("t2", TIMES, 6.6, 3),
    features=TV_FEATURES,
    exponents=(0.2, 0.5, 0.3),
    level=0.5,
    rate=0.4,
    accelerations=(4.0, 9.0),
    kappa=(1.0, 1.0),
    coverage=0.95,
    spreads=((0.5, 1.0), (0.5, 2.0)),
    misfits=((0.1, 0.4), (0.1, 0.4)),
)


def checked(spread, misfit, count, moved=0.0, offset=(0.0, 0.0, 0.0)):
    """Slices of three contrasts, of which the last two moved."""
    slices = len(count)
    share = np.broadcast_to(np.array(moved)[..., None], (slices, 3)) * [0, 1, 1]
    places = np.zeros((slices, 3, 3))
    places[:, 1] = offset
    sd = np.full_like(places, 0.005)
    numbers = np.array(spread), np.array(misfit), np.array(count)
    return Checks(*numbers, places, sd, share)


def test_larger_error_bars_make_the_spread_smaller():
    batch = jax.tree.map(lambda x: x[:2], toy_batch())
    how = {"basis": BASIS, "scales": SCALES, "search": SEARCH}
    found = joint_tv_images(
        batch.kspace, batch.sens, batch.mask, jax.random.key(0), **how
    )

    @jax.jit
    def checks(level):
        calibration = MADE._replace(level=level)
        return check_slices(
            batch,
            jax.random.key(1),
            found,
            batch.roi,
            **how,
            calibration=calibration,
            times=jnp.array(TIMES, jnp.float32),
            model=QUANTITY.model,
            bounds=QUANTITY.bounds,
        )

    small, large = checks(jnp.float32(-3.0)), checks(jnp.float32(-2.0))
    assert (small.count <= batch.roi.sum((1, 2))).all() and (small.count > 50).all()
    # Narrow posteriors are nearly normal: z goes with 1 / u.
    assert (large.spread < 0.6 * small.spread).all() and (large.spread > 0).all()
    np.testing.assert_allclose(large.misfit * np.e, small.misfit, rtol=1e-4)


@pytest.mark.parametrize(
    ("spread", "rate", "words"),
    [
        (0.7, 4.0, "pass a check"),
        (1.3, 4.0, "too narrow"),
        (1.3, 6.0, "pass a check"),  # half way in the logarithm: sqrt(2)
        (1.5, 6.0, "too narrow"),
        (0.4, 20.0, "pass a check"),  # below what is usual: no warning
    ],
)
def test_a_spread_is_held_against_the_calibration(spread, rate, words):
    spreads, count = np.array([spread, spread, 9.0]), np.array([80, 60, 49])
    misfits = np.array([0.2, 0.3, np.nan])
    slices = checked(spreads, misfits, count)
    _, found, model = judge_scan(MADE, slices, acceleration=rate)
    assert found.value == spread and found.holds == ("pass" in words)
    assert words in verdict_text(found) and "two halves" in verdict_text(found)
    assert model.value == 0.25 and model.holds and "signal model" in verdict_text(model)


def test_images_far_from_the_model_are_told_but_error_bars_are_those_of_the_model():
    slices = checked([0.7], [0.5], [100])
    *_, model = judge_scan(MADE, slices, acceleration=6.0)
    assert not model.holds and not model.narrow
    text = verdict_text(model)
    assert "model does not hold on this scan: contrasts are 0.50" in text
    assert "of its time constant" in text


@pytest.mark.parametrize("moved", [0.1, 0.3])
def test_motion_is_told_with_the_contrast_that_lies_farthest(moved):
    slices = checked([0.7], [0.2], [100], moved, (0.0, -0.3, 0.4))
    motion = judge_scan(MADE, slices, acceleration=6.0)[0]
    np.testing.assert_allclose(motion.value, moved * np.sqrt(2 / 3))
    text = verdict_text(motion)
    assert motion.narrow == (moved == 0.3) and not motion.alone
    if motion.narrow:
        assert "too narrow on this scan: samples have contrasts elsewhere" in text
        assert "contrast 1: +0.00 pixel along rows, -0.30 along columns, +0.40" in text
    else:
        assert "pass a check" in text


def test_one_contrast_alone_is_named_and_error_bars_hold():
    slices = checked([0.7], [0.2], [100], 0.0, (0.5, 0.0, 0.0))
    slices = slices._replace(moved=np.array([[0.05, 0.4, 0.1]]))
    motion = judge_scan(MADE, slices, acceleration=6.0)[0]
    assert motion.alone and not motion.holds and not motion.narrow
    text = verdict_text(motion)
    assert text.startswith("one contrast moved: ") and "contrast 1: +0.50 pixel" in text


def test_motion_counts_where_a_tenth_of_the_slices_has_it():
    many, moved = np.full(21, 100), np.zeros(21)
    moved[:2] = 0.3
    motion = judge_scan(MADE, checked(many, many, many, moved), acceleration=6.0)[0]
    assert motion.value == 0
    moved[2] = 0.3
    motion = judge_scan(MADE, checked(many, many, many, moved), acceleration=6.0)[0]
    assert motion.value > 0.2 and motion.narrow


@pytest.mark.parametrize("pixels", [0.0, 1.0])
def test_moved_contrasts_are_found_in_k_space(pixels):
    batch = jax.tree.map(lambda x: np.asarray(x[:1]), toy_batch())
    count = batch.target.shape[1]
    shift = np.zeros((1, count, 2), np.float32)
    shift[:, count // 2 :, 1] = pixels
    images = move_rigid(batch.target, shift, shift[..., 0])
    rng = np.random.default_rng(0)
    kspace = sample_kspace(
        np.asarray(images)[0], batch.sens[0], batch.mask[0], 0.02, rng
    )
    batch = jax.tree.map(jnp.asarray, batch._replace(kspace=kspace[None]))
    how = {"basis": BASIS, "scales": SCALES, "search": SEARCH}
    found = joint_tv_images(
        batch.kspace, batch.sens, batch.mask, jax.random.key(0), **how
    )
    slices = check_slices(
        batch,
        jax.random.key(1),
        found,
        batch.roi,
        **how,
        calibration=MADE,
        times=jnp.array(TIMES, jnp.float32),
        model=QUANTITY.model,
        bounds=QUANTITY.bounds,
    )
    motion = judge_scan(MADE, slices, acceleration=6.0)[0]
    assert motion.holds == (pixels == 0), slices.moved
    assert motion.narrow == (pixels > 0)


def test_nothing_to_judge():
    slices = checked([np.nan, 1.0], [np.nan, 1.0], [900, 3], [np.nan, 1.0])
    for verdict in judge_scan(MADE, slices, acceleration=6.0):
        assert np.isnan(verdict.value) and verdict.holds
        assert "could not be checked" in verdict_text(verdict)
    bare = MADE._replace(spreads=(), misfits=())
    (motion,) = judge_scan(bare, slices, acceleration=6.0)
    assert motion.check == "motion"
