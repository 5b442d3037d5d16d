"""What stages of every kind share: batches, identity, evaluation."""

import json

import numpy as np
import pytest

from medjax.recipes.boxes.task import make_setup
from medjax.recipes.policy.stages import (
    identity,
    scoring,
    supervised_stage,
    training_batches,
)
from medjax.runtime.naming import differences
from tests.recipes.smoke import WHERE, sections, setup_sections


@pytest.fixture(scope="module")
def setup():
    return make_setup(**WHERE, **setup_sections())


OPTIONS = sections()["warm_start"]


def test_training_batches_follow_their_options(setup):
    batch = next(iter(training_batches(setup, OPTIONS, seed=0)))
    assert batch.prompt.context.tokens.shape[0] == OPTIONS["batch"]
    assert batch.valid.shape == (OPTIONS["batch"] * OPTIONS["questions"],)
    again = next(iter(training_batches(setup, OPTIONS, seed=0)))
    np.testing.assert_array_equal(batch.answer, again.answer)
    tight = next(iter(training_batches(setup, {**OPTIONS, "loose": ()}, seed=0)))
    np.testing.assert_array_equal(tight.boxes, batch.boxes)
    assert (tight.answer != batch.answer).any()
    other = next(iter(training_batches(setup, OPTIONS, seed=1)))
    assert (other.boxes != batch.boxes).any()


def test_identity_is_json_and_names_what_changed(setup):
    before = json.loads(json.dumps(identity(setup, OPTIONS)))
    assert differences(before, identity(setup, OPTIONS)) == []
    for change, name in (
        ({"policy__width": 32, "policy__head_dim": 16}, "policy.width"),
        ({"policy__dtype": "bfloat16"}, "policy.dtype"),
        ({"policy__vision__window": 28}, "policy.vision.window"),
        ({"policy__max_pixels": 6272}, "images.max_pixels"),
        ({"prompt__suffix": " Be brief."}, "prompt.suffix"),
        ({"data__size": (70, 70)}, "data.size"),
        ({"data__ramps": True}, "images.ramps"),
    ):
        other = make_setup(**WHERE, **setup_sections(**change))
        lines = differences(before, identity(other, OPTIONS))
        assert any(line.startswith(f"{name}: ") for line in lines), (name, lines)
    lines = differences(before, identity(setup, {**OPTIONS, "batch": 9}))
    assert lines == ["options.batch: the checkpoint has 8, this run has 9"]


def test_what_bears_on_no_number_is_not_part_of_the_identity(setup):
    change = {"policy__remat": "full", "evaluation__limit": 3}
    other = make_setup(**WHERE, **setup_sections(**change))
    assert other.policy.config.remat == "full"
    assert identity(other, OPTIONS) == identity(setup, OPTIONS)


def test_evaluation_asks_every_question_once(setup):
    fields = scoring(setup, "warm_start", before={})
    assert fields["evaluate_every"] == 0
    asked = [r for _, records in fields["eval_batches"]() for r in records]
    assert len(asked) == setup.evaluation["limit"] == 16
    again = [r for _, records in fields["eval_batches"]() for r in records]
    assert [r.sample_id for r in again] == [r.sample_id for r in asked]
    assert len({r.sample_id for r in asked}) == 16


def test_supervised_stage(setup):
    stage = supervised_stage("sft", setup, OPTIONS, before={})
    assert (stage.name, stage.steps) == ("sft", 4)
    assert "loss" in stage.show
    assert stage.identity["options"]["loose"] == OPTIONS["loose"]
    stage.check()
