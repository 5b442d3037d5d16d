import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

from medjax.models.qwen25vl.tensor_table import nested_name
from medjax.models.qwen25vl.weights import (
    flatten_params,
    folder_config,
    load_qwen25vl,
)
from tests.models.qwen25vl.measure import random_tensors, write_folder

PATCH = 4


@pytest.fixture(scope="module")
def untied():
    return random_tensors(patch=PATCH, tied=False)


@pytest.fixture(scope="module")
def tied():
    return random_tensors(patch=PATCH, tied=True)


def write_shards(folder, content, tensors, count=3):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    where = {n: f"model-{i % count}.safetensors" for i, n in enumerate(tensors)}
    for name in set(where.values()):
        save_file({k: v for k, v in tensors.items() if where[k] == name}, folder / name)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def check_params(params, tensors):
    """Every tensor stands where the contract of the tree says."""
    params = jax.tree.map(np.asarray, params)
    vision, text = params["vision"], params["text"]
    at = np.testing.assert_array_equal
    conv = tensors["visual.patch_embed.proj.weight"]
    at(vision["patch_embed"]["kernel"], conv.reshape(32, -1).T)
    for i in range(3):
        block, stored = vision["blocks"], f"visual.blocks.{i}."
        at(
            block["attention"]["qkv"]["kernel"][i],
            tensors[stored + "attn.qkv.weight"].T,
        )
        at(block["mlp"]["down"]["bias"][i], tensors[stored + "mlp.down_proj.bias"])
        at(block["norm2"]["scale"][i], tensors[stored + "norm2.weight"])
    at(vision["merger"]["fc2"]["kernel"], tensors["visual.merger.mlp.2.weight"].T)
    for i in range(2):
        layer, stored = text["layers"], f"model.layers.{i}."
        at(
            layer["attention"]["k"]["bias"][i],
            tensors[stored + "self_attn.k_proj.bias"],
        )
        at(layer["mlp"]["up"]["kernel"][i], tensors[stored + "mlp.up_proj.weight"].T)
    at(text["embed"]["embedding"], tensors["model.embed_tokens.weight"])
    if "lm_head.weight" in tensors:
        at(text["head"]["kernel"], tensors["lm_head.weight"].T)
    sizes = sum(x.size for x in jax.tree.leaves(params))
    assert sizes == sum(x.size for x in tensors.values())


@pytest.mark.parametrize("write", [write_folder, write_shards])
@pytest.mark.parametrize(
    "rename",
    [
        str,
        nested_name,
        lambda name: "base_model.model." + name,
        lambda name: "base_model.model." + nested_name(name),
    ],
    ids=["published", "nested", "adapter", "nested_adapter"],
)
def test_layouts(write, rename, untied, tied, tmp_path):
    for (content, tensors), is_tied in ((untied, False), (tied, True)):
        stored = {rename(k): v for k, v in tensors.items()}
        folder = write(tmp_path / str(is_tied), content, stored)
        config, params = load_qwen25vl(folder)
        assert config.tied == is_tied == ("head" not in params["text"])
        check_params(params, tensors)


@pytest.mark.parametrize(
    ("root", "text"), [(False, None), (None, False), (False, False)]
)
def test_no_head_under_a_config_that_promises_one(root, text, tied, tmp_path):
    content, tensors = tied
    content = {k: x for k, x in content.items() if k != "tie_word_embeddings"}
    if text is not None:
        content = {**content, "text_config": {**content, "tie_word_embeddings": text}}
    if root is not None:
        content["tie_word_embeddings"] = root
    folder = write_folder(tmp_path / "x", content, tensors)
    message = r"x/config.json: tie_word_embeddings is false.*--config.policy.tied=True"
    with pytest.raises(ValueError, match=message):
        load_qwen25vl(folder)
    with pytest.raises(ValueError, match=message):
        folder_config(folder)
    config, params = load_qwen25vl(folder, tied=True)
    assert config.tied and folder_config(folder, tied=True)[0].tied
    check_params(params, tensors)


@pytest.mark.parametrize(("root", "text"), [(None, None), (True, False), (False, True)])
def test_no_head_means_tied_where_the_config_does_not_forbid_it(
    root, text, tied, tmp_path
):
    content, tensors = tied
    said = {"tie_word_embeddings": root}
    text_config = {**content, "tie_word_embeddings": text}
    content = content | said | {"text_config": text_config}
    folder = write_folder(tmp_path / "x", content, tensors)
    assert load_qwen25vl(folder)[0].tied
    assert folder_config(folder)[1] is False
    with pytest.raises(ValueError, match=r"tied=False, but no file holds lm_head"):
        load_qwen25vl(folder, tied=False)


def test_tied_is_refused_where_a_head_differs(untied, tmp_path):
    content, tensors = untied
    folder = write_folder(
        tmp_path / "x", content | {"tie_word_embeddings": True}, tensors
    )
    config, other_head = folder_config(folder)
    assert not config.tied and other_head
    with pytest.raises(ValueError, match=r"tied=True, but lm_head.weight differs"):
        load_qwen25vl(folder, tied=True)


def test_a_head_is_used_whatever_the_config_says(untied, tmp_path):
    content, tensors = untied
    content = content | {"tie_word_embeddings": True}
    config, params = load_qwen25vl(write_folder(tmp_path / "x", content, tensors))
    assert not config.tied
    check_params(params, tensors)


def test_a_head_that_repeats_a_tied_embedding_stays_tied(tied, tmp_path):
    content, tensors = tied
    twice = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    config, params = load_qwen25vl(write_folder(tmp_path / "x", content, twice))
    assert config.tied
    check_params(params, tensors)


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
def test_dtypes(stored, param_dtype, untied, tmp_path):
    content, tensors = untied
    cast = {k: v.astype(jnp.dtype(stored)) for k, v in tensors.items()}
    config, params = load_qwen25vl(
        write_folder(tmp_path / "x", content, cast),
        dtype="bfloat16",
        param_dtype=param_dtype,
    )
    assert (config.dtype, config.param_dtype) == ("bfloat16", param_dtype)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(param_dtype)}
    check_params(params, {k: v.astype(jnp.dtype(param_dtype)) for k, v in cast.items()})


def test_each_device_gets_its_piece(untied, tmp_path):
    content, tensors = untied
    folder = write_folder(tmp_path / "x", content, tensors)
    _, plain = load_qwen25vl(folder)
    mesh = jax.make_mesh((2, 4), ("a", "b"))

    def sharding_fn(config):
        assert not config.tied

        def place(leaf):
            axes = [None] * leaf.ndim
            if leaf.shape[-1] % 4 == 0:
                axes[-1] = "b"
            if leaf.ndim > 1 and leaf.shape[-2] % 2 == 0:
                axes[-2] = "a"
            return NamedSharding(mesh, PartitionSpec(*axes))

        return jax.tree.map(place, plain)

    config, params = load_qwen25vl(folder, sharding_fn=sharding_fn)
    check_params(params, tensors)
    wanted = sharding_fn(config)
    assert jax.tree.all(jax.tree.map(lambda x, s: x.sharding == s, params, wanted))
    patch = params["vision"]["patch_embed"]["kernel"].addressable_shards[0].data
    assert patch.shape == (48, 8)


def test_layers_may_be_sharded(tied, tmp_path):
    content, tensors = tied
    mesh = jax.make_mesh((2,), ("a",), devices=jax.devices()[:2])

    def sharding_fn(config):
        one = NamedSharding(mesh, PartitionSpec())
        layers = NamedSharding(mesh, PartitionSpec("a"))
        _, plain = load_qwen25vl(folder)
        return jax.tree_util.tree_map_with_path(
            lambda path, _: layers if "layers" in jax.tree_util.keystr(path) else one,
            plain,
        )

    folder = write_folder(tmp_path / "x", content, tensors)
    _, params = load_qwen25vl(folder, sharding_fn=sharding_fn)
    check_params(params, tensors)


@pytest.mark.parametrize("write", [write_folder, write_shards])
def test_one_error_lists_every_fault(write, untied, tmp_path):
    content, tensors = untied
    tensors = dict(tensors)
    del tensors["model.norm.weight"], tensors["visual.blocks.2.attn.qkv.bias"]
    tensors["model.layers.2.mlp.up_proj.weight"] = np.zeros((3, 4), np.float32)
    tensors["visual.extra"] = np.zeros(5, np.float32)
    tensors["visual.merger.mlp.2.weight"] = np.zeros((128, 64), np.float32)  # [in, out]
    tensors["visual.merger.ln_q.weight"] = np.zeros(32, np.int8)
    with pytest.raises(ValueError) as error:
        load_qwen25vl(write(tmp_path / "x", content, tensors))
    lines = str(error.value).splitlines()
    assert str(tmp_path / "x") in lines[0]
    assert len(lines) == 7
    text = "\n".join(lines)
    for part in (
        "missing model.norm.weight: expected [64]",
        "missing visual.blocks.2.attn.qkv.bias: expected [96]",
        "left over model.layers.2.mlp.up_proj.weight: found [3, 4] in model",
        "left over visual.extra: found [5] in model",
        "mis-shaped visual.merger.mlp.2.weight: expected [64, 128], found [128, 64] in",
        "visual.merger.ln_q.weight: floats expected, found I8",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight",
        "model.language_model.layers.0.mlp.up_proj.lora_magnitude_vector",
        "base_model.model.lm_head.modules_to_save.default.weight",
        "base_model.model.lm_head.original_module.weight",
    ],
)
def test_unmerged_adapters_are_named(name, untied, tmp_path):
    content, tensors = untied
    stored = {"base_model.model." + k: v for k, v in tensors.items()}
    stored[name] = np.zeros((8, 64), np.float32)
    with pytest.raises(ValueError) as error:
        load_qwen25vl(write_folder(tmp_path / "x", content, stored))
    for piece in (f"{tmp_path}/x: 1 tensors", name, "merge_and_unload()"):
        assert piece in str(error.value)


def test_an_adapter_beside_the_weights_is_refused(untied, tmp_path):
    folder = write_folder(tmp_path / "x", *untied)
    about = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2.5-VL-3B"}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError) as error:
        load_qwen25vl(folder)
    for piece in (
        *(str(folder), "LORA on Qwen/Qwen2.5-VL-3B", "merge_and_unload()"),
        *("save_pretrained", "merged already, remove adapter_config.json"),
    ):
        assert piece in str(error.value)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"adapter_config.json: expected a JSON obj"):
        load_qwen25vl(folder)


def test_keys_that_a_merge_left_out_are_named(untied, tmp_path):
    content, tensors = untied
    content = {k: x for k, x in content.items() if k != "intermediate_size"}
    vision = {k: x for k, x in content["vision_config"].items() if k != "depth"}
    content["vision_config"] = vision | {"fullatt_block_indexes": [1]}
    with pytest.raises(ValueError) as error:
        load_qwen25vl(write_folder(tmp_path / "x", content, tensors))
    *_, last = str(error.value).splitlines()
    assert "intermediate_size (29568), vision_config.depth (32);" in last


def test_rows_of_the_embedding_that_the_config_does_not_know(untied, tmp_path):
    content, tensors = untied
    rows = content["vocab_size"]
    content = content | {"vocab_size": rows + 64}
    with pytest.raises(ValueError, match=f"set vocab_size of config.json to {rows}"):
        load_qwen25vl(write_folder(tmp_path / "x", content, tensors))


def test_both_spellings_of_a_tensor(untied, tmp_path):
    content, tensors = untied
    twice = tensors | {"model.visual.merger.ln_q.weight": np.zeros(32, np.float32)}
    with pytest.raises(ValueError, match=r"doubled \S*visual\.merger\.ln_q\.weight"):
        load_qwen25vl(write_folder(tmp_path / "x", content, twice))


@pytest.mark.parametrize("keep", [0, 7, 1000, -4])
def test_truncated_file(keep, untied, tmp_path):
    folder = write_folder(tmp_path / "x", *untied)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a whole"):
        load_qwen25vl(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}']
)
def test_broken_index(text, untied, tmp_path):
    folder = write_shards(tmp_path / "x", *untied)
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json"):
        load_qwen25vl(folder)


@pytest.mark.parametrize("name", ["../model-0.safetensors", "/etc/x", "a/b", "..\\c"])
def test_index_that_leaves_its_folder(name, untied, tmp_path):
    folder = write_shards(tmp_path / "x", *untied)
    shutil.copy(folder / "model-0.safetensors", tmp_path)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.norm.weight"] = name
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json: names files elsewhere"):
        load_qwen25vl(folder)


def test_absent_shard(untied, tmp_path):
    folder = write_shards(tmp_path / "x", *untied)
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-1\.safetensors"):
        load_qwen25vl(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.safetensors"])
def test_other_files_are_named_not_read(name, untied, tmp_path):
    folder = write_folder(tmp_path / "x", *untied)
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(FileNotFoundError, match=name):
        load_qwen25vl(folder)


def test_checkpoint_of_another_architecture(untied, tmp_path):
    content, tensors = untied
    folder = write_folder(tmp_path / "x", content | {"model_type": "llava"}, tensors)
    with pytest.raises(ValueError, match="'llava'"):
        load_qwen25vl(folder)


def test_flatten_params_names_the_table_s_paths(untied, tmp_path):
    _, params = load_qwen25vl(write_folder(tmp_path / "x", *untied))
    paths = flatten_params(params)
    assert "text/layers/attention/q/kernel" in paths
    assert "vision/patch_embed/kernel" in paths


def test_bfloat16_survives_the_file(untied, tmp_path):
    """safetensors and ml_dtypes agree on the bits."""
    content, tensors = untied
    cast = {k: v.astype(ml_dtypes.bfloat16) for k, v in tensors.items()}
    folder = write_folder(tmp_path / "x", content, cast)
    again = load_file(folder / "model.safetensors")
    assert all(np.array_equal(again[k], cast[k]) for k in cast)
    config, _ = load_qwen25vl(folder, param_dtype="bfloat16")
    assert (
        dataclasses.replace(config, param_dtype="float32") == load_qwen25vl(folder)[0]
    )
