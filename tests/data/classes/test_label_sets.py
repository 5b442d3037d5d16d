"""Tasks of several labels: words, batches, balance and baselines."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medjax.data.classes.batches import (
    eval_label_batches,
    find_label_records,
    train_label_batches,
)
from medjax.data.classes.label_sets import (
    balance_label_sets,
    most_common_set,
    prevalence_draws,
    probe_sets,
    rarest_labels,
)
from medjax.data.classes.pictures import Picture, Pictures
from medjax.data.classes.tasks import (
    NOTHING,
    ClassQuestion,
    ClassTask,
    Wording,
    check_task,
    class_answers,
    label_instruction,
    labels_answer,
    question_texts,
)
from medjax.rl.text.label_set_text import parse_label_set_text
from tests.data.toy_classes import make_encoding

CLASSES = ("edema", "mass", "nodule")
TASK = ClassTask(
    "signs",
    CLASSES,
    (ClassQuestion("class", ("Which are seen?", "Name them."), (0, 1, 2)),),
    multi=True,
)
REASONS = ("hazy all over", "a large spot", "a small spot", NOTHING)
WORDING = Wording(TASK, None, REASONS, 2)
SETS = ((), (0,), (0, 1), (2,), (0, 1, 2), ())


def marks_of(sets):
    marks = np.zeros((len(sets), 3), np.int32)
    for n, labels in enumerate(sets):
        marks[n, list(labels)] = 1
    return marks


def make_pictures(sets=SETS):
    """A bright third for each class."""

    def picture(n, rng):
        image = rng.integers(0, 40, (28, 28, 3)).astype(np.uint8)
        for label in sets[n]:
            image[:, 9 * label : 9 * label + 9] += 120
        return Picture(image, f"toy {n}", f"patient {n // 2}", "axial", {"n": n})

    return Pictures(len(sets), picture, marks_of(sets), ((28, 28),), ("axial",))


@pytest.mark.parametrize(
    ("labels", "answer", "text"),
    [
        ((0, 2), "letter", "<think>hazy all over, a small spot</think><answer>A, C"),
        ((1,), "name", "<think>a large spot</think><answer>mass"),
        ((), "letter", f"<think>{NOTHING}</think><answer>none"),
    ],
)
def test_written_answers_are_read_back(labels, answer, text):
    written = labels_answer(WORDING, labels, answer=answer)
    assert written == text + "</answer>"
    parsed = parse_label_set_text(written, check_task(TASK, answer))
    assert parsed.parsed and parsed.well_formed
    assert tuple(np.flatnonzero(parsed.shown)) == labels


def test_the_prompt_says_that_several_can_be_right():
    for answer, options in (
        ("letter", "A edema, B mass, C nodule"),
        ("name", "edema,"),
    ):
        text = question_texts(WORDING, 0, plane="", answer=answer)[0]
        assert f"Options: {options}" in text
        assert text.endswith("Several can be right, or none.")
    one = WORDING._replace(task=TASK._replace(multi=False))
    assert "Several" not in question_texts(one, 0, plane="", answer="letter")[0]
    told = label_instruction("letter", multi=True)
    assert "letters of all right options" in told and "or none, alone" in told
    assert "<answer>letter, letter</answer>" in told
    with pytest.raises(ValueError, match="answer style 'grade': expected one of"):
        label_instruction("grade", multi=True)
    assert class_answers(WORDING, answer="letter")[3].endswith("<answer>none</answer>")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ordinal": True}, "grades exclude each other"),
        ({"classes": ("edema", "None", "mass")}, "is the word for a picture"),
        ({"classes": ("edema", "a, b", "mass")}, "holds a comma"),
        (
            {"questions": (ClassQuestion("x", ("Which?",), (0, 1)),)},
            "one question, whose options are all classes",
        ),
        ({"questions": TASK.questions * 2}, "one question"),
    ],
)
def test_tasks_that_cannot_have_several_labels(changes, message):
    with pytest.raises(ValueError, match=message):
        check_task(TASK._replace(**changes), "letter")


@pytest.fixture(scope="module")
def encoding():
    return make_encoding(WORDING, questions=1)


def test_batches_carry_marks_of_the_truth(encoding):
    encoding = encoding._replace(
        buckets=encoding.buckets._replace(answer=(encoding.buckets.answer[0] * 3,))
    )
    pictures = make_pictures()
    (batch, records), *_ = eval_label_batches(
        pictures, WORDING, encoding, batch=8, seed=0
    )
    assert batch.label.shape == (8, 3) and batch.label.dtype == bool
    assert np.array_equal(batch.label[:6], marks_of(SETS) > 0)
    assert batch.valid.tolist() == [True] * 6 + [False] * 2
    assert [record.labels for record in records] == list(SETS)
    assert [record.name for record in records][:3] == ["none", "edema", "edema, mass"]
    texts = [
        encoding.tokenizer.decode(row[mask], skip_special_tokens=True)
        for row, mask in zip(batch.answer, batch.answer_mask, strict=True)
    ]
    forms = check_task(TASK, "letter")
    for text, labels in zip(texts, SETS, strict=False):
        shown = parse_label_set_text(text, forms).shown
        assert np.flatnonzero(shown).tolist() == list(labels)

    stream = {"batch": 6, "seed": 1, "process_index": 0, "process_count": 1}
    true = next(
        iter(train_label_batches(pictures, WORDING, encoding, noise=0.0, **stream))
    )
    coarse = next(
        iter(train_label_batches(pictures, WORDING, encoding, noise=1.0, **stream))
    )
    assert np.array_equal(true.label, coarse.label)  # the truth stays
    again = find_label_records(pictures, WORDING, encoding, seed=1)(true.sample_id)
    for record, row, mask, right in zip(
        again, coarse.answer, coarse.answer_mask, true.label, strict=True
    ):
        text = encoding.tokenizer.decode(row[mask], skip_special_tokens=True)
        wrong = parse_label_set_text(text, forms).shown
        assert np.flatnonzero(right).tolist() == list(record.labels)
        assert (wrong != right).sum() == 1
        assert wrong.sum() == (right.sum() - 1 if right.any() else 1)


def test_rarest_classes_and_none_come_equally_often():
    labels = marks_of([(), (), (), (), (0,), (0,), (0, 1), (0, 1), (0, 2)])
    kinds = rarest_labels(labels)
    assert kinds.tolist() == [3, 3, 3, 3, 0, 0, 1, 1, 2]
    pictures = Pictures(9, None, labels, ((1, 1),))
    balanced = balance_label_sets(pictures)
    sets, counts = np.unique(balanced.labels, axis=0, return_counts=True)
    assert counts.tolist() == [4] * 4 and len(sets) == 4


def test_baselines_know_the_training_part_alone():
    labels = marks_of([(0, 1), (0, 1), (), (2,)])
    assert most_common_set(labels).tolist() == [True, True, False]
    assert most_common_set(labels[2:]).tolist() == [False] * 3
    drawn = prevalence_draws(labels, 20_000, seed=0)
    assert drawn.mean(axis=0) == pytest.approx([0.5, 0.5, 0.25], abs=0.015)
    assert np.array_equal(drawn, prevalence_draws(labels, 20_000, seed=0))


def test_the_probe_names_what_is_bright(encoding):
    rng = np.random.default_rng(0)
    sets = [tuple(np.flatnonzero(rng.random(3) < 0.4).tolist()) for _ in range(60)]
    train, test = make_pictures(sets[:40]), make_pictures(sets[40:])
    ((_, records),) = list(
        eval_label_batches(
            test,
            WORDING,
            encoding._replace(
                buckets=encoding.buckets._replace(
                    answer=(encoding.buckets.answer[0] * 3,)
                )
            ),
            batch=20,
            seed=0,
        )
    )
    how = {"side": 3, "draws": 1, "penalty": 1e-3, "seed": 0}
    score = probe_sets(train, records, **how)
    assert np.array_equal(score > 0, test.labels > 0)
    # a picture shows it in one third, so an independent model agrees on the sign
    pixels = np.stack([r.image.mean(axis=(0, 2)) for r in records]) / 255
    model = LogisticRegression(C=1e3, class_weight="balanced").fit(
        pixels, test.labels[:, 0]
    )
    assert np.array_equal(model.predict(pixels) > 0, score[:, 0] > 0)
    never = make_pictures([x if 2 not in x else (0,) for x in sets[:40]])
    assert (probe_sets(never, records, **how)[:, 2] < 0).all()
