"""What two halves of a scan's lines, and its fit, say of its error bars."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.systems.puq.calibration import Calibration, Protocol
from medjax.systems.puq.joint_tv import TV_FEATURES, Search, joint_tv_images
from medjax.systems.puq.scan_checks import check_slices, judge_scan, verdict_text
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
    found, model = judge_scan(MADE, spreads, misfits, count, acceleration=rate)
    assert found.value == spread and found.holds == ("pass" in words)
    assert words in verdict_text(found) and "two halves" in verdict_text(found)
    assert model.value == 0.25 and model.holds and "signal model" in verdict_text(model)


def test_images_far_from_the_model_are_told():
    spread, count = np.array([0.7]), np.array([100.0])
    _, model = judge_scan(MADE, spread, np.array([0.5]), count, acceleration=6.0)
    assert not model.holds
    assert "too narrow on this scan: contrasts are 0.50" in verdict_text(model)


def test_nothing_to_judge():
    spread, count = np.array([np.nan, 1.0]), np.array([900, 3])
    found, model = judge_scan(MADE, spread, spread, count, acceleration=6.0)
    for verdict in (found, model):
        assert np.isnan(verdict.value) and verdict.holds
        assert "could not be checked" in verdict_text(verdict)
    (halves,) = judge_scan(
        MADE._replace(misfits=()), spread, spread, count, acceleration=6.0
    )
    assert halves.check == "halves"
    with pytest.raises(ValueError, match="expected one with the spreads"):
        made = MADE._replace(spreads=(), misfits=())
        judge_scan(made, spread, spread, count, acceleration=6.0)
