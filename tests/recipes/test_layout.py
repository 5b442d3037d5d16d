"""A config's rules are fitted to its policy, on eight forced devices."""

import importlib
import types

import jax
import pytest

from configs import medloc, puq
from medjax.recipes.layout import lay_out
from medjax.recipes.policy import layout
from medjax.systems.optimizer import MOMENTS


def config_of(**mesh):
    config = medloc.get_config("model=fresh,data=synthetic").to_dict()
    config["mesh"] |= mesh
    return config


def test_a_mesh_that_divides_nothing_leaves_the_config_alone(capsys):
    config = config_of()
    found, devices = lay_out(config, None)
    assert found is config and devices["mesh"].shape["data"] == 8
    config = puq.get_config("smoke").to_dict()
    assert lay_out(config, None).config is config
    assert capsys.readouterr().out == ""


def test_heads_that_are_too_few_are_kept_whole_and_said_once(capsys):
    config = config_of(model=4, data=2)  # 4 heads, 2 key-value heads, 3 of the tower
    found, devices = lay_out(config, None)
    assert devices["rules"] is found["rules"]
    assert dict(devices["mesh"].shape) == {"data": 2, "fsdp": 1, "model": 4}
    for rules in (found["rules"], found["policy"]["rollout_rules"]):
        assert rules["kv_heads"] == rules["vision_heads"] == ()
        assert rules["heads"] == rules["vision_mlp"] == ("model",)
    assert found["policy"]["rollout_rules"]["embed"] == ()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" are not")[0] for line in lines] == [
        "2 key-value heads",
        "3 heads of the vision tower",
    ]
    assert config["rules"]["kv_heads"] == ("model",)  # the config as it was given


def test_heads_of_the_text_are_not_cut():
    with pytest.raises(ValueError, match="4 heads .* 8 devices of model.*'model': 4"):
        lay_out(config_of(model=8, data=1), None)


def test_a_folder_is_asked_for_its_sizes(tmp_path):
    config = config_of(model=2, data=4)
    config["policy"]["path"] = str(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        lay_out(config, None)
    # the shipped one has heads of its own
    config["policy"]["path"] = "tiny"
    found, _ = lay_out(config, jax.devices())
    assert found["rules"]["heads"] == ("model",)


def test_sizes_left_open_are_chosen_and_the_reason_is_said(capsys):
    config = medloc.get_config("model=fresh,data=synthetic,mesh=auto").to_dict()
    assert set(config["mesh"].values()) == {-1}
    found, devices = lay_out(config, None)
    assert dict(devices["mesh"].shape) == {"data": 8, "fsdp": 1, "model": 1}
    assert found is config
    # a batch that eight devices cannot share: some of them share the policy
    config["train"]["grpo"]["batch"] = 4
    found, devices = lay_out(config, None)
    assert dict(devices["mesh"].shape) == {"data": 4, "fsdp": 1, "model": 2}
    assert found["rules"]["vision_heads"] == ()  # 3
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("mesh chosen: data 8, fsdp 1, model 1; about ")
    assert second.startswith("mesh chosen: data 4, fsdp 1, model 2; about ")
    assert "a batch of 4 is not divisible by 8 devices" in second
    assert "3 heads of the vision tower" in third


def test_a_planned_chip_has_the_memory_of_its_data_sheet(capsys):
    config = medloc.get_config("model=fresh,data=synthetic,mesh=auto").to_dict()
    lay_out(config, jax.devices("cpu"), "gpu:8")
    assert f"of {80e9 / 2**30:.3g} a device" in capsys.readouterr().out
    config["train"]["grpo"]["batch"] = 7
    with pytest.raises(ValueError, match="no mesh of 8 devices will do .* batch of 7"):
        lay_out(config, jax.devices("cpu"), "gpu:8")


def test_an_adapter_needs_less(capsys):
    config = medloc.get_config("model=tiny,data=synthetic,mesh=auto").to_dict()
    lay_out(config, None)
    config["policy"]["lora"]["rank"] = 8
    lay_out(config, None)
    sizes = [
        float(line.partition("; about ")[2].split()[0])
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("mesh chosen")
    ]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("name", ["medloc", "vrft_aug"])
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_every_stage_has_what_the_choice_reads(name, method, capsys):
    module = importlib.import_module(f"configs.{name}")
    variants = f"model=fresh,mesh=auto,smoke,method={method}"
    lay_out(module.get_config(variants).to_dict(), None)
    assert capsys.readouterr().out.startswith("mesh chosen: data 8")


@pytest.mark.parametrize(
    ("platform", "kind", "told", "expected"),
    [
        ("cpu", "cpu", {"bytes_limit": 5}, None),  # the machine's, shared by all
        ("gpu", "NVIDIA H100 80GB HBM3", {"bytes_limit": 63e9}, 63e9),
        ("gpu", "NVIDIA H100 80GB HBM3", None, 80e9),
        ("tpu", "TPU v5 lite", {}, 15.75 * 2**30),
        ("gpu", "NVIDIA GeForce RTX 4090", None, None),
    ],
)
def test_memory_is_what_the_allocator_may_take_or_else_the_data_sheets(
    platform, kind, told, expected
):
    device = types.SimpleNamespace(
        platform=platform, device_kind=kind, memory_stats=lambda: told
    )
    assert layout.device_memory(device) == expected


def test_the_mesh_falls_with_the_memory(monkeypatch, capsys):
    config = medloc.get_config("model=fresh,data=synthetic,mesh=auto").to_dict()
    config["policy"] |= {"layers": 40, "width": 1024, "mlp": 4096, "remat": "full"}
    config["policy"]["max_pixels"] = 112 * 112
    meshes = []
    for memory in (1e11, 1.5e10, 8e9, 6e9, 1.0):
        monkeypatch.setattr(layout, "device_memory", lambda device, m=memory: m)
        meshes.append(tuple(lay_out(config, None).devices["mesh"].shape.values()))
    assert meshes == [(8, 1, 1), (4, 2, 1), (2, 4, 1), (1, 8, 1), (1, 8, 1)]
    lines = capsys.readouterr().out.splitlines()
    assert sum("IT MAY NOT FIT" in line for line in lines) == 1


def test_all_ways_to_keep_moments_are_known():
    assert set(layout.MOMENTS) == set(MOMENTS)
