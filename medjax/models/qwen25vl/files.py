"""The files of a Hugging Face folder: which tensors it holds, and under what names."""

import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from medjax.checks import check_flags
from medjax.models.qwen25vl.tensor_table import EMBEDDING, HEAD, published_name

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
# What PEFT puts into the names of an adapter's tensors and of those it wraps.
_PEFT = re.compile(
    r"\.(base_layer|original_module|modules_to_save|(lora|ia3|hada|lokr|oft|vera)_\w+)\."
)


class Stored(NamedTuple):
    """Where a tensor lies: an open file and the name it has there."""

    file: Any
    name: str
    where: str

    @property
    def slices(self) -> Any:
        """The tensor, read piece by piece."""
        return self.file.get_slice(self.name)


def refuse_adapter(folder: Path) -> None:
    """Raise where a folder holds a PEFT adapter, alone or beside a whole policy.

    Args:
        folder: Any folder; one without adapter_config.json passes.

    Raises:
        ValueError: It holds one; its kind, its base model and how to merge it are said.
    """
    path = folder / ADAPTER
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, base = content.get("peft_type"), content.get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: expected a JSON object ({error})") from error
    alone = "" if (folder / "config.json").is_file() else ", not a whole policy"
    beside = (
        ""
        if alone
        else f" If the weights beside it are merged already, remove {ADAPTER}."
    )
    raise ValueError(
        f"{folder}: {ADAPTER} makes it a PEFT adapter ({kind or 'of no named kind'} on "
        f"{base or 'a base model that it does not name'}){alone}. Its weights would be "
        f"left out: {_merge(folder, base)}.{beside}"
    )


def _merge(folder: Path, base: str | None) -> str:
    return (
        "merge them into the base model and name the merged folder: python -m "
        f"medjax.recipes.merge_adapter --base {base or 'BASE'} --adapter {folder} "
        "--out MERGED (a LoRA of matrices alone), or in Python with peft: model = "
        "AutoModelForImageTextToText.from_pretrained("
        f"{base or 'BASE'!r}); model = PeftModel.from_pretrained(model, "
        f"{str(folder)!r}).merge_and_unload(); model.save_pretrained('MERGED'); then "
        "copy the tokenizer's and the processor's files of the base model into MERGED"
    )


def open_tensors(folder: Path, stack: ExitStack) -> dict[str, Stored]:
    """Published name -> stored tensor, for all files of a folder.

    Args:
        folder: With model.safetensors, or an index and its shards.
        stack: The files stay open until it is closed.

    Raises:
        FileNotFoundError: There are no safetensors, or a shard is missing.
        ValueError: A broken file, a tensor that is stored twice, or an adapter.
    """
    refuse_adapter(folder)
    files = [SINGLE] if (folder / SINGLE).is_file() else _shards(folder)
    stored, doubled, wrapped = {}, [], []
    for name in files:
        try:
            file = stack.enter_context(safe_open(folder / name, framework="numpy"))
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{folder / name}: not a whole safetensors file ({error}); "
                "copy or download it again"
            ) from error
        for key in file.keys():  # noqa: SIM118, the file is no mapping
            if published_name(key) in stored:
                doubled.append(f"  doubled {key} in {name}")
            if _PEFT.search(f".{key}."):
                wrapped.append(f"{key} in {name}")
            stored[published_name(key)] = Stored(file, key, name)
    if wrapped:
        raise ValueError(
            f"{folder}: {len(wrapped)} tensors have names that PEFT gives, such as "
            f"{wrapped[0]}: an adapter that was not merged before it was saved; "
            f"{_merge(folder, None)}"
        )
    if doubled:
        raise ValueError(
            "\n".join([f"{folder}: tensors stored more than once:", *doubled])
        )
    return stored


def _shards(folder: Path) -> list[str]:
    """Files that the index names; only plain names inside the folder are followed."""
    if not (folder / INDEX).is_file():
        others = sorted(
            f.name
            for f in folder.glob("*")
            if f.suffix in (".bin", ".pt", ".pth", ".safetensors")
        )
        raise FileNotFoundError(
            f"{folder}: neither {SINGLE} nor {INDEX}; found {others or 'no weights'}. "
            "Pickled weights are not read: save them with safe_serialization=True, and "
            "merge an adapter into its base model first"
        )
    try:
        names = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / INDEX}: not an index ({error!r})") from error
    outside = [n for n in names if not isinstance(n, str) or re.search(r"[/\\:\0]", n)]
    if outside:
        raise ValueError(f"{folder / INDEX}: names files elsewhere: {sorted(outside)}")
    missing = sorted(n for n in names if not (folder / n).is_file())
    if missing:
        raise FileNotFoundError(
            f"{folder}: {INDEX} names {len(missing)} of {len(names)} files that are "
            f"not there: {', '.join(missing)}; copy or download them again"
        )
    return sorted(names)


def resolve_tie(
    folder: Path, stored: dict[str, Stored], *, said: bool | None, asked: bool | None
) -> bool:
    """Whether the output layer is the embedding, by config.json, files and caller.

    Args:
        folder: For messages.
        stored: The folder's tensors.
        said: The folder's `tie_word_embeddings`; None where its config.json is silent.
        asked: What the caller wants; None follows the folder.

    Raises:
        ValueError: There is no head and config.json says that there is one, or `asked`
            does not fit the files.
    """
    if asked is not None:
        check_flags("load_qwen25vl", tied=asked)
    way = (
        "tied=True (--config.policy.tied=True) takes the embedding as the output layer"
    )
    if HEAD not in stored:
        if asked is False:
            raise ValueError(
                f"{folder}: tied=False, but no file holds {HEAD}; leave it to the "
                "folder (--config.policy.tied=None)"
            )
        if said is False and asked is None:
            raise ValueError(
                f"{folder / 'config.json'}: tie_word_embeddings is false, but no file "
                f"holds {HEAD}: transformers would draw it at random. Copy the file "
                f"that holds it, or, if the policy was trained tied, {way}"
            )
        return True
    if asked is False or not (said or asked):
        return False
    equal = _is_equal(stored)
    if asked and not equal:
        raise ValueError(
            f"{folder}: tied=True, but {HEAD} differs from {EMBEDDING}; leave it to "
            "the folder (--config.policy.tied=None), which uses both"
        )
    return equal


def _is_equal(stored: dict[str, Stored]) -> bool:
    """Whether the head holds the embedding's numbers."""
    if EMBEDDING not in stored:
        return False
    head, embedding = stored[HEAD].slices, stored[EMBEDDING].slices
    if head.get_shape() != embedding.get_shape():
        return False
    rows = head.get_shape()[0]
    chunks = [slice(i, min(i + 8192, rows)) for i in range(0, rows, 8192)]
    return all(np.array_equal(head[c], embedding[c]) for c in chunks)
