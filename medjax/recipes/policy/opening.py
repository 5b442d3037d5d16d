"""A policy from its options: a tiny one from scratch, or a Hugging Face folder."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medjax.data.prompting.chat import Style, corpus
from medjax.data.prompting.layout import MEAN, STD, Geometry
from medjax.data.prompting.tokenizer import (
    ANSWER_TAGS,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from medjax.models.qwen25vl.config import Qwen25VLConfig, VisionConfig
from medjax.models.qwen25vl.export import save_qwen25vl
from medjax.models.qwen25vl.hf_config import config_from_hf
from medjax.models.qwen25vl.tensor_table import hub_tensors
from medjax.models.qwen25vl.weights import flatten_params, load_qwen25vl
from medjax.types import Params

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Frequent pieces of an answer, one token each for a tiny policy.
ANSWER_PIECES = ('{"bbox_2d": [', ", ", "]}")


TOKEN_NAMES = {  # of a published config.json, and their tokens
    "bos_token_id": "<|endoftext|>",
    "eos_token_id": "<|im_end|>",
    "pad_token_id": "<|endoftext|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


class Policy(NamedTuple):
    """What a run needs to know about its policy."""

    config: Qwen25VLConfig
    tokenizer: "PreTrainedTokenizerBase"
    geometry: Geometry
    start: Callable[[Any], Params] | None  # loads weights into a tree of shardings


def open_policy(
    options: Mapping[str, Any],
) -> tuple[Geometry, Callable[..., Policy]]:
    """How images are cut, and what makes the policy once its words are known.

    Args:
        options: of `tiny_policy`, or `path` and those of `pretrained_policy`.

    Returns:
        The geometry, and a function of (texts, answers, *, style): every question, and
        answers such as the policy will write. A pretrained policy has its words.
    """
    rest = dict(options)
    path = rest.pop("path")
    bounds = {name: rest.pop(name) for name in ("min_pixels", "max_pixels")}
    if path:
        how = {name: rest[name] for name in ("dtype", "param_dtype", "remat")}
        made = pretrained_policy(path, **bounds, **how)

        def ready(
            texts: Sequence[str], answers: Sequence[str], *, style: Style
        ) -> Policy:
            del texts, answers, style
            return made

        return made.geometry, ready
    geometry = tiny_geometry(rest["vision"], **bounds)
    return geometry, partial(tiny_policy, **bounds, **rest)


def tiny_policy(
    texts: Sequence[str],
    answers: Sequence[str],
    *,
    style: Style,
    vocab: int,
    vision: Mapping[str, Any],
    min_pixels: int,
    max_pixels: int,
    **sizes: Any,  # noqa: ANN401
) -> Policy:
    """A small Qwen2.5-VL with random weights and a tokenizer trained on `texts`.

    Args:
        texts: every question.
        answers: such as the policy will write.
        style: of prompts.
        vocab: rows of the embedding, a bound on the tokenizer's size.
        vision: fields of `VisionConfig`.
        min_pixels: bounds of an image as it is shown.
        max_pixels: as `min_pixels`.
        sizes: the other fields of `Qwen25VLConfig`.
    """
    tokenizer = train_tokenizer(
        corpus(texts, answers, style),
        vocab,
        extra_tokens=(*ANSWER_TAGS, *ANSWER_PIECES),
    )
    tower = VisionConfig(**{**vision, "full_blocks": tuple(vision["full_blocks"])})
    sizes["mrope_section"] = tuple(sizes["mrope_section"])
    config = Qwen25VLConfig(vocab=vocab, vision=tower, **sizes)
    return Policy(config, tokenizer, _geometry(tower, min_pixels, max_pixels), None)


def tiny_geometry(
    vision: Mapping[str, Any], *, min_pixels: int, max_pixels: int
) -> Geometry:
    """How images are cut for a tower that is not built yet."""
    tower = VisionConfig(**{**vision, "full_blocks": tuple(vision["full_blocks"])})
    return _geometry(tower, min_pixels, max_pixels)


def pretrained_policy(
    path: str | os.PathLike[str],
    *,
    min_pixels: int,
    max_pixels: int,
    dtype: str,
    param_dtype: str,
    remat: str,
) -> Policy:
    """A Hugging Face folder of the Qwen2.5-VL architecture; weights load later."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: expected a Hugging Face folder of a Qwen2.5-VL model, found no "
            "config.json there"
        )
    how = {"dtype": dtype, "param_dtype": param_dtype}
    config = replace(config_from_hf(folder), remat=remat, **how)
    return Policy(
        config,
        load_tokenizer(folder),
        _geometry(config.vision, min_pixels, max_pixels),
        lambda shardings: load_params(folder, shardings, **how),
    )


def load_params(
    folder: str | os.PathLike[str], shardings: Params, **how: str
) -> Params:
    """A Hugging Face folder's parameters, each array placed as the tree says.

    Raises:
        ValueError: the folder holds other arrays than the tree; they are named.
    """
    wanted = flatten_params(shardings).keys()

    def place(config: Qwen25VLConfig) -> Params:
        differ = wanted ^ {tensor.path for tensor in hub_tensors(config)}
        if differ:
            raise ValueError(
                f"{folder} is of another architecture than the config's policy: only "
                f"one of them has {', '.join(sorted(differ))}; name the folder in the "
                "config as well: model=FOLDER"
            )
        return shardings

    return load_qwen25vl(folder, sharding_fn=place, **how)[1]


def save_policy(path: str | os.PathLike[str], policy: Policy, params: Params) -> None:
    """Write a Hugging Face folder: weights, tokenizer, and how images are resized.

    transformers, vLLM and `pretrained_policy` read it. See `save_qwen25vl` for errors.
    """
    tokenizer, geometry = policy.tokenizer, policy.geometry
    ids = {
        name: int(tokenizer.convert_tokens_to_ids(token))
        for name, token in TOKEN_NAMES.items()
    }
    folder = Path(path)
    save_qwen25vl(folder, policy.config, params, token_ids=ids)
    save_tokenizer(tokenizer, folder)
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "patch_size": geometry.patch,
        "merge_size": geometry.merge,
        "temporal_patch_size": geometry.temporal,
        "min_pixels": geometry.min_pixels,
        "max_pixels": geometry.max_pixels,
        "image_mean": MEAN.tolist(),
        "image_std": STD.tolist(),
    }
    text = json.dumps(processor, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")


def _geometry(vision: VisionConfig, min_pixels: int, max_pixels: int) -> Geometry:
    return Geometry(
        patch=vision.patch,
        merge=vision.merge,
        temporal=vision.temporal,
        window=vision.window,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
    )
