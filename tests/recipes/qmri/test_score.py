import json

import numpy as np
import pytest

from medjax.data.qmri.batches import SliceRecord
from medjax.data.qmri.invivo import INVIVO
from medjax.mri.catalogue import signal_model
from medjax.recipes.qmri.score import collect, score_maps, score_stage
from medjax.systems.puq.maps import Maps
from medjax.systems.puq.network import Quantity
from tests.recipes.puq_smoke import records

QUANTITY = Quantity(signal_model("t2"), (0.0, 0.05, 0.1), (0.01, 2.0))
METHODS = ["good", "bad"]
SIZE = 16


def record(subject, sample_id):
    blank = np.zeros((SIZE, SIZE))
    return SliceRecord(
        sample_id=sample_id,
        subject=subject,
        slice=40,
        contrast="t2",
        acceleration=6.0,
        sampled=0.17,
        snr=30.0,
        noise=0.01,
        fractions=np.zeros((3, SIZE, SIZE), np.float16),
        lesion=blank > 0,
    )


def batch(subjects, rng):
    """One row more than records: it only fills the batch."""
    rows = len(subjects) + 1
    shape = (rows, SIZE, SIZE)
    reference = rng.uniform(0.05, 0.4, shape)
    reference[0, 0, 0] = np.nan  # could not be fitted
    maps = {
        "good": reference + rng.normal(0, 0.005, shape),
        "bad": reference + rng.normal(0, 0.05, shape),
    }
    sigma = {"good": np.full(shape, 0.005), "bad": np.full(shape, 0.01)}
    images = np.zeros((rows, 3, SIZE, SIZE))
    roi = np.ones(shape, bool)
    valid = np.arange(rows) < len(subjects)
    metrics = {"valid": valid, "image nrmse: good": np.arange(rows) / 10.0}
    found = Maps(roi, reference, maps, sigma, images, images, {})
    return found, metrics, [record(s, i) for i, s in enumerate(subjects)]


@pytest.fixture
def results():
    rng = np.random.default_rng(0)
    return [batch((1, 2), rng), batch((2,), rng), batch((INVIVO,), rng)]


def test_rows_without_a_record_are_left_out(results):
    found = collect(results, METHODS)
    assert [r.subject for r in found.records] == [1, 2, 2, INVIVO]
    assert len(found.maps["good"]) == len(found.mean) == 4
    assert found.images["good"] == [0.0, 0.1, 0.0, 0.0]


def test_voxels_without_a_reference_do_not_count(results):
    scores = score_maps(collect(results, METHODS), limit=2.0, tissue_below=0.2)
    assert np.isfinite([row["nrmse"] for row in scores["good"]]).all()
    means = {k: np.mean([row["tissue_ms"] for row in x]) for k, x in scores.items()}
    # mean |error| of a normal deviation is 0.8 of it
    assert means["good"] == pytest.approx(4.0, rel=0.1)
    assert means["bad"] == pytest.approx(40.0, rel=0.15)
    assert np.mean([row["coverage"] for row in scores["good"]]) == pytest.approx(
        0.95, abs=0.02
    )


def test_measured_slices_have_a_table_of_their_own(results, tmp_path, capsys):
    folder = tmp_path / "fit" / "eval" / "7"
    evaluation = records()["evaluation"]._replace(bootstrap=50, tissue_below=0.2)
    summary = score_stage(
        results,
        folder,
        stage="fit",
        contrast="t2",
        quantity=QUANTITY,
        methods=METHODS,
        evaluation=evaluation,
    )
    assert summary["n"] == 4 and summary["tissue_ms"] > 30  # the last method's
    printed = capsys.readouterr().out
    assert "simulated: slices 3, subjects 2" in printed
    assert "in vivo: slices 1, subjects 1" in printed
    assert "[" not in printed  # intervals are in the file
    assert "[" in (folder / "tables.txt").read_text()
    lines = [json.loads(x) for x in (folder / "slices.jsonl").read_text().splitlines()]
    assert len(lines) == 8 and lines[0]["method"] == "good"
    with np.load(folder / "maps_in_vivo.npz") as arrays:
        assert arrays["map: bad"].shape == (1, SIZE, SIZE)
    assert (tmp_path / "fit" / "figures" / "maps_in_vivo.png").exists()
