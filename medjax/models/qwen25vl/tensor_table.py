"""Where each tensor of a published Qwen2.5-VL checkpoint lives in the policy's tree.

One table, read from left to right when loading and from right to left when saving.
Our layers are stacked along a new first axis (the decoder scans over them) and our
kernels are [in, out] where the files have [out, in].
"""

import re
from typing import NamedTuple

import numpy as np

from medjax.models.qwen25vl.config import Qwen25VLConfig

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

# Published name, path in our tree, published shape. "{}" is the layer.
# Text: D width, F mlp, Q all query heads, K all key heads, V vocabulary.
# Vision: v width, f mlp, m one merged cell, C channels, T frames, p patch.
TABLE = (
    ("visual.patch_embed.proj.weight", "vision/patch_embed/kernel", "v C T p p"),
    ("visual.blocks.{}.norm1.weight", "vision/blocks/norm1/scale", "v"),
    ("visual.blocks.{}.norm2.weight", "vision/blocks/norm2/scale", "v"),
    ("visual.blocks.{}.attn.qkv.weight", "vision/blocks/attention/qkv/kernel", "3v v"),
    ("visual.blocks.{}.attn.qkv.bias", "vision/blocks/attention/qkv/bias", "3v"),
    ("visual.blocks.{}.attn.proj.weight", "vision/blocks/attention/proj/kernel", "v v"),
    ("visual.blocks.{}.attn.proj.bias", "vision/blocks/attention/proj/bias", "v"),
    ("visual.blocks.{}.mlp.gate_proj.weight", "vision/blocks/mlp/gate/kernel", "f v"),
    ("visual.blocks.{}.mlp.gate_proj.bias", "vision/blocks/mlp/gate/bias", "f"),
    ("visual.blocks.{}.mlp.up_proj.weight", "vision/blocks/mlp/up/kernel", "f v"),
    ("visual.blocks.{}.mlp.up_proj.bias", "vision/blocks/mlp/up/bias", "f"),
    ("visual.blocks.{}.mlp.down_proj.weight", "vision/blocks/mlp/down/kernel", "v f"),
    ("visual.blocks.{}.mlp.down_proj.bias", "vision/blocks/mlp/down/bias", "v"),
    ("visual.merger.ln_q.weight", "vision/merger/norm/scale", "v"),
    ("visual.merger.mlp.0.weight", "vision/merger/fc1/kernel", "m m"),
    ("visual.merger.mlp.0.bias", "vision/merger/fc1/bias", "m"),
    ("visual.merger.mlp.2.weight", "vision/merger/fc2/kernel", "D m"),
    ("visual.merger.mlp.2.bias", "vision/merger/fc2/bias", "D"),
    ("model.embed_tokens.weight", "text/embed/embedding", "V D"),
    ("model.layers.{}.input_layernorm.weight", "text/layers/input_norm/scale", "D"),
    (
        "model.layers.{}.post_attention_layernorm.weight",
        "text/layers/post_norm/scale",
        "D",
    ),
    (
        "model.layers.{}.self_attn.q_proj.weight",
        "text/layers/attention/q/kernel",
        "Q D",
    ),
    ("model.layers.{}.self_attn.q_proj.bias", "text/layers/attention/q/bias", "Q"),
    (
        "model.layers.{}.self_attn.k_proj.weight",
        "text/layers/attention/k/kernel",
        "K D",
    ),
    ("model.layers.{}.self_attn.k_proj.bias", "text/layers/attention/k/bias", "K"),
    (
        "model.layers.{}.self_attn.v_proj.weight",
        "text/layers/attention/v/kernel",
        "K D",
    ),
    ("model.layers.{}.self_attn.v_proj.bias", "text/layers/attention/v/bias", "K"),
    (
        "model.layers.{}.self_attn.o_proj.weight",
        "text/layers/attention/o/kernel",
        "D Q",
    ),
    ("model.layers.{}.mlp.gate_proj.weight", "text/layers/mlp/gate/kernel", "F D"),
    ("model.layers.{}.mlp.up_proj.weight", "text/layers/mlp/up/kernel", "F D"),
    ("model.layers.{}.mlp.down_proj.weight", "text/layers/mlp/down/kernel", "D F"),
    ("model.norm.weight", "text/norm/scale", "D"),
    ("lm_head.weight", "text/head/kernel", "V D"),
)


class HubTensor(NamedTuple):
    """A tensor of a published checkpoint and its place in our tree."""

    name: str  # as published, the layer's number in it
    path: str  # of our parameter, "/" between levels
    layer: int | None  # index into the stacked leaf; None: the leaf itself
    shape: tuple[int, ...]  # as published

    @property
    def our_shape(self) -> tuple[int, ...]:
        """The shape of one layer in our tree: kernels are [in, out].

        `in` is one axis for us, whatever number of axes it has in the file.
        """
        if self.path.endswith("kernel"):
            return (int(np.prod(self.shape[1:])), self.shape[0])
        return self.shape


def hub_tensors(config: Qwen25VLConfig) -> list[HubTensor]:
    """Every tensor of a published checkpoint of these sizes, in the table's order.

    A stacked parameter gives one tensor a layer; a tied config gives no `lm_head`.

    Args:
        config: Decides the numbers of layers and all shapes; its dtypes are not read.

    Returns:
        Name and shape of each tensor as published (transformers' Qwen2.5-VL before
        4.52, kernels [out, in]), and the path and layer of the parameter that it fills.
    """
    vision = config.vision
    cell = vision.merge**2 * vision.width
    text_sizes = {
        "D": config.width,
        "F": config.mlp,
        "Q": config.heads * config.head_dim,
        "K": config.kv_heads * config.head_dim,
        "V": config.vocab,
    }
    vision_sizes = {"v": vision.width, "3v": 3 * vision.width, "f": vision.mlp}
    patch_sizes = {"C": vision.channels, "T": vision.temporal, "p": vision.patch}
    sizes = {**text_sizes, **vision_sizes, "m": cell, **patch_sizes}
    tensors = []
    for name, path, letters in TABLE:
        if name == HEAD and config.tied:
            continue
        shape = tuple(sizes[letter] for letter in letters.split())
        if "{}" in name:
            count = vision.depth if path.startswith("vision") else config.layers
            tensors += [HubTensor(name.format(i), path, i, shape) for i in range(count)]
        else:
            tensors.append(HubTensor(name, path, None, shape))
    return tensors


def published_name(name: str) -> str:
    """The published name of a tensor, whoever saved it, such as "model.norm.weight".

    transformers 4.52 to 5.5 wrote `model.visual.*` and `model.language_model.*`; an
    adapter's wrapper puts `base_model.model.` before everything. A name in any other
    form is returned as it is.
    """
    name = re.sub(r"^(base_model\.model\.)+", "", name)
    name = re.sub(r"^model\.visual\.", "visual.", name)
    return re.sub(r"^model\.language_model\.", "model.", name)


def nested_name(name: str) -> str:
    """The name that transformers 4.52 to 5.5 gave a published tensor.

    `visual.*` gets `model.` before it, `model.*` becomes `model.language_model.*`, and
    `lm_head.weight` stays.
    """
    if name.startswith("visual."):
        return f"model.{name}"
    return re.sub(r"^model\.", "model.language_model.", name)
