"""What an evaluation leaves on disk, and the numbers it returns."""

import json
from functools import partial

import numpy as np
import pytest

from medjax.data.boxes.batches import Record
from medjax.data.prompting.tokenizer import train_tokenizer
from medjax.evals.boxes import scores
from medjax.recipes.boxes.score import make_answers, score
from medjax.recipes.policy.scoring import score_results
from medjax.recipes.policy.task import Evaluation, ScoredStage
from medjax.systems.policy.boxes import Predictions

TEXT = '<think>disc</think><answer>{"bbox_2d": [1, 2, 3, 4]}</answer>'
BATCH, LENGTH = 4, 64
VALID = np.array([True, True, True, False])  # of each batch: the last row fills it


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT], 300)


def record(n):
    return Record(
        sample_id=n,
        image=np.full((40, 50, 3), 10 * n, np.uint8),
        query=f"Where is number {n}?",
        structure=("disc", "cross")[n % 2],
        box=np.array([1, 2, 20 + n, 30], np.float32),
        slice_id=f"slice {n // 2}",
        area_fraction=0.02 * (n + 1),
        plane="axial",
        position=n,
        columns={},
    )


RECORDS = [record(n) for n in range(6)]
IOU = np.array([1.0, 0.0, 0.6, 0.55, 0.3, 0.0], np.float32)
PARSED = np.array([1, 0, 1, 1, 1, 0], bool)


def results(tokenizer, records=RECORDS):
    """Two batches of three answers and one row that fills the batch."""
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    tokens = np.zeros((BATCH, LENGTH), np.int32)
    tokens[:, : len(ids)] = ids
    mask = np.arange(LENGTH)[None] < np.full((BATCH, 1), len(ids))
    for half in range(2):
        rows = slice(3 * half, 3 * half + 3)
        fill = lambda x, value: np.append(x[rows], value)  # noqa: E731, B023
        metrics = {
            "iou": fill(IOU, np.float32(0.9)),
            "parsed": fill(PARSED, True),
            "well_formed": fill(PARSED, True),
            "length": np.full(BATCH, 7 + half),
            "valid": VALID,
            "finite": VALID,
        }
        boxes = np.tile(np.float32([1, 2, 3, 4.126]), (BATCH, 1))
        yield (
            Predictions(boxes=boxes, tokens=tokens, mask=mask),
            metrics,
            records[rows],
        )


EVALUATION = Evaluation(
    every=0, batch=4, questions=1, limit=0, seed=0, bootstrap=20, level=0.9
)


def baselines(records):
    return {
        "no image: mean box": make_answers(
            np.full(len(records), 0.1), np.ones(len(records)), records
        )
    }


def make(tokenizer, stage="grpo", before=None, evaluation=EVALUATION):
    earlier = {} if before is None else {"warm_start": before}
    return partial(
        score_results,
        partial(score, baselines),
        ScoredStage(stage, tokenizer, evaluation, earlier),
    )


@pytest.fixture(scope="module")
def scored(tokenizer, tmp_path_factory):
    """(workdir, what the score function returned)."""
    workdir = tmp_path_factory.mktemp("run")
    folder = workdir / "warm_start" / "eval" / "8"
    return workdir, make(tokenizer, "warm_start")(results(tokenizer), folder)


def test_numbers_are_those_of_the_valid_rows(scored):
    _, values = scored
    expected = scores(make_answers(IOU, PARSED, RECORDS))
    assert {name: values[name] for name in expected} == expected
    assert values["n"] == 6 and values["length"] == 7.5
    assert values["format"] == pytest.approx(4 / 6)


def test_a_line_for_each_question(scored):
    path = scored[0] / "warm_start" / "eval" / "8" / "answers.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["sample_id"] for row in rows] == list(range(6))
    assert rows[2] == {
        "sample_id": 2,
        "slice": "slice 1",
        "group": "axial block 0",
        "query": "Where is number 2?",
        "structure": "disc",
        "target": [1, 2, 22, 30],
        "box": [1, 2, 3, 4.13],
        "iou": 0.6,
        "text": TEXT,
    }
    assert [row["box"] is None for row in rows] == [not p for p in PARSED]


def test_tables_name_the_baselines_and_every_structure(scored, capsys):
    text = (scored[0] / "warm_start" / "eval" / "8" / "tables.txt").read_text()
    for name in ("warm_start", "no image: mean box", "disc", "cross", "A@0.5", "mIoU"):
        assert name in text
    first = text.splitlines()[3].split()
    assert first[:2] == ["warm_start", "6"]
    assert float(first[2]) == pytest.approx(0.5)  # A@0.5: 1.0, 0.6, 0.55 of six


def test_the_report_stands_in_the_stages_folder(scored):
    page = (scored[0] / "warm_start" / "report.html").read_text()
    said = "A@0.5 is 0.500; all answers are of one of the blocks of slices"
    head, story, scores = map(page.index, ("What happened", said, "<h2>Scores</h2>"))
    assert head < story < scores
    assert "warm_start, step 8" in page and "no image: mean box" in page
    assert "not a medical device" in page
    assert (scored[0] / "warm_start" / "figures" / "overlays.png").stat().st_size


def test_the_stage_before_is_compared_on_the_same_questions(
    scored, tokenizer, tmp_path
):
    before = scored[0] / "warm_start" / "eval"
    folder = tmp_path / "grpo" / "eval" / "3"
    make(tokenizer, before=before)(results(tokenizer), folder)
    rows = (folder / "tables.txt").read_text().splitlines()[3:6]
    names = [row[: row.index("  ")] for row in rows]
    assert names == ["grpo", "warm_start", "no image: mean box"]


def test_what_is_answered_about_blank_pictures_is_a_row(scored, tokenizer, tmp_path):
    folder = tmp_path / "grpo" / "eval" / "8"
    asked = make(tokenizer, evaluation=EVALUATION._replace(no_image=True))
    seen, blank = list(results(tokenizer)), list(results(tokenizer))
    blank = [
        (found, values | {"iou": np.full(BATCH, 0.25), "parsed": VALID}, records)
        for found, values, records in blank
    ]
    assert asked(seen + blank, folder) == scored[1]  # the scores are the pictures'
    lines = (folder / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 6
    rows = (folder / "tables.txt").read_text().splitlines()[3:6]
    names = [row[: row.index("  ")] for row in rows]
    assert names == ["grpo", "no image: grpo", "no image: mean box"]
    cells = rows[1].split("  ")
    assert [x for x in cells if "0.250" in x] == ["0.250 [0.250, 0.250]"]  # mIoU
    with pytest.raises(ValueError, match="9 answers, expected those about pictures"):
        asked(seen + blank[:1], tmp_path / "grpo" / "eval" / "9")


def test_another_run_is_a_row_or_an_error(scored, tokenizer, tmp_path):
    place = scored[0] / "warm_start" / "eval"
    evaluation = EVALUATION._replace(beside={"sft": str(place)})
    folder = tmp_path / "grpo" / "eval" / "3"
    stage = ScoredStage("grpo", tokenizer, evaluation, {"run: sft": place})
    run = partial(score_results, partial(score, baselines), stage)
    run(results(tokenizer), folder)
    rows = (folder / "tables.txt").read_text().splitlines()[3:5]
    assert [row[: row.index("  ")] for row in rows] == ["grpo", "run: sft"]
    other = [r._replace(structure="another") for r in RECORDS]
    with pytest.raises(ValueError, match="beside.sft: the answers in"):
        run(results(tokenizer, other), folder)


def test_other_questions_are_not_compared(scored, tokenizer, tmp_path):
    before = scored[0] / "warm_start" / "eval"
    other = [r._replace(sample_id=r.sample_id + 1) for r in RECORDS]
    folder = tmp_path / "grpo" / "eval" / "3"
    make(tokenizer, before=before)(results(tokenizer, other), folder)
    assert "warm_start" not in (folder / "tables.txt").read_text()
    folder = tmp_path / "alone" / "eval" / "3"
    make(tokenizer, before=tmp_path / "nothing")(results(tokenizer), folder)
    assert (folder / "answers.jsonl").exists()


def test_nothing_half_written_is_left(scored):
    assert not list(scored[0].rglob("*.tmp"))
