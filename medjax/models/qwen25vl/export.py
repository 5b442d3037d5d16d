"""The policy written as a Hugging Face folder of safetensors."""

import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from safetensors import SafetensorError
from safetensors.numpy import save_file

from medjax.checks import check_flags
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.files import INDEX, SINGLE
from medjax.models.qwen25vl.hf_config import config_to_hf
from medjax.models.qwen25vl.tensor_table import (
    HubTensor,
    hub_tensors,
    nested_name,
    published_name,
)
from medjax.models.qwen25vl.weights import check_floating, flatten_params
from medjax.types import Params

# Files of the tokenizer and the image processor, which a checkpoint folder also holds.
SIDE_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
)


def save_qwen25vl(
    path: str | Path,
    config: Qwen25VLConfig,
    params: Params,
    *,
    token_ids: Mapping[str, int | list[int]],
    dtype: str | None = None,
    layout: Literal["published", "nested"] = "published",
    max_shard_bytes: int = 5_000_000_000,
    copy_from: str | Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a folder that transformers, vLLM and `load_qwen25vl` read.

    Everything goes into a temporary folder beside `path`, which is then renamed: there
    is a whole checkpoint or none. On several hosts all must call it; the first writes.

    Args:
        path: The folder to make; its parents are made too.
        config: The sizes of `params`, all of which are checked before anything is
            written.
        params: The tree that `load_qwen25vl` or `init_params` gives, of host or
            device arrays, sharded or not.
        token_ids: The tokenizer's ids for config.json: `image_token_id`,
            `video_token_id`, `vision_start_token_id` and `vision_end_token_id` are
            needed; `bos_token_id`, `eos_token_id` (or a list) and `pad_token_id` may be
            given too.
        dtype: What the tensors are cast to one by one, such as "bfloat16"; None keeps
            the dtype of each.
        layout: How tensors are named: "published" as in Qwen's own folders, "nested"
            as transformers 4.52 to 5.5 do; other words are refused.
        max_shard_bytes: The tensors are split over several files, with an index, so
            that none is larger, unless a single tensor is; 0 or less gives each tensor
            a file of its own.
        copy_from: A folder whose tokenizer and processor files (`SIDE_FILES`) are
            copied along, those of them that exist; None copies nothing. It has
            to exist on every host.
        overwrite: Whether a folder that is at `path` already is replaced.

    Raises:
        FileExistsError: `path` exists and `overwrite` is not set.
        FileNotFoundError: `copy_from` is no folder.
        ValueError: The parameters do not fit the config, which one error lists in full;
            another layout, a dtype that is no float, or what `config_to_hf` refuses.
        OSError: The disk is full, or the like; what was at `path` is untouched.
    """
    folder = Path(path)
    check_flags("save_qwen25vl", overwrite=overwrite)
    if layout not in ("published", "nested"):
        raise ValueError(
            f"save_qwen25vl: layout: expected 'published' or 'nested'; found {layout!r}"
        )
    if dtype is not None:
        check_floating("save_qwen25vl", dtype=dtype)
    if copy_from is not None and not Path(copy_from).is_dir():
        raise FileNotFoundError(
            f"save_qwen25vl: copy_from: expected a folder; found none at {copy_from}"
        )
    if folder.exists() and not overwrite:
        raise FileExistsError(f"{folder}: exists already; remove it or set overwrite")
    tensors = hub_tensors(config)
    leaves = flatten_params(params)
    _check_params(tensors, leaves)
    stored = dtype or jnp.dtype(leaves[tensors[0].path].dtype).name
    content = config_to_hf(replace(config, param_dtype=stored), token_ids=token_ids)
    plan = _plan_shards(tensors, leaves, dtype, max_shard_bytes)
    rename = nested_name if layout == "nested" else published_name

    writes = jax.process_index() == 0
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        if writes:
            temporary.mkdir(parents=True)
            _write_json(temporary / "config.json", content)
            if copy_from is not None:
                for name in SIDE_FILES:
                    if (Path(copy_from) / name).is_file():
                        shutil.copyfile(Path(copy_from) / name, temporary / name)
        for name, shard in plan.items():
            arrays = _fetch(shard, leaves, dtype)
            if writes:
                named = {rename(k): v for k, v in arrays}
                save_file(named, temporary / name, metadata={"format": "pt"})
                # safetensors makes files that only their owner may read
                shutil.copymode(temporary / "config.json", temporary / name)
                del named  # before the next shard is fetched
            else:
                deque(arrays, maxlen=0)  # takes part in the gathers, keeps nothing
        if writes:
            if list(plan) != [SINGLE]:
                index = _index(plan, leaves, dtype, rename)
                _write_json(temporary / INDEX, index)
            _replace_folder(temporary, folder)
    except (OSError, SafetensorError) as error:
        near = next(p for p in folder.absolute().parents if p.exists())
        free = shutil.disk_usage(near).free / 1e9
        raise OSError(
            f"{folder}: could not be written ({error}); {free:.3f} GB are free there"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"save_qwen25vl {folder}")


def _check_params(tensors: Sequence[HubTensor], leaves: Mapping[str, Any]) -> None:
    counts = Counter(t.path for t in tensors)
    expected = {
        t.path: (counts[t.path],) * (t.layer is not None) + t.our_shape for t in tensors
    }
    shapes = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
    faults = [
        f"  {name}: expected {expected.get(name, 'nothing')}, "
        f"found {shapes.get(name, 'nothing')}"
        for name in sorted(expected.keys() | shapes.keys())
        if expected.get(name) != shapes.get(name)
    ]
    if faults:
        raise ValueError("\n".join(["the parameters do not fit the config:", *faults]))


def _nbytes(tensor: HubTensor, leaves: Mapping[str, Any], dtype: str | None) -> int:
    item = jnp.dtype(dtype or leaves[tensor.path].dtype).itemsize
    return int(np.prod(tensor.shape)) * item


def _plan_shards(
    tensors: Sequence[HubTensor],
    leaves: Mapping[str, Any],
    dtype: str | None,
    limit: int,
) -> dict[str, list[HubTensor]]:
    """File name -> tensors, filled in order up to the limit."""
    shards: list[list[HubTensor]] = [[]]
    size = 0
    for tensor in tensors:
        nbytes = _nbytes(tensor, leaves, dtype)
        if shards[-1] and size + nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += nbytes
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    return {
        f"model-{i:05d}-of-{len(shards):05d}.safetensors": shard
        for i, shard in enumerate(shards, 1)
    }


def _fetch(
    shard: Sequence[HubTensor], leaves: Mapping[str, Any], dtype: str | None
) -> Iterator[tuple[str, np.ndarray]]:
    """Published name and contiguous host array of each tensor."""
    for tensor in shard:
        leaf = leaves[tensor.path]
        part = leaf if tensor.layer is None else leaf[tensor.layer]
        if isinstance(part, jax.Array) and not part.is_fully_addressable:
            part = multihost_utils.process_allgather(part, tiled=True)
        array = np.asarray(part).astype(jnp.dtype(dtype or leaf.dtype), copy=False)
        if tensor.path.endswith("kernel"):
            array = array.T.reshape(tensor.shape)
        yield tensor.name, np.ascontiguousarray(array)


def _index(
    plan: Mapping[str, Sequence[HubTensor]],
    leaves: Mapping[str, Any],
    dtype: str | None,
    rename: Callable[[str], str],
) -> dict[str, Any]:
    tensors = [tensor for shard in plan.values() for tensor in shard]
    return {
        "metadata": {"total_size": sum(_nbytes(t, leaves, dtype) for t in tensors)},
        "weight_map": {
            rename(tensor.name): name
            for name, shard in plan.items()
            for tensor in shard
        },
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _replace_folder(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)
