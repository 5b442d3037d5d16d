"""Batches of classes: determinism, resumption, right labels, answers and noise."""

import numpy as np
import pytest

from medjax.data.classes.batches import (
    eval_label_batches,
    find_label_records,
    train_label_batches,
)
from medjax.data.classes.tasks import check_task
from medjax.rl.text.label_text import parse_label_text
from medjax.types import LabelBatch
from tests.data.toy_classes import GRADED, make_encoding, make_pictures, make_wording


@pytest.fixture(scope="module")
def wording():
    return make_wording()


@pytest.fixture(scope="module")
def encoding(wording):
    return make_encoding(wording)


def train(wording, encoding, **changes):
    options = {"batch": 4, "seed": 3, "noise": 0.0}
    options |= {"process_index": 0, "process_count": 1}
    pictures = make_pictures(questions=len(wording.task.questions))
    return train_label_batches(pictures, wording, encoding, **(options | changes))


def answers(batch, encoding):
    return [
        encoding.tokenizer.decode(row[mask], skip_special_tokens=True)
        for row, mask in zip(batch.answer, batch.answer_mask, strict=True)
    ]


def read(batch, wording, encoding):
    forms = check_task(wording.task, encoding.style.answer)
    parsed = [parse_label_text(text, forms) for text in answers(batch, encoding)]
    assert all(p.well_formed for p in parsed)
    return np.array([int(p.label) for p in parsed])


def equal(one, other):
    import jax

    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_a_batch_has_the_arrays_of_its_record(wording, encoding):
    batch = next(iter(train(wording, encoding)))
    assert isinstance(batch, LabelBatch)
    assert batch.prompt.question.tokens.shape[0] == 8 and batch.valid.all()
    assert batch.label.dtype == np.int32 and batch.label.shape == (8,)
    assert batch.answer.shape == batch.answer_mask.shape
    assert len(set(batch.sample_id.tolist())) == 8
    # both questions about each picture, in one order or the other
    tone = batch.label.reshape(4, 2) < 3
    assert (tone.sum(axis=1) == 1).all()
    assert np.array_equal(read(batch, wording, encoding), batch.label)


def test_the_question_a_row_asks_belongs_to_its_label(wording, encoding):
    batch = next(iter(train(wording, encoding)))
    questions = batch.prompt.question
    for tokens, mask, label in zip(
        questions.tokens, questions.mask, batch.label, strict=True
    ):
        text = encoding.tokenizer.decode(tokens[mask])
        assert ("Options: A dark" in text) == (label < 3)


def test_deterministic_resumable_and_shared_among_hosts(wording, encoding):
    source = train(wording, encoding)
    one, two = iter(source), iter(train(wording, encoding))
    first = [next(one) for _ in range(4)]
    assert all(equal(batch, next(two)) for batch in first)
    it = iter(source)
    next(it)
    state = it.get_state()
    again = iter(train(wording, encoding))
    again.set_state(state)
    assert equal(next(again), first[1])
    host = iter(train(wording, encoding, batch=2, process_index=1, process_count=2))
    ids = next(host).sample_id.reshape(2, 2)
    assert np.array_equal(ids, first[0].sample_id.reshape(4, 2)[2:])
    assert not equal(next(iter(train(wording, encoding, seed=4))), first[0])


def test_records_are_found_again(wording, encoding):
    batch = next(iter(train(wording, encoding)))
    find = find_label_records(make_pictures(), wording, encoding, seed=3)
    records = find(batch.sample_id)
    assert [r.label for r in records] == batch.label.tolist()
    assert [r.sample_id for r in records] == batch.sample_id.tolist()
    assert all(wording.task.classes[r.label] == r.name for r in records)
    assert all(r.columns["n"] == int(r.slice_id.split()[1]) for r in records)


def test_noise_changes_answers_only(wording, encoding):
    clean = next(iter(train(wording, encoding, batch=12)))
    noisy = next(iter(train(wording, encoding, batch=12, noise=0.5)))
    assert equal(clean.prompt, noisy.prompt) and equal(clean.label, noisy.label)
    said = read(noisy, wording, encoding)
    wrong = said != clean.label
    assert 4 <= wrong.sum() <= 20
    assert ((said < 3) == (clean.label < 3)).all()  # an option of the same question
    everything = next(iter(train(wording, encoding, batch=12, noise=1.0)))
    assert (read(everything, wording, encoding) != clean.label).all()


def test_noise_of_grades_is_a_neighbour():
    wording = make_wording(GRADED)
    encoding = make_encoding(wording, answer="grade", questions=1)
    batch = next(iter(train(wording, encoding, batch=24, noise=1.0)))
    said = read(batch, wording, encoding)
    assert (np.abs(said - batch.label) == 1).all()
    assert set(said[batch.label == 1]) == {0, 2}
    assert answers(batch, encoding)[0].endswith(f"<answer>{said[0] + 1}</answer>")


def test_more_questions_than_the_task_has_are_asked_again(wording, encoding):
    batch = next(iter(train(wording, encoding._replace(questions=3))))
    tones = (batch.label.reshape(4, 3) < 3).sum(axis=1)
    assert set(tones.tolist()) <= {1, 2}


def test_evaluation_asks_everything_once(wording, encoding):
    pictures = make_pictures()
    batches = list(eval_label_batches(pictures, wording, encoding, batch=5, seed=0))
    records = [r for _, some in batches for r in some]
    assert len(batches) == 3 and len(records) == 24
    assert {(r.slice_id, r.question) for r in records} == {
        (f"toy {n}", q) for n in range(12) for q in ("tone", "side")
    }
    valid = np.concatenate([b.label[b.valid] for b, _ in batches])
    assert valid.tolist() == [r.label for r in records]
    assert batches[-1][0].valid.tolist() == [True] * 4 + [False] * 6
    assert records[5].group == "patient 1"
    again = list(eval_label_batches(pictures, wording, encoding, batch=5, seed=0))
    assert all(equal(a, b) for (a, _), (b, _) in zip(batches, again, strict=True))


def test_one_question_a_row_and_a_limit(wording, encoding):
    pictures, alone = make_pictures(), encoding._replace(questions=1)
    batches = list(eval_label_batches(pictures, wording, alone, batch=4, seed=0))
    assert sum(len(some) for _, some in batches) == 24
    some = list(
        eval_label_batches(pictures, wording, encoding, batch=2, seed=0, limit=5)
    )
    records = [r for _, kept in some for r in kept]
    assert len(records) == 5 and len({r.sample_id for r in records}) == 5
    assert [r.slice_id for r in records] != [f"toy {n // 2}" for n in range(5)]
