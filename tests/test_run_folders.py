"""Folders as they are published, each from its files to a policy and a report."""

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


def check_report(workdir, names):
    """A report whose answers are about these structures."""
    answers = rows(workdir / "sft/eval/1/answers.jsonl")
    assert {row["structure"] for row in answers} == set(names)
    page = (workdir / "sft/report.html").read_text()
    assert "data:image/png" in page
    return answers


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
    done = run(
        f"--workdir={tmp_path}/run",
        *SHORT,
        *options,
        config=f"configs/medloc.py:smoke,method=sft,data={tmp_path}/data",
    )
    assert done.code == 0, done.err
    check_report(tmp_path / "run", labels)


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
    done = run(
        f"--workdir={tmp_path}/run",
        *SHORT,
        *options,
        config=f"configs/vrft_aug.py:smoke,method=sft,data={tmp_path}/data",
    )
    assert done.code == 0, done.err
    assert scored in (tmp_path / "run/sft/eval/1/tables.txt").read_text()
    assert "data:image/png" in (tmp_path / "run/sft/report.html").read_text()
