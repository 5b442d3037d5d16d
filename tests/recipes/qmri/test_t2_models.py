"""Which model echo times get, and what a train of echoes leaves on disk."""

import json
import re

import nibabel
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.recipes.qmri.t2_models import echo_times, echo_train
from tests.recipes.qmri.case_phantoms import DISC, put_volume
from tests.recipes.qmri.cases.case import predicted
from tests.recipes.qmri.cases.stimulated import SE, mapped, train
from tests.recipes.qmri.test_cases import as_run_py_does  # noqa: F401


def scan_of(folder, times, **fields):
    images = np.ones((len(times), 8, 8), np.float32)
    return open_scan(put_volume(folder / "a.nii", images, EchoTime=times, **fields))


@pytest.mark.parametrize(
    ("times", "fields", "mapped", "name", "reason"),
    [
        ([0.01, 0.02, 0.03, 0.04], SE, False, "t2_epg", "T1 taken as 1 s"),
        ([0.02, 0.03, 0.04, 0.05], SE, False, "t2_epg", "fitted .*180 degrees, as"),
        ([0.01, 0.02, 0.03], SE, False, "t2", "3 echoes .* too few"),
        ([0.01, 0.02, 0.03], SE, True, "t2_epg", "that of predict.b1 times 180"),
        ([0.01, 0.03, 0.04, 0.09], SE, False, "t2", "uneven times"),
        ([0.012, 0.03, 0.04, 0.09], SE, False, "t2", "uneven times"),
        ([0.01, 0.02, 0.03, 0.04], {}, False, "t2", "one decay"),
        ([0.01, 0.02, 0.03, 0.04], {"ScanningSequence": "GR"}, False, "t2star", "T2"),
    ],
)
def test_model_of_echo_times(tmp_path, times, fields, mapped, name, reason):
    choice = echo_times(scan_of(tmp_path, times, **fields), mapped=mapped)
    assert choice.model.name == name
    assert re.search(reason, choice.reason), choice.reason
    assert bool(choice.doubt) == (fields is SE and name == "t2")


def test_a_named_train_at_other_times_is_refused(tmp_path):
    scan = scan_of(tmp_path, [0.012, 0.03, 0.04, 0.09])
    with pytest.raises(ValueError, match=r"a.nii: times: t2_epg: expected echoes"):
        echo_train(scan, "", mapped=False)


@pytest.mark.parametrize("known", [False, True])
def test_maps_of_a_train(tmp_path, known):
    """The angle relative to the protocol's, T1 and the reason in the summary."""
    scan, out = tmp_path / "scan", tmp_path / "out"
    scan.mkdir()
    fields = {"RefocusingFlipAngle": 140, **SE}
    build = mapped(180 / 140, **fields) if known else train(120, **fields)
    found = predicted(build(scan), out)
    assert found.exit_code == 0, found
    assert found.median_ms == pytest.approx(80, rel=0.01)
    folder = out / "predict" / "a"
    field = np.asarray(nibabel.load(folder / "TB1map.nii.gz").dataobj)[..., 0]
    assert np.median(field[DISC]) == pytest.approx(120 / 140, rel=0.01)
    sidecar = json.loads((folder / "TB1map.json").read_text())
    assert sidecar["Units"] == "1" and "ratio" in sidecar["Description"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["model"] == "t2_epg" and summary["assumed_t1_s"] == 1.0
    assert "140 degrees" in summary["model_reason"]
