"""Map scores against scikit-image, loops, exact cases and the in-vivo slice."""

import numpy as np
import pytest

from medjax.evals import qmri
from medjax.evals.tables import render_text

T2 = {"limit": 2.0, "tissue_below": 0.2}


def make(seed=0, shape=(40, 36)):
    """A map with tissue, CSF and an edge, its sigma, and a noisy estimate."""
    rng = np.random.default_rng(seed)
    reference = rng.uniform(0.06, 0.15, shape)
    reference[10:16] = rng.uniform(0.8, 1.6, (6, shape[1]))
    roi = np.zeros(shape, bool)
    roi[4:-4, 3:-3] = True
    sigma = reference * rng.uniform(0.02, 0.1, shape)
    return reference + sigma * rng.standard_normal(shape), sigma, reference, roi


@pytest.mark.parametrize("shape", [(11, 11), (40, 36), (57, 12)])
def test_ssim_equals_scikit_image(shape):
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(1)
    x, y = rng.random(shape), rng.random(shape)
    y = 0.7 * x + 0.3 * y
    for scale in (1.0, 2.0):
        expected = metrics.structural_similarity(x, y, win_size=11, data_range=scale)
        # The same sums in another order.
        assert qmri.ssim(x, y, data_range=scale) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="at least 11 x 11"):
        qmri.ssim(x[:10], y[:10], data_range=1.0)


def test_scores_equal_the_loop():
    estimate, sigma, reference, roi = make()
    found = qmri.map_scores(estimate, sigma, reference, roi, **T2)
    errors, squares, total, covered, csf = [], 0.0, 0.0, [], []
    for h, w in np.argwhere(roi):
        t, e = float(reference[h, w]), float(np.clip(estimate[h, w], 0, 2))
        squares, total = squares + (e - t) ** 2, total + t**2
        (errors if t < 0.2 else csf).append((abs(e - t), abs(e - t) / t))
        covered.append(abs(estimate[h, w] - t) <= 1.96 * sigma[h, w])
    expected = {
        "nrmse": np.sqrt(squares / total),
        "tissue_ms": 1e3 * np.mean([e for e, _ in errors]),
        "tissue_percent": 100 * np.mean([r for _, r in errors]),
        "tissue_median_percent": 100 * np.median([r for _, r in errors]),
        "csf_ms": 1e3 * np.mean([e for e, _ in csf]),
        "csf_percent": 100 * np.mean([r for _, r in csf]),
        "roi_ms": 1e3 * np.mean([e for e, _ in errors + csf]),
        "coverage": np.mean(covered),
        "failed": 0.0,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-10), name  # rounding
    assert 0.92 < found["coverage"] < 0.98  # 960 voxels: 0.95 +- 3 * 0.007
    assert found["spearman"] > 0.5
    assert set(qmri.COLUMNS) <= set(found)


def test_what_lies_outside_the_region_does_not_count():
    estimate, sigma, reference, roi = make()
    first = qmri.map_scores(estimate, sigma, reference, roi, **T2)
    wild = [np.where(roi, a, np.nan) for a in (estimate, sigma, reference)]
    assert qmri.map_scores(*wild, roi, **T2) == first


def test_failed_voxels_cost_their_whole_error():
    _, sigma, reference, roi = make()
    estimate = reference.copy()
    estimate[20, 20] = np.nan
    found = qmri.map_scores(estimate, sigma, reference, roi, **T2)
    tissue = roi & (reference < 0.2)
    lost = reference[20, 20]
    assert found["tissue_ms"] == pytest.approx(1e3 * lost / tissue.sum())
    assert found["failed"] == pytest.approx(1 / roi.sum())
    assert found["coverage"] == 1
    sigma[21, 21] = np.nan
    found = qmri.map_scores(estimate, sigma, reference, roi, **T2)
    assert found["failed"] == pytest.approx(2 / roi.sum())


def test_limits():
    _, sigma, reference, roi = make()
    high = np.where(reference > 0.2, 7.0, reference)
    found = qmri.map_scores(high, None, np.where(high > 1, 2, high), roi, **T2)
    assert found["nrmse"] == 0 and found["ssim"] == 1  # both are at the limit
    assert np.isnan(found["coverage"]) and np.isnan(found["ause"])
    # At the limit a reference is a bound, so sigma is not judged there.
    judged = qmri.map_scores(high, sigma, np.where(high > 1, 2, high), roi, **T2)
    assert judged["coverage"] == 1
    capped = qmri.map_scores(
        reference + 0.1, None, reference, roi, **T2, error_cap=0.025
    )
    assert capped["tissue_ms"] == pytest.approx(25)
    only_tissue = roi & (reference < 0.2)
    found = qmri.map_scores(reference, sigma, reference, only_tissue, **T2)
    assert np.isnan(found["csf_ms"]) and found["tissue_ms"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimate": np.zeros((40, 35))}, r"estimate.*\(40, 35\).*one \[H, W\]"),
        ({"roi": np.zeros((40, 36), bool)}, "at least one of them true"),
        ({"roi": np.ones((40, 36))}, "expected booleans"),
        ({"reference": np.zeros((40, 36))}, "finite times above 0"),
        ({"reference": np.full((40, 36), 80.0)}, "look like milliseconds"),
    ],
)
def test_bad_input_is_named(change, message):
    arrays = dict(zip(("estimate", "sigma", "reference", "roi"), make(), strict=True))
    with pytest.raises(ValueError, match=message):
        qmri.map_scores(**{**arrays, **change}, **T2)


def test_table_of_methods():
    settings = {"title": "T2", "num_samples": 100, "level": 0.95, "seed": 0}
    subjects = np.array(["a", "a", "b", "c"])
    slices = [make(seed) for seed in range(4)]
    ours = [qmri.map_scores(e, s, r, roi, **T2) for e, s, r, roi in slices]
    plain = [qmri.map_scores(r + s, None, r, roi, **T2) for _, s, r, roi in slices]
    scores = {"ours": ours, "plain": plain}
    table = qmri.method_table(scores, subjects, **settings)
    assert table.title == "T2: slices 4, subjects 3, 95 % intervals over subjects"
    assert [row[0] for row in table.rows] == ["ours", "plain"]
    cell = dict(zip(table.header, table.rows[0], strict=True))["NRMSE"]
    assert cell.startswith(f"{np.mean([row['nrmse'] for row in ours]):.4f} [")
    unknown = dict(zip(table.header, table.rows[1], strict=True))
    assert unknown["coverage"] == "-" and "coverage" in render_text(table)
    one = qmri.method_table({"plain": plain[:1]}, subjects[:1], **settings)
    assert one.title == "T2: slices 1, subjects 1"
    assert "coverage" not in one.header and "[" not in render_text(one)
    with pytest.raises(ValueError, match="plain: scores of 3 slices, expected 4"):
        qmri.method_table({"ours": ours, "plain": plain[:3]}, subjects, **settings)


def test_in_vivo_slice_against_itself(shared):
    with np.load(shared / "data" / "invivo_t2_slice.npz") as data:
        t2, roi = data["t2"], data["roi"]
    found = qmri.map_scores(t2, None, t2, roi, **T2)
    assert found["nrmse"] == 0 and found["ssim"] == 1 and found["roi_ms"] == 0
