"""A policy is evaluated as it was trained, or not at all."""

import json

import pytest

from medjax.recipes.policy.alike import check_alike
from medjax.recipes.policy.identity import check_trained_alike, identity, trained_with
from tests.recipes.smoke import make_setup


@pytest.fixture(scope="module")
def setup():
    return make_setup()


@pytest.fixture
def stored(setup):
    return json.loads(json.dumps(identity(setup, {"steps": 3})))


@pytest.mark.parametrize(
    ("part", "key", "value", "way"),
    [
        ("images", "max_pixels", 802816, "--config.policy.max_pixels=802816"),
        ("images", "min_pixels", 784, "--config.policy.min_pixels=784"),
        ("images", "patch", 14, "name the config"),
        ("images", "mean", [0.5, 0.5, 0.5], "name the config"),
        ("images", "levels", 1.0, "name the config"),
        ("images", "ramps", True, "--config.data.ramps=True"),
        ("ends", "stop_tokens", [3], "name the config"),
        ("ends", "pad", 3, "name the config"),
        ("prompt", "system", "Be brief.", "--config.prompt.system='Be brief.'"),
        ("prompt", "suffix", " Say why.", "name the config"),
        ("prompt", "answer", "list", "name the config"),
    ],
)
def test_what_differs_is_named_with_the_way_back(part, key, value, way, setup, stored):
    check_trained_alike(setup, stored)
    here = stored[part][key]
    stored[part] = stored[part] | {key: value}
    with pytest.raises(ValueError) as error:
        check_trained_alike(setup, stored)
    for piece in (f"trained with another {part}.{key} ({value}, here {here})", way):
        assert piece in str(error.value)


def test_all_differences_are_named_at_once(setup, stored):
    stored["images"] |= {"min_pixels": 1, "max_pixels": 2}
    with pytest.raises(ValueError) as error:
        check_trained_alike(setup, stored | {"tokenizer": "0123"})
    for piece in (
        *("tokenizer (0123, here", "images.min_pixels (1,", "images.max_pixels (2,"),
        "--config.policy.min_pixels=1 --config.policy.max_pixels=2",
    ):
        assert piece in str(error.value)


def test_a_folder_says_nothing_of_data(setup, stored):
    folder = {"tokenizer": "0123", "images": stored["images"], "ends": stored["ends"]}
    with pytest.raises(ValueError, match=r"tokenizer \(0123, .*model=FOLDER$"):
        check_trained_alike(setup, folder)
    check_trained_alike(setup, folder | {"tokenizer": stored["tokenizer"]})


def test_older_checkpoints_say_less(setup, stored):
    for key in ("mean", "std", "levels"):
        del stored["images"][key]
    del stored["ends"]
    check_trained_alike(setup, stored)


def test_the_words_of_another_task_may_differ(setup, stored):
    letter = {"system": "Be brief.", "suffix": " A letter.", "answer": "letter"}
    check_trained_alike(setup, stored | {"prompt": letter})
    grade = {"prompt": letter | {"suffix": " A grade.", "answer": "grade"}}
    check_alike({"prompt": letter}, grade)  # of other classes
    with pytest.raises(ValueError, match=r"another prompt.suffix \( A grade., here"):
        check_alike({"prompt": letter | {"answer": "grade"}}, grade)
    with pytest.raises(ValueError, match=r"another prompt.system \(None, here Be"):
        check_alike({"prompt": letter}, {"prompt": grade["prompt"] | {"system": None}})


def test_the_manifest_says_what_training_used(setup):
    found = json.loads(json.dumps(trained_with(setup)))
    assert found["images"]["max_pixels"] == setup.policy.geometry.max_pixels
    assert found["images"]["std"] == list(setup.policy.geometry.std)
    assert found["ends"]["stop_tokens"] == list(setup.policy.ends.stop_tokens)
    assert found["prompt"]["answer"] == "object"
    assert "im_start" in found["chat_template"]
    assert found["drawing"]["temperature"] is None
