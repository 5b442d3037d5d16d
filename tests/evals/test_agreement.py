"""Bias and limits of agreement: a published table, coverage, and what is refused."""

import numpy as np
import pytest

from medjax.evals.agreement import bland_altman

# Peak expiratory flow of 17 people, l/min, by two meters: Bland and Altman, Lancet
# 327 (1986) 307, table 1.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178,
          423, 427]  # fmt: skip
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350,
        451]  # fmt: skip


def test_the_published_example_comes_out():
    found = bland_altman(np.subtract(WRIGHT, MINI))
    assert found.count == 17
    # as printed there: -2.1 and 38.8, the bias from -22.0 to 17.8
    assert found.bias.value == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert found.bias.low == pytest.approx(-22.0, abs=0.1)
    assert found.bias.high == pytest.approx(17.8, abs=0.1)
    # there by 2 sd and sqrt(3 / n); here by 1.96 sd and the formula of 1999
    assert found.lower.value == pytest.approx(-2.118 - 1.96 * 38.765, abs=0.01)
    half = 2.1199 * 38.765 * (1 / 17 + 1.96**2 / 32) ** 0.5
    assert found.upper.high - found.upper.value == pytest.approx(half, rel=1e-4)
    assert found.lower.value - found.lower.low == pytest.approx(half, rel=1e-4)


def test_intervals_hold_what_they_are_of():
    rng = np.random.default_rng(0)
    inside = np.zeros(3)
    for difference in rng.normal(2.0, 3.0, (4000, 14)):
        found = bland_altman(difference)
        truth = (2.0 - 1.96 * 3, 2.0, 2.0 + 1.96 * 3)
        limits = (found.lower, found.bias, found.upper)
        inside += [x.low <= t <= x.high for x, t in zip(limits, truth, strict=True)]
    # 4,000 draws know a share of 0.95 to 0.0035; the formula of limits is of large n
    np.testing.assert_allclose(inside / 4000, 0.95, atol=0.02)


def test_one_pair_has_a_bias_alone():
    found = bland_altman(np.array([3.0]))
    assert found.bias.value == 3 and found.count == 1
    unknown = (found.sd, found.bias.low, *found.lower, *found.upper)
    assert np.isnan(unknown).all()


@pytest.mark.parametrize(
    ("difference", "level", "message"),
    [
        ([], 0.95, "expected at least one"),
        ([[1.0]], 0.95, "expected at least one, .N."),
        ([1.0, np.nan], 0.95, "expected finite"),
        ([1.0, 2.0], 95, "level 95"),
    ],
)
def test_what_has_no_agreement_is_refused(difference, level, message):
    with pytest.raises(ValueError, match=message):
        bland_altman(np.array(difference), level=level)
