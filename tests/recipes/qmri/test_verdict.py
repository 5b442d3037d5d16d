"""What maps are judged by: numbers over voxels with signal, and what is doubted."""

import json

import numpy as np
import pytest

from medjax.mri.catalogue import signal_model
from medjax.mri.fit import FitStatus, fit_map
from medjax.mri.residuals import ContrastSums
from medjax.recipes.qmri.evidence import empty_slice, gather
from medjax.recipes.qmri.findings import (
    Known,
    SliceMaps,
    empty_slices,
    slice_maps,
    summarise,
)
from medjax.recipes.qmri.floor import Floor
from medjax.recipes.qmri.verdict import doubts, ranges

T2 = signal_model("t2")
KNOWN = Known(T2, (0.01, 2.0))
SHAPE = (2, 2)
EMPTY = slice_maps(empty_slice(T2, SHAPE, 4), T2)


def one_slice(value, sigma, status, bright, *, sums=None, r_squared=1.0):
    """Slices of which only the named maps differ; no residual."""
    nothing = np.zeros(4)
    sums = sums or ContrastSums(
        np.float64(bright.sum()), nothing + bright.sum(), nothing, nothing, nothing
    )
    r_squared, still = np.full(value.shape, r_squared), np.zeros((4, 2))
    return SliceMaps(value, sigma, r_squared, status, bright, sums, still)


def test_a_summary_counts_what_has_signal():
    value = np.array([[0.1, 0.2], [np.nan, 0.5]])
    sigma = np.array([[0.01, np.nan], [np.nan, 0.03]])
    status = np.array([[0, FitStatus.AT_BOUND], [FitStatus.NOT_CONVERGED, 0]])
    bright = np.array([[True, True], [True, False]])
    one = one_slice(value, sigma, status, bright, r_squared=0.9)
    found = summarise([one], KNOWN)
    assert found.voxels == 3 and found.failed == 1
    assert found.median_ms == pytest.approx(150)
    assert found.median_sigma_ms == pytest.approx(10)
    assert found.median_r_squared == pytest.approx(0.9)
    assert found.share_at_bounds == found.share_failed == pytest.approx(1 / 3)


def test_a_summary_of_nothing_is_json():
    found = summarise([EMPTY], KNOWN)
    assert found.voxels == 0 and found.median_ms is None and found.residual is None
    json.dumps(found._asdict(), allow_nan=False)
    first, last = doubts(found, KNOWN)
    assert "slices without signal: 0;" in first and last == "no voxel could be fitted"


def test_a_decay_is_no_inversion_recovery():
    """Three parameters fit it exactly; the share that was inverted tells."""
    model, times = signal_model("t1_ir3"), np.array([0.02, 0.05, 0.1, 0.2])
    decay = np.exp(-times / 0.1)
    rising = 1 - 1.7 * np.exp(-times / 0.1)
    for curve, doubtful in ((decay, True), (rising, False)):
        images = np.tile(curve[:, None, None].astype(np.float32), (1, *SHAPE))
        maps = fit_map(images, times, model=model)
        one = one_slice(
            *(np.asarray(x) for x in (maps.params["t1"], maps.sigma["t1"])),
            np.asarray(maps.status),
            np.ones(SHAPE, bool),
        )._replace(efficiency=np.asarray(maps.params["efficiency"]))
        known = Known(model, model.bounds)
        said = " ".join(doubts(summarise([one], known), known))
        assert ("do not recover from an inversion" in said) == doubtful


@pytest.mark.parametrize(("value", "doubtful"), [(0.01, True), (4.4, False), (9, True)])
def test_a_value_of_no_tissue_is_doubtful(value, doubtful):
    one, status = np.full(SHAPE, value), np.zeros(SHAPE)
    known = Known(signal_model("t1_ir"), (0.001, 20.0))
    slices = [one_slice(one, 0.01 * one, status, one > 0)]
    said = " ".join(doubts(summarise(slices, known), known))
    assert ("is of no tissue" in said) == doubtful


def test_slices_without_signal_are_named():
    one = np.ones(SHAPE)
    status = np.array([[FitStatus.NO_SIGNAL, 0], [0, 0]])
    filled = one_slice(one, one, status, one > 0)
    seen = [EMPTY, EMPTY, filled, EMPTY]
    assert empty_slices(seen) == [0, 1, 3]
    found = summarise(seen, KNOWN)
    assert found.slices_without_signal == [0, 1, 3] and found.voxels == 4
    assert ranges([0, 1, 3]) == "0 to 1, 3"
    assert ranges([2]) == "2" and ranges([1, 2, 3, 7, 9, 10]) == "1 to 3, 7, 9 to 10"


def told(status, *, sigma=0.01, value=0.1, known=KNOWN, r_squared=1.0):
    """What is doubted of a slice where each voxel of this status has a signal."""
    status = np.array([status])
    values = np.where(status < FitStatus.NOT_CONVERGED, value, np.nan)
    sigmas, bright = np.full(status.shape, sigma), status >= 0
    one = one_slice(values, sigmas, status, bright, r_squared=r_squared)
    return doubts(summarise([one], known), known)


def test_maps_are_doubtful_where_many_voxels_have_no_fit():
    good, failed, bound = 0, FitStatus.NOT_CONVERGED, FitStatus.AT_BOUND
    assert told([good] * 10) == told([good] * 8 + [failed] * 2) == []
    assert told([good] * 8 + [bound] * 2) == []
    (line,) = told([good] * 7 + [failed] * 3)
    assert "30 % of the voxels with signal could not be fitted" in line
    (line,) = told([good] * 6 + [bound] * 4)
    assert "40 % of the voxels with signal lie at a bound" in line
    (line,) = told([good] * 4, sigma=np.nan)
    assert "without error bars" in line
    assert told([failed] * 3) == ["no voxel could be fitted"]


def test_implausible_medians_are_doubtful_and_a_low_r_squared_is_not():
    for bound in KNOWN.bounds:
        (line,) = told([0] * 9, value=bound)
        assert f"the median of t2 is its bound, {1e3 * bound:g} ms" in line
    (line,) = told([0] * 9, value=0.5, known=KNOWN._replace(repetition=0.4))
    assert "t2, 500 ms, is above the repetition time, 400 ms" in line
    assert told([0] * 9, value=0.5, known=KNOWN._replace(repetition=0.6)) == []
    assert told([0] * 9, r_squared=0.3) == []


TIMES = 0.015 * np.arange(1, 9)
SIDE = 40
ROWS, COLUMNS = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
DISC = np.hypot(ROWS, COLUMNS) < 0.85


def fitted(snr, *, gains=(), t2=0.08):
    """A slice that went through a fit; `gains` change single contrasts."""
    rng = np.random.default_rng(0)
    images = DISC * np.exp(-TIMES[:, None, None] / t2)
    for contrast, gain in gains:
        images[contrast] *= gain
    images = np.float32(images + rng.normal(0, 1 / snr, images.shape))[None]
    times = np.float32(TIMES)
    maps = fit_map(np.moveaxis(images, 1, 0), times, model=T2, bounds=KNOWN.bounds)
    slab = gather(images, times, maps, model=T2, magnitude=False)
    one = slab._replace(
        maps=maps._replace(
            params={k: v[0] for k, v in maps.params.items()},
            sigma={k: v[0] for k, v in maps.sigma.items()},
            r_squared=maps.r_squared[0],
            status=maps.status[0],
        ),
        bright=slab.bright[0],
        sums=ContrastSums(*(np.asarray(x)[0] for x in slab.sums)),
        shift=slab.shift[0],
        saturated=np.int32(0),
        clipped=np.int32(0),
    )
    return slice_maps(one, T2)


@pytest.mark.parametrize("snr", [10, 60, 1e7])
def test_noise_alone_is_no_reason_for_doubt(snr):
    known = KNOWN._replace(floor=Floor(1 / snr), repetition=2.0)
    found = summarise([fitted(snr)], known)
    assert doubts(found, known) == []
    assert found.median_ms == pytest.approx(80, rel=0.03)
    if snr == 10:  # what is printed, and no reason
        assert found.median_r_squared < 0.9
    if snr < 100:  # 8 contrasts, two parameters
        assert found.residual.over_noise == pytest.approx(1, abs=0.05)


def test_a_residual_with_a_mean_and_one_above_the_noise_are_doubtful():
    found = summarise([fitted(60, gains=[(0, 0.85)])], KNOWN)
    line, other = doubts(found, KNOWN)
    assert "t2 does not fit: contrasts 0" in line and "of the mean signal" in line
    assert "even and odd echoes" in other
    assert found.residual.share[0] < -0.05
    known = KNOWN._replace(floor=Floor(1 / 200))
    (line,) = doubts(summarise([fitted(60)], known), known)
    assert "residuals are 3.3 times the known noise" in line


def test_motion_is_told_of_from_the_limit_on():
    value = np.full(SHAPE, 0.08)
    status, bright = np.zeros(SHAPE, int), np.ones(SHAPE, bool)
    shift = np.zeros((4, 2))
    shift[2] = 0.7
    one = one_slice(value, 0.01 * value, status, bright)._replace(shift=shift)
    for noted, told in ((0.5, True), (1.2, False)):
        known = KNOWN._replace(noted=noted)
        found = summarise([one], known)
        assert bool(found.moved_slices) == told
        said = [line for line in doubts(found, known) if "strongest one" in line]
        assert bool(said) == told
        assert not told or "contrasts 2 lie up to 1.0 pixels" in said[0]
