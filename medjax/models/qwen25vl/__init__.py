"""Qwen2.5-VL, and every fine-tune of it, as functions of a config and parameters.

`load_qwen25vl` reads a Hugging Face folder and `save_qwen25vl` writes one;
`init_params` makes random parameters of any size. A prompt is computed once
(`encode_images`, `prefill`), and its completions are scored (`completion_logps`) or
grown token by token (`embed_tokens`, `extend`, `logits`) on the caches that `prefill`
returns.
"""

from jax.export import register_namedtuple_serialization

from medjax.models.qwen25vl.config import Qwen25VLConfig, VisionConfig
from medjax.models.qwen25vl.export import save_qwen25vl
from medjax.models.qwen25vl.hf_config import config_from_hf, config_to_hf
from medjax.models.qwen25vl.merging import merge_adapter
from medjax.models.qwen25vl.parameters import init_params, param_axes
from medjax.models.qwen25vl.policy import (
    Prefill,
    embed_segment,
    embed_tokens,
    encode_images,
    extend,
    logits,
    prefill,
    prompt_logits,
)
from medjax.models.qwen25vl.scoring import completion_logps
from medjax.models.qwen25vl.tensor_table import HubTensor, hub_tensors
from medjax.models.qwen25vl.text import Cache
from medjax.models.qwen25vl.weights import (
    flatten_params,
    folder_config,
    load_qwen25vl,
)

__all__ = [
    "Cache",
    "HubTensor",
    "Prefill",
    "Qwen25VLConfig",
    "VisionConfig",
    "completion_logps",
    "config_from_hf",
    "config_to_hf",
    "embed_segment",
    "embed_tokens",
    "encode_images",
    "extend",
    "flatten_params",
    "folder_config",
    "hub_tensors",
    "init_params",
    "load_qwen25vl",
    "logits",
    "merge_adapter",
    "param_axes",
    "prefill",
    "prompt_logits",
    "save_qwen25vl",
]

# So that programs with them as arguments or results can be written and read.
for _record in (Cache, Prefill):
    register_namedtuple_serialization(
        _record, serialized_name=f"medjax.qwen25vl.{_record.__name__}"
    )
