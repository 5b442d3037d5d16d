import math

import numpy as np
import pytest

from medjax.data.qmri.relaxation import PD, T1, T2, TISSUES, Mixture, mixture_signals


def mixture(rng, shape=(3, 4)):
    parts = rng.dirichlet(np.ones(len(TISSUES) + 1), shape)[..., :-1]
    change = rng.uniform(0.8, 1.2, (3, len(TISSUES), *shape))
    t1, t2, pd = (
        np.array(values)[:, None, None] * c
        for values, c in zip((T1, T2, PD), change, strict=True)
    )
    return Mixture(np.moveaxis(parts, -1, 0), t1, t2, pd)


@pytest.mark.parametrize("contrast", ["t2", "t1"])
def test_signals_are_summed_voxel_by_voxel(contrast):
    one = mixture(np.random.default_rng(0))
    times = np.array([0.0, 0.03, 0.5, 2.0])
    found = mixture_signals(one, contrast, times)
    for e, time in enumerate(times):
        for i in range(3):
            for j in range(4):
                total = 0.0
                for r in range(len(TISSUES)):
                    size = one.fractions[r, i, j] * one.pd[r, i, j]
                    if contrast == "t2":
                        total += size * math.exp(-time / one.t2[r, i, j])
                    else:
                        total += size * (1 - 2 * math.exp(-time / one.t1[r, i, j]))
                assert found[e, i, j] == pytest.approx(total, rel=1e-12)


def test_two_tissues_do_not_decay_with_a_mean_rate():
    times = np.linspace(0, 0.3, 7)
    half = np.zeros((len(TISSUES), 1, 1))
    half[TISSUES.index("wm")] = half[TISSUES.index("csf")] = 0.5
    ones = np.ones_like(half)
    t1, t2, pd = (np.array(values)[:, None, None] * ones for values in (T1, T2, PD))
    found = mixture_signals(Mixture(half, t1, t2, pd), "t2", times)[:, 0, 0]
    slopes = np.diff(np.log(found))
    assert slopes[0] < 2 * slopes[-1]  # fast at first, slow at last


def test_keeps_the_dtype():
    one = Mixture(*(a.astype(np.float32) for a in mixture(np.random.default_rng(1))))
    assert mixture_signals(one, "t2", np.array([0.0, 0.1])).dtype == np.float32


def test_tissues_are_in_their_order():
    for times in (T1, T2):
        gm, wm, csf, lesion = times
        assert wm < gm < csf and wm < lesion < csf
    assert all(0 < value <= 1 for value in PD)


def test_refuses_other_contrasts():
    with pytest.raises(ValueError, match="'flair'"):
        mixture_signals(mixture(np.random.default_rng(0)), "flair", np.array([0.1]))
