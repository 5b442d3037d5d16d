import json
import resource

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from safetensors import safe_open
from safetensors.numpy import load_file

from medjax.models.qwen25vl.export import save_qwen25vl
from medjax.models.qwen25vl.weights import load_qwen25vl
from tests.models.qwen25vl.measure import random_tensors, write_folder
from tests.oracles.qwen25vl_inputs import TOKEN_IDS


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def model(request, tmp_path_factory):
    """Published tensors, and the model loaded from them."""
    content, tensors = random_tensors(patch=4, tied=request.param)
    folder = write_folder(tmp_path_factory.mktemp("hub") / "x", content, tensors)
    return tensors, *load_qwen25vl(folder)


def stored_tensors(folder):
    out = {}
    for file in sorted(folder.glob("*.safetensors")):
        out |= load_file(file)
    return out


@pytest.mark.parametrize("layout", ["published", "nested"])
@pytest.mark.parametrize("limit", [10**9, 60_000])
def test_round_trip(layout, limit, model, tmp_path):
    tensors, config, params = model
    folder = tmp_path / "new" / "folder"
    save_qwen25vl(
        folder,
        config,
        params,
        token_ids=TOKEN_IDS,
        layout=layout,
        max_shard_bytes=limit,
    )
    if layout == "published":
        chex.assert_trees_all_equal(stored_tensors(folder), tensors)
    else:
        assert "model.visual.merger.ln_q.weight" in stored_tensors(folder)
        assert "model.language_model.norm.weight" in stored_tensors(folder)
    again, same = load_qwen25vl(folder)
    assert again == config
    chex.assert_trees_all_equal(same, params, strict=True)
    assert [p.name for p in folder.parent.iterdir()] == ["folder"]


def test_shards_and_index(model, tmp_path):
    tensors, config, params = model
    limit = 60_000
    save_qwen25vl(
        tmp_path / "x", config, params, token_ids=TOKEN_IDS, max_shard_bytes=limit
    )
    files = sorted((tmp_path / "x").glob("*.safetensors"))
    assert [f.name for f in files] == [
        f"model-{i:05d}-of-{len(files):05d}.safetensors"
        for i in range(1, len(files) + 1)
    ]
    index = json.loads((tmp_path / "x" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in tensors.values())
    for file in files:
        inside = load_file(file)
        assert len(inside) == 1 or sum(x.nbytes for x in inside.values()) <= limit
        assert {k for k, v in index["weight_map"].items() if v == file.name} == set(
            inside
        )
        assert file.stat().st_mode == (tmp_path / "x" / "config.json").stat().st_mode
        with safe_open(file, framework="numpy") as handle:
            assert handle.metadata() == {"format": "pt"}  # transformers 4 wants it


def test_stored_dtype(model, tmp_path):
    tensors, config, params = model
    save_qwen25vl(tmp_path / "x", config, params, token_ids=TOKEN_IDS, dtype="bfloat16")
    halves = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    save_qwen25vl(tmp_path / "y", config, halves, token_ids=TOKEN_IDS)
    cast = {k: v.astype(jnp.bfloat16) for k, v in tensors.items()}
    for name in ("x", "y"):
        chex.assert_trees_all_equal(stored_tensors(tmp_path / name), cast)
        content = json.loads((tmp_path / name / "config.json").read_text())
        assert content["torch_dtype"] == "bfloat16"


def test_sharded_parameters(model, tmp_path):
    tensors, config, params = model
    mesh = jax.make_mesh((4,), ("a",), devices=jax.devices()[:4])

    def place(x):
        split = "a" if x.shape[-1] % 4 == 0 else None
        spec = PartitionSpec(*[None] * (x.ndim - 1), split)
        return jax.device_put(x, NamedSharding(mesh, spec))

    save_qwen25vl(
        tmp_path / "x", config, jax.tree.map(place, params), token_ids=TOKEN_IDS
    )
    chex.assert_trees_all_equal(stored_tensors(tmp_path / "x"), tensors)


def test_tokenizer_files_come_along(model, tmp_path):
    _, config, params = model
    source = tmp_path / "source"
    source.mkdir()
    for name in ("tokenizer.json", "preprocessor_config.json", "notes.txt"):
        (source / name).write_text(name)
    options = {"token_ids": TOKEN_IDS, "copy_from": tmp_path / "sources"}
    with pytest.raises(FileNotFoundError, match="copy_from: expected a folder"):
        save_qwen25vl(tmp_path / "x", config, params, **options)
    save_qwen25vl(tmp_path / "x", config, params, **options | {"copy_from": source})
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    ]


def test_what_exists_is_kept_unless_told_otherwise(model, tmp_path):
    tensors, config, params = model
    target = tmp_path / "x"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(FileExistsError, match="overwrite"):
        save_qwen25vl(target, config, params, token_ids=TOKEN_IDS)
    assert [p.name for p in target.iterdir()] == ["old"]
    save_qwen25vl(target, config, params, token_ids=TOKEN_IDS, overwrite=True)
    chex.assert_trees_all_equal(stored_tensors(target), tensors)
    assert not (target / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("exists", [False, True])
def test_full_disk(exists, model, tmp_path):
    """A real write error, from the limit on a file's size."""
    _, config, params = model
    target = tmp_path / "x"
    if exists:
        save_qwen25vl(target, config, params, token_ids=TOKEN_IDS)
    before = {p.name: p.read_bytes() for p in target.glob("*")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=r"x: could not be written .* GB are free"):
            save_qwen25vl(target, config, params, token_ids=TOKEN_IDS, overwrite=exists)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {p.name: p.read_bytes() for p in target.glob("*")} == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"] * exists


def test_parameters_of_another_model(model, tmp_path):
    _, config, params = model
    text = dict(params["text"], extra={"bias": jnp.zeros(3, jnp.float32)})
    text["norm"] = {"scale": jnp.zeros(8, jnp.float32)}
    vision = {k: v for k, v in params["vision"].items() if k != "patch_embed"}
    with pytest.raises(ValueError) as error:
        save_qwen25vl(
            tmp_path / "x",
            config,
            {"text": text, "vision": vision},
            token_ids=TOKEN_IDS,
        )
    assert "text/extra/bias: expected nothing, found (3,)" in str(error.value)
    assert "text/norm/scale: expected (64,), found (8,)" in str(error.value)
    assert "vision/patch_embed/kernel: expected (96, 32), found nothing" in str(
        error.value
    )
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_made(model, tmp_path):
    _, config, params = model
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/x: could not be written"):
        save_qwen25vl(tmp_path / "file" / "x", config, params, token_ids=TOKEN_IDS)


def test_unknown_token_ids(model, tmp_path):
    _, config, params = model
    with pytest.raises(ValueError, match="no image_token_id"):
        save_qwen25vl(tmp_path / "x", config, params, token_ids={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [{"layout": "flat"}, {"dtype": "int8"}])
def test_an_unknown_layout_and_weights_as_integers_are_refused(option, model, tmp_path):
    _, config, params = model
    (name,) = option
    with pytest.raises(ValueError, match=f"save_qwen25vl: {name}: expected"):
        save_qwen25vl(tmp_path / "x", config, params, token_ids=TOKEN_IDS, **option)
    with pytest.raises(ValueError, match="load_qwen25vl: param_dtype: expected a flo"):
        load_qwen25vl(tmp_path, param_dtype="int8")
