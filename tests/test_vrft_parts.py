"""The study of parts: its cells, its intervals, and what a stopped one leaves."""

import importlib.util
import json
import pathlib
import string

import numpy as np
import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location(
    "vrft_parts", REPO / "benchmarks" / "vrft_parts.py"
)
study = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(study)


def rows(right, pictures=6):
    """Answers about slices of two pictures each; the first `right` are right."""
    return [
        {"group": f"slice {n // 2}", "target": "a", "answer": "a" if n < right else "b"}
        for n in range(pictures)
    ]


@pytest.mark.parametrize("method", study.METHODS)
def test_every_cell_has_a_config_and_a_folder(method):
    graded = study.METHODS[method][1]
    for task in ("mr_level",) if graded else ("mr_level", "ct_lung", "mr_structure"):
        config = study.cell_config(task, method, 1, study.SIZES)
        assert config["seed"] == 1 and config["train"]["grpo"]["batch"] == 8
        assert config["train"]["grpo"]["steps"] == config["train"]["sft"]["steps"]
    names = {study.cell_name("mr_level", name, 0) for name in study.METHODS}
    assert len(names) == len(study.METHODS)
    assert all(
        set(name) <= set(string.ascii_letters + string.digits + "_-.") for name in names
    )


def test_parts_differ_from_plain_in_nothing_else():
    plain = study.cell_config("mr_level", study.PLAIN, 0, study.SIZES)
    fuzzy = study.cell_config("mr_level", "+ fuzzy, 0.5", 0, study.SIZES)
    assert plain["warm_start"] == fuzzy["warm_start"] and plain["data"] == fuzzy["data"]
    changed = {
        name: (plain["train"]["grpo"][name], fuzzy["train"]["grpo"][name])
        for name in plain["train"]["grpo"]
        if plain["train"]["grpo"][name] != fuzzy["train"]["grpo"][name]
    }
    assert set(changed) == {"reward_weights", "grade_rule"}


def test_intervals_hold_the_mean_and_differences_are_paired():
    runs = {0: rows(3), 1: rows(5), 2: rows(4)}
    plain = {0: rows(2), 1: rows(4), 2: rows(3), 3: rows(6)}
    found = study.summarise(runs, None, samples=300)
    assert found["mean"] == pytest.approx(12 / 18)
    assert found["low"] <= found["mean"] <= found["high"]
    assert found["seeds"] == pytest.approx({0: 3 / 6, 1: 5 / 6, 2: 4 / 6})
    gain = study.summarise(runs, plain, samples=300)
    # one answer more at every seed; the unpaired spread would be far wider
    assert gain["mean"] == pytest.approx(1 / 6)
    assert gain["seeds"] == pytest.approx(dict.fromkeys((0, 1, 2), 1 / 6))
    assert gain["low"] >= 0
    assert study.summarise(runs, {7: rows(1)}, samples=10) is None


def test_first_stages_are_shared_where_they_are_the_same(tmp_path):
    done, other, mine = (tmp_path / name for name in ("done", "other", "mine"))
    for folder, knowledge in ((done, False), (other, True)):
        (folder / "warm_start").mkdir(parents=True)
        (folder / "warm_start" / "of").write_text(folder.name)
        record = {"localisation": False, "knowledge": knowledge}
        study.write_json(folder / "cell.json", record)
    config = {"localisation": {"use": False}, "data": {"prompt_knowledge": False}}
    mine.mkdir()
    study.share_stages(mine, [other, done, mine, tmp_path / "unfinished"], config)
    assert (mine / "warm_start" / "of").read_text() == "done"
    config = {"localisation": {"use": True}, "data": {"prompt_knowledge": False}}
    alone = tmp_path / "alone"
    alone.mkdir()
    study.share_stages(alone, [other, done], config)
    assert not list(alone.iterdir())


def test_a_finished_cell_is_not_run_again(tmp_path):
    record = {"localisation": False, "knowledge": False, "scores": {"accuracy": 0.5}}
    study.write_json(tmp_path / "cell.json", record)
    assert study.run_cell(tmp_path, {}, []) == record


def test_the_table_shows_what_there_is(capsys):
    score = {"mean": 0.5, "low": 0.4, "high": 0.6, "seeds": {0: 0.5, 1: 0.5}}
    table = {
        "mr_level": {
            "majority class": {"accuracy": score},
            "V-RFT": {"accuracy": score, "kappa": 0.7, "parsed": 1.0},
            "+ prompt": {"accuracy": score, "difference": score | {"mean": -0.01}},
        }
    }
    study.print_table(json.loads(json.dumps(table)))
    lines = capsys.readouterr().out.splitlines()
    assert "mr_level" in lines and any("-0.010 [" in line for line in lines)
    assert np.sum(["0.500 [0.400, 0.600]" in line for line in lines]) == 3
