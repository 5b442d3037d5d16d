"""A run about several labels, from its file to its tables; nothing is compiled."""

import json
from functools import partial

import numpy as np
import pytest

from medjax.data.classes.label_sets import rarest_labels
from medjax.recipes.classes.score_sets import drawn_shares, log_odds
from medjax.recipes.vrft_aug import check, stages
from medjax.systems import vrft_aug
from medjax.systems.policy.classes import SetPredictions
from tests.data import folders
from tests.data.medmnist_files import write_chest
from tests.recipes.smoke import WHERE
from tests.recipes.smoke_labels import label_sections


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    path = tmp_path_factory.mktemp("chest") / "chestmnist.npz"
    write_chest(path, counts=(20, 4, 6))
    return path


def make(path, **changes):
    words = {"policy__vocab": 768}  # descriptions of 14 classes in fewer tokens
    return stages(**WHERE, **label_sections(f"data={path}", **words, **changes))


def test_a_file_becomes_stages_whose_truth_earns_the_reward(chest, monkeypatch):
    seen = {}
    monkeypatch.setattr(vrft_aug, "build", lambda *_, **options: seen.update(options))
    found = make(chest)
    assert [stage.name for stage in found] == ["warm_start", "grpo"]
    for stage in found:
        stage.check()  # the self-test, on the device
    assert seen["step"].reward_weights == {
        "accuracy": 1.0,
        "format": 1.0,
        "recitation": -0.5,
    }
    assert seen["rewards"].set_rule == "f1"
    batch = next(iter(found[1].source))
    assert batch.label.shape == (8, 14) and batch.label.dtype == bool


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train__grpo__leak_label": True},
            "leak_label=True: .* several classes or no",
        ),
        (
            {"train__grpo__set_reward": "iou"},
            "set_reward='iou': expected one of f1, ex",
        ),
        ({"train__grpo__grade": "fuzzy"}, "its classes are not grades"),
        ({"prompt__answer": "grade"}, "not ordinal, so they have no grades"),
        ({"data__ordinal": True}, "grades exclude each other"),
    ],
)
def test_what_several_labels_cannot_have(chest, changes, message):
    with pytest.raises(ValueError, match=message):
        make(chest, **changes)


def results(stage, named, *, read, draws):
    (batch, records), (_, blank) = stage.eval_batches()
    assert [x.sample_id for x in blank] == [x.sample_id for x in records]
    assert len(records) == 6
    rows = len(batch.valid)
    shown = np.zeros((rows, 14), bool)
    shown[:6] = named
    logp = np.log(np.where(batch.label, 0.4, 0.1))
    predictions = SetPredictions(
        shown,
        np.full(rows, read),
        np.concatenate([logp, np.full((rows, 1), np.log(0.2))], axis=1),
        np.repeat(batch.label[:, None], draws, axis=1)
        & (np.arange(draws) < 2)[:, None],
        np.zeros((rows, 2), np.int32),
        np.zeros((rows, 2), bool),
    )
    names = ("right", "parsed", "well_formed", "length", "recitation", "think_words")
    values = dict.fromkeys(names, np.zeros(rows)) | {
        "valid": batch.valid,
        "finite": batch.valid,
    }
    unread = predictions._replace(read=np.zeros(rows, bool))
    found = [(predictions, values, records), (unread, values, blank)]
    return found, batch.label[:6]


def row_of(text, name):
    (line,) = (x for x in text.splitlines() if x.startswith(f"{name}  "))
    return line


def test_tables_rows_and_report(chest, tmp_path):
    first, second = stages(
        seed=0, workdir=tmp_path, **label_sections(f"data={chest}", policy__vocab=768)
    )
    nothing, truth = results(first, np.zeros((6, 14), bool), read=False, draws=0)
    scores = first.score(nothing, tmp_path / "warm_start" / "eval" / "4")
    assert scores["n"] == 6 and scores["parsed"] == 0 and scores["exact match"] == 0
    assert np.isnan(scores["macro AUROC"])  # nothing was drawn, so there is no score
    right, _ = results(second, truth, read=True, draws=3)
    scores = second.score(right, tmp_path / "grpo" / "eval" / "4")
    assert scores["set F1"] == scores["exact match"] == scores["macro AUROC"] == 1
    folder = tmp_path / "grpo" / "eval" / "4"
    text = (folder / "tables.txt").read_text()
    assert " 1.000 [1.000, 1.000]" in row_of(text, "warm_start, likelier than none")
    for name in ("grpo", "warm_start", "linear probe"):
        row_of(text, name)
    assert " 0.000 [0.000, 0.000]" in row_of(text, "no image: grpo")
    for name in ("none", "most common set", "prevalence, drawn"):
        assert (
            " - "
            in text.splitlines()[
                text.splitlines().index(
                    next(x for x in text.splitlines() if x.startswith(name))
                )
            ]
        )
    empty = (~truth.any(axis=1)).mean()
    assert f" {empty:.3f} [" in next(
        x for x in text.splitlines() if x.startswith("none")
    )
    assert "grpo: each class" in text and "classes shown; a picture:" in text
    assert "each class, scores from 3 answers drawn at temperature 1" in text
    shown = text[text.index("classes shown; a picture:") :]
    assert "train, balanced" in shown
    # every fourth picture shows nothing, and when balanced as many as each class
    kinds = len(set(rarest_labels(np.load(chest)["train_labels"]).tolist()))
    shares = [cell for cell in row_of(shown, "none").split() if "." in cell]
    assert shares[:2] == ["25.0", f"{100 / kinds:.1f}"]
    lines = [json.loads(x) for x in (folder / "answers.jsonl").read_text().splitlines()]
    assert [np.flatnonzero(row).tolist() for row in truth] == [
        x["labels"] for x in lines
    ]
    assert lines[0]["answer"] == lines[0]["target"] == "none"
    page = (tmp_path / "grpo" / "report.html").read_text()
    assert "each class" in page and "data:image/png" in page


def test_the_score_is_the_share_of_drawn_answers():
    drawn = np.array([[[1, 0], [1, 1], [0, 0], [1, 0]]], bool)
    assert drawn_shares(drawn).tolist() == [[0.75, 0.25]]
    assert drawn_shares(drawn[:, :0]) is None
    logp = np.log([[0.4, 0.1, 0.2]])
    assert log_odds(logp) == pytest.approx(np.log([[2.0, 0.5]]))


@pytest.mark.parametrize(
    ("build", "options", "classes"),
    [
        (
            partial(folders.nih, patients=8, size=(64, 64)),
            {},
            ("Cardiomegaly", "Effusion", "Mass", "Nodule"),
        ),
        (folders.vindr, {"data__readers": "majority"}, folders.VINDR[:2]),
    ],
)
def test_published_lists_of_findings_are_sets(tmp_path, build, options, classes):
    """No code: the folder, and that a picture may have several answers."""
    build(tmp_path / "data")
    found = stages(
        seed=0,
        workdir=tmp_path,
        **label_sections(
            f"data={tmp_path}/data,parts=none", data__answers="set", **options
        ),
    )
    for stage in found:
        stage.check()
    batch, records = next(iter(found[-1].eval_batches()))
    assert batch.label.shape[1] == len(classes)
    names = {"none"} | {record.name for record in records}
    told = records[0].query
    assert all(name in told for name in classes) and "Several can be right" in told
    assert {record.several for record in records} == {True} and len(names) > 1


def test_a_check_counts_each_class_and_none(tmp_path):
    """A picture of two classes counts for both."""
    folders.nih(tmp_path / "data", patients=8, size=(64, 64))
    sections = label_sections(f"data={tmp_path}/data,parts=none", data__answers="set")
    check(seed=0, workdir=tmp_path, **sections)
    found = json.loads((tmp_path / "check.json").read_text())["labels"]
    assert found["train"] == {
        **dict.fromkeys(("Cardiomegaly", "Effusion", "Mass"), 4),
        **dict.fromkeys(("none", "Nodule"), 2),
    }
    assert found["test"] == {"none": 2, "Nodule": 2}
