"""Descriptions of classes: the built-in ones are whole, bad files are refused."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from medjax.data.classes import knowledge
from medjax.data.classes.built_in import TASKS, built_in_task
from medjax.data.classes.knowledge import (
    built_in_descriptions,
    check_question_length,
    check_same_wording,
    load_descriptions,
    short_reasons,
    wording_identity,
)
from medjax.data.classes.medmnist_sets import SETS
from medjax.data.classes.pictures import PictureLook
from medjax.rl.text.words import split_words
from tests.data.toy_classes import TASK, make_encoding, make_wording

CLASSES = ("heart", "aorta")
GOOD = {"heart": "a muscle", "aorta": "a  tube\nwith blood"}


def write(tmp_path, content):
    path = tmp_path / "mine.json"
    content = json.dumps(content) if isinstance(content, list | dict) else content
    path.write_text(content, encoding="utf-8")
    return path


def load_file(name):
    folder = Path(knowledge.__file__).parent / "descriptions"
    return json.loads((folder / f"{name}.json").read_text())


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
    # a tiny policy's reasoning has five words, and they have to tell the classes apart
    assert len(set(short_reasons(found.texts, 5))) == len(classes)


@pytest.mark.parametrize("name", built_in_descriptions())
def test_sources_can_be_looked_up(name):
    """A year of publication, a module that draws, or a pack."""
    sources = load_file(name)["sources"]
    assert any(re.search(r"\b(19|20)\d\d\b|medjax\.data", text) for text in sources)
    assert not any("(general)" in text for text in sources)


@pytest.mark.parametrize(
    "name", ["ct_organ", "organamnist", "organcmnist", "organsmnist"]
)
def test_crops_are_not_described_by_places_in_the_picture(name):
    for text in load_file(name)["classes"].values():
        assert not re.search(r"of the picture|(at the|outer) (left|right)", text)


def test_shares_of_lung_are_those_of_the_grades():
    """The shares that the texts tell lie between the grades' thresholds."""
    look = PictureLook((56, 56), 380.0, 0.0, 0.4, 0.1, (0.9, 1.11))
    try:
        cuts = built_in_task("ct_lung", look).identity["thresholds"]
    except ConnectionError as error:
        pytest.skip(f"no data packs: {error}")
    told = {"at most a tenth": 0.1, "a sixth": 1 / 6, "a quarter": 1 / 4}
    told |= {"a third": 1 / 3}
    texts = load_file("ct_lung")["classes"]
    for grade, (words, share) in enumerate(told.items(), start=1):
        name = TASKS["ct_lung"].classes[grade]
        assert f"{words} of the body" in texts[name]
        assert np.searchsorted(cuts, share, side="right") == grade


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
        ("[]", "expected .*classes"),
        ({"task": "t"}, "expected .*classes"),
        ({"classes": {}}, "0 classes"),
        ({"classes": GOOD, "source": []}, r"unknown keys \['source'\]"),
        ({"classes": {"heart": "a muscle"}}, r"no description of \['aorta'\]"),
        ({"classes": GOOD | {"liver": "x"}}, r"descriptions of \['liver'\]"),
        ({"classes": GOOD | {"heart": " "}}, "description of 'heart' is ' '"),
        ({"classes": GOOD | {"heart": 3}}, "description of 'heart' is 3"),
        ({"classes": GOOD | {"heart": "a</think>"}}, "'heart' holds </think>"),
        ('{"classes": {"heart": "a", "heart": "b"}}', "key 'heart' is there twice"),
        (
            {"classes": {"heart": "a tube", "aorta": "a  tube"}},
            "'heart' and 'aorta' have the same description 'a tube'",
        ),
        ({"classes": GOOD, "sources": "Gray"}, "sources 'Gray'; expected a list"),
        ({"classes": GOOD, "sources": ["Gray", 3]}, "expected a list of texts"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        load_descriptions(path, CLASSES)
    assert "mine.json" in str(caught.value)


def test_a_built_in_file_is_of_the_task_it_is_named_after(tmp_path, monkeypatch):
    folder = tmp_path / "descriptions"
    shutil.copytree(Path(knowledge.__file__).parent / "descriptions", folder)
    monkeypatch.setattr(knowledge, "_FOLDER", folder)
    shutil.copy(folder / "shapes.json", folder / "ct_organ.json")
    with pytest.raises(ValueError, match="expected the task 'ct_organ', found 'shap"):
        load_descriptions("ct_organ", TASKS["ct_organ"].classes)
    # one's own may be called anything
    path = write(tmp_path, {"task": "other", "classes": GOOD})
    assert load_descriptions(path, CLASSES).sources == ()


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
