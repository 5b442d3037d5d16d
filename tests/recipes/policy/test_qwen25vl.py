"""Policies by their options: from nothing, or from a Hugging Face folder."""

import json
import shutil

import jax
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from medjax.data.prompting.chat import answer_text
from medjax.data.prompting.layout import Geometry
from medjax.recipes.policy.opening import load_params, open_policy
from tests.recipes.policy.hub import SECTION, make
from tests.recipes.smoke import draw_params


@pytest.fixture(scope="module")
def tiny():
    return make()


@pytest.fixture(scope="module")
def weights(tiny):
    return draw_params(tiny.model)


@pytest.fixture(scope="module")
def folder(tiny, weights, tmp_path_factory):
    """The tiny policy as a Hugging Face folder."""
    path = tmp_path_factory.mktemp("hub") / "tiny"
    tiny.save(path, weights)
    return path


def placement(tree):
    return jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), tree)


def test_tiny_policy_is_what_its_options_say(tiny):
    assert tiny.load is None
    assert (tiny.identity["vocab"], tiny.identity["width"]) == (400, 16)
    assert tiny.identity["vision"]["full_blocks"] == (0,)
    assert tiny.identity["mrope_section"] == (2, 1, 1)
    assert tiny.geometry == Geometry(7, 2, 2, 28, 28 * 28, 56 * 56)
    assert tiny.geometry == open_policy(SECTION).geometry  # before words are known
    names = [tiny.tokenizer.convert_ids_to_tokens(i) for i in tiny.ends.stop_tokens]
    assert names == ["<|im_end|>", "<|endoftext|>"]
    assert tiny.tables.vocab_start.shape == (400,)


def test_tiny_tokenizer_writes_an_answer_in_few_tokens(tiny):
    assert len(tiny.tokenizer) <= 400
    text = answer_text((1, 2, 30, 40), "disc", style="object")
    tokens = tiny.tokenizer.encode(text, add_special_tokens=False)
    assert tiny.tokenizer.decode(tokens) == text
    # four tags, the name, '{"bbox_2d": [', six digits, three ", " and "]}"
    assert len(tokens) <= 17


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocab_size 200.*must be"):
        make(vocab=200)


def test_unknown_sizes_are_refused():
    with pytest.raises(ValueError, match='"policy": no option "widht".*"width"'):
        make(widht=3)


def test_pretrained_policy_is_the_saved_one(tiny, weights, folder):
    opened = make(path=str(folder), width=999)
    assert opened.identity == tiny.identity
    assert opened.geometry == tiny.geometry
    assert opened.digest == tiny.digest
    loaded = opened.load(placement(weights))
    jax.tree.map(np.testing.assert_array_equal, loaded, weights)
    again = load_params(folder, placement(weights))
    jax.tree.map(np.testing.assert_array_equal, again, weights)


def test_saved_folder_tells_transformers_how_images_are_resized(folder):
    from transformers import AutoImageProcessor

    found = AutoImageProcessor.from_pretrained(folder)
    assert (found.patch_size, found.merge_size, found.temporal_patch_size) == (7, 2, 2)
    size = found.size
    assert (size["shortest_edge"], size["longest_edge"]) == (28 * 28, 56 * 56)


def test_weights_are_cast_on_the_way(tiny, weights, folder):
    types = {"dtype": "bfloat16", "param_dtype": "bfloat16"}
    opened = make(path=str(folder), **types)
    assert opened.identity == tiny.identity | types
    loaded = opened.load(placement(weights))
    assert {x.dtype.name for x in jax.tree.leaves(loaded)} == {"bfloat16"}
    again = load_params(folder, placement(weights), param_dtype="bfloat16")
    jax.tree.map(np.testing.assert_array_equal, again, loaded)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.*no config.json"):
        make(path=str(tmp_path / "nowhere"))


def test_another_model_is_refused(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "llama")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(ValueError, match="llama"):
        make(path=str(path))


def test_tokenizer_without_the_special_tokens_is_refused(folder, tmp_path):
    from transformers import GPT2Tokenizer

    path = shutil.copytree(folder, tmp_path / "plain")
    for file in path.glob("*token*"):
        file.unlink()
    plain = GPT2Tokenizer(vocab={"a": 0, "b": 1, "<|endoftext|>": 2}, merges=[])
    plain.save_pretrained(path)
    with pytest.raises(ValueError, match=r"plain.*none for.*<\|image_pad\|>"):
        make(path=str(path))


def test_folder_without_weights_is_refused_before_training(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "empty")
    (path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights"):
        make(path=str(path))


def test_weights_for_another_tree_are_named(folder, weights):
    text = {name: part for name, part in weights["text"].items() if name != "head"}
    tied = placement({**weights, "text": text})
    with pytest.raises(ValueError, match=r"tiny.*another architecture.*text/head"):
        load_params(folder, tied)
