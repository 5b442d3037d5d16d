"""Published folders, each from its files to a check, a policy and a report."""

import pytest

from tests.data import folders
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
