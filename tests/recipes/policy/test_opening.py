"""Policies by their options: from nothing, or from a Hugging Face folder."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from medjax.data.prompting.chat import Style, answer_text, sample_answers
from medjax.data.prompting.layout import Geometry
from medjax.recipes.policy.opening import (
    load_params,
    pretrained_policy,
    save_policy,
    tiny_geometry,
    tiny_policy,
)
from tests.tiny import tiny_params

STYLE = Style(None, "", "object")
TEXTS = ("Where is the disc?", "Find the cross.")
ANSWERS = sample_answers(("disc", "cross"), style="object")
VISION = {
    "depth": 1,
    "width": 16,
    "mlp": 16,
    "heads": 2,
    "full_blocks": [0],
    "patch": 7,
    "window": 28,
}
SIZES = {
    "width": 16,
    "mlp": 16,
    "layers": 1,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 8,
    "mrope_section": [2, 1, 1],
    "tied": False,
}
BOUNDS = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
HOW = {"dtype": "float32", "param_dtype": "float32"}


def make(**changes):
    options = {"style": STYLE, "vocab": 400, "vision": VISION, **BOUNDS, **SIZES}
    return tiny_policy(TEXTS, ANSWERS, **(options | changes))


@pytest.fixture(scope="module")
def tiny():
    return make()


@pytest.fixture(scope="module")
def weights(tiny):
    return tiny_params(tiny.config)


@pytest.fixture(scope="module")
def folder(tiny, weights, tmp_path_factory):
    """The tiny policy as a Hugging Face folder."""
    path = tmp_path_factory.mktemp("hub") / "tiny"
    save_policy(path, tiny, weights)
    return path


def placement(tree):
    return jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), tree)


def test_tiny_policy_is_what_its_options_say(tiny):
    assert tiny.start is None
    assert (tiny.config.vocab, tiny.config.width) == (400, 16)
    assert tiny.config.vision.full_blocks == (0,)
    assert tiny.config.mrope_section == (2, 1, 1)
    hash(tiny.config)  # jit's static arguments need it
    assert tiny.geometry == Geometry(7, 2, 2, 28, 28 * 28, 56 * 56)
    assert tiny.geometry == tiny_geometry(VISION, **BOUNDS)


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
    with pytest.raises(TypeError, match="widht"):
        make(widht=3)


def test_pretrained_policy_is_the_saved_one(tiny, weights, folder):
    found = pretrained_policy(folder, remat="full", **HOW, **BOUNDS)
    assert found.config == replace(tiny.config, remat="full")
    assert found.geometry == tiny.geometry
    assert found.tokenizer.get_vocab() == tiny.tokenizer.get_vocab()
    loaded = found.start(placement(weights))
    jax.tree.map(np.testing.assert_array_equal, loaded, weights)


def test_saved_folder_tells_transformers_how_images_are_resized(folder):
    from transformers import AutoImageProcessor

    found = AutoImageProcessor.from_pretrained(folder)
    assert (found.patch_size, found.merge_size, found.temporal_patch_size) == (7, 2, 2)
    size = found.size
    assert (size["shortest_edge"], size["longest_edge"]) == (28 * 28, 56 * 56)


def test_weights_are_cast_on_the_way(tiny, weights, folder):
    how = {"dtype": "bfloat16", "param_dtype": "bfloat16"}
    found = pretrained_policy(folder, remat="none", **how, **BOUNDS)
    assert found.config == replace(tiny.config, **how)
    loaded = found.start(placement(weights))
    assert {x.dtype.name for x in jax.tree.leaves(loaded)} == {"bfloat16"}


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.*no config.json"):
        pretrained_policy(tmp_path / "nowhere", remat="none", **HOW, **BOUNDS)


def test_another_model_is_refused(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "llama")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(ValueError, match="llama"):
        pretrained_policy(path, remat="none", **HOW, **BOUNDS)


def test_tokenizer_without_the_special_tokens_is_refused(folder, tmp_path):
    from transformers import GPT2Tokenizer

    path = shutil.copytree(folder, tmp_path / "plain")
    for file in path.glob("*token*"):
        file.unlink()
    plain = GPT2Tokenizer(vocab={"a": 0, "b": 1, "<|endoftext|>": 2}, merges=[])
    plain.save_pretrained(path)
    with pytest.raises(ValueError, match=r"plain.*none for.*<\|image_pad\|>"):
        pretrained_policy(path, remat="none", **HOW, **BOUNDS)


def test_folder_without_weights_is_refused_before_training(folder, weights, tmp_path):
    path = shutil.copytree(folder, tmp_path / "empty")
    (path / "model.safetensors").unlink()
    found = pretrained_policy(path, remat="none", **HOW, **BOUNDS)
    with pytest.raises(FileNotFoundError, match="no weights"):
        found.start(placement(weights))


def test_weights_for_another_tree_are_named(folder, weights):
    text = {name: part for name, part in weights["text"].items() if name != "head"}
    tied = placement({**weights, "text": text})
    with pytest.raises(ValueError, match=r"tiny.*another architecture.*text/head"):
        load_params(folder, tied)
