"""A Hugging Face config.json read as `Qwen25VLConfig`, and written back.

Read in both forms found in the wild: flat, as the published checkpoints have it (text
fields at the root, `rope_scaling`), and nested, as transformers 5 saves it
(`text_config`, `rope_parameters`). Written flat, which every reader takes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medjax.models.qwen25vl.config import Qwen25VLConfig, VisionConfig

# Our field -> (value that an absent key stands for, spellings of the key). transformers
# 4 leaves out of a saved config what equals its class default, so an absent key means
# that default, though together they fit no released model.
_TEXT = {
    "vocab": (152064, "vocab_size"),
    "width": (8192, "hidden_size"),
    "mlp": (29568, "intermediate_size"),
    "layers": (80, "num_hidden_layers"),
    "heads": (64, "num_attention_heads"),
    "kv_heads": (8, "num_key_value_heads"),
}
_VISION = {
    "depth": (32, "depth"),
    "width": (3584, "hidden_size"),
    "mlp": (3420, "intermediate_size"),
    "heads": (16, "num_heads"),
    "channels": (3, "in_channels", "in_chans"),
    "patch": (14, "patch_size", "spatial_patch_size"),
    "temporal": (2, "temporal_patch_size"),
    "merge": (2, "spatial_merge_size"),
    "window": (112, "window_size"),
    "out_width": (3584, "out_hidden_size"),
}
_FULL_BLOCKS = (7, 15, 23, 31)
_THETA = 1e6
_NORM_EPS = 1e-5
_VISION_NORM_EPS = 1e-6  # fixed in every implementation, no key for it
_VISION_THETA = 10000.0  # likewise
_MAX_POSITIONS = 128000
_TOKEN_IDS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
)


def config_from_hf(source: str | Path | Mapping[str, Any]) -> Qwen25VLConfig:
    """Read a policy's sizes from config.json.

    An absent key stands for the default of transformers' class. Dtypes, `remat` and
    `scan_unroll` are left at the defaults of `Qwen25VLConfig`: config.json does not
    decide them.

    Args:
        source: A checkpoint folder, a config.json, or its parsed content, flat or
            nested.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Another architecture, or a variant whose numbers we would get wrong
            (sliding window, scaled rope, quantised weights, ...); one error lists all.
    """
    name, content = _read(source)
    if content.get("model_type") != "qwen2_5_vl":
        raise ValueError(
            f"{name}: model_type is {content.get('model_type')!r}, expected "
            "'qwen2_5_vl'; Qwen2-VL, Qwen3-VL and others are different architectures"
        )
    text: Any = content.get("text_config") or content
    vision: Any = content.get("vision_config")
    rope: Any = None
    if isinstance(text, Mapping):
        rope = text.get("rope_parameters") or text.get("rope_scaling")
    parts = {"text_config": text, "vision_config": vision, "rope_scaling": rope}
    for part, found in parts.items():
        if not isinstance(found, Mapping):
            raise ValueError(
                f"{name}: {part} is {'not there' if found is None else repr(found)}, "
                "expected an object"
                f"{' with mrope_section' if part == 'rope_scaling' else ''}; if a "
                "merge left it out, copy it from the base model's config.json"
            )

    sizes, text_faults = _sizes(text, _TEXT, "")
    vision_sizes, vision_faults = _sizes(vision, _VISION, "vision_config.")
    faults = text_faults + vision_faults
    section = rope.get("mrope_section")
    if not isinstance(section, list) or [type(n) for n in section] != [int] * 3:
        faults.append(f"mrope_section is {section!r}, expected three counts")
        section = [0, 0, 0]
    full = vision.get("fullatt_block_indexes", _FULL_BLOCKS)
    if not isinstance(full, list | tuple):
        faults.append(f"fullatt_block_indexes is {full!r}, expected a list")
        full = ()
    theta = rope.get("rope_theta", text.get("rope_theta", _THETA))
    norm_eps = text.get("rms_norm_eps", _NORM_EPS)
    if not all(isinstance(x, int | float) and x > 0 for x in (theta, norm_eps)):
        faults.append(f"rope_theta {theta!r}, rms_norm_eps {norm_eps!r}: no numbers")
        theta, norm_eps = _THETA, _NORM_EPS
    out_width = vision_sizes.pop("out_width")
    config = Qwen25VLConfig(
        **sizes,
        head_dim=sizes["width"] // sizes["heads"],
        mrope_section=(section[0], section[1], section[2]),
        vision=VisionConfig(**vision_sizes, full_blocks=tuple(full)),
        tied=bool(_tie(content)),
        rope_theta=float(theta),
        norm_eps=float(norm_eps),
    )
    if not faults:
        faults = _inconsistencies(config)
        if out_width != config.width:
            faults.append(f"out_hidden_size {out_width}, hidden_size {config.width}")
    faults += _unsupported(content, text, vision, rope, config.head_dim)
    if faults:
        raise ValueError(f"{name}: not a Qwen2.5-VL we can run: " + "; ".join(faults))
    return config


def tie_from_hf(source: str | Path | Mapping[str, Any]) -> bool | None:
    """What config.json says of the output layer: True where it is the embedding.

    The key `tie_word_embeddings` stands at the root, where transformers before 4.52
    and from 5.0 reads it, or in `text_config`, where 4.52 to 4.57 did; a true one of
    these counts from either place, as in transformers 5.24.

    Args:
        source: As `config_from_hf` takes it.

    Returns:
        None where neither place has the key.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no JSON object.
    """
    return _tie(_read(source)[1])


def absent_keys(source: str | Path | Mapping[str, Any]) -> list[str]:
    """The sizes that config.json leaves out, with the defaults that stand for them.

    Args:
        source: As `config_from_hf` takes it, which must have read it.
    """
    content = _read(source)[1]
    sections = (
        (content.get("text_config") or content, _TEXT, ""),
        (content["vision_config"], _VISION, "vision_config."),
    )
    return [
        f"{where}{keys[0]} ({default})"
        for section, table, where in sections
        for default, *keys in table.values()
        if all(section.get(key) is None for key in keys)
    ]


def config_to_hf(
    config: Qwen25VLConfig, *, token_ids: Mapping[str, int | list[int]]
) -> dict[str, Any]:
    """Write a policy's sizes as config.json: the published flat form.

    Args:
        config: Its `param_dtype` becomes `torch_dtype`; `dtype`, `remat` and
            `scan_unroll` are not written.
        token_ids: The tokenizer's ids under the names of config.json:
            `image_token_id`, `video_token_id`, `vision_start_token_id` and
            `vision_end_token_id` are needed; `bos_token_id`, `eos_token_id` (which may
            be a list) and `pad_token_id` may be given too.

    Returns:
        What `json.dump` writes as config.json, and `config_from_hf` reads back.

    Raises:
        ValueError: An id is missing or unknown, or transformers could not express this
            config (it has no key for the head width or the vision tower's epsilon).
    """
    faults = [f"unknown token id {k!r}" for k in token_ids if k not in _TOKEN_IDS]
    faults += [f"no {k}" for k in _TOKEN_IDS[3:] if k not in token_ids]
    faults += _inconsistencies(config)
    if faults:
        raise ValueError("config.json cannot be written: " + "; ".join(faults))
    text_sizes = asdict(config)
    vision_sizes = {**asdict(config.vision), "out_width": config.width}
    vision = {keys[1]: vision_sizes[field] for field, keys in _VISION.items()}
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        **{keys[1]: text_sizes[field] for field, keys in _TEXT.items()},
        "hidden_act": "silu",
        "max_position_embeddings": _MAX_POSITIONS,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": {"type": "mrope", "mrope_section": list(config.mrope_section)},
        "tie_word_embeddings": config.tied,
        "torch_dtype": config.param_dtype,
        "use_sliding_window": False,
        **token_ids,
        "vision_config": {
            "model_type": "qwen2_5_vl",
            **vision,
            "hidden_act": "silu",
            "fullatt_block_indexes": list(config.vision.full_blocks),
            "tokens_per_second": 2,
        },
    }


def _tie(content: Mapping[str, Any]) -> bool | None:
    sections = (content, content.get("text_config") or {})
    said = [part.get("tie_word_embeddings") for part in sections]
    return None if said == [None, None] else any(said)


def _read(source: str | Path | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(source, Mapping):
        return "config", source
    path = Path(source)
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a checkpoint folder has one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # broken JSON or bytes that are not text
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object, found {type(content).__name__}")
    return str(path), content


def _sizes(
    section: Mapping[str, Any], table: Mapping[str, tuple[Any, ...]], where: str
) -> tuple[dict[str, Any], list[str]]:
    """Each size of a table, one positive integer whatever the spelling; and faults."""
    sizes, faults = {}, []
    for field, (default, *keys) in table.items():
        values = {where + k: section[k] for k in keys if section.get(k) is not None}
        plain = [_scalar(v) for v in values.values()]
        good = False
        if any(type(v) is not int or v <= 0 for v in plain):
            faults.append(f"{values}, expected a positive integer")
        elif len(set(plain)) > 1:
            faults.append(f"spellings disagree: {values}")
        else:
            good = True
        sizes[field] = plain[0] if good and plain else default
    return sizes, faults


def _scalar(value: Any) -> Any:
    """transformers 5 may write [14, 14] for 14."""
    if isinstance(value, list) and value and value == value[:1] * len(value):
        return value[0]
    return value


def _inconsistencies(config: Qwen25VLConfig) -> list[str]:
    """Sizes that do not fit together; the same reading and writing."""
    vision = config.vision
    heads, section = config.heads, list(config.mrope_section)
    tests = {
        f"{heads} heads of {config.head_dim} in a width of {config.width}": (
            heads * config.head_dim == config.width
        ),
        f"{heads} heads over {config.kv_heads} key heads": (
            heads % config.kv_heads == 0
        ),
        f"mrope_section {section} for head width {config.head_dim}": (
            2 * sum(section) == config.head_dim
        ),
        f"vision width {vision.width} in {vision.heads} heads, multiples of 4": (
            vision.width % (4 * vision.heads) == 0
        ),
        f"window of {vision.window} px for {vision.merge} patches of {vision.patch}": (
            vision.window % (vision.patch * vision.merge) == 0
        ),
        f"full attention in blocks {list(vision.full_blocks)} of {vision.depth}": all(
            type(b) is int and 0 <= b < vision.depth for b in vision.full_blocks
        ),
        f"vision epsilon {vision.norm_eps}, always {_VISION_NORM_EPS} elsewhere": (
            vision.norm_eps == _VISION_NORM_EPS
        ),
    }
    return [fault for fault, good in tests.items() if not good]


def _unsupported(
    content: Mapping[str, Any],
    text: Mapping[str, Any],
    vision: Mapping[str, Any],
    rope: Mapping[str, Any],
    head_dim: int,
) -> list[str]:
    """Switches that change the numbers and that we do not implement."""
    faults = []
    if text.get("use_sliding_window") or "sliding_attention" in (
        text.get("layer_types") or ()
    ):
        faults.append("use_sliding_window is on, only full attention is implemented")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "mrope"):
        faults.append(f"rope type is {kind!r}, expected 'mrope' or 'default'")
    theta = (vision.get("rope_parameters") or {}).get("rope_theta", _VISION_THETA)
    if theta != _VISION_THETA:
        faults.append(f"vision rope_theta is {theta}, expected {_VISION_THETA}")
    for where, part in (("", text), ("vision_config.", vision)):
        if part.get("hidden_act", "silu") != "silu":
            faults.append(f"{where}hidden_act is {part['hidden_act']!r}, not 'silu'")
    if text.get("head_dim", head_dim) != head_dim:
        faults.append(f"head_dim is {text['head_dim']}, hidden_size / heads {head_dim}")
    if content.get("quantization_config"):
        faults.append("the weights are quantised; load the unquantised checkpoint")
    return faults
