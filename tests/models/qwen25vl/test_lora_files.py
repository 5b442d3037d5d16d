"""A trained adapter is what PEFT reads, and what the base with it merged computes."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.models.qwen25vl import (
    flatten_params,
    load_qwen25vl,
    merge_adapter,
    prompt_logits,
    save_qwen25vl,
)
from medjax.models.qwen25vl.config import Lora
from medjax.models.qwen25vl.lora import init_lora, join_lora, merge_lora
from medjax.models.qwen25vl.lora_files import save_lora
from medjax.types import Images, Prompt, Segment
from tests.models.qwen25vl.measure import random_tensors, write_folder
from tests.oracles import qwen25vl_inputs as inputs

LORA = Lora(4, 6.0, ("q_proj", "v_proj", "mlp.up_proj", "visual.qkv", "visual.mlp.2"))
IDS = np.arange(3, 15)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "base"
    return write_folder(folder, *random_tensors(patch=4, tied=False))


@pytest.fixture(scope="module")
def trained(base):
    """The config, the base's parameters and an adapter as training leaves it."""
    config, params = load_qwen25vl(base)
    config = replace(config, lora=LORA)
    rng = np.random.default_rng(0)
    fresh = init_lora(config, jax.random.key(0))
    adapter = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / 4, jnp.float32), fresh
    )
    return config, params, adapter


@pytest.fixture(scope="module")
def saved(trained, base, tmp_path_factory):
    config, _, adapter = trained
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    save_lora(folder, config, adapter, base=str(base))
    return folder


def text_alone(ids):
    """A prompt of one row whose last token is its question."""

    def segment(tokens, first):
        positions = np.arange(first, first + len(tokens), dtype=np.int32)
        return Segment(
            np.asarray(tokens, np.int32)[None],
            np.ones((1, len(tokens)), bool),
            np.repeat(positions[None, :, None], 3, axis=2),
            np.full((1, len(tokens)), -1, np.int32),
        )

    images = Images(
        np.zeros((1, 0, 64, 96), np.float32),
        np.zeros((1, 0, 64, 2), np.int32),
        np.zeros((1, 0, 64), bool),
    )
    length = len(ids)
    prompt = Prompt(
        images,
        segment(ids[:-1], 0),
        segment(ids[-1:], length - 1),
        np.full(1, length, np.int32),
    )
    return jax.tree.map(jnp.asarray, prompt)


def our_logits(config, params):
    with jax.default_matmul_precision("highest"):
        context, question = prompt_logits(config, params, text_alone(IDS))
    return np.concatenate([context, question], axis=1)


def test_peft_computes_the_same(base, trained, saved):
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config, params, adapter = trained
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        base, dtype=torch.float32
    )
    ids = torch.as_tensor(IDS)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits.numpy()
        wrapped = peft.PeftModel.from_pretrained(model, saved)
        expected = wrapped(input_ids=ids).logits.numpy()
    found = our_logits(config, join_lora(params, adapter))
    size = np.abs(expected).max()
    # float32 sums in another order
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * size)
    assert np.abs(before - expected).max() > 1e-2 * size
    # the pattern means these matrices and no others, and all of them had a tensor
    state = peft.get_peft_model_state_dict(wrapped)
    low = flatten_params(adapter)
    assert sum(x.numel() for x in state.values()) == sum(x.size for x in low.values())
    assert all(bool(x.any()) for x in state.values())
    visual = "base_model.model.model.visual"
    first = state[f"{visual}.blocks.1.attn.qkv.lora_A.weight"].numpy()
    np.testing.assert_array_equal(first.T, low["vision/blocks/attention/qkv/lora_a"][1])


def test_our_own_reader_merges_the_same(base, trained, saved, tmp_path):
    config, params, adapter = trained
    expected = flatten_params(merge_lora(config, join_lora(params, adapter)))
    _, read = load_qwen25vl(base, adapter=saved)
    for name, values in flatten_params(read).items():
        # one sum of r = 4 products in another order
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=2e-6)
    merge_adapter(base, saved, tmp_path / "one")
    merged = merge_lora(config, join_lora(params, adapter))
    save_qwen25vl(tmp_path / "two", config, merged, token_ids=inputs.TOKEN_IDS)
    one, two = (flatten_params(load_qwen25vl(tmp_path / x)[1]) for x in ("one", "two"))
    for name, values in one.items():
        np.testing.assert_allclose(values, two[name], rtol=0, atol=2e-6)


def test_what_is_written(base, trained, saved):
    content = json.loads((saved / "adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == str(base)
    assert (content["r"], content["lora_alpha"]) == (4, 6.0)
    with pytest.raises(FileExistsError, match="exists already"):
        save_lora(saved, trained[0], trained[2], base="x")
