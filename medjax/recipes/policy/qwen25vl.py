"""Open a Qwen2.5-VL policy: a tiny one from scratch, or a Hugging Face folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medjax.data.prompting.chat import Style, corpus, special_tokens
from medjax.data.prompting.layout import MEAN, STD, Geometry
from medjax.data.prompting.tokenizer import (
    ANSWER_TAGS,
    load_tokenizer,
    parse_tables,
    save_tokenizer,
    stop_ids,
    tokenizer_digest,
    train_tokenizer,
)
from medjax.recipes.policy.opened import Opener, Opening, Policy
from medjax.recipes.sections import read_section
from medjax.systems.policy.qwen25vl import (
    Qwen25VLConfig,
    VisionConfig,
    config_from_hf,
    load_weights,
    make_model,
    save_qwen25vl,
)
from medjax.types import Ends, Params

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
_SCHEDULING = ("remat", "scan_unroll")  # of a config: they bear on no number


class Vision(NamedTuple):
    """Sizes of a tiny policy's vision tower, see `VisionConfig`."""

    depth: int
    width: int
    mlp: int
    heads: int
    full_blocks: tuple[int, ...]  # blocks that attend to the whole image
    patch: int  # pixels
    window: int  # pixels


class PolicySection(NamedTuple):
    """The section `policy`; a checkpoint's sizes replace those down to `vision`."""

    path: str  # of a Hugging Face folder; "": a tiny policy with random weights
    vocab: int  # rows of the embedding, a bound on the tokenizer's size
    width: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mrope_section: tuple[int, int, int]
    tied: bool
    scan_unroll: int
    vision: Vision
    min_pixels: int  # bounds of an image as it is shown
    max_pixels: int
    dtype: str
    param_dtype: str
    remat: str
    freeze_vision: bool  # no gradient into the vision tower
    logit_chunk: int | None  # positions scored at a time; None: all


def open_section(section: Mapping[str, Any]) -> Opening:
    """The policy of a section: the checkpoint at its `path`, or else a tiny one.

    Args:
        section: The options of a `PolicySection`, all of them.

    Raises:
        FileNotFoundError: There is no checkpoint at `path`.
        ValueError: An option is unknown or missing, or the checkpoint does not fit.
    """
    options = read_section(PolicySection, "policy", section)
    return open_checkpoint(options) if options.path else open_tiny(options)


def open_tiny(options: PolicySection) -> Opening:
    """A small policy with random weights and a tokenizer trained on the run's words.

    Args:
        options: Sizes, dtypes and the bounds of an image's size.
    """
    tower = VisionConfig(**options.vision._asdict())
    config = Qwen25VLConfig(
        vocab=options.vocab,
        width=options.width,
        mlp=options.mlp,
        layers=options.layers,
        heads=options.heads,
        kv_heads=options.kv_heads,
        head_dim=options.head_dim,
        mrope_section=options.mrope_section,
        vision=tower,
        tied=options.tied,
        dtype=options.dtype,
        param_dtype=options.param_dtype,
        remat=options.remat,
        scan_unroll=options.scan_unroll,
    )

    def finish(texts: Sequence[str], answers: Sequence[str], *, style: Style) -> Policy:
        tokenizer = train_tokenizer(
            corpus(texts, answers, style),
            options.vocab,
            extra_tokens=(*ANSWER_TAGS, *ANSWER_PIECES),
        )
        return _policy(options, config, tokenizer)

    return Opening(_geometry(options, tower), finish)


def open_checkpoint(options: PolicySection) -> Opening:
    """A Hugging Face folder of the Qwen2.5-VL architecture; weights load later.

    Args:
        options: Its `path` is the folder, whose sizes replace those of the options.
    """
    folder = Path(options.path)
    stored = config_from_hf(folder)
    config = replace(
        stored,
        remat=options.remat,
        dtype=options.dtype,
        param_dtype=options.param_dtype,
    )
    policy = _policy(options, config, load_tokenizer(folder))._replace(
        load=partial(
            load_weights,
            folder,
            dtype=options.dtype,
            param_dtype=options.param_dtype,
        )
    )

    def finish(texts: Sequence[str], answers: Sequence[str], *, style: Style) -> Policy:
        del texts, answers, style  # its tokenizer has learnt its words
        return policy

    return Opening(policy.geometry, finish)


def save_policy(
    config: Qwen25VLConfig,
    tokenizer: "PreTrainedTokenizerBase",
    geometry: Geometry,
    folder: Path,
    params: Params,
) -> None:
    """Write a Hugging Face folder: weights, tokenizer, and how images are resized.

    transformers, vLLM and `open_checkpoint` read it. See `save_qwen25vl` for errors.

    Args:
        config: The sizes of the parameters.
        tokenizer: Its files are written too.
        geometry: Becomes the image processor's patch, merge and bounds of an image's
            size.
        folder: One that does not exist yet.
        params: The whole tree.
    """
    ids = {
        name: int(tokenizer.convert_tokens_to_ids(token))
        for name, token in TOKEN_NAMES.items()
    }
    save_qwen25vl(folder, config, params, token_ids=ids)
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


def _policy(
    options: PolicySection,
    config: Qwen25VLConfig,
    tokenizer: "PreTrainedTokenizerBase",
) -> Policy:
    gradient = {
        "freeze_vision": options.freeze_vision,
        "logit_chunk": options.logit_chunk,
    }
    sizes = {k: x for k, x in asdict(config).items() if k not in _SCHEDULING}
    geometry = _geometry(options, config.vision)
    pad = special_tokens(tokenizer).pad
    return Policy(
        model=make_model(config, **gradient),
        tokenizer=tokenizer,
        geometry=geometry,
        tables=parse_tables(tokenizer, config.vocab),
        ends=Ends(stop_ids(tokenizer), pad),
        digest=tokenizer_digest(tokenizer),
        identity=sizes | gradient,
        load=None,
        save=partial(save_policy, config, tokenizer, geometry),
    )


def _geometry(options: PolicySection, vision: VisionConfig) -> Geometry:
    return Geometry(
        patch=vision.patch,
        merge=vision.merge,
        temporal=vision.temporal,
        window=vision.window,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
    )


OPENER = Opener(open_section, load_weights)
