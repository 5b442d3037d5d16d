"""Released sizes: our tree has exactly the published tensors."""

import math

import jax
import pytest

from medjax.models.qwen25vl.hf_config import config_from_hf
from medjax.models.qwen25vl.parameters import init_params, param_axes
from medjax.models.qwen25vl.tensor_table import hub_tensors
from medjax.models.qwen25vl.weights import flatten_params

# width, mlp, layers, heads, key heads, vocabulary, vision mlp, tied
SIZES = {
    "3B": (2048, 11008, 36, 16, 2, 151936, 3420, True),
    "7B": (3584, 18944, 28, 28, 4, 152064, 3420, False),
    "32B": (5120, 27648, 64, 40, 8, 152064, 3456, False),
    "72B": (8192, 29568, 80, 64, 8, 152064, 3456, False),
}
# parameters, those of the vision tower, tensors in the files: built by transformers on
# torch's meta device; the totals are those of the published indices
PUBLISHED = {
    "3B": (3_754_622_976, 668_684_288, 824),
    "7B": (8_292_166_656, 676_550_144, 729),
    "32B": (33_452_718_336, 688_841_984, 1161),
    "72B": (73_410_777_344, 704_573_696, 1353),
}


def released_config(size):
    """config.json as published: flat."""
    width, mlp, layers, heads, kv_heads, vocab, vision_mlp, tied = SIZES[size]
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "vision_token_id": 151654,
        "image_token_id": 151655,
        "video_token_id": 151656,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": mlp,
        "max_position_embeddings": 128000,
        "max_window_layers": layers,
        "model_type": "qwen2_5_vl",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vision_config": {
            "depth": 32,
            "hidden_act": "silu",
            "hidden_size": 1280,
            "intermediate_size": vision_mlp,
            "num_heads": 16,
            "in_chans": 3,
            "out_hidden_size": width,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2,
            "temporal_patch_size": 2,
        },
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vocab_size": vocab,
    }


@pytest.mark.parametrize("size", SIZES)
def test_released_sizes(size):
    config = config_from_hf(released_config(size))
    tree = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    vision = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree["vision"]))
    tensors = hub_tensors(config)
    assert (count, vision, len(tensors)) == PUBLISHED[size]
    assert sum(math.prod(t.shape) for t in tensors) == count

    # the table places every tensor where the model looks for it
    expected = {}
    for t in tensors:
        layers = () if t.layer is None else (t.layer + 1,)
        expected[t.path] = layers + t.our_shape
    assert expected == {k: v.shape for k, v in flatten_params(tree).items()}


def test_every_axis_has_a_name():
    config = config_from_hf(released_config("3B"))
    tree = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    axes = param_axes(config)
    assert jax.tree.structure(tree) == jax.tree.structure(axes)
    for shape, spec in zip(jax.tree.leaves(tree), jax.tree.leaves(axes), strict=True):
        assert len(spec) == shape.ndim and None not in spec
