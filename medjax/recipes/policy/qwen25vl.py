"""Open a Qwen2.5-VL policy: a tiny one from scratch, or a Hugging Face folder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medjax.data.prompting.chat import Style, corpus, special_tokens
from medjax.data.prompting.generation import (
    Drawing,
    TokenIds,
    read_drawing,
    read_token_ids,
)
from medjax.data.prompting.layout import Geometry
from medjax.data.prompting.template import chat_template, check_templates
from medjax.data.prompting.tokenizer import (
    ANSWER_TAGS,
    check_readable,
    load_tokenizer,
    parse_tables,
    stop_ids,
    tokenizer_digest,
    train_tokenizer,
)
from medjax.planning.auto import ArrayAxes
from medjax.recipes.policy.opened import (
    Opener,
    Opening,
    Outline,
    Policy,
)
from medjax.recipes.policy.qwen25vl_folder import (
    check_seal,
    check_vocabulary,
    describe_folder,
    read_geometry,
    save_policy,
    say,
    trained_images,
)
from medjax.recipes.policy.qwen25vl_lora import LoraSection, adapt, read_lora
from medjax.recipes.policy.qwen25vl_outline import array_axes, outline_of
from medjax.recipes.sections import read_section
from medjax.sharding import Rules
from medjax.systems.policy.qwen25vl import (
    Qwen25VLConfig,
    VisionConfig,
    config_from_hf,
    folder_config,
    load_weights,
    make_model,
    make_sampler,
)
from medjax.types import Ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Frequent pieces of an answer, one token each for a tiny policy.
ANSWER_PIECES = ('{"bbox_2d": [', ", ", "]}")
PIXELS = ("config", "folder")
_SCHEDULING = ("remat", "scan_unroll", "rules")  # of a config: they bear on no number
_APART = (*_SCHEDULING, "lora")  # not among the sizes of an identity


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
    tied: bool | None  # the output layer is the embedding; None: as the folder says
    scan_unroll: int
    vision: Vision
    min_pixels: int  # bounds of an image as it is shown
    max_pixels: int
    dtype: str
    param_dtype: str
    remat: str
    freeze_vision: bool  # no gradient into the vision tower
    logit_chunk: int | None  # positions scored at a time; None: all
    pixels: str = "config"  # one of PIXELS: whose bounds, these or the folder's
    rules: Rules | None = None  # where activations lie; of the config's own section
    rollout_rules: Rules | None = None  # and parameters, in a rollout; None: as `rules`
    weights: bool = True  # a folder must hold them; False: its config.json is enough
    lora: LoraSection = LoraSection()


# What a folder says itself, and what bears on training alone.
_OF_FOLDER: Mapping[str, Any] = {
    **dict.fromkeys(("vocab", "width", "mlp", "layers", "heads", "kv_heads"), 0),
    "head_dim": 0,
    "mrope_section": (0, 0, 0),
    "tied": None,
    "scan_unroll": 1,
    "vision": None,
    "remat": "none",
    "freeze_vision": False,
    "logit_chunk": None,
}


def open_section(section: Mapping[str, Any]) -> Opening:
    """The policy of a section: the checkpoint at its `path`, or else a tiny one.

    Args:
        section: The options of a `PolicySection`, all of them.

    Raises:
        FileNotFoundError: There is no checkpoint at `path`.
        ValueError: An option is unknown or missing, or the checkpoint does not fit.
    """
    options = _read_options(section)
    return open_checkpoint(options) if options.path else open_tiny(options)


def section_geometry(section: Mapping[str, Any]) -> Geometry:
    """How the policy of a section is shown images; neither tokenizer nor weights count.

    Args:
        section: The options of a `PolicySection`, all of them.

    Raises:
        FileNotFoundError: There is no config.json at its `path`.
        ValueError: An option is unknown or missing, or what `read_geometry` refuses.
    """
    options = _read_options(section)
    if not options.path:
        return _geometry(options, VisionConfig(**options.vision._asdict()))
    folder = Path(options.path)
    geometry = _geometry(options, config_from_hf(folder).vision)
    return read_geometry(folder, geometry, pixels=options.pixels)


def section_outline(section: Mapping[str, Any]) -> Outline:
    """What a mesh has to know of the policy of a section.

    Args:
        section: The options of a `PolicySection`, all of them.

    Raises:
        FileNotFoundError: There is no config.json at its `path`.
        ValueError: An option is unknown or missing, or the file is not well.
    """
    return outline_of(_sizes(_read_options(section)))


def section_arrays(section: Mapping[str, Any]) -> list[ArrayAxes]:
    """The shapes and logical axes of the policy of a section, without its numbers.

    Args:
        section: See `section_outline`, also for what is raised.
    """
    return array_axes(_sizes(_read_options(section)))


def _sizes(options: PolicySection) -> Qwen25VLConfig:
    """The config of a folder, or of a policy that starts from nothing."""
    if options.path:
        return config_from_hf(Path(options.path))
    return _tiny_config(options)


def _read_options(section: Mapping[str, Any]) -> PolicySection:
    options = read_section(PolicySection, "policy", section)
    known = PIXELS if options.path else PIXELS[:1]
    if options.pixels not in known:
        raise ValueError(
            f"policy.pixels is {options.pixels!r}, expected one of {', '.join(known)}; "
            "folder with policy.path alone"
        )
    return options


def open_tiny(options: PolicySection) -> Opening:
    """A small policy with random weights and a tokenizer trained on the run's words.

    Args:
        options: Sizes, dtypes and the bounds of an image's size.
    """
    if options.lora.rank is not None:
        raise ValueError(
            "policy.lora.rank is set, and the policy's weights are drawn: an adapter "
            "is of a base that others can have. Name one, model=tiny or model=FOLDER; "
            "or train all parameters, policy.lora.rank=None"
        )
    if options.tied is None:
        raise ValueError(
            "policy.tied is None, which leaves it to the folder of policy.path; "
            "expected True or False"
        )
    config = _tiny_config(options)

    def finish(texts: Sequence[str], answers: Sequence[str], *, style: Style) -> Policy:
        tokenizer = train_tokenizer(
            corpus(texts, answers, style),
            options.vocab,
            extra_tokens=(*ANSWER_TAGS, *ANSWER_PIECES),
            system=style.system,
        )
        stops, pad = stop_ids(tokenizer), special_tokens(tokenizer).pad
        ids = TokenIds(stops, pad, bos=pad)
        return _policy(options, config, tokenizer, geometry, ids, Drawing())

    geometry = _geometry(options, config.vision)
    return Opening(geometry, finish)


def _tiny_config(options: PolicySection) -> Qwen25VLConfig:
    return Qwen25VLConfig(
        vocab=options.vocab,
        width=options.width,
        mlp=options.mlp,
        layers=options.layers,
        heads=options.heads,
        kv_heads=options.kv_heads,
        head_dim=options.head_dim,
        mrope_section=options.mrope_section,
        vision=VisionConfig(**options.vision._asdict()),
        tied=bool(options.tied),
        dtype=options.dtype,
        param_dtype=options.param_dtype,
        remat=options.remat,
        scan_unroll=options.scan_unroll,
    )


def open_checkpoint(options: PolicySection) -> Opening:
    """A Hugging Face folder of the Qwen2.5-VL architecture; weights load later.

    What its files say of images and of special tokens is used, see `read_processor`
    and `read_token_ids`; the bounds of pixels are the options' unless `pixels` is
    "folder", and one printed line says so where the folder's are others.

    Args:
        options: Its `path` is the folder, whose sizes replace those of the options.

    Raises:
        ValueError: The folder's files contradict each other, or ask for what medjax
            does not do; see there.
    """
    folder = Path(options.path)
    if options.weights or any(folder.glob("*.safetensors")):
        check_seal(folder)
        stored, other_head = folder_config(folder, tied=options.tied)
    else:
        stored, other_head = config_from_hf(folder), False
        if options.tied is not None:
            stored = replace(stored, tied=options.tied)
    if other_head:
        say(
            f"{folder}: config.json ties the output layer to the embedding, but "
            "lm_head.weight differs and is used, as by transformers 5"
        )
    config = replace(
        stored,
        remat=options.remat,
        dtype=options.dtype,
        param_dtype=options.param_dtype,
        lora=read_lora(options.lora),
    )
    geometry = read_geometry(
        folder, _geometry(options, config.vision), pixels=options.pixels
    )
    tokenizer = load_tokenizer(folder)
    check_vocabulary(folder, tokenizer, config.vocab)
    ids = read_token_ids(folder, tokenizer)
    # what pads a batch, and is written into an exported folder
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ids.pad)
    drawing = read_drawing(folder)
    policy = _policy(options, config, tokenizer, geometry, ids, drawing)._replace(
        load=partial(
            load_weights,
            folder,
            dtype=options.dtype,
            param_dtype=options.param_dtype,
            tied=options.tied,
        ),
        check_style=partial(check_templates, folder, tokenizer),
        ramps=trained_images(folder).get("ramps"),
    )
    if config.lora is not None:
        policy = adapt(policy, config, folder, options.lora)

    def finish(texts: Sequence[str], answers: Sequence[str], *, style: Style) -> Policy:
        del texts  # its tokenizer has learnt its words
        check_readable(tokenizer, answers, origin=str(folder))
        # what an exported folder will say, where the template is the processor's alone
        tokenizer.chat_template = check_templates(folder, tokenizer, style) or (
            chat_template(style.system)
        )
        return policy

    return Opening(policy.geometry, finish)


def open_folder(folder: Path, *, pixels: tuple[int, int] | None, dtype: str) -> Opening:
    """A Hugging Face folder for use, without a config.

    Args:
        folder: Of the Qwen2.5-VL architecture.
        pixels: The fewest and the most that an image is shown at; None: as medjax.json
            says, or else the folder's image processor.
        dtype: What is computed in.

    Raises:
        ValueError: See `open_checkpoint`.
    """
    images = trained_images(folder)
    if pixels is None and {"min_pixels", "max_pixels"} <= images.keys():
        pixels = images["min_pixels"], images["max_pixels"]
    least, most = pixels or (1, 1)
    options = PolicySection(
        path=str(folder),
        min_pixels=least,
        max_pixels=most,
        dtype=dtype,
        param_dtype="float32",
        pixels="config" if pixels else "folder",
        **_OF_FOLDER,
    )
    return open_checkpoint(options)


def _policy(
    options: PolicySection,
    config: Qwen25VLConfig,
    tokenizer: "PreTrainedTokenizerBase",
    geometry: Geometry,
    ids: TokenIds,
    drawing: Drawing,
) -> Policy:
    gradient = {
        "freeze_vision": options.freeze_vision,
        "logit_chunk": options.logit_chunk,
    }
    sizes = {k: x for k, x in asdict(config).items() if k not in _APART}
    return Policy(
        model=make_model(config, rules=options.rules, **gradient),
        sampler=make_sampler(
            config,
            rules=options.rollout_rules or options.rules,
            logit_chunk=options.logit_chunk,
        ),
        tokenizer=tokenizer,
        geometry=geometry,
        tables=parse_tables(tokenizer, config.vocab),
        ends=Ends(ids.eos, ids.pad),
        digest=tokenizer_digest(tokenizer),
        identity=sizes | gradient,
        load=None,
        save=partial(save_policy, config, tokenizer, geometry, ids, drawing),
        check_style=_any_style,
        drawing=drawing,
    )


def _any_style(style: Style) -> None:
    """A fresh policy learns whatever words it is trained with."""
    del style


def _geometry(options: PolicySection, vision: VisionConfig) -> Geometry:
    return Geometry(
        patch=vision.patch,
        merge=vision.merge,
        temporal=vision.temporal,
        window=vision.window,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
    )


OPENER = Opener(
    open_section,
    section_geometry,
    section_outline,
    section_arrays,
    open_folder,
    load_weights,
    describe_folder,
)
