"""`--mode=calibrate` on the synthetic head: what it writes, and what it refuses."""

import json

import numpy as np
import pytest

from medjax.recipes.qmri.calibrate import calibrate
from medjax.recipes.qmri.calibrated import load_calibration, read_calibration
from medjax.recipes.qmri.known_errors import (
    make_regularisation,
    network_maker,
)
from medjax.recipes.qmri.options import Predict
from medjax.recipes.qmri.population import make_setup
from medjax.recipes.sections import read_section
from medjax.systems.puq.joint_tv import TV_FEATURES
from tests.recipes.puq_smoke import records, sections


def run(folder, source=None, **changes):
    where = {"seed": 0, "workdir": folder, "checkpoint": None}
    return calibrate(source, **where, **sections(**changes))


def test_what_is_written_is_what_is_read(tmp_path, capsys):
    assert run(tmp_path) == []
    path = tmp_path / "calibrate" / "t2_joint_tv.json"
    found = read_calibration(path)
    assert load_calibration("t2", "joint TV", file=str(path)) == found
    assert found.features == TV_FEATURES and found.rate == 0  # one acceleration
    np.testing.assert_allclose(sum(found.exponents), 1, atol=1e-9)
    (row,) = json.loads(path.read_text())["validation"]
    assert row["slices"] == 2 and found.kappa == (row["kappa"],)
    # One group: its own factor, interpolated between those tried.
    np.testing.assert_allclose(row["coverage"], 0.95, atol=1e-6)
    assert found.spreads[0][0] < found.spreads[0][1]
    written = json.loads(path.read_text())
    assert written["seed"] == 0 and written["data"]["source"] == "synthetic"
    assert written["method"]["kind"] == "joint_tv"
    assert {"command", "commit", "options", "versions"} <= written.keys()
    assert "wrote" in capsys.readouterr().out


def test_what_cannot_be_calibrated_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--input=scan.npz: error bars are calibrated"):
        run(tmp_path, source="scan.npz")
    with pytest.raises(ValueError, match="predict.default 'CG-SENSE': expected a meth"):
        run(tmp_path, predict__default="CG-SENSE")
    with pytest.raises(FileNotFoundError, match="no checkpoints"):
        where = {"seed": 0, "workdir": tmp_path, "checkpoint": str(tmp_path)}
        calibrate(None, **where, **sections())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network__dropout": 0.0}, "network.dropout 0: passes with dropout"),
        ({"evaluation__passes": 1}, "passes 1: a deviation needs at least 2"),
    ],
)
def test_monte_carlo_that_tells_nothing_is_refused(changes, words):
    setup = make_setup(seed=0, **records(**changes))
    predict = read_section(Predict, "predict", sections()["predict"])
    with pytest.raises(ValueError, match=words):
        network_maker(setup, make_regularisation(setup, predict), {})
