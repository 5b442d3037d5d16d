"""What an evaluation of classes leaves on disk, and the numbers it returns."""

import json
from functools import partial

import numpy as np
import pytest

from medjax.data.classes.batches import LabelRecord
from medjax.data.classes.pictures import Picture, Pictures
from medjax.data.classes.tasks import ClassQuestion, ClassTask, Wording
from medjax.data.prompting.tokenizer import train_tokenizer
from medjax.recipes.classes.score import (
    Asked,
    Probe,
    label_baselines,
    make_answers,
    most_likely,
    score,
)
from medjax.recipes.policy.scoring import score_results
from medjax.recipes.policy.task import Evaluation, ScoredStage
from medjax.systems.policy.classes import Predictions

TEXT = "<think>thin slit</think><answer>1</answer>"
CLASSES = ("none", "small", "large")
TASK = ClassTask(
    "size", CLASSES, (ClassQuestion("size", ("How large?",), (0, 1, 2)),), ordinal=True
)
WORDING = Wording(TASK, None, CLASSES, 1)
TRUE = np.array([0, 1, 2, 2, 2, 1], np.int32)
SAID = np.array([0, 1, 1, 2, -1, 0], np.int32)
VALID = np.array([True, True, True, False])  # of each batch: the last row fills it


def pictures(labels):
    def picture(n, rng):
        image = np.full((20, 20, 3), 100 * labels[n] + rng.integers(9), np.uint8)
        return Picture(image, f"picture {n}", f"slice {n // 2}")

    return Pictures(len(labels), picture, labels[:, None], ((20, 20),))


TRAIN = pictures(np.array([0, 1, 2, 2, 1, 2], np.int32))
TEST = pictures(TRUE)


def record(n, label):
    picture = TEST.picture(n, np.random.default_rng(n))
    return LabelRecord(
        sample_id=n,
        image=picture.image,
        query="How large?",
        question="size",
        labels=(int(label),),
        name=CLASSES[label],
        slice_id=picture.origin,
        group=picture.group,
        plane="axial",
        columns={},
    )


RECORDS = [record(n, label) for n, label in enumerate(TRUE)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT], 300)


def results(tokenizer, records=RECORDS, said=SAID):
    """Two batches of three answers and one row that fills the batch."""
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    tokens = np.tile(np.array(ids, np.int32), (4, 1))
    for half in range(2):
        rows = slice(3 * half, 3 * half + 3)
        label = np.append(said[rows], 2)
        metrics = {
            "right": np.append(said[rows] == TRUE[rows], True),
            "parsed": label >= 0,
            "well_formed": label >= 0,
            "length": np.full(4, 7 + half),
            "recitation": np.full(4, 0.25),
            "think_words": np.full(4, 2),
            "valid": VALID,
            "finite": VALID,
        }
        logp = np.log(np.eye(3)[np.append(TRUE[rows], 0)] + 0.1).astype(np.float32)
        found = Predictions(label, logp, tokens, np.ones(tokens.shape, bool))
        yield found, metrics, records[rows]


BASELINES = label_baselines(TASK, TRAIN, seed=0, probe=Probe(2, 1, 1e-3))
EVALUATION = Evaluation(
    every=0, batch=4, questions=1, limit=0, seed=0, bootstrap=20, level=0.9
)


def make(tokenizer, stage="grpo", before=None, hide=str, evaluation=EVALUATION):
    asked = Asked(TASK, TRAIN, TEST, BASELINES, hide)
    return partial(
        score_results,
        partial(score, asked),
        ScoredStage(stage, tokenizer, evaluation, before or {}),
    )


@pytest.fixture(scope="module")
def scored(tokenizer, tmp_path_factory):
    """(workdir, what the score function returned)."""
    workdir = tmp_path_factory.mktemp("run")
    folder = workdir / "warm_start" / "eval" / "8"
    return workdir, make(tokenizer, "warm_start")(results(tokenizer), folder)


def test_numbers_are_those_of_the_valid_rows(scored):
    _, values = scored
    assert values["accuracy"] == pytest.approx(3 / 6)
    assert values["parsed"] == values["format"] == pytest.approx(5 / 6)
    # 1 off, 1 off, and the unread one as far off as can be
    assert values["grade error"] == pytest.approx((1 + 1 + 2) / 6)
    assert values["ranked accuracy"] == 1.0
    assert values["overlap"] == pytest.approx(0.25)
    assert (values["n"], values["length"], values["think_words"]) == (6, 7.5, 2)


def test_what_is_answered_about_blank_pictures_is_a_row(scored, tokenizer, tmp_path):
    folder = tmp_path / "warm_start" / "eval" / "8"
    asked = make(tokenizer, "warm_start", evaluation=EVALUATION._replace(no_image=True))
    blank = results(tokenizer, said=np.full(6, TRUE[0]))
    assert asked([*results(tokenizer), *blank], folder) == scored[1]
    assert len((folder / "answers.jsonl").read_text().splitlines()) == 6
    lines = (folder / "tables.txt").read_text().splitlines()
    rows = {line.split("  ")[0]: line for line in lines[3:7]}
    assert list(rows)[:2] == ["warm_start", "no image: warm_start"]
    share = np.mean(TRUE == TRUE[0])
    accuracy = rows["no image: warm_start"].split("[")[0].split()[-1]
    assert accuracy == f"{share:.3f}"


def test_a_line_for_each_question(scored):
    path = scored[0] / "warm_start" / "eval" / "8" / "answers.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["sample_id"] for row in rows] == list(range(6))
    assert rows[4]["answer"] is None and rows[4]["target"] == "large"
    assert rows[2] | {"query": ""} == {
        "sample_id": 2,
        "picture": "picture 2",
        "group": "slice 1",
        "query": "",
        "question": "size",
        "target": "large",
        "answer": "small",
        "label": 1,
        "ranked": 2,
        "length": 7,
        "recitation": 0.25,
        "text": TEXT,
    }


def test_files_call_groups_as_they_may(tokenizer, tmp_path):
    """Intervals are those of the groups' own names; only the file has others."""
    hidden = make(tokenizer, "a", hide=lambda group: group.replace("slice", "hidden"))
    folder = tmp_path / "a" / "eval" / "8"
    hidden(results(tokenizer), folder)
    shown = tmp_path / "b" / "eval" / "8"
    make(tokenizer, "a")(results(tokenizer), shown)
    rows = [json.loads(x) for x in (folder / "answers.jsonl").read_text().splitlines()]
    assert {row["group"] for row in rows} == {f"hidden {n}" for n in range(3)}
    texts = [(path / "tables.txt").read_text() for path in (folder, shown)]
    assert texts[0] == texts[1]


def test_tables_and_page_show_matrix_balance_and_baselines(scored):
    folder = scored[0] / "warm_start"
    text = (folder / "eval" / "8" / "tables.txt").read_text()
    page = (folder / "report.html").read_text()
    for shown in (text, page):
        for name in ("majority class", "linear probe", "kappa", "unread", "balance"):
            assert name in shown
    assert "not a medical device" in page
    for name in ("answers", "confusion"):
        assert (folder / "figures" / f"{name}.png").stat().st_size
    assert "true classes (rows)" in page.lower()


def test_baselines_answer_the_same_questions_without_a_language_model():
    found = BASELINES(RECORDS)
    assert found["majority class"].predicted.tolist() == [2] * 6
    # the pictures' grey is the class
    assert found["linear probe"].predicted.tolist() == TRUE.tolist()
    assert np.isnan(found["linear probe"].length).all()
    assert BASELINES(RECORDS) is found


def test_earlier_stages_that_were_asked_the_same_are_compared(
    scored, tokenizer, tmp_path
):
    before = {"warm start": scored[0] / "warm_start" / "eval", "none": tmp_path / "no"}
    folder = tmp_path / "grpo" / "eval" / "3"
    make(tokenizer, before=before)(results(tokenizer), folder)
    rows = (folder / "tables.txt").read_text().splitlines()[3:7]
    names = [row[: row.index("  ")] for row in rows]
    assert names == ["grpo", "warm start", "majority class", "linear probe"]
    # the same answers: no difference; the majority class is right as often by chance
    assert rows[0].split()[5:8] == ["0.000", "[0.000,", "0.000]"]
    assert rows[1].split()[6] == "-"
    assert rows[0].split()[2:5] == rows[1].split()[3:6]
    assert "minus warm start" in (folder / "tables.txt").read_text()
    other = [r._replace(sample_id=r.sample_id + 1) for r in RECORDS]
    folder = tmp_path / "other" / "eval" / "3"
    make(tokenizer, before=before)(results(tokenizer, other), folder)
    assert "warm start" not in (folder / "tables.txt").read_text()


def test_a_policy_that_writes_no_answers_is_judged_by_likelihood(tokenizer, tmp_path):
    silent = results(tokenizer, said=np.full(6, -1, np.int32))
    make(tokenizer, "first")(silent, tmp_path / "first" / "eval" / "0")
    before = {"zero-shot": tmp_path / "first" / "eval" / "0"}
    folder = tmp_path / "grpo" / "eval" / "3"
    make(tokenizer, before=before)(results(tokenizer), folder)
    rows = (folder / "tables.txt").read_text().splitlines()[3:6]
    assert rows[1].split()[:3] == ["zero-shot", "6", "0.000"]
    assert rows[2].startswith("zero-shot, most likely") and " 1.000 " in rows[2]


def test_only_what_a_question_offers_is_most_likely():
    logp = np.log(np.array([[0.5, 0.2, 0.3], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1]]))
    found = most_likely(logp, [(0, 1, 2), (1, 2), (2, 0)])
    assert found.tolist() == [0, 2, 2] and found.dtype == np.int32


def test_answers_stand_beside_what_they_are_grouped_by():
    found = make_answers(SAID, RECORDS, length=[3] * 6)
    assert found.label.tolist() == TRUE.tolist()
    assert found.group.tolist() == [f"slice {n // 2}" for n in range(6)]
    assert np.isnan(found.overlap).all() and found.length.tolist() == [3] * 6


def test_slices_of_a_volume_vote(tokenizer, tmp_path):
    """Three groups of two slices each have one class; their answers are one."""
    baselines = label_baselines(TASK, TRAIN, seed=0, probe=Probe(2, 1, 1e-3))
    asked = Asked(TASK, TRAIN, TEST._replace(voted="volume"), baselines)
    same = [
        r._replace(labels=RECORDS[n // 2 * 2].labels) for n, r in enumerate(RECORDS)
    ]
    told = partial(
        score_results,
        partial(score, asked),
        ScoredStage("grpo", tokenizer, EVALUATION, {}),
    )
    values = told(results(tokenizer, same), tmp_path / "grpo" / "eval" / "8")
    assert 0 <= values["volume accuracy"] <= 1
    text = (tmp_path / "grpo" / "eval" / "8" / "tables.txt").read_text()
    assert "one answer a volume, by the most votes, 90 % intervals" in text
    table = text[text.index("one answer a volume") :].splitlines()
    (row,) = (line for line in table[:5] if line.startswith("grpo"))
    assert row.split()[1:3] == ["3", f"{values['volume accuracy']:.3f}"]
