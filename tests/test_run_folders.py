"""Published folders, each from its files to a check, a policy and a report."""

import importlib.util
import json
import pathlib

import pytest

from configs.medloc import get_config
from tests.data import folders
from tests.recipes.smoke import setup_of
from tests.test_run import cache, forks, rows, run  # noqa: F401

VINDR = folders.VINDR[:2]
SHORT = (  # one supervised step, and programs that compile quickly
    "--config.warm_start.steps=0",
    "--config.train.sft.steps=1",
    "--config.policy.vocab=400",
    "--config.policy.width=16",
    "--config.policy.mlp=16",
    "--config.policy.heads=2",
    "--config.policy.kv_heads=1",
    "--config.policy.vision.depth=1",
    "--config.policy.vision.full_blocks=0",
)


def program(name):
    """A module of benchmarks/, which is no package."""
    path = pathlib.Path(__file__).resolve().parents[1] / f"benchmarks/{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_and_train(run, workdir, config, *options):  # noqa: F811
    """A check that passes, one step of training, and a report with pictures."""
    checked = run(
        "--mode=check", f"--workdir={workdir}/check", *SHORT, *options, config=config
    )
    assert checked.code == 0, checked.err
    assert ": passed" in (workdir / "check/check.html").read_text()
    done = run(f"--workdir={workdir}", *SHORT, *options, config=config)
    assert done.code == 0, done.err
    assert "data:image/png" in (workdir / "sft/report.html").read_text()


@pytest.mark.parametrize(
    ("name", "options", "labels"),
    [
        ("ham10000", (), ["skin lesion"]),
        ("tn3k", (), ["thyroid nodule"]),
        ("nih", (), ["Nodule"]),
        (
            "vindr",
            ("--config.data.answers=set", "--config.data.readers=majority"),
            VINDR,
        ),
    ],
)
def test_boxes_from_folder_to_report(run, tmp_path, name, options, labels):  # noqa: F811
    getattr(folders, name)(tmp_path / "data")
    config = f"configs/medloc.py:smoke,method=sft,data={tmp_path}/data"
    check_and_train(run, tmp_path / "run", config, *options)
    answers = rows(tmp_path / "run/sft/eval/1/answers.jsonl")
    assert {row["structure"] for row in answers} == set(labels)
    if "--config.data.answers=set" in options:  # what is not there is asked for too
        assert {len(row["targets"]) for row in answers} == {0, 1}


@pytest.mark.parametrize(
    ("name", "options", "scored"),
    [
        ("ham10000", ("--config.data.descriptions=dermamnist",), "balanced accuracy"),
        (
            "vindr",
            (
                "--config.data.answers=set",
                "--config.data.readers=majority",
                "--config.data.prompt_knowledge=False",
                "--config.data.recite=False",
            ),
            "exact match",
        ),
    ],
)
def test_classes_from_folder_to_report(run, tmp_path, name, options, scored):  # noqa: F811
    getattr(folders, name)(tmp_path / "data")
    config = f"configs/vrft_aug.py:smoke,method=sft,data={tmp_path}/data"
    check_and_train(run, tmp_path / "run", config, *options)
    assert scored in (tmp_path / "run/sft/eval/1/tables.txt").read_text()


def test_five_commands_end_with_the_numbers_that_they_began_with(run, tmp_path):  # noqa: F811
    """Train, predict, export; transformers alone answers; its answers are scored."""
    pytest.importorskip("torch")
    shapes, peer = program("shapes_folder"), program("peer_answers")
    shapes.PARTS = {"train": ("train", 8), "test": ("val", 4), "new": ("test", 1)}
    shapes.SIZE = (56, 56)
    data, workdir = tmp_path / "shapes", tmp_path / "run"
    shapes.main(data)
    config = f"configs/medloc.py:smoke,method=sft,data={data}"

    def do(*options, code=0):
        done = run(f"--workdir={workdir}", *SHORT, *options, config=config)
        assert done.code == code, done.err

    do()
    asked = ("--mode=predict", f"--input={data}/new", "--ask=Find the bright disc.")
    do(*asked, code=3)  # after one step no answer can be read
    assert len(rows(workdir / "predict/answers.jsonl")) == 1
    do("--mode=export")
    ask, answers = data / "test/questions.jsonl", tmp_path / "transformers.jsonl"
    given = [f"--images={data}", f"--ask={ask}", f"--answers={answers}"]
    options = get_config(f"smoke,method=sft,data={data}")
    options.policy.vocab = 400  # as SHORT has it: tokens are of this tokenizer
    most = setup_of(options.to_dict()).answer_length
    peer.main([str(workdir / "policy"), *given, f"--most={most}"])
    do("--mode=eval", f"--answers={answers}")
    places = (workdir / "sft/eval/1", workdir / "answers/transformers/eval/0")
    ours, theirs = (rows(place / "answers.jsonl") for place in places)
    assert [row["text"] for row in ours] == [row["text"] for row in theirs]
    assert len({row["text"] for row in ours}) > 1
    tables = [json.loads((place / "tables.json").read_text())[0] for place in places]
    ours, theirs = ({row[0]: row[1:] for row in table["rows"]} for table in tables)
    assert ours["sft"] == theirs["transformers"]
