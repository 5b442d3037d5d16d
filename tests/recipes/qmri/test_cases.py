"""What people bring: the right map, or a refusal that names the reason.

Each case writes a scan of known truth, and goes through run.py. Cases that are fitted
share their shapes, so that few programs are compiled.
"""

import re
from importlib import import_module
from pathlib import Path

import jax
import pytest

from tests.recipes.qmri.cases.case import predicted

PACKAGE = "tests.recipes.qmri.cases"
CLOSE = 0.02  # of the median over the object


def all_cases():
    """Those of every module beside `case`."""
    for file in sorted((Path(__file__).parent / "cases").glob("*.py")):
        if file.stem != "case":
            yield from import_module(f"{PACKAGE}.{file.stem}").CASES


CASES = list(all_cases())


@pytest.fixture(autouse=True)
def as_run_py_does(monkeypatch):
    """On a user's machine numbers are float32; no figure is drawn for a test."""
    monkeypatch.setattr("medjax.report.qmri.map_figure", lambda *_, **__: None)
    monkeypatch.setattr(
        "medjax.report.qmri.write_png", lambda path, _: write_nothing(path)
    )
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def write_nothing(path):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


REFUSED = [case for case in CASES if case.refusal is not None]


def test_names_tell_cases_apart():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(tmp_path, case):
    scan = tmp_path / "scan"
    scan.mkdir()
    where = {"variant": case.variant, "inside": case.inside}
    found = predicted(case.build(scan), tmp_path / "out", **where)
    if case.refusal is not None:
        assert found.exit_code == 1, f"{found}; expected a refusal"
        assert re.search(case.refusal, found.said), found.said
        return
    assert found.exit_code == case.exit_code, found.said
    assert re.search(case.doubt or "", found.said), found.said
    if case.truth_ms is None:  # a map that is wrong, and said to be
        assert case.doubt and case.exit_code == 3
        return
    assert found.median_ms
    assert abs(found.median_ms / case.truth_ms - 1) <= CLOSE


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_check_refuses_what_predict_refuses(tmp_path, case):
    scan = tmp_path / "scan"
    scan.mkdir()
    built = case.build(scan)
    found = predicted(built, tmp_path / "out", variant=case.variant, mode="check")
    assert found.exit_code == 1
    assert re.search(case.refusal, found.said), found.said
    assert not (tmp_path / "out").exists()
