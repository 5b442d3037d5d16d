"""Rewards in Python: what they are given, and what they may not return."""

import jax
import numpy as np
import pytest

from medjax.data.batches import Encoding
from medjax.data.boxes.batches import find_records, train_batches
from medjax.data.boxes.synthetic import synthetic_views
from medjax.data.classes.batches import LabelRecord
from medjax.data.prompting.chat import Style, corpus, longest_answers, sample_answers
from medjax.data.prompting.layout import Geometry
from medjax.data.prompting.prompts import plan_buckets
from medjax.data.prompting.tokenizer import ANSWER_TAGS, train_tokenizer
from medjax.recipes.boxes.task import box_columns
from medjax.recipes.classes.task import label_columns
from medjax.recipes.policy import python_rewards
from medjax.recipes.policy.python_rewards import (
    load_reward,
    make_host_rewards,
)
from medjax.rl.schedules import piecewise_schedule
from medjax.rl.threshold import init_threshold
from medjax.types import Rollout

STYLE = Style(None, "", "object")
GROUP = 2


@pytest.fixture(scope="module")
def views():
    return synthetic_views(count=20, size=(56, 56), part="train", num_phrasings=2)


@pytest.fixture(scope="module")
def encoding(views):
    answers = sample_answers(views.names, style=STYLE.answer)
    tokenizer = train_tokenizer(
        corpus(views.texts, answers, STYLE), 400, extra_tokens=ANSWER_TAGS
    )
    geometry = Geometry(7, 2, 2, 56, 56 * 56, 112 * 112)
    buckets = plan_buckets(
        tokenizer,
        views.texts,
        longest_answers(views.names, sizes=views.sizes, style=STYLE.answer),
        [(56, 56)],
        style=STYLE,
        geometry=geometry,
        slots=1,
        multiple=4,
    )
    return Encoding(tokenizer, STYLE, geometry, buckets, 3)


@pytest.fixture(scope="module")
def batch(views, encoding):
    source = train_batches(
        views,
        encoding,
        batch=4,
        seed=5,
        loose=None,
        process_index=0,
        process_count=1,
    )
    iterator = iter(source)
    next(iterator)
    return next(iterator)


def rollout_of(batch):
    """The right answer and an empty one, for every prompt."""
    right = np.stack([batch.answer, np.zeros_like(batch.answer)], axis=1)
    mask = np.stack([batch.answer_mask, np.zeros_like(batch.answer_mask)], axis=1)
    zeros = np.zeros(mask.shape, np.float32)
    return Rollout(right, mask, zeros, zeros)


def test_records_are_those_of_the_batch(views, encoding, batch):
    records = find_records(views, encoding, seed=5)(batch.sample_id)
    np.testing.assert_allclose([r.box for r in records], batch.boxes)
    tokens = batch.prompt.question
    for record, row, mask in zip(records, tokens.tokens, tokens.mask, strict=True):
        assert record.query in encoding.tokenizer.decode(row[mask])


def test_functions_get_texts_and_columns(views, encoding, batch, monkeypatch):
    seen = {}

    def says_structure(completions, structure, **columns):
        seen.update(columns)
        return [
            None if not text else float(name in text)
            for text, name in zip(completions, structure, strict=True)
        ]

    monkeypatch.setattr(python_rewards, "load_reward", lambda place: says_structure)
    rewards = make_host_rewards(
        {"says": "mine.py:says_structure"},
        encoding.tokenizer,
        find_records(views, encoding, seed=5),
        box_columns,
    )
    threshold = jax.device_get(init_threshold(piecewise_schedule()))
    found = rewards(batch, rollout_of(batch), np.int32(7), threshold)
    np.testing.assert_array_equal(found["says"].values[:, 0], 1)
    assert found["says"].scored[:, 0].all() and not found["says"].scored[:, 1].any()
    assert np.isfinite(found["says"].values).all()
    assert seen["step"] == 7
    assert seen["tau"] == pytest.approx(0.3)
    assert set(seen) >= {"query", "target", "slice_id", "plane"}
    assert len(seen["query"]) == len(batch.boxes) * GROUP


def test_classes_have_columns_of_their_own():
    record = LabelRecord(
        sample_id=3,
        image=np.zeros((2, 2, 3), np.uint8),
        query="How large?",
        question="size",
        labels=(2,),
        name="large",
        slice_id="axial 3",
        group="axial 3",
        plane="axial",
        columns={},
    )
    found = label_columns([record, record])
    assert found["target"] == ["large"] * 2 and found["label"] == [2] * 2
    assert {len(column) for column in found.values()} == {2}


def test_a_wrong_count_is_named(views, encoding, batch, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def short(completions, **_):\n    return [1.0]\n")
    rewards = make_host_rewards(
        {"short": f"{file}:short"},
        encoding.tokenizer,
        find_records(views, encoding, seed=5),
        box_columns,
    )
    threshold = jax.device_get(init_threshold(piecewise_schedule()))
    with pytest.raises(ValueError, match="'short' gave 1 numbers for 24 completions"):
        rewards(batch, rollout_of(batch), np.int32(0), threshold)


def test_a_number_that_is_not_finite_is_named(views, encoding, batch, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def bad(completions, **_):\n    return [float('nan')] * 24\n")
    rewards = make_host_rewards(
        {"bad": f"{file}:bad"},
        encoding.tokenizer,
        find_records(views, encoding, seed=5),
        box_columns,
    )
    threshold = jax.device_get(init_threshold(piecewise_schedule()))
    with pytest.raises(ValueError, match="'bad' gave nan for .*None where it cannot"):
        rewards(batch, rollout_of(batch), np.int32(0), threshold)


def test_functions_are_loaded_from_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def longer(completions, **_):\n    return [*map(len, completions)]\n"
    )
    assert load_reward(f"{file}:longer")(completions=["abc", ""]) == [3, 0]
    with pytest.raises(ValueError, match="no function 'shorter'"):
        load_reward(f"{file}:shorter")
    with pytest.raises(FileNotFoundError, match=r"FILE\.py:NAME"):
        load_reward("nowhere.py:f")
