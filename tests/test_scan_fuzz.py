"""Scans with one thing changed: refused, warned of or right, never wrong in silence."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
COUNT = 200
pytest.importorskip("ismrmrd")


@pytest.fixture(scope="module")
def scan_fuzz():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        spec = importlib.util.spec_from_file_location(
            "scan_fuzz", FOLDER / "scan_fuzz.py"
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def rows(scan_fuzz):
    """As in a run: numbers are float32 there."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        return [scan_fuzz.fuzz(seed) for seed in range(COUNT)]


def test_what_is_contradicted_is_never_wrong_in_silence(scan_fuzz, rows):
    wrong = [row for row in rows if scan_fuzz.failed(row)]
    assert not wrong, "\n".join(map(str, wrong))


def test_sound_scans_stay_right(rows):
    sound = [row for row in rows if row.label == "harmless"]
    right = [row for row in sound if row.outcome == "right"]
    assert len(right) >= 0.8 * len(sound) and len(sound) > COUNT / 6


def test_a_seed_is_one_scan(scan_fuzz, rows):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        assert scan_fuzz.fuzz(7)._replace(said="") == rows[7]._replace(said="")
    kinds = {row.kind for row in rows}
    assert kinds == {"nifti", "arrays", "ismrmrd"}
    assert {row.label for row in rows} == {"harmless", "contradicted", "consistent"}


@pytest.mark.parametrize("model", ["t2", "t1", "vfa"])
def test_the_oracle_knows_a_curve_and_what_is_none(scan_fuzz, model):
    from fuzz.oracle import Seen, fitted, label

    times = {
        "t2": np.arange(1, 7) * 0.015,
        "t1": np.array([0.05, 0.2, 0.5, 1, 2, 4]),
        "vfa": np.deg2rad([2, 4, 8, 14, 22, 30]),
    }[model]
    e = np.exp(-0.02 / 0.9)
    curve, truth = {
        "t2": (np.exp(-times / 0.08), 0.08),
        "t1": (np.abs(1 - 1.8 * np.exp(-times / 0.9)), 0.9),
        "vfa": (np.sin(times) * (1 - e) / (1 - np.cos(times) * e), 0.9),
    }[model]
    tr = 0.02 if model == "vfa" else None
    value, misfit = fitted(Seen(model, times, curve, tr))
    assert abs(value / truth - 1) < 0.01 and misfit < 0.005
    assert label(Seen(model, times, curve, tr), truth, "") == ("harmless", "")
    half = Seen(model, times / 2, curve, tr)
    assert label(half, truth, "")[0] == "consistent"
    other = Seen(model, np.roll(times, 1), curve, tr)
    assert label(other, truth, "") == ("contradicted", "pixels")
    assert label(half, truth, "EchoNumber") == ("contradicted", "EchoNumber")
