"""Reruns over seeds: their statistics, their table, and what a stopped one leaves."""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest
from scipy import stats

REPO = pathlib.Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("seeds", REPO / "benchmarks" / "seeds.py")
assert SPEC is not None and SPEC.loader is not None
seeds = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(seeds)
gains, reruns = sys.modules["study.gains"], sys.modules["study.reruns"]

# In place of run.py: two stages, whose answers are right as the seed decides.
PROGRAM = """
import json, os, pathlib, sys
flags = dict(x[2:].partition("=")[::2] for x in sys.argv[1:])
config, folder = flags["config"], pathlib.Path(flags["workdir"])
seed = int(config.rpartition("seed=")[2])
print("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
if (folder / "fail").exists():
    sys.exit("no data")
(folder / "starts").open("a").write("x")
for place, (name, right) in enumerate([("warm_start", 2), ("grpo", 4 + seed)]):
    right -= "method=sft" in config and name == "grpo"
    stage = folder / name
    answers = stage / "eval" / "8" / "answers.jsonl"
    answers.parent.mkdir(parents=True)
    rows = [
        {"sample_id": n, "group": f"block {n // 2}", "target": "a", "label": n < right,
         "answer": "a" if n < right else "b"}
        for n in range(8)
    ]
    answers.write_text("".join(json.dumps(row) + "\\n" for row in rows))
    header = ["", "n", "accuracy", "minus warm_start", "kappa"]
    cells = [[name, "8", f"{right / 8:.3f} [0, 1]", "0.1 [0, 1]", "-"],
             ["linear probe", "8", "0.500 [0, 1]", "-", "0.4 [0, 1]"]]
    table = {"title": "all", "header": header, "rows": cells}
    (answers.parent / "tables.json").write_text(json.dumps([table]))
    lines = [{"step": 8, "accuracy": right / 8, "kappa": right / 10, "n": 8}]
    (stage / "eval.jsonl").write_text("".join(json.dumps(x) + "\\n" for x in lines))
    start = {"time": f"2026-01-01T00:00:0{place}+0000", "git": f"c{seed}",
             "versions": {"jax": "1"}, "python": "3", "devices": {"cpus": 2},
             "config": {"seed": seed, "steps": flags.get("config.steps", "8")}}
    (stage / "manifest.json").write_text(json.dumps([start]))
sys.exit(3 if seed == 1 else 0)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.setattr(reruns, "RUN", path)
    return tmp_path / "out"


def run(out, *options, **named):
    named = {"config": "configs/x.py", "seeds": "0,1,2"} | named
    flags = [f"--{name}={value}" for name, value in named.items()]
    seeds.main([*flags, f"--out={out}", *options])
    place = out / reruns.run_name(named["config"]) / named.get("path", "native")
    return place, json.loads((place / "seeds.json").read_text())


@pytest.mark.parametrize("count", [2, 3, 5, 12])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_over_seeds_is_students(count, level):
    values = np.random.default_rng(count).normal(0.1, 0.05, count)
    found = gains.seed_interval(values.tolist(), level=level)
    low, high = stats.t.interval(
        level, count - 1, loc=values.mean(), scale=stats.sem(values)
    )
    assert (found["low"], found["high"]) == pytest.approx((low, high), rel=1e-9)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["sd"] == pytest.approx(values.std(ddof=1))
    # it leaves out 0 exactly where the paired test refuses that there is no gain
    refused = stats.ttest_1samp(values, 0).pvalue < 1 - level
    assert refused == (not found["low"] < 0 < found["high"])


def test_of_the_five_seeds_that_the_default_had_the_interval_holds_zero():
    """The numbers of another machine, from which this benchmark came."""
    start, end = (
        (0.489, 0.580, 0.608, 0.588, 0.605),
        (0.474, 0.602, 0.798, 0.713, 0.756),
    )
    found = gains.seed_interval([b - a for a, b in zip(start, end, strict=True)])
    ends = [found[name] for name in ("mean", "low", "high")]
    # 1e-3: they were told with three decimals
    assert ends == pytest.approx([0.095, -0.013, 0.203], abs=1e-3)


def test_of_one_seed_or_one_block_there_is_no_interval():
    assert gains.seed_interval([0.3])["low"] is None
    alone = gains.block_interval([0.0, 1.0], ["a", "a"])
    assert (alone["value"], alone["low"], alone["high"]) == (0.5, None, None)


def test_the_interval_over_blocks_is_that_of_drawn_blocks():
    values, groups = [0.0, 1.0, 1.0, 0.5, 0.0], ["a", "a", "b", "c", "c"]
    found = gains.block_interval(values, groups)
    rng, means = np.random.default_rng(0), []
    for _ in range(gains.SAMPLES):
        times = rng.multinomial(3, [1 / 3] * 3)
        drawn = [
            value
            for value, group in zip(values, groups, strict=True)
            for _ in range(times["abc".index(group)])
        ]
        means.append(np.mean(drawn))
    expected = np.percentile(means, [2.5, 97.5])
    assert [found["low"], found["high"]] == pytest.approx(expected.tolist())


def test_each_kind_of_answers_has_its_means():
    boxes = [{"iou": 0.5}, {"iou": 0.2}]
    found = {name: x.tolist() for name, x in gains.answer_scores(boxes).items()}
    assert found == {"mIoU": [0.5, 0.2], "A@0.5": [1, 0], "A@0.8": [0, 0]}
    assert gains.answer_scores([{"quality": 0.5}])["Q"].tolist() == [0.5]
    # of several labels no score is a mean over answers
    assert gains.answer_scores([{"answer": "a, b", "labels": [0, 1]}]) == {}


def test_runs_are_measured_at_both_ends(program):
    place, found = run(program)
    accuracy = found["metrics"]["accuracy"]
    assert found["stages"] == {"start": "warm_start", "end": "grpo"}
    each = [accuracy["each"][seed]["gain"] for seed in "012"]
    assert each == [2 / 8, 3 / 8, 4 / 8]
    assert accuracy["gain"] == gains.seed_interval(each) | {"positive": 3}
    # over blocks: of the mean over seeds, and of each seed
    value = accuracy["blocks"]["value"], accuracy["each"]["2"]["blocks"]["value"]
    assert value == pytest.approx((3 / 8, 4 / 8))
    assert accuracy["blocks"]["groups"] == 4
    assert found["metrics"]["kappa"]["blocks"] is None
    assert found["commits"] == ["c0", "c1", "c2"] and found["versions"] == {"jax": "1"}
    assert found["processor"]["cores"] and "n" not in found["metrics"]
    assert found["command"].startswith("python benchmarks/seeds.py --config=configs/x")
    # the probe is 0.5 for all; the policy is better by what it is above
    probe = found["contenders"]["linear probe"]
    assert probe["accuracy"]["behind"] == gains.seed_interval([0.0, 0.125, 0.25])
    assert "kappa" not in found["contenders"]["grpo"]  # its cell is "-"
    assert json.loads((place / "seed-1" / "seed.json").read_text())["exit"] == 3


MAPS = """
import json, pathlib, sys
flags = dict(x[2:].partition("=")[::2] for x in sys.argv[1:])
seed = int(flags["config"].rpartition("seed=")[2])
stage = pathlib.Path(flags["workdir"]) / "fit"
folder = stage / "eval" / "8"
folder.mkdir(parents=True)
rows = [["PUQ", f"{0.3 + seed / 100:.4f}", f"{7 + seed:.2f}", "0.9"],
        ["subspace", "0.6000", "16.00", "-"]]
header = ["", "NRMSE", "tissue, ms", "coverage"]
(folder / "tables.json").write_text(
    json.dumps([{"title": "T2", "header": header, "rows": rows}])
)
(stage / "eval.jsonl").write_text(json.dumps({"step": 8, "nrmse": 0.3}))
start = {"time": "2026-01-01T00:00:00+0000", "git": "c", "versions": {}, "python": "3",
         "devices": {}, "config": {"seed": seed}}
(stage / "manifest.json").write_text(json.dumps([start]))
"""


def test_methods_of_maps_have_their_means_with_the_digits_of_a_run(program):
    reruns.RUN.write_text(MAPS)
    _, document = run(program)
    (table,) = document["tables"]
    assert table["header"] == ["", "NRMSE", "tissue, ms", "coverage"]
    half = stats.t.interval(0.95, 2, loc=0.31, scale=0.01 / np.sqrt(3))
    assert table["rows"] == [
        [
            "PUQ",
            f"0.3100 [{half[0]:.4f}, {half[1]:.4f}]",
            "8.00 [5.52, 10.48]",  # 8 -+ 4.303 / sqrt(3)
            "0.9 [0.9, 0.9]",
        ],
        ["subspace", "0.6000 [0.6000, 0.6000]", "16.00 [16.00, 16.00]", "-"],
    ]
    with pytest.raises(reruns.RunError, match="what is paired by seed are answers"):
        run(program, against="configs/y.py")


def test_a_seed_that_has_ended_is_not_run_again(program, capsys):
    run(program, seeds="0,1")
    place, found = run(program, seeds="0,1,2")
    assert "3 seeds, 2 ended before" in capsys.readouterr().out
    starts = [(place / f"seed-{n}" / "starts").read_text() for n in range(3)]
    assert starts == ["x"] * 3
    assert found["metrics"]["accuracy"]["gain"]["seeds"] == 3


def test_another_config_is_paired_by_seed(program):
    _, found = run(program, against="configs/x.py:method=sft")
    gain = found["against"]["metrics"]["accuracy"]["gain"]
    assert gain["mean"] == pytest.approx(1 / 8) and gain["positive"] == 3
    assert found["against"]["config"] == "configs/x.py:method=sft"


@pytest.mark.parametrize("before", ["", "--xla_a=1"])
def test_the_second_path_tells_the_run(program, monkeypatch, before):
    monkeypatch.setenv("XLA_FLAGS", before)
    monkeypatch.setattr(reruns.platform, "machine", lambda: "x86_64")
    place, found = run(program, path="sse", seeds="0")
    flags = f"{before} --xla_cpu_max_isa=SSE4_2".strip()
    assert f"XLA_FLAGS {flags}\n" in (place / "seed-0" / "run.log").read_text()
    assert found["xla_flags"] == flags and found["path"] == "sse"
    assert found["metrics"]["accuracy"]["gain"]["low"] is None


def test_the_second_path_needs_its_processor():
    with pytest.raises(ValueError, match="x86 processors; this is arm64"):
        reruns.environment("sse", {}, machine="arm64")


def test_a_run_that_fails_is_named_with_its_last_words(program):
    folder = program / "x" / "native" / "seed-1"
    folder.mkdir(parents=True)
    (folder / "fail").touch()
    with pytest.raises(reruns.RunError, match=r"(?s)seed 1 .* code 1; .*no data"):
        run(program)
    (folder / "fail").unlink()
    _, found = run(program)  # goes on
    assert list(found["metrics"]["accuracy"]["each"]) == ["0", "1", "2"]


def test_another_run_in_the_folder_is_refused(program):
    run(program)
    with pytest.raises(reruns.RunError, match=r"(?s)options: .*--config.steps=9"):
        run(program, "--", "--config.steps=9")


def test_seeds_of_different_configs_are_refused(program):
    place, _ = run(program)
    manifest = place / "seed-2" / "grpo" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"8"', '"9"'))
    with pytest.raises(reruns.RunError, match=r"seeds 0 and 2 .*\n  steps: "):
        run(program)


def test_answers_to_other_questions_are_refused(program):
    place, _ = run(program)
    answers = place / "seed-2" / "grpo" / "eval" / "8" / "answers.jsonl"
    answers.write_text("\n".join(answers.read_text().splitlines()[::-1]))
    with pytest.raises(ValueError, match="not about the same questions"):
        run(program)


def test_a_single_stage_needs_a_start(program):
    place, _ = run(program, seeds="0")
    stage = place / "seed-0" / "grpo"
    with pytest.raises(reruns.RunError, match="no stage 'sft', there are"):
        reruns.read_ends(stage.parent, end="sft")
    with pytest.raises(reruns.RunError, match="before warm_start"):
        reruns.read_ends(stage.parent, end="warm_start")
    # evaluated before its first step, it is its own start
    (stage / "eval" / "8").rename(stage / "eval" / "0")
    rows = (stage / "eval.jsonl").read_text()
    (stage / "eval.jsonl").write_text(rows.replace('"step": 8', '"step": 0') + rows)
    found = reruns.read_ends(stage.parent)
    assert (found["start"]["stage"], found["start"]["step"]) == ("grpo", 0)


def test_a_claim_holds_what_a_run_left(program, tmp_path):
    place, _ = run(program, seeds="0")
    last = place / "seed-0" / "grpo"
    (start,) = json.loads((last / "manifest.json").read_text())
    words = [
        "/venv/bin/python",
        "/tree/run.py",
        "--config=configs/x.py",
        "--workdir=/w",
    ]
    (last / "manifest.json").write_text(json.dumps([start | {"command": words}]))
    claim = importlib.import_module("study.claim")
    claim.main([str(place / "seed-0"), str(tmp_path / "claims" / "x.json")])
    found = json.loads((tmp_path / "claims" / "x.json").read_text())
    assert found["command"] == "python run.py --config=configs/x.py"
    assert (found["seeds"], found["commits"], found["stage"]) == ([0], ["c0"], "grpo")
    assert found["tables"][0]["rows"][1][0] == "linear probe"
    assert "evaluated" not in found and found["scores"]["accuracy"] == 0.5
    (last / "eval" / "8" / "tables.json").unlink()
    with pytest.raises(reruns.RunError, match="tables.json is missing: evaluate the"):
        claim.run_claim(place / "seed-0")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds=0,0"], "each once"),
        (["--seeds=a"], "whole numbers"),
        (["--config=configs/medloc.py:seed=1"], "names a seed"),
        (["--", "--workdir=x"], "may be given"),
        (["--", "--config.seed=1"], "may be given"),
    ],
)
def test_bad_arguments_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit):
        seeds.parse_args(flags)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_two_seeds_of_a_smoke_config(tmp_path):
    cache = pathlib.Path(seeds.os.environ.get("JAX_COMPILATION_CACHE_DIR", tmp_path))
    _, found = run(
        tmp_path,
        "--",
        f"--compilation_cache={cache}",
        config="configs/medloc.py:smoke,method=sft",
        seeds="0,1",
    )
    assert found["stages"] == {"start": "warm_start", "end": "sft"}
    assert set(found["metrics"]) >= {"mIoU", "A@0.5", "parsed"}
    assert "no image: mean box" in found["contenders"]
