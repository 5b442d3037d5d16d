"""What predict says of its own error bars, without a reference."""

import json

import pytest

from medjax.recipes.qmri.calibrated import document, load_calibration
from tests.recipes.puq_smoke import save_scan, toy_slices
from tests.recipes.qmri.test_predict import run, summary


@pytest.mark.parametrize("high", [1e6, 1e-6])
def test_two_halves_are_told_and_warned_of(tmp_path, capsys, high):
    kspace, _, sens, _ = toy_slices(limit=1, acceleration=2.0)
    path = save_scan(tmp_path / "scan.npz", kspace=kspace, sens=sens)
    made = load_calibration("t2", "joint TV")
    usual = ((1e-9, high),) * len(made.accelerations)
    file = tmp_path / "t2.json"
    file.write_text(json.dumps(document(made._replace(spreads=usual, misfits=()))))
    run(path, tmp_path, calibration=str(file), strict=False)
    told = summary(tmp_path / "predict" / "scan")
    motion, check = told["posterior"]["SelfChecks"]
    assert motion["check"] == "motion" and motion["high"] == 0.11
    assert check["check"] == "halves" and check["holds"] == (high > 1)
    assert check["value"] > 0
    assert not [
        x for x in told["warnings"] if "error bars" in x
    ]  # the map may be right
    said = capsys.readouterr().out
    assert ("warning: error bars may be too narrow on this scan" in said) == (high < 1)
    assert "two halves of the lines differ by" in said
