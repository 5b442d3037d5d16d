import pytest

from medjax.models.qwen25vl.hf_config import config_from_hf
from medjax.models.qwen25vl.tensor_table import (
    hub_tensors,
    nested_name,
    published_name,
)
from tests.models.qwen25vl.test_config import released_config

# read off the published 3B's index
PUBLISHED_3B = {
    "visual.patch_embed.proj.weight": (1280, 3, 2, 14, 14),
    "visual.blocks.31.norm2.weight": (1280,),
    "visual.blocks.0.attn.qkv.weight": (3840, 1280),
    "visual.blocks.0.attn.proj.bias": (1280,),
    "visual.blocks.5.mlp.up_proj.weight": (3420, 1280),
    "visual.blocks.5.mlp.down_proj.weight": (1280, 3420),
    "visual.merger.ln_q.weight": (1280,),
    "visual.merger.mlp.0.weight": (5120, 5120),
    "visual.merger.mlp.2.weight": (2048, 5120),
    "model.embed_tokens.weight": (151936, 2048),
    "model.layers.35.self_attn.q_proj.weight": (2048, 2048),
    "model.layers.0.self_attn.k_proj.weight": (256, 2048),
    "model.layers.0.self_attn.v_proj.bias": (256,),
    "model.layers.0.mlp.down_proj.weight": (2048, 11008),
    "model.layers.0.post_attention_layernorm.weight": (2048,),
    "model.norm.weight": (2048,),
}


def test_published_shapes():
    shapes = {
        t.name: t.shape for t in hub_tensors(config_from_hf(released_config("3B")))
    }
    assert PUBLISHED_3B.items() <= shapes.items()
    assert "lm_head.weight" not in shapes
    shapes = {
        t.name: t.shape for t in hub_tensors(config_from_hf(released_config("7B")))
    }
    assert shapes["lm_head.weight"] == (152064, 3584)


@pytest.mark.parametrize(
    ("stored", "published"),
    [
        ("visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
        ("model.visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
        ("model.language_model.norm.weight", "model.norm.weight"),
        ("model.language_model.layers.0.mlp.x", "model.layers.0.mlp.x"),
        ("model.norm.weight", "model.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("base_model.model.lm_head.weight", "lm_head.weight"),
        ("base_model.model.model.norm.weight", "model.norm.weight"),
        ("base_model.model.model.language_model.norm.weight", "model.norm.weight"),
        (
            "base_model.model.visual.blocks.0.norm1.weight",
            "visual.blocks.0.norm1.weight",
        ),
        ("my_model.visual.x", "my_model.visual.x"),
    ],
)
def test_published_name(stored, published):
    assert published_name(stored) == published


def test_both_layouts_name_the_same_tensors():
    tensors = hub_tensors(config_from_hf(released_config("7B")))
    names = [t.name for t in tensors]
    assert len(set(names)) == len(names)
    assert [published_name(nested_name(n)) for n in names] == names
    assert {n.split(".")[0] for n in map(nested_name, names)} == {"model", "lm_head"}
