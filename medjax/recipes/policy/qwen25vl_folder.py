"""A Qwen2.5-VL folder beside its weights: images, tokens and texts, in and out."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from medjax.data.json_files import read_json
from medjax.data.prompting.chat import special_tokens
from medjax.data.prompting.generation import (
    GENERATION,
    PLACES,
    Drawing,
    TokenIds,
    generation_document,
    read_token_ids,
)
from medjax.data.prompting.layout import Geometry
from medjax.data.prompting.processor import (
    PROCESSOR,
    Processor,
    processor_document,
    read_processor,
)
from medjax.data.prompting.tokenizer import (
    load_tokenizer,
    save_tokenizer,
    tokenizer_digest,
)
from medjax.systems.policy.qwen25vl import Qwen25VLConfig, save_qwen25vl
from medjax.types import Params

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAINED = "medjax.json"  # of an exported folder: how images were shown in training


def read_geometry(folder: Path, geometry: Geometry, *, pixels: str) -> Geometry:
    """How images become numbers, as the folder's image processor says.

    One line is printed where its bounds of pixels are others than those in use, or
    where there is no image processor.

    Args:
        folder: A Hugging Face folder.
        geometry: The numbers of its vision tower, and the config's bounds of pixels.
        pixels: "folder" takes the folder's bounds, "config" those of `geometry`.

    Raises:
        ValueError: The image processor contradicts the vision tower, or has no bounds
            that could be taken; or what `read_processor` refuses.
    """
    found = read_processor(folder)
    if found is None:
        if pixels == "folder":
            raise ValueError(
                f"policy.pixels=folder: {folder} has no {PROCESSOR} with bounds of "
                "pixels; take policy.pixels=config"
            )
        say(
            f"{folder} has no {PROCESSOR}: images are normalised as for the "
            "released Qwen2.5-VL"
        )
        return geometry
    for key, mine in (
        ("patch_size", geometry.patch),
        ("merge_size", geometry.merge),
        ("temporal_patch_size", geometry.temporal),
    ):
        if getattr(found, key) != mine:
            raise ValueError(
                f"{found.source}: {key} is {getattr(found, key)}, but the vision tower "
                f"of config.json has {mine}; one of the two files is of another model"
            )
    if pixels == "folder" and found.disagreement:
        raise ValueError(
            f"{found.source}: {found.disagreement}; correct one, or take "
            "policy.pixels=config"
        )
    geometry = geometry._replace(
        mean=found.image_mean, std=found.image_std, levels=found.levels
    )
    bounds = (found.min_pixels, found.max_pixels)
    if pixels == "folder":
        return geometry._replace(min_pixels=bounds[0], max_pixels=bounds[1])
    if bounds != (geometry.min_pixels, geometry.max_pixels) or found.disagreement:
        say(_bounds_line(geometry, found))
    return geometry


def _bounds_line(geometry: Geometry, found: Processor) -> str:
    aside = f" ({found.disagreement})" if found.disagreement else ""
    return (
        f"images are shown at {geometry.min_pixels} to {geometry.max_pixels} pixels "
        f"(policy.min_pixels, policy.max_pixels); {found.source} says "
        f"{found.min_pixels} to {found.max_pixels}{aside}, which "
        "--config.policy.pixels=folder takes"
    )


def check_vocabulary(
    folder: Path, tokenizer: "PreTrainedTokenizerBase", rows: int
) -> None:
    """Refuse tokens without a row of the embedding; rows without a token are well.

    Args:
        folder: For the message.
        tokenizer: The folder's.
        rows: Of the embedding.

    Raises:
        ValueError: Some tokens have no row; they are counted and the first is named.
    """
    beyond = {text: i for text, i in tokenizer.get_vocab().items() if i >= rows}
    if beyond:
        first = min(beyond, key=lambda text: beyond[text])
        raise ValueError(
            f"{folder}: the tokenizer has {len(beyond)} tokens beyond the embedding's "
            f"{rows} rows (vocab_size of config.json), the first {first!r} "
            f"({beyond[first]}): it is of another policy, or tokens were added and the "
            "embedding was not resized: in transformers, "
            "model.resize_token_embeddings(len(tokenizer)), and save both"
        )


def seal_folder(folder: Path, geometry: Geometry, *, ramps: bool) -> None:
    """Write medjax.json: how images were shown, and a checksum of every other file.

    `check_seal` refuses the folder as soon as one of them is another file. A README.md
    may change.

    Args:
        folder: A whole Hugging Face folder.
        geometry: How images were cut in training.
        ramps: Whether the place of a pixel was drawn into them, see `add_ramps`.
    """
    sums = {path.name: _digest(path) for path in _sealed(folder)}
    images = geometry._asdict() | {"ramps": ramps}
    text = json.dumps({"images": images, "sha256": sums}, indent=2) + "\n"
    (folder / TRAINED).write_text(text, encoding="utf-8")


def check_seal(folder: Path) -> None:
    """Refuse a folder of `seal_folder` with another file, one more or one less.

    Args:
        folder: A Hugging Face folder; one without checksums is not looked at.

    Raises:
        ValueError: Files differ; each is named.
    """
    stored = _trained(folder).get("sha256")
    if stored is None:
        return
    found = {path.name: _digest(path) for path in _sealed(folder)}
    faults = [
        f"{name} (expected sha256 {str(stored.get(name, 'none'))[:12]}, found "
        f"{found.get(name, 'none')[:12]})"
        for name in sorted(stored.keys() | found.keys())
        if stored.get(name) != found.get(name)
    ]
    if faults:
        raise ValueError(
            f"{folder}: {', '.join(faults)}: not the files that {TRAINED} lists, whose "
            "weights, tokenizer and sizes belong together; fetch the folder again, or "
            f'take "sha256" out of {TRAINED} if you changed them on purpose'
        )


def weights_digest(folder: Path) -> str:
    """A checksum of a folder's weights, by which an adapter knows its base.

    All bytes are read: a second or two for each GB. The same numbers in other shards
    are other weights.

    Args:
        folder: A Hugging Face folder; without weights, as a plan may have it, the
            checksum is that of nothing.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def trained_images(folder: Path) -> dict[str, Any]:
    """How medjax.json says that images were shown in training; {} where there is none.

    Args:
        folder: A Hugging Face folder.

    Raises:
        ValueError: The file holds something else.
    """
    return _trained(folder).get("images", {})


def _sealed(folder: Path) -> list[Path]:
    """The files of a folder that bear on results."""
    free = (TRAINED, "README.md")
    return [x for x in sorted(folder.iterdir()) if x.is_file() and x.name not in free]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _trained(folder: Path) -> dict[str, Any]:
    """What medjax.json holds; {} where it is not there."""
    if not (folder / TRAINED).is_file():
        return {}
    content = read_json(folder / TRAINED, expected="images and their options")
    sums = content.get("sha256", {}) if isinstance(content, dict) else None
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("images"), dict)
        or not isinstance(sums, dict)
    ):
        raise ValueError(
            f"{folder / TRAINED}: expected images and their options, found "
            f"{content!r}; remove it if medjax did not write it"
        )
    return content


def say(line: str) -> None:
    """Print a line once, whatever the number of processes.

    Args:
        line: Without its end.
    """
    if jax.process_index() == 0:
        print(line, flush=True)  # noqa: T201


def describe_folder(folder: Path) -> dict[str, Any]:
    """What a folder says of its training, as parts of an identity.

    The bounds of pixels are among it where medjax wrote the folder: a released one's
    are those of its processor, not of its training.

    Args:
        folder: A Hugging Face folder of the Qwen2.5-VL architecture.

    Raises:
        ValueError: Its files contradict each other; see `open_checkpoint`.
    """
    check_seal(folder)
    tokenizer = load_tokenizer(folder)
    ids = read_token_ids(folder, tokenizer)
    images: dict[str, Any] = {}
    found = read_processor(folder)
    if found is not None:
        images = {
            "patch": found.patch_size,
            "merge": found.merge_size,
            "temporal": found.temporal_patch_size,
            "mean": found.image_mean,
            "std": found.image_std,
            "levels": found.levels,
        }
    images |= trained_images(folder)
    return {
        "tokenizer": tokenizer_digest(tokenizer),
        "images": images,
        "ends": {"stop_tokens": ids.eos, "pad": ids.pad},
    }


def save_policy(
    config: Qwen25VLConfig,
    tokenizer: "PreTrainedTokenizerBase",
    geometry: Geometry,
    ids: TokenIds,
    drawing: Drawing,
    folder: Path,
    params: Params,
) -> None:
    """Write a Hugging Face folder: weights, tokenizer, image processor, generation.

    transformers, vLLM and `open_checkpoint` read it; medjax.json beside says how images
    were shown in training. See `save_qwen25vl` for errors.

    Args:
        config: The sizes of the parameters.
        tokenizer: Its files are written too.
        geometry: Becomes the image processor, which does what training did.
        ids: The ends, padding and beginning of texts.
        drawing: What generation_config.json says beside these ids.
        folder: One that does not exist yet.
        params: The whole tree.
    """
    places = {
        name: int(tokenizer.convert_tokens_to_ids(token))
        for name, (_, token) in PLACES.items()
    }
    special = {
        "bos_token_id": ids.bos,
        "eos_token_id": special_tokens(tokenizer).stop,
        "pad_token_id": ids.pad,
    }
    said = {name: i for name, i in special.items() if i is not None}
    save_qwen25vl(folder, config, params, token_ids=said | places)
    if jax.process_index() != 0:
        return
    save_tokenizer(tokenizer, folder)
    for name, content in (
        (PROCESSOR, processor_document(geometry)),
        (GENERATION, generation_document(ids, drawing)),
        (TRAINED, {"images": geometry._asdict()}),
    ):
        text = json.dumps(content, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
