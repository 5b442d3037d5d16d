"""Adapters merged as they are read: by hand in NumPy, and beside PEFT itself."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

from medjax.models.qwen25vl import flatten_params, load_qwen25vl, merge_adapter
from medjax.models.qwen25vl.tensor_table import nested_name
from medjax.recipes import merge_adapter as command
from tests.models.qwen25vl.measure import random_tensors, write_folder

RANK, ALPHA = 4, 6
TARGETS = {  # of the published names; text, vision, and two shapes that are not square
    "model.layers.0.self_attn.q_proj": RANK,
    "model.layers.1.self_attn.k_proj": RANK,
    "model.layers.1.mlp.down_proj": 2,
    "visual.blocks.2.attn.qkv": RANK,
}
PATTERNS = {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"blocks.2.attn.qkv": 9}}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "base"
    return write_folder(folder, *random_tensors(patch=4, tied=False))


def pairs(base):
    """(A, B) by module, drawn."""
    rng = np.random.default_rng(0)
    stored = load_file(base / "model.safetensors")
    found = {}
    for module, rank in TARGETS.items():
        rows, columns = stored[f"{module}.weight"].shape
        down = rng.normal(size=(rank, columns)) / np.sqrt(columns)
        up = rng.normal(size=(rows, rank)) / 4
        found[module] = down.astype(np.float32), up.astype(np.float32)
    return found


def write_adapter(folder, base, *, rename=str, tensors=None, **about):
    """A folder as PEFT leaves it."""
    folder.mkdir()
    if tensors is None:
        tensors = {}
        for module, halves in pairs(base).items():
            name = rename(f"{module}.weight").removesuffix(".weight")
            for letter, half in zip("AB", halves, strict=True):
                tensors[f"base_model.model.{name}.lora_{letter}.weight"] = half
    save_file(tensors, folder / "adapter_model.safetensors")
    usual = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
    content = usual | PATTERNS | {"base_model_name_or_path": "some/base"} | about
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def by_hand(base, *, root=False):
    """The base's tensors with what is added, in float64."""
    tensors = {
        k: x.astype(float) for k, x in load_file(base / "model.safetensors").items()
    }
    for module, (down, up) in pairs(base).items():
        alpha = 9 if module.endswith("qkv") else ALPHA
        scale = alpha / (len(down) ** 0.5 if root else len(down))
        tensors[f"{module}.weight"] += scale * (up.astype(float) @ down.astype(float))
    return tensors


@pytest.mark.parametrize("rename", [str, nested_name])
@pytest.mark.parametrize("root", [False, True])
def test_what_an_adapter_adds(base, tmp_path, rename, root):
    adapter = write_adapter(tmp_path / "a", base, rename=rename, use_rslora=root)
    merge_adapter(base, adapter, tmp_path / "merged")
    found = load_file(tmp_path / "merged/model.safetensors")
    expected = by_hand(base, root=root)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6)
    stored = load_file(base / "model.safetensors")
    changed = {name for name in stored if np.any(stored[name] != found[name])}
    assert changed == {f"{module}.weight" for module in TARGETS}


def test_a_sharded_policy_gets_the_same(base, tmp_path):
    adapter = write_adapter(tmp_path / "a", base)
    _, whole = load_qwen25vl(base, adapter=adapter)
    mesh = jax.make_mesh((4,), ("x",), devices=jax.devices()[:4])

    def place(config):
        def split(path, leaf):
            axes = [None] * leaf.ndim
            divided = [n for n in range(1, leaf.ndim) if leaf.shape[n] % 4 == 0]
            if path[-1].key == "kernel" and divided:
                axes[divided[-1]] = "x"
            return NamedSharding(mesh, PartitionSpec(*axes))

        del config
        return jax.tree_util.tree_map_with_path(split, whole)

    _, divided = load_qwen25vl(base, adapter=adapter, sharding_fn=place)
    for name, values in flatten_params(divided).items():
        # another order of r sums
        np.testing.assert_allclose(values, flatten_params(whole)[name], atol=1e-6)


def test_half_precision_is_rounded_once(base, tmp_path):
    half = {
        name: x.astype(ml_dtypes.bfloat16)
        for name, x in load_file(base / "model.safetensors").items()
    }
    folder = tmp_path / "half"
    shutil.copytree(base, folder)
    save_file(half, folder / "model.safetensors")
    content = json.loads((folder / "config.json").read_text())
    content["torch_dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(content))
    adapter = write_adapter(tmp_path / "a", base)
    merge_adapter(folder, adapter, tmp_path / "merged")
    found = load_file(tmp_path / "merged/model.safetensors")
    for name, values in by_hand(folder).items():
        assert found[name].dtype == ml_dtypes.bfloat16
        wide = found[name].astype(np.float64)
        # half a unit of 8 bits, and float32's roundings of sums around 1 before it
        np.testing.assert_allclose(wide, values, rtol=2.0**-8, atol=1e-6)


def test_it_is_what_peft_merges(base, tmp_path):
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        base, dtype=torch.float32
    )
    options = peft.LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=["q_proj", "k_proj", "down_proj", "qkv"],
        init_lora_weights=False,
        **PATTERNS,
    )
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(model, options)
    wrapped.save_pretrained(tmp_path / "adapter")
    merged = wrapped.merge_and_unload()
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        expected = merged(input_ids=ids).logits.numpy()
    out = tmp_path / "merged"
    merge_adapter(base, tmp_path / "adapter", out)
    ours = transformers.AutoModelForImageTextToText.from_pretrained(
        out, dtype=torch.float32
    )
    plain = transformers.AutoModelForImageTextToText.from_pretrained(
        base, dtype=torch.float32
    )
    with torch.no_grad():
        found = ours(input_ids=ids).logits.numpy()
        before = plain(input_ids=ids).logits.numpy()
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=2e-5 * size)
    assert np.abs(before - expected).max() > 1e-2 * size  # the adapter does something


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3'; only LORA"),
        ({"use_dora": True}, "use_dora True.*merge it with peft"),
        ({"bias": "all"}, "bias 'all'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save \['lm_head'\]"),
        ({"r": 0}, "r 0; expected a number above 0"),
        ({"lora_alpha": None}, "lora_alpha None"),
        ({"rank_pattern": {}}, r"mlp.down_proj.weight: rank 2, .* says 4"),
    ],
)
def test_other_settings_are_refused(base, tmp_path, about, message):
    adapter = write_adapter(tmp_path / "a", base, **about)
    with pytest.raises(ValueError, match=message):
        load_qwen25vl(base, adapter=adapter)


def whole(base):
    return {
        f"base_model.model.{module}.lora_{letter}.weight": half
        for module, halves in pairs(base).items()
        for letter, half in zip("AB", halves, strict=True)
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop(f"{Q}.lora_B.weight"), "q_proj.weight: lora_B is missing"),
        (
            lambda x: x.update({f"{Q}.lora_A.weight": np.zeros((4, 8), np.float32)}),
            r"made for some/base.*\n.*q_proj.weight: the base has .*A \[4, 8\]",
        ),
        (
            lambda x: x.update(
                {f"{Q}.lora_A.weight": x[f"{Q}.lora_A.weight"] * np.nan}
            ),
            "q_proj.weight: not all numbers are finite",
        ),
        (
            lambda x: x.update({"base_model.model.lm_head.weight": np.zeros((2, 2))}),
            "1 tensors are neither lora_A nor lora_B, such as base_model.model.lm_head",
        ),
        (
            lambda x: x.update(
                {
                    f"base_model.model.model.layers.9.mlp.up_proj.lora_{n}.weight": (
                        np.zeros((2, 2), np.float32)
                    )
                    for n in "AB"
                }
            ),
            "layers.9.mlp.up_proj.weight: the base model has no such weight",
        ),
    ],
)
def test_what_does_not_fit_is_named(base, tmp_path, change, message):
    tensors = whole(base)
    change(tensors)
    adapter = write_adapter(tmp_path / "a", base, tensors=tensors)
    with pytest.raises(ValueError, match=message):
        load_qwen25vl(base, adapter=adapter)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


def test_a_missing_or_broken_file_is_named(base, tmp_path):
    adapter = write_adapter(tmp_path / "a", base)
    (adapter / "adapter_model.safetensors").write_bytes(b"12")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_qwen25vl(base, adapter=adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="safe_serialization=True"):
        load_qwen25vl(base, adapter=adapter)
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="found no adapter_config.json"):
        load_qwen25vl(base, adapter=adapter)


def test_the_command_says_where_it_is_or_what_is_wrong(base, tmp_path, capsys):
    adapter, out = write_adapter(tmp_path / "a", base), tmp_path / "merged"
    words = ["--base", str(base), "--adapter", str(adapter), "--out", str(out)]
    assert command.main(words) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert command.main(words) == 1
    assert "exists already; name another folder" in capsys.readouterr().err
    words[1] = str(tmp_path)
    assert command.main([*words[:-1], str(tmp_path / "other")]) == 1
    assert "found no config.json" in capsys.readouterr().err
