"""The smallest pretraining: its answers fit, and its options are read."""

import jax
import numpy as np
import pytest

from configs.common import get_rules
from configs.pretrain import get_config
from medjax.data.boxes.batches import eval_batches
from medjax.recipes.boxes.data import BoxPrompt, box_style
from medjax.recipes.boxes.pretraining import PretrainData, pretrain_setup
from medjax.recipes.boxes.task import WARM_TAU, self_test
from medjax.recipes.policy.opening import open_policy
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.pretrain import FIRST, STAGE, export, halved, stages
from medjax.recipes.sections import read_section
from medjax.rl.text.box_text import parse_text
from medjax.sharding import make_mesh
from tests.recipes.smoke import LOOP, POLICY, WHERE


def sections(**changes):
    """Sections of the config `smoke`; changes by dotted name, `__` for the dot."""
    config = get_config("smoke")
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    with config.ignore_type():
        config.update_from_flattened_dict(POLICY | dotted)
    found = config.to_dict()
    return {name: found[name] for name in found if name not in LOOP}


def make_setup(**changes):
    found = sections(**changes)
    return pretrain_setup(
        read_section(PretrainData, "data", found["data"]),
        box_style(BoxPrompt(**found["prompt"]), answers="one"),
        open_policy(found["policy"]),
        read_section(Evaluation, "evaluation", found["evaluation"]),
        **WHERE,
    )


def test_answers_tell_attributes_and_earn_their_reward():
    setup = make_setup()
    self_test(setup, tau=WARM_TAU)
    encoding = setup.encoding._replace(questions=4)
    batch, records = next(eval_batches(setup.parts.test, encoding, batch=2, seed=0))
    for row, mask, record in zip(batch.answer, batch.answer_mask, records, strict=True):
        text = setup.policy.tokenizer.decode(row[mask][:-1])
        assert text.startswith(f"<think>synthetic generated; {record.structure}: ")
        np.testing.assert_array_equal(parse_text(text).boxes, np.round(record.box))
        assert record.plane == "shapes synthetic"


def test_the_stages_are_as_the_config_says():
    first, stage = stages(**sections(), **WHERE)
    assert first.name == FIRST and first.eval_batches is None
    assert stage.name == STAGE and stage.steps == 4 and stage.start is None
    assert stage.identity["data"]["held_out"]["structures"]["mr_dk"]
    assert first.identity["data"]["changes"]["turn"] == 0
    assert stage.identity["data"]["changes"]["turn"] > 0
    (alone,) = stages(**sections(warm_start__steps=0), **WHERE)
    assert alone.name == STAGE
    with pytest.raises(ValueError, match="expected some of the sources"):
        stages(**sections(data__plain=("mr_dk",)), **WHERE)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"data__shares": {"mr": 1.0}}, "source 'mr': expected one of"),
        (
            {"data__shares": {"mr_dk": 1.0}, "data__structures__mr_dk": "left putamen"},
            "left putamen, which the table",
        ),
        ({"data__colour": True}, 'no option "colour"'),
    ],
)
def test_wrong_options_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        make_setup(**changes)


def test_the_default_policy_is_small_enough_to_be_shipped():
    opening = open_policy(get_config().policy.to_dict())
    style = box_style(BoxPrompt("", "", "object"), answers="one")
    policy = opening.finish(("Find the disc.",), ("<think>disc</think>",), style=style)
    shapes = jax.eval_shape(policy.model.init, jax.random.key(0))
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert 2_000_000 <= count <= 4_000_000 and 2 * count < 8_000_000  # bytes, float16


def test_weights_that_are_too_large_for_float16_are_refused_by_name():
    tree = {"embed": np.ones(3, np.float32), "head": np.array([1.0, 7e4], np.float32)}
    with pytest.raises(ValueError, match=r"float16: \['head'\]; expected magnitudes"):
        halved(tree)
    assert halved({"embed": tree["embed"]})["embed"].dtype == np.float16


def test_an_export_needs_a_checkpoint(tmp_path):
    where = {"seed": 0, "workdir": tmp_path}
    mesh = make_mesh({"data": -1, "fsdp": 1, "model": 1})
    with pytest.raises(FileNotFoundError, match="no checkpoint to export; train first"):
        export(**sections(), **where, mesh=mesh, rules=get_rules())
    assert not (tmp_path / "policy").exists()


def test_an_export_leaves_a_folder_that_is_there(tmp_path):
    card = tmp_path / "policy" / "README.md"
    card.parent.mkdir()
    card.write_text("mine")
    mesh = make_mesh({"data": -1, "fsdp": 1, "model": 1})
    with pytest.raises(FileExistsError, match="move or remove it"):
        export(**sections(), seed=0, workdir=tmp_path, mesh=mesh, rules=get_rules())
    assert card.read_text() == "mine"
