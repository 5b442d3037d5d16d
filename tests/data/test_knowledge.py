"""Descriptions of classes: the built-in ones are whole, bad files are refused."""

import json

import pytest

from medjax.data.class_tasks import TASKS
from medjax.data.knowledge import (
    built_in_descriptions,
    check_question_length,
    check_same_wording,
    load_descriptions,
    short_reasons,
    wording_identity,
)
from medjax.data.medmnist import SETS
from medjax.rl.words import split_words
from tests.data.toy_classes import TASK, make_encoding, make_wording

CLASSES = ("heart", "aorta")
GOOD = {"heart": "a muscle", "aorta": "a  tube\nwith blood"}


def write(tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "classes"),
    [(t.name, t.classes) for t in TASKS.values()]
    + [(name, s.classes) for name, s in SETS.items()],
)
def test_every_built_in_task_and_set_is_described(name, classes):
    found = load_descriptions(name, classes)
    assert len(found.texts) == len(classes) == len(set(found.texts))
    assert found.sources and all(found.sources)
    for text in found.texts:
        assert 4 <= len(split_words(text)) <= 30 and text.isascii()


def test_there_are_no_other_descriptions():
    assert set(built_in_descriptions()) == set(TASKS) | set(SETS)


def test_one_of_ones_own(tmp_path):
    path = write(tmp_path, {"task": "t", "sources": ["s"], "classes": GOOD})
    found = load_descriptions(path, CLASSES)
    assert found.texts == ("a muscle", "a tube with blood") and found.sources == ("s",)
    other = load_descriptions(path, CLASSES[::-1])
    assert other.texts == found.texts[::-1] and other.sha256 != found.sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("{", "not JSON"),
        ("[]", "expected .*classes"),
        ({"task": "t"}, "expected .*classes"),
        ({"classes": {}}, "0 classes"),
        ({"classes": GOOD, "source": []}, r"unknown keys \['source'\]"),
        ({"classes": {"heart": "a muscle"}}, r"no description of \['aorta'\]"),
        ({"classes": GOOD | {"liver": "x"}}, r"descriptions of \['liver'\]"),
        ({"classes": GOOD | {"heart": " "}}, "description of 'heart' is ' '"),
        ({"classes": GOOD | {"heart": 3}}, "description of 'heart' is 3"),
        ({"classes": GOOD | {"heart": "a</think>"}}, "'heart' holds </think>"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        load_descriptions(path, CLASSES)
    assert "mine.json" in str(caught.value)


def test_no_such_file():
    with pytest.raises(FileNotFoundError, match="expected one of .*ct_organ"):
        load_descriptions("ct_organs", CLASSES)


def test_training_and_test_have_the_same_words():
    train = wording_identity(make_wording())
    check_same_wording(train, wording_identity(make_wording()))
    with pytest.raises(ValueError, match="differ in their knowledge:"):
        check_same_wording(train, wording_identity(make_wording(knowledge=None)))
    other = make_wording()._replace(phrasings=1)
    with pytest.raises(ValueError, match="differ in their phrasings"):
        check_same_wording(train, wording_identity(other))


def test_questions_must_fit():
    wording = make_wording()
    encoding = make_encoding(wording)
    planes, style = ("axial",), encoding.style
    most = encoding.buckets.question[0]
    args = (encoding.tokenizer, wording, planes)
    longest = check_question_length(*args, style=style, length=most)
    assert most - 4 < longest <= most
    with pytest.raises(ValueError, match=r"takes \d+ tokens, \d+ of them descriptions"):
        check_question_length(*args, style=style, length=longest - 1)
    bare = (encoding.tokenizer, wording._replace(knowledge=None), planes)
    short = check_question_length(*bare, style=style, length=most)
    with pytest.raises(ValueError, match=f"takes {short} tokens, and there is room"):
        check_question_length(*bare, style=style, length=short - 1)
    assert short < longest


def test_short_reasons():
    texts = ("Bright, round tube; smooth.", "Grey")
    assert short_reasons(texts, 3) == ("Bright, round tube", "Grey")
    with pytest.raises(ValueError, match="0 words"):
        short_reasons(texts, 0)
    assert TASK.classes[0] == "dark"
