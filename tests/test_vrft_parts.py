"""The study of parts: its cells, its intervals, and what a stopped one leaves."""

import importlib.util
import json
import os
import pathlib
import string
import subprocess
import sys

import numpy as np
import pytest

from medjax.data.classes.built_in import TASKS
from medjax.recipes.policy import qwen25vl

REPO = pathlib.Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location(
    "vrft_parts", REPO / "benchmarks" / "vrft_parts.py"
)
assert SPEC is not None and SPEC.loader is not None
command = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(command)
cells, tables = sys.modules["study.cells"], sys.modules["study.table"]

CLASSES = TASKS["shape_size"].classes


def rows(right, pictures=6):
    """Answers about groups of two pictures each; the first `right` are right."""
    return [
        {
            "sample_id": n,
            "group": f"axial block {n // 2}",
            "target": CLASSES[1],
            "answer": CLASSES[1] if n < right else None,
            "label": 1 if n < right else -1,
            "ranked": 1 if n < 2 else 0,
            "length": 3,
        }
        for n in range(pictures)
    ]


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_cell(out, method, seed, *, end, warm, zero=None, scores=None):
    """A finished cell by hand: how many answers are right at its ends."""
    config = cells.cell_config("shape_size", method, seed, smoke=True)
    folder = out / cells.cell_name("shape_size", method, seed)
    last = config["train"]["method"]
    write_lines(folder / "warm_start" / "eval" / "4" / "answers.jsonl", rows(warm))
    write_lines(folder / last / "eval" / "4" / "answers.jsonl", rows(end))
    if zero is not None:
        path = folder / "warm_start" / "eval" / "0" / "answers.jsonl"
        write_lines(path, rows(zero))
    steps = [{"step": 2, "kappa": -1.0}, {"step": 4} | (scores or {})]
    write_lines(folder / last / "eval.jsonl", steps)
    cells.write_json(folder / last / "manifest.json", [{"git": "b"}, {"git": "a"}])
    cells.write_json(folder / "warm_start" / "manifest.json", [{"git": "c"}])
    record = cells.measured(folder, last, config) | {"seconds": 1.0}
    cells.write_json(folder / "cell.json", record)
    return folder


@pytest.mark.parametrize("method", cells.METHODS)
def test_every_cell_has_a_config_and_a_folder(method):
    for task in ("mr_level", "ct_lung", "mr_structure"):
        if method not in cells.methods_of(task):
            continue
        config = cells.cell_config(task, method, 1)
        assert config["seed"] == 1 and config["train"]["grpo"]["batch"] == 8
        assert config["train"]["grpo"]["steps"] == config["train"]["sft"]["steps"]
        assert config["localisation"]["use"] == (method in ("all parts", cells.LOCATED))
    names = {cells.cell_name("mr_level", name, 0) for name in cells.METHODS}
    assert len(names) == len(cells.METHODS)
    assert all(
        set(name) <= set(string.ascii_letters + string.digits + "_-.") for name in names
    )


def test_parts_differ_from_plain_in_nothing_else():
    plain = cells.cell_config("mr_level", cells.PLAIN, 0)
    fuzzy = cells.cell_config("mr_level", "+ fuzzy, 0.5", 0)
    plain_options, options = (x["train"].pop("grpo") for x in (plain, fuzzy))
    assert plain == fuzzy
    changed = {name for name in plain_options if plain_options[name] != options[name]}
    assert "grade_rule" in changed
    assert changed <= {"grade", "grade_rule", "reward_weights"}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_the_methods_that_fit_it(task):
    without = set() if TASKS[task].ordinal else {"+ fuzzy, 0.25", "+ fuzzy, 0.5"}
    without |= {cells.LOCATED} if task == "nuclei_size" else set()
    methods = cells.methods_of(task)
    assert methods == [name for name in cells.METHODS if name not in without]
    # the same words in the tokenizer of them all
    configs = [cells.cell_config(task, name, 0) for name in methods]
    found = [config["localisation"] for config in configs]
    assert len({first["use"] or first["words"] for first in found}) == 1
    assert any(first["use"] for first in found) == (task != "nuclei_size")


def test_a_task_without_a_volume_has_a_table():
    found = {name: {} for name in cells.methods_of("nuclei_size")}
    assert tables.policy_rows("nuclei_size", found) == {}


def test_intervals_hold_the_mean_and_differences_are_paired():
    runs = {0: rows(3), 1: rows(5), 2: rows(4)}
    plain = {0: rows(2), 1: rows(4), 2: rows(3), 3: rows(6)}
    found = tables.summarise(runs, samples=300)
    assert found["mean"] == pytest.approx(12 / 18)
    assert found["low"] <= found["mean"] <= found["high"]
    assert found["seeds"] == pytest.approx({0: 3 / 6, 1: 5 / 6, 2: 4 / 6})
    gain = tables.summarise(runs, plain, samples=300)
    # one answer more at every seed; the unpaired spread would be far wider
    assert gain["mean"] == pytest.approx(1 / 6)
    assert gain["seeds"] == pytest.approx(dict.fromkeys((0, 1, 2), 1 / 6))
    assert gain["low"] >= 0
    assert tables.summarise(runs, {7: rows(1)}, samples=10) is None
    assert found["groups"] == gain["groups"] == 3


def test_one_group_and_one_seed_have_no_width():
    found = tables.summarise({0: rows(1, pictures=2)}, samples=20)
    assert (found["low"], found["high"], found["groups"]) == (0.5, 0.5, 1)


BLOCKS = "dabbcacadbbbabdbeb"  # the group of each question: of 1 to 8, in no order


def random_runs(seeds, *, name):
    """Seed -> answers, right or wrong at random, in groups of unequal size."""
    rng = np.random.default_rng(name)
    return {
        seed: [
            row | {"group": block, "answer": CLASSES[int(right)]}
            for row, block, right in zip(
                rows(0, pictures=len(BLOCKS)),
                BLOCKS,
                rng.random(len(BLOCKS)) < rng.uniform(0.3, 0.8),
                strict=True,
            )
        ]
        for seed in seeds
    }


def loop_over_draws(runs, other, samples):
    """(mean, low, high) as `summarise` has them, answer by answer."""
    groups = sorted(set(BLOCKS))
    seeds = sorted(runs) if other is None else sorted(set(runs) & set(other))

    def gain(seed, n):
        right = runs[seed][n]["answer"] == runs[seed][n]["target"]
        if other is None:
            return int(right)
        return int(right) - (other[seed][n]["answer"] == other[seed][n]["target"])

    def mean(drawn_seeds, drawn_groups):
        total = asked = 0
        for seed in drawn_seeds:
            for group in drawn_groups:
                for n, block in enumerate(BLOCKS):
                    if block == group:
                        total += gain(seed, n)
                        asked += 1
        return total / asked

    rng = np.random.default_rng(0)
    draws = []
    for _ in range(samples):
        drawn_seeds = [seeds[n] for n in rng.integers(len(seeds), size=len(seeds))]
        times = rng.multinomial(len(groups), [1 / len(groups)] * len(groups))
        drawn = [x for x, many in zip(groups, times, strict=True) for _ in range(many)]
        draws.append(mean(drawn_seeds, drawn))
    ends = []
    for share in (0.025, 0.975):
        at = share * (samples - 1)
        below, above = sorted(draws)[int(at)], sorted(draws)[int(at) + 1]
        ends.append(below + (at - int(at)) * (above - below))
    each = {seed: mean([seed], groups) for seed in seeds}
    return (mean(seeds, groups), *ends), each


def test_intervals_are_those_of_plain_loops(monkeypatch):
    plain, warm = random_runs((0, 1, 2), name=1), random_runs((0, 1, 2, 3), name=2)
    own, end = random_runs((0, 2, 3), name=3), random_runs((0, 2, 3), name=5)
    runs = {
        (cells.PLAIN, "end"): plain,
        (cells.PLAIN, "warm start"): {seed: warm[seed] for seed in plain},
        ("+ prompt", "end"): end,
        ("+ prompt", "warm start"): own,
    }
    found = {
        method: {seed: (method, {"scores": {}}) for seed in runs[method, "end"]}
        for method in (cells.PLAIN, "+ prompt")
    }
    summarise = tables.summarise
    monkeypatch.setattr(
        tables, "summarise", lambda *args: summarise(*args, samples=200)
    )
    monkeypatch.setattr(
        tables,
        "answers_of",
        lambda of, which: {s: runs[name, which][s] for s, (name, _) in of.items()},
    )
    table = tables.policy_rows("shape_size", found)
    for name, key, one, other in (
        (cells.PLAIN, "accuracy", plain, None),
        ("+ prompt", "accuracy", end, None),
        ("+ prompt", "difference", end, plain),
        ("+ prompt", "own difference", end, own),
    ):
        got = table[name][key]
        expected, each = loop_over_draws(one, other, 200)
        assert (got["mean"], got["low"], got["high"]) == pytest.approx(expected)
        assert got["seeds"] == pytest.approx(each)
        assert got["groups"] == len(set(BLOCKS)) == 5
        if other is not None:  # what the test is worth
            assert got["low"] < 0 < got["high"]
            assert min(each.values()) < 0 < max(each.values())
    assert table["+ prompt"]["difference"]["seeds"].keys() == {0, 2}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (rows(3)[::-1], "row 0 has sample_id 5, expected 0"),
        (rows(3, pictures=5), "5 rows, expected 6"),
    ],
)
def test_only_answers_to_the_same_questions_are_paired(other, message):
    with pytest.raises(ValueError, match=f"seed 0, subtracted: {message}"):
        tables.summarise({0: rows(3)}, {0: other})
    with pytest.raises(ValueError, match=f"seed 1: {message}"):
        tables.summarise({0: rows(3), 1: other})


def test_the_table_has_both_differences(tmp_path):
    last = {"kappa": 0.5, "parsed": 1.0}
    make_cell(tmp_path, cells.PLAIN, 0, end=3, warm=2, scores=last)
    make_cell(tmp_path, cells.PLAIN, 1, end=5, warm=2, scores=last | {"kappa": 0.7})
    make_cell(tmp_path, cells.LOCATED, 0, end=6, warm=5, zero=0)
    found = tables.make_table(tmp_path, ["shape_size"], [0, 1, 2], smoke=True)
    table = found["shape_size"]
    means = {name: row["accuracy"]["mean"] for name, row in table.items()}
    expected = {"warm start": 2 / 6, cells.PLAIN: 4 / 6, cells.LOCATED: 1.0}
    # nothing that it wrote named a class, but two were the most likely
    expected["zero-shot"] = 2 / 6
    assert {name: means[name] for name in expected} == pytest.approx(expected)
    assert set(means) == {*expected, *tables.WITHOUT}
    assert "difference" not in table[cells.PLAIN]
    assert table[cells.PLAIN]["own difference"]["mean"] == pytest.approx(2 / 6)
    assert table[cells.LOCATED]["difference"]["mean"] == pytest.approx(3 / 6)
    assert table[cells.LOCATED]["difference"]["seeds"].keys() == {0}
    assert table[cells.LOCATED]["own difference"]["mean"] == pytest.approx(1 / 6)
    assert table[cells.PLAIN]["kappa"] == pytest.approx(0.6)  # not the first lines'


def test_baselines_know_the_training_part_as_it_is(monkeypatch):
    seen = {}

    def majority(task, known, records):
        seen.update(known=known, records=records)
        return [0] * len(records)

    def probe(task, known, records, **options):
        assert known is seen["known"]
        return [1] * len(records)

    load, found = tables.load_labels, []
    monkeypatch.setattr(tables, "majority_answers", majority)
    monkeypatch.setattr(tables, "probe_answers", probe)
    monkeypatch.setattr(
        tables, "load_labels", lambda *x, **y: found.append(load(*x, **y)) or found[0]
    )
    answers = tables.baselines("shape_size", smoke=True)
    assert seen["known"] is found[0].known
    config = cells.cell_config("shape_size", cells.PLAIN, 0, smoke=True)
    assert len(seen["records"]) == config["evaluation"]["limit"]
    assert {row["answer"] for row in answers["linear probe"]} == {CLASSES[1]}


@pytest.mark.parametrize("which", ["end", "warm start", "zero-shot"])
def test_a_cell_without_answers_says_so(tmp_path, which):
    folder = make_cell(tmp_path, cells.LOCATED, 0, end=3, warm=2, zero=1)
    record = json.loads((folder / "cell.json").read_text())
    place = folder / record["answers"][which]
    for file in place.rglob("answers.jsonl"):
        file.unlink()
    message = f"{place}: expected answers.jsonl .* remove the cell {folder} and run"
    found = tables.find_cells(tmp_path, "shape_size", [0], smoke=True)
    with pytest.raises(FileNotFoundError, match=message.replace("+", r"\+")):
        tables.answers_of(found[cells.LOCATED], which)


def test_commits_are_those_of_every_start_of_every_stage(tmp_path):
    folders = [
        make_cell(tmp_path, name, 0, end=3, warm=2, zero=1)
        for name in (cells.PLAIN, cells.LOCATED)
    ]
    cells.write_json(folders[1] / "boxes_grpo" / "manifest.json", [{"git": "a+"}])
    cells.write_json(folders[1] / "grpo" / "manifest.json", [{"git": "d"}])
    unfinished = tmp_path / cells.cell_name("shape_size", "+ prompt", 0)
    cells.write_json(unfinished / "warm_start" / "manifest.json", [{"git": "x"}])
    options = ["--table", "--smoke", "--tasks", "shape_size", "--out", str(tmp_path)]
    command.main(options)
    document = json.loads((tmp_path / "vrft_parts.json").read_text())
    of_each = (["a", "b", "c"], ["a+", "c", "d"])
    names = (folder.name for folder in folders)
    assert document["cells"] == dict(zip(names, of_each, strict=True))
    assert document["commits"] == ["a", "a+", "b", "c", "d"]
    # what a cell records is as ever
    assert json.loads((folders[0] / "cell.json").read_text())["commit"] == "a"


def test_a_finished_cell_is_not_run_again(tmp_path):
    folder = make_cell(tmp_path, cells.PLAIN, 0, end=3, warm=2)
    config = cells.cell_config("shape_size", cells.PLAIN, 0, smoke=True)
    assert cells.run_cell(folder, config, [])["scores"]["step"] == 4


@pytest.mark.parametrize("finished", [True, False])
def test_a_cell_of_another_config_is_refused(tmp_path, finished):
    folder = make_cell(tmp_path, cells.PLAIN, 0, end=3, warm=2)
    config = cells.cell_config("shape_size", cells.PLAIN, 0, smoke=True)
    if not finished:
        cells.write_json(folder / "cell.json", {"config": config})
        assert cells.read_cell(folder, config) is None
    config["train"]["grpo"]["steps"] = 7
    expected = r"(?s)steps: the cell has 4, this run has 7.*--out, or remove"
    with pytest.raises(cells.StaleCellError, match=expected):
        cells.run_cell(folder, config, [])
    with pytest.raises(cells.StaleCellError, match=r"(?s)warm_start\.steps.*--out"):
        tables.find_cells(tmp_path, "shape_size", [0], smoke=False)


def test_smoke_has_a_folder_of_its_own():
    real, smoke = (command.parse_args(x).out for x in ([], ["--smoke"]))
    assert real != smoke
    assert command.parse_args(["--out", "here", "--smoke"]).out.name == "here"


def test_first_stages_are_shared_where_they_are_the_same(tmp_path):
    def config_of(method, seed=0):
        return cells.cell_config("shape_size", method, seed, smoke=True)

    def shared(method, seed=0):
        folder = tmp_path / f"new {method} {seed}"
        folder.mkdir()
        cells.share_stages(folder, siblings, config_of(method, seed))
        assert not list(folder.glob("*.partial"))
        return {x.name: (x / "of").read_text() for x in folder.iterdir()}

    siblings = []
    for method in (cells.PLAIN, "+ prompt", cells.LOCATED, "SFT, equal updates"):
        folder = tmp_path / method
        siblings.append(folder)
        for stage in ("warm_start", "boxes_warm_start", "boxes_grpo", "grpo"):
            if method == cells.LOCATED or not stage.startswith("boxes"):
                (folder / stage).mkdir(parents=True)
                (folder / stage / "of").write_text(method)
        record = {"config": config_of(method), "scores": {}}
        cells.write_json(folder / "cell.json", record)
    boxes = dict.fromkeys(("boxes_warm_start", "boxes_grpo"), cells.LOCATED)
    assert shared("all parts") == boxes
    assert shared("+ recite +") == {"warm_start": cells.PLAIN}
    assert shared(cells.LOCATED) == boxes | {"warm_start": cells.LOCATED}
    assert shared(cells.PLAIN, seed=1) == {}
    # an unfinished cell shares nothing
    cells.write_json(
        tmp_path / cells.LOCATED / "cell.json", {"config": config_of(cells.LOCATED)}
    )
    (tmp_path / "new all parts 0").rename(tmp_path / "earlier")
    assert shared("all parts") == {}


def test_a_copy_that_was_cut_short_is_made_again(tmp_path, monkeypatch):
    config = cells.cell_config("shape_size", cells.PLAIN, 0, smoke=True)
    done, mine = tmp_path / "done", tmp_path / "mine"
    cells.write_json(done / "cell.json", {"config": config, "scores": {}})
    write_lines(done / "warm_start" / "of", [1])
    write_lines(mine / "boxes_grpo.partial" / "half", [1])

    def cut(source, target):
        write_lines(target / "half", [1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cells.shutil, "copytree", cut)
        with pytest.raises(KeyboardInterrupt):
            cells.share_stages(mine, [done], config)
    assert not (mine / "warm_start").exists()
    cells.share_stages(mine, [done], config)
    assert [x.name for x in mine.iterdir()] == ["warm_start"]
    assert [x.name for x in (mine / "warm_start").iterdir()] == ["of"]


def test_what_is_shared_has_the_same_identity(tmp_path, monkeypatch):
    known, vocabularies = {}, []
    train = qwen25vl.train_tokenizer

    def spy(*args, **options):
        made = train(*args, **options)
        vocabularies.append(made.get_vocab())
        return made

    monkeypatch.setattr(qwen25vl, "train_tokenizer", spy)
    for method in (cells.PLAIN, "+ recite -", cells.LOCATED, "all parts"):
        config = cells.cell_config("shape_size", method, 0, smoke=True)
        sections = {k: x for k, x in config.items() if k not in cells._LOOP}
        chain = cells.stages(seed=0, workdir=tmp_path, **sections)
        identities = {stage.name: dict(stage.identity) for stage in chain}
        for name, part in cells.stage_configs(config).items():
            key = name, json.dumps(part, sort_keys=True)
            identity = json.dumps(identities[name], sort_keys=True, default=str)
            assert known.setdefault(key, identity) == identity
    # shared: plain's warm start, and the two stages about boxes
    assert len(known) == 5
    assert len(vocabularies) == 4
    assert all(x == vocabularies[0] for x in vocabularies)


def test_minutes_say_what_they_leave_out(tmp_path, monkeypatch, capsys):
    clock = iter(range(0, 6000, 100))
    monkeypatch.setattr(command.time, "time", lambda: next(clock))
    ran = []

    def run(folder, config, siblings):
        ran.append(folder.name)
        return {"seconds": 100.0}

    monkeypatch.setattr(command, "run_cell", run)
    make_cell(tmp_path, cells.PLAIN, 0, end=3, warm=2)
    methods = [cells.PLAIN, "+ prompt", "+ recite -", "+ recite +"]
    command.run_study(tmp_path, ["shape_size"], methods, [0], minutes=2.0, smoke=True)
    text = capsys.readouterr().out
    assert "4 cells, 1 of them finished before" in text
    assert "cell 2 of 4: shape_size, + prompt, seed 0: 100 s; about" in text
    assert "2 of 4 cells left out: --minutes 2 are over" in text
    assert ran == [cells.cell_name("shape_size", "+ prompt", 0)]


def test_a_table_of_nothing_has_its_folder_made(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    command.main(["--table", "--smoke", "--tasks", "shape_size", "--out", str(out)])
    document = json.loads((out / "vrft_parts.json").read_text())
    assert document["table"]["shape_size"].keys() == set(tables.WITHOUT)
    assert document["commits"] == []
    assert "linear probe" in capsys.readouterr().out


def test_the_table_shows_what_there_is(capsys):
    score = {"mean": 0.5, "low": 0.4, "high": 0.6, "seeds": {0: 0.5, 1: 0.5}}
    score |= {"groups": 7}
    fewer = {"mean": -0.01, "seeds": {0: 0.5}}
    gains = {"difference": score | fewer, "own difference": score}
    table = {
        "mr_level": {
            "majority class": {"accuracy": score},
            "V-RFT": {"accuracy": score, "kappa": 0.7, "parsed": 1.0},
            "+ prompt": {"accuracy": score} | gains,
        }
    }
    tables.print_table(json.loads(json.dumps(table)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["", "mr_level"]
    assert len({len(line) for line in lines[3:]}) == 1
    assert any(" 1: -0.010 [" in line and "  +0.500 [" in line for line in lines)
    assert sum(" 7    0.500 [0.400, 0.600]" in line for line in lines) == 3
    assert sum(" 2      7    0.500" in line for line in lines) == 2  # of a policy


@pytest.mark.slow
def test_the_command_runs_cells_and_shows_them(tmp_path):
    def run(*options):
        env = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
        script = [sys.executable, "benchmarks/vrft_parts.py", "--smoke", *options]
        where = ["--tasks", "shape_size", "--seeds", "0", "--out", str(tmp_path)]
        pipes = {"stdout": subprocess.PIPE, "text": True, "check": True}
        return subprocess.run([*script, *where], cwd=REPO, env=env, **pipes).stdout

    methods = ("--methods", cells.PLAIN, cells.LOCATED)
    text = run(*methods)
    assert "cell 2 of 2: shape_size, + localisation, seed 0" in text
    row = next(x for x in text.splitlines() if x.startswith(cells.LOCATED))
    assert row.count("[") == 3  # accuracy and both differences
    document = json.loads((tmp_path / "vrft_parts.json").read_text())
    table = document["table"]["shape_size"]
    assert table.keys() == {*tables.WITHOUT, *tables.EARLIER, *methods[1:]}
    assert len(document["commits"]) == 1
    again = run(*methods)
    assert "2 cells, 2 of them finished before" in again and row in again
