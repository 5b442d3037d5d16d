"""What stages of every kind share: batches, identity, evaluation."""

import json
from functools import partial

import numpy as np
import pytest

from medjax.data.lists.reading import Bad
from medjax.recipes.boxes.task import (
    BoxFlaws,
    box_supervised_stage,
    draw_batches,
)
from medjax.recipes.policy.evaluating import scoring
from medjax.recipes.policy.identity import data_facts, identity
from medjax.recipes.policy.stages import training_batches
from medjax.recipes.sections import plain
from medjax.runtime.naming import differences
from tests.recipes.smoke import make_setup, make_training


@pytest.fixture(scope="module")
def setup():
    return make_setup()


OPTIONS, FLAWS = make_training().warm_start
DOCUMENT = plain(OPTIONS)


def draw(setup, flaws=FLAWS, seed=0):
    loosened = partial(draw_batches, flaws)
    return next(iter(training_batches(setup, loosened, OPTIONS, seed=seed)))


def test_training_batches_follow_their_options(setup):
    batch = draw(setup)
    assert batch.prompt.context.tokens.shape[0] == OPTIONS.batch
    assert batch.valid.shape == (OPTIONS.batch * OPTIONS.questions,)
    again = draw(setup)
    np.testing.assert_array_equal(batch.answer, again.answer)
    tight = draw(setup, BoxFlaws(loose=()))
    np.testing.assert_array_equal(tight.boxes, batch.boxes)
    assert (tight.answer != batch.answer).any()
    other = draw(setup, seed=1)
    assert (other.boxes != batch.boxes).any()


def test_identity_is_json_and_names_what_changed(setup):
    before = json.loads(json.dumps(identity(setup, DOCUMENT)))
    assert differences(before, identity(setup, DOCUMENT)) == []
    for change, name in (
        ({"policy__width": 32, "policy__head_dim": 16}, "policy.width"),
        ({"policy__dtype": "bfloat16"}, "policy.dtype"),
        ({"policy__freeze_vision": True}, "policy.freeze_vision"),
        ({"policy__vision__window": 28}, "policy.vision.window"),
        ({"policy__max_pixels": 6272}, "images.max_pixels"),
        ({"prompt__suffix": " Be brief."}, "prompt.suffix"),
        ({"data__size": (70, 70)}, "data.size"),
        ({"data__ramps": True}, "images.ramps"),
    ):
        other = make_setup(**change)
        lines = differences(before, identity(other, DOCUMENT))
        assert any(line.startswith(f"{name}: ") for line in lines), (name, lines)
    lines = differences(before, identity(setup, {**DOCUMENT, "batch": 9}))
    assert lines == ["options.batch: the checkpoint has 8, this run has 9"]


def test_what_bears_on_no_number_is_not_part_of_the_identity(setup):
    change = {"policy__remat": "full", "evaluation__limit": 3}
    other = make_setup(**change)
    assert identity(other, DOCUMENT) == identity(setup, DOCUMENT)


def test_a_manifest_says_what_was_left_out_and_names_nobody(setup):
    assert data_facts(setup.parts) == {}
    dropped = (Bad("l.jsonl, line 3", "l.jsonl, line 3: patient 'P1', but 'p1' in"),)
    parts = setup.parts._replace(dropped=dropped, notes=("2 readers",))
    assert data_facts(parts) == {
        "lines_left_out": ["l.jsonl, line 3"],
        "data_notes": ["2 readers"],
    }


def test_evaluation_asks_every_question_once(setup):
    fields = scoring(setup, "warm_start", before={})
    assert fields["evaluate_every"] == 0
    everything = [r for _, records in fields["eval_batches"]() for r in records]
    assert len(everything) == 2 * setup.evaluation.limit == 32
    asked, blank = everything[:16], everything[16:]  # again without pictures
    assert [r.sample_id for r in blank] == [r.sample_id for r in asked]
    seeing = setup._replace(evaluation=setup.evaluation._replace(no_image=False))
    batches = scoring(seeing, "warm_start", before={})["eval_batches"]()
    alone = [r.sample_id for _, records in batches for r in records]
    assert alone == [r.sample_id for r in asked]
    again = [r for _, records in fields["eval_batches"]() for r in records]
    assert [r.sample_id for r in again] == [r.sample_id for r in everything]
    assert len({r.sample_id for r in asked}) == 16


def test_supervised_stage(setup):
    stage = box_supervised_stage("sft", setup, OPTIONS, FLAWS, before={})
    assert (stage.name, stage.steps) == ("sft", 4)
    assert "loss" in stage.show
    assert stage.identity["options"]["loose"] == FLAWS.loose
    stage.check()
