"""A folder with checksums is opened whole, or refused by the file that differs."""

import json
import shutil

import pytest

from medjax.data.prompting.chat import sample_answers
from medjax.recipes import vrft_aug
from medjax.recipes.policy.opened import check_ramps
from medjax.recipes.policy.opening import describe, open_policy
from medjax.recipes.policy.qwen25vl_folder import TRAINED, seal_folder
from tests.recipes.policy.hub import ANSWERS, SECTION, STYLE, change, make
from tests.recipes.smoke import WHERE, draw_params, make_setup
from tests.recipes.smoke_labels import label_sections


@pytest.fixture(scope="module")
def sealed_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "tiny"
    tiny = make()
    tiny.save(path, draw_params(tiny.model))
    (path / "README.md").write_text("A card.")
    seal_folder(path, tiny.geometry, ramps=True)
    return path


@pytest.fixture
def sealed(sealed_folder, tmp_path):
    return shutil.copytree(sealed_folder, tmp_path / "policy")


def test_a_sealed_folder_opens_and_its_card_may_change(sealed):
    (sealed / "README.md").write_text("Another card.")
    opened = make(path=str(sealed))
    assert opened.identity["width"] == SECTION["width"]
    assert describe(sealed)["images"]["ramps"] is True


def test_other_weights_are_refused(sealed):
    path = sealed / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.safetensors \(expected sha256"):
        make(path=str(sealed))
    with pytest.raises(ValueError, match="fetch the folder again"):
        describe(sealed)


def test_another_tokenizer_is_refused(sealed, tmp_path):
    texts, words = (
        ("Is the triangle wide?",) * 3,
        sample_answers(("q",), style="object"),
    )
    other = open_policy(SECTION).finish(texts, words + ANSWERS[:1], style=STYLE)
    other.save(tmp_path / "other", draw_params(other.model))
    shutil.copy(tmp_path / "other/tokenizer.json", sealed / "tokenizer.json")
    with pytest.raises(ValueError, match="tokenizer.json"):
        make(path=str(sealed))


def test_another_patch_size_is_refused(sealed):
    change(sealed, "preprocessor_config.json", patch_size=14)
    with pytest.raises(ValueError, match="preprocessor_config.json"):
        make(path=str(sealed))
    trained = json.loads((sealed / TRAINED).read_text())
    del trained["sha256"]
    (sealed / TRAINED).write_text(json.dumps(trained))
    with pytest.raises(ValueError, match="patch_size is 14, but the vision tower"):
        make(path=str(sealed))


def test_files_more_or_less_are_refused(sealed):
    (sealed / "chat_template.json").write_text("{}")
    with pytest.raises(ValueError, match=r"chat_template.json \(expected sha256 none"):
        make(path=str(sealed))
    (sealed / "chat_template.json").unlink()
    (sealed / "generation_config.json").unlink()
    with pytest.raises(ValueError, match=r"generation_config.json .*found none"):
        make(path=str(sealed))


def test_checksums_that_are_none_are_refused(sealed):
    change(sealed, TRAINED, sha256=["a"])
    with pytest.raises(ValueError, match="expected images and their options"):
        make(path=str(sealed))


def test_other_ramps_than_in_training_are_refused(sealed):
    opened = make(path=str(sealed))
    check_ramps(opened, True)
    with pytest.raises(ValueError, match="--config.data.ramps=True"):
        check_ramps(opened, False)
    check_ramps(make(), False)  # a fresh policy learns either


def test_runs_about_boxes_and_classes_check_ramps(sealed):
    options = {
        **{"policy__path": str(sealed), "policy__pixels": "folder"},
        "policy__tied": None,
        **{"prompt__system": "", "prompt__suffix": ""},
    }
    with pytest.raises(ValueError, match="trained with ramps=True"):
        make_setup(**options)
    del options["prompt__suffix"]
    with pytest.raises(ValueError, match="trained with ramps=True"):
        vrft_aug.stages(**label_sections("policy=off", **options), **WHERE)
