"""Other runs beside an evaluation: a row each, or refused by name."""

import json

import pytest

from medjax.recipes.boxes.task import box_supervised_stage
from medjax.recipes.policy.beside import require_beside, rows_beside
from medjax.recipes.policy.evaluating import scoring
from medjax.recipes.policy.task import ScoredStage
from tests.recipes.smoke import make_setup, make_training

OPTIONS, FLAWS = make_training().warm_start


@pytest.fixture(scope="module")
def setup():
    return make_setup()


@pytest.fixture
def other(setup, tmp_path):
    """Answers of another run to the questions of `setup`, all right."""
    batches = list(scoring(setup, "sft", before={})["eval_batches"]())
    records = [record for _, some in batches for record in some][:16]
    folder = tmp_path / "run" / "sft" / "eval" / "9"
    folder.mkdir(parents=True)
    rows = [
        {
            "sample_id": record.sample_id,
            "slice": record.slice_id,
            "structure": record.structure,
            "box": record.box.tolist(),
            "iou": 1.0,
        }
        for record in records
    ]
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder.parent, rows


def beside(setup, place):
    evaluation = setup.evaluation._replace(beside={"sft": str(place)})
    return setup._replace(evaluation=evaluation)


def stage_of(setup):
    return box_supervised_stage("warm_start", setup, OPTIONS, FLAWS, before={})


def test_another_run_stands_in_the_tables_of_a_stage(setup, other):
    place, _ = other
    stage = stage_of(beside(setup, place))
    stage.check()  # asked the same
    scored = stage.score.args[-1]
    assert scored.before == {"run: sft": place}
    require_beside(scored, ["warm_start", "run: sft"])
    assert stage_of(setup).score.args[-1].before == {}  # none, as ever


def test_a_folder_without_answers_is_refused_at_once(setup, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"beside.sft: no answers.jsonl in .*"):
        stage_of(beside(setup, tmp_path))


@pytest.mark.parametrize("change", [{"sample_id": 5}, {"slice": "another"}])
def test_other_questions_are_refused_before_training(setup, other, change):
    place, rows = other
    changed = [*rows[:-1], rows[-1] | change]
    (place / "9" / "answers.jsonl").write_text("\n".join(map(json.dumps, changed)))
    with pytest.raises(ValueError, match=r"beside.sft: .* not about the questions"):
        stage_of(beside(setup, place)).check()


def test_fewer_questions_are_refused_before_training(setup, other):
    place, rows = other
    (place / "9" / "answers.jsonl").write_text("\n".join(map(json.dumps, rows[:9])))
    with pytest.raises(ValueError, match=r"evaluation.seed and evaluation.limit"):
        stage_of(beside(setup, place)).check()


def test_a_run_that_is_missing_in_the_tables_is_refused(setup, other):
    evaluation = beside(setup, other[0]).evaluation
    stage = ScoredStage("grpo", setup.policy.tokenizer, evaluation, {})
    with pytest.raises(ValueError, match="beside.sft"):
        require_beside(stage, ["grpo", "linear probe"])
    assert list(rows_beside(evaluation)) == ["run: sft"]
    assert rows_beside(setup.evaluation) == {}
