"""The comparison runs: ours does every task, its numbers are right, absence is said."""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, REPO / "benchmarks" / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def peers():
    return load("puq_peers", "puq_peers.py")


@pytest.fixture
def problem(peers, tmp_path, monkeypatch):
    """The disc, which needs no BART."""
    monkeypatch.setattr(peers.shutil, "which", lambda _: None)
    truth, maker = peers.make_problem(tmp_path)
    assert maker == "disc"
    return truth, tmp_path


@pytest.mark.bench
def test_our_worker_does_every_task(peers, problem):
    truth, folder = problem
    problem_file = folder / "problem.npz"
    worker = peers.start_worker(
        "medjax", sys.executable, problem_file, folder, peers.worker_env("small")
    )
    assert set(peers.TASKS) <= set(worker.about["tasks"]) and "jax" in worker.about
    pairs = [(worker, "small")]
    rows = peers.measure(pairs, peers.TASKS, rounds=1, folder=folder, truth=truth)
    worker.close()
    errors = {row["task"]: [*row["error"].values()] for row in rows}
    assert errors["cg"][0] < 0.5 and errors["wavelet"][0] < errors["cg"][0]
    assert errors["espirit"][0] < 0.2
    assert errors["fit"] == pytest.approx([0.031, 0.102], abs=0.002)  # as scipy


def test_problem_is_sampled_as_it_says(problem):
    truth, folder = problem
    with np.load(folder / "problem.npz") as p:
        assert p["mask"].sum(1).tolist() == [32] * 8
        assert p["mask"][:, 58:70].all() and len(np.unique(p["mask"], axis=0)) == 8
        assert not np.any(np.moveaxis(p["kspace"], -1, 1)[~p["mask"]])
        np.testing.assert_allclose(np.linalg.norm(p["sens"], axis=0), 1, rtol=1e-5)
        assert p["decays"].shape == (8, 128, 128)
    assert truth["images"].shape == (8, 128, 128)


def test_errors_do_not_depend_on_scale_or_phase(peers, problem):
    truth, _ = problem
    images = truth["images"]
    assert peers.error_of("cg", 3j * images[:1], truth)["nrmse"] < 1e-12
    assert peers.error_of("wavelet", images[0] * 0.5, truth)["nrmse"] < 1e-12
    assert peers.error_of("espirit", 2j * truth["coils"], truth)["unexplained"] < 1e-7
    wrong = 1.1 * truth["t2"][None]
    assert peers.error_of("fit", wrong, truth)["median"] == pytest.approx(0.1)


def test_worker_that_ends_says_why(peers, tmp_path):
    env, absent = peers.worker_env("small"), tmp_path / "absent.npz"
    with pytest.raises(peers.WorkerError, match=r"(?s)medjax ended.*absent.npz"):
        peers.start_worker("medjax", sys.executable, absent, tmp_path, env)


def test_what_is_not_installed_is_skipped_by_name(peers, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peers.shutil, "which", lambda _: None)
    out = tmp_path / "out.json"
    options = ["--only", "bart", "mrpro", "--peers", tmp_path, "--json", out]
    peers.main([*map(str, options)])
    text = capsys.readouterr().out
    assert "bart: skipped" in text and "mrpro: skipped" in text
    assert json.loads(out.read_text())["rows"] == []
