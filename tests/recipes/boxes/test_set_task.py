"""Sets of boxes as a task: setup, self-test, stages, and what an evaluation leaves."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from medjax.data.boxes.set_records import SetRecord
from medjax.data.prompting.chat import INSTRUCTION, SET_INSTRUCTION
from medjax.data.prompting.tokenizer import train_tokenizer
from medjax.evals.box_sets import scores
from medjax.recipes.boxes.check import examine_boxes, read_sets
from medjax.recipes.boxes.data import BoxPrompt, box_style
from medjax.recipes.boxes.set_score import (
    make_set_answers,
    make_set_baselines,
    score_sets,
)
from medjax.recipes.boxes.task import self_test
from medjax.recipes.medloc import chain
from medjax.recipes.policy.scoring import score_results
from medjax.recipes.policy.stages import training_batches
from medjax.recipes.policy.task import Evaluation, ScoredStage
from medjax.systems.policy.box_sets import SetPredictions
from medjax.types import BoxSetBatch
from tests.recipes.smoke import make_setup, make_training

TEXT = "<think>disc</think><answer>[[1, 2, 3, 4]]</answer>"


@pytest.fixture(scope="module")
def setup():
    return make_setup(data__answers="set")


def test_the_style_the_buckets_and_the_identity_say_so(setup):
    assert setup.encoding.style.answer == "set-object"
    assert setup.parts.identity["answers"] == "set"
    one = make_setup()
    assert "answers" not in one.parts.identity
    assert one.encoding.style.answer == "object"
    assert setup.answer_length > one.answer_length  # four boxes, and not one
    auto = BoxPrompt("auto", "auto", "list")
    assert box_style(auto, answers="set").suffix == SET_INSTRUCTION
    assert box_style(auto, answers="one").suffix == INSTRUCTION
    assert "<answer>[]</answer>" in SET_INSTRUCTION
    with pytest.raises(ValueError, match="'xml' with data.answers=set.*object, num"):
        box_style(auto._replace(answer="xml"), answers="set")
    with pytest.raises(ValueError, match="'numbers' with data.answers=one.*list, obj"):
        box_style(auto._replace(answer="numbers"), answers="one")


def test_self_test_passes_and_names_boxes_that_whole_pixels_miss(setup):
    self_test(setup, tau=0.8)
    views = setup.parts.test

    def small(index, rng):
        view = views.view(index, rng)
        return view._replace(boxes=view.boxes / 4)

    parts = setup.parts._replace(test=views._replace(view=small))
    with pytest.raises(ValueError, match=r"(?s)self-test: .*synthetic test 0.*pixels"):
        self_test(setup._replace(parts=parts), tau=0.8)


def test_stages_are_those_of_one_box_with_sets(setup):
    training = make_training()
    warm, grpo = chain(setup, training)
    assert (warm.name, grpo.name) == ("warm_start", "grpo")
    assert "quality" in grpo.show and "iou" not in grpo.show
    options = training.grpo[0]
    batch = next(
        iter(training_batches(setup, setup.task.train_batches, options, seed=0))
    )
    assert isinstance(batch, BoxSetBatch)
    columns = setup.task.columns(
        setup.task.find_records(setup.parts, grpo_encoding(setup, options), seed=0)(
            batch.sample_id.tolist()
        )
    )
    for n, target in enumerate(columns["target"]):
        np.testing.assert_allclose(
            np.reshape(target, (-1, 4)), batch.boxes[n][batch.box_valid[n]]
        )


def grpo_encoding(setup, options):
    return setup.encoding._replace(questions=options.questions)


def users_lines(folder):
    """Ten pictures: none, one, two or three boxes, some by a line each."""
    lines = []
    for n in range(10):
        pixels = np.random.default_rng(n).integers(0, 255, (60, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
        line = {"image": f"{n}.png", "query": "Find every nodule.", "label": "nodule"}
        line |= {"frame": "original", "patient": f"p{n}"}
        boxes = [[5 + 9 * k, 8, 30 + 9 * k, 40 + k] for k in range(n % 4)]
        if n < 5:
            lines.append(line | {"boxes": boxes})
        else:
            lines += [line | {"box": box} for box in boxes] or [line | {"boxes": []}]
    return lines


def write_lines(folder, lines):
    (folder / "boxes.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_a_users_sets(tmp_path):
    write_lines(tmp_path, users_lines(tmp_path))
    setup = make_setup(f"data={tmp_path}", data__answers="set")
    self_test(setup, tau=0.8)
    batches = setup.task.eval_batches(
        setup.parts, setup.encoding, batch=4, seed=0, limit=None
    )
    tested = [len(record.boxes) for _, part in batches for record in part]
    options = make_training().grpo[0]
    batch = next(
        iter(training_batches(setup, setup.task.train_batches, options, seed=0))
    )
    counts = batch.box_valid.sum(axis=1)
    assert len(tested) == 2 and {0, 1, 2, 3} >= set(counts.tolist()) > {0, 2}
    assert setup.parts.train.most == 3


@pytest.mark.parametrize("source", ["drawn", "a user's"])
def test_the_check_draws_all_boxes_back(source, tmp_path):
    if source == "drawn":
        setup = make_setup(data__answers="set")
        few = [v._replace(count=6) for v in (setup.parts.train, setup.parts.test)]
        setup = setup._replace(parts=setup.parts._replace(train=few[0], test=few[1]))
    else:
        write_lines(tmp_path, users_lines(tmp_path))
        setup = make_setup(f"data={tmp_path}", data__answers="set")
    report = examine_boxes(setup, [])
    found = [len(example["boxes"]) for example in report.document["examples"]]
    assert min(found) == 0 and max(found) > 1
    statistics = report.document["boxes"]["boxes a question"]
    assert statistics["min"] == 0 and statistics["max"] > 1
    assert read_sets("<think>x</think><answer>[]</answer>") == []
    for example in report.document["examples"]:
        assert example["answer"].count('"bbox_2d"') == len(example["boxes"])


@pytest.mark.parametrize(
    ("answers", "boxes", "message"),
    [
        ("one", 2, "line 11: 2 boxes answer .*expected one.*data.answers=set"),
        ("one", 0, "line 11: no boxes answer .*expected one.*data.answers=set"),
        ("set", 9, "line 11: 9 boxes answer 'Find two.' .*expected 8 at most"),
        ("two", 1, "data.answers='two': expected one of"),
    ],
)
def test_numbers_of_boxes_that_are_refused_by_line(tmp_path, answers, boxes, message):
    lines = [line for line in users_lines(tmp_path) if line.get("box")][:10]
    lines = [{**line, "query": f"Find {n}."} for n, line in enumerate(lines)]
    corners = [[1 + k, 2, 30 + k, 40] for k in range(boxes)]
    last = {k: v for k, v in lines[0].items() if k != "box"}
    write_lines(tmp_path, [*lines, last | {"query": "Find two.", "boxes": corners}])
    with pytest.raises(ValueError, match=message.replace("11", str(len(lines) + 1))):
        make_setup(f"data={tmp_path}", data__answers=answers)
    if answers == "set":
        kept = make_setup(
            f"data={tmp_path}", data__answers=answers, data__on_bad="drop"
        )
        assert len(kept.parts.dropped) == 1


def test_baselines_answer_every_record(setup):
    encoding = setup.encoding._replace(questions=3)
    batches = setup.task.eval_batches(setup.parts, encoding, batch=8, seed=0, limit=24)
    records = [record for _, part in batches for record in part]
    parts = setup.parts._replace(train=setup.parts.train._replace(count=60))
    found = make_set_baselines(parts, setup.policy.geometry, seed=0)(records)
    assert list(found) == ["no image: whole image", "no image: most common set"]
    whole, common = (scores(answers) for answers in found.values())
    assert whole["Q"] < 0.3 and whole["specificity"] == 0
    assert common["read"] == 1 and len(records) == 24
    assert all(answers.confidence is None for answers in found.values())


def record(n):
    return SetRecord(
        sample_id=n,
        image=np.full((40, 50, 3), 10 * n, np.uint8),
        query=f"Where is number {n}?",
        structure=("disc", "cross")[n % 2],
        boxes=np.array([[1, 2, 3, 4]] * (n % 3), np.float32).reshape(-1, 4),
        slice_id=f"slice {n // 2}",
        plane="axial",
        position=n,
        columns={},
    )


RECORDS = [record(n) for n in range(6)]
NUMBER = np.array([0, 1, 1, 0, 2, 9])  # boxes that each answer writes
READ = np.array([1, 1, 1, 1, 1, 0], bool)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT], 300)


def results(tokenizer):
    """Two batches of three answers and one row that fills the batch."""
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    for half in range(2):
        rows = [3 * half, 3 * half + 1, 3 * half + 2, 0]
        kept = np.where(READ, NUMBER, 0)[rows]
        valid = np.arange(8) < kept[:, None]
        boxes = np.where(valid[..., None], np.float32([1, 2, 3, 4]), 0)
        boxes[:, 1] *= 5  # the second box is somewhere else
        tokens = np.tile(np.int32(ids), (4, 1))
        metrics = {
            "quality": np.float32([0, 1, 0.5, 0, 0, 0])[rows],
            "parsed": READ[rows],
            "well_formed": READ[rows],
            "num_boxes": NUMBER[rows],
            "length": np.full(4, 7 + half),
            "valid": np.array([True, True, True, False]),
            "finite": np.ones(4, bool),
        }
        predictions = SetPredictions(
            boxes=boxes,
            box_valid=valid,
            confidence=np.where(valid, 0.75, 0),
            tokens=tokens,
            mask=np.ones_like(tokens, bool),
        )
        yield predictions, metrics, RECORDS[rows[0] : rows[0] + 3]


def baselines(records):
    silent = make_set_answers([()] * 6, np.ones(6), records)
    return {"no image: none": silent}


EVALUATION = Evaluation(
    every=0, batch=4, questions=1, limit=0, seed=0, bootstrap=20, level=0.9
)


def scorer(others, name, tokenizer, before):
    return partial(
        score_results,
        partial(score_sets, others),
        ScoredStage(name, tokenizer, EVALUATION, before),
    )


@pytest.fixture(scope="module")
def scored(tokenizer, tmp_path_factory):
    """(workdir, what the score function returned)."""
    workdir = tmp_path_factory.mktemp("run")
    score = partial(
        score_results,
        partial(score_sets, baselines),
        ScoredStage("warm", tokenizer, EVALUATION, {}),
    )
    return workdir, score(results(tokenizer), workdir / "warm" / "eval" / "8")


def test_numbers_of_an_evaluation(scored):
    _, values = scored
    # true 0 1 2 0 1 2, read 0 1 1 0 2 -: Q is 1, 1, 1/2, 1, 1/2, 0
    assert values["Q"] == pytest.approx(4 / 6)
    assert values["specificity"] == 1 and values["count"] == pytest.approx(3 / 6)
    assert values["F1@0.5"] == pytest.approx(2 * 3 / (4 + 6))
    assert values["read"] == values["format"] == pytest.approx(5 / 6)
    assert values["too many"] == pytest.approx(1 / 6)
    assert values["n"] == 6 and values["length"] == 7.5
    assert values["s@8"] == pytest.approx(3 / 6) and 0 < values["AP"] < 1


def test_what_is_answered_about_blank_pictures_is_a_row(scored, tokenizer, tmp_path):
    evaluation = EVALUATION._replace(no_image=True)
    score = partial(
        score_results,
        partial(score_sets, baselines),
        ScoredStage("warm", tokenizer, evaluation, {}),
    )
    blank = [
        (found._replace(box_valid=np.zeros_like(found.box_valid)), *rest)
        for found, *rest in results(tokenizer)
    ]
    folder = tmp_path / "warm" / "eval" / "8"
    assert score([*results(tokenizer), *blank], folder) == scored[1]
    lines = (folder / "tables.txt").read_text().splitlines()
    row = next(line for line in lines if line.startswith("no image: warm  "))
    # true 0 1 2 0 1 2, read none, but for the last: Q is 1, 0, 0, 1, 0, 0
    assert row.split()[4] == f"{2 / 6:.3f}"


def test_scores_of_nothing_are_left_out(tokenizer, tmp_path):
    score = partial(
        score_results,
        partial(score_sets, lambda records: {}),
        ScoredStage("w", tokenizer, EVALUATION, {}),
    )
    one = make_set_answers([()], np.ones(1), [record(1)])
    values = score(alone(tokenizer), tmp_path / "w" / "eval" / "1")
    assert "specificity" not in values and "matched IoU" not in values
    assert values["Q"] == scores(one)["Q"] == 0 and values["AP"] == 0
    json.dumps(values, allow_nan=False)


def alone(tokenizer):
    """A question with a box that was answered by none."""
    ((predictions, metrics, _), *_) = results(tokenizer)
    metrics = metrics | {"valid": np.array([True, False, False, False])}
    yield predictions, metrics, [record(1)]


def test_a_line_for_each_question(scored):
    path = scored[0] / "warm" / "eval" / "8" / "answers.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[1] == {
        "sample_id": 1,
        "slice": "slice 0",
        "query": "Where is number 1?",
        "structure": "cross",
        "targets": [[1, 2, 3, 4]],
        "boxes": [[1, 2, 3, 4]],
        "confidence": [0.75],
        "quality": 1.0,
        "text": TEXT,
    }
    assert rows[0]["boxes"] == [] and rows[5]["boxes"] is None


def test_tables_and_the_page(scored):
    folder = scored[0] / "warm"
    text = (folder / "eval" / "8" / "tables.txt").read_text()
    for name in (
        "warm",
        "no image: none",
        "COCO's AP",
        "specificity",
        "2-3",
        "s@0.125",
    ):
        assert name in text
    assert "warm, step 8" in (folder / "report.html").read_text()
    assert (folder / "figures" / "overlays.png").stat().st_size


def test_the_stage_before_is_compared_with_its_confidences(scored, tokenizer, tmp_path):
    before = {"earlier": scored[0] / "warm" / "eval"}
    score = partial(
        score_results,
        partial(score_sets, baselines),
        ScoredStage("grpo", tokenizer, EVALUATION, before),
    )
    values = score(results(tokenizer), tmp_path / "grpo" / "eval" / "3")
    assert values["Q"] == scored[1]["Q"]
    lines = (tmp_path / "grpo" / "eval" / "3" / "tables.txt").read_text().splitlines()
    rows = [line.split("  ")[0] for line in lines]
    assert rows.count("grpo") == rows.count("earlier") == 2  # ranked too
    cells = [line.split()[2:] for line in lines if line.startswith(("grpo", "earl"))]
    assert cells[0] == cells[1]
