"""The table of fits: every contender runs and is right, ratios are to ours."""

import importlib.util
import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def t2_fit(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("t2_fit", FOLDER / "t2_fit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.bench
def test_all_contenders_find_the_truth(t2_fit, tmp_path, capsys):
    path = tmp_path / "t2_fit.json"
    t2_fit.main(["--size", "12", "--rounds", "1", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 12
    assert all(row["error"][0] < 0.1 for row in rows)
    fits = [r["error"] for r in rows if r["name"] in ("medjax t2", "scipy t2")]
    assert fits[0] == pytest.approx(fits[1], rel=1e-3)
    assert capsys.readouterr().out.count("| medjax ") == 9


def test_table_holds_ratios_to_ours(t2_fit, capsys):
    row = {"first": 1.5, "cpu": [0.002], "error": [0.031, 0.1]}
    rows = [
        {"name": "medjax t2", "seconds": [0.004, 0.002, 0.003], **row},
        {"name": "scipy t2", "seconds": [1.5], **row},
    ]
    t2_fit.print_table(rows)
    text = capsys.readouterr().out
    assert "| medjax t2 | 3.00 | 2.00 | 2.00 | 1.50 | 3.10 / 10.00 | 1.00 |" in text
    assert (
        "| scipy t2 | 1500.00 | 1500.00 | 2.00 | 1.50 | 3.10 / 10.00 | 500.00 |" in text
    )
