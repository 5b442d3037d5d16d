"""The table of posteriors: all rows run and are right, the ratio is to `fit_map`."""

import importlib.util
import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def posterior(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("bench", FOLDER / "posterior.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.bench
def test_all_rows_find_the_truth(posterior, tmp_path, capsys):
    path = tmp_path / "posterior.json"
    posterior.main(["--size", "12", "--rounds", "1", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert set(rows) == {"fit_map", "fit_posterior", "marginalised", "one block"}
    assert all(row["error"] < 0.1 for row in rows.values())
    assert "times fit_map (limit 4)" in capsys.readouterr().out


def test_table_holds_the_ratio(posterior, capsys):
    row = {"first": 1.5, "error": 0.031, "cpu": [0.002]}
    names = ("fit_map", "fit_posterior")
    rows = {
        n: row | {"wall": [0.004 * (1 + 2 * i), 0.008]} for i, n in enumerate(names)
    }
    posterior.print_table(rows)
    text = capsys.readouterr().out
    assert "| fit_map | 6.00 | 4.00 | 2.00 | 1.5 | 3.10 |" in text
    assert "least wall time: 2.00 times fit_map" in text
