"""A trained adapter as a folder that PEFT reads."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from safetensors.numpy import save_file

from medjax.models.qwen25vl.adapters import WEIGHTS
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.files import ADAPTER
from medjax.models.qwen25vl.lora import Target, check_lora, find_targets
from medjax.models.qwen25vl.tensor_table import nested_name
from medjax.types import Params


def save_lora(
    folder: str | Path, config: Qwen25VLConfig, adapter: Params, *, base: str
) -> None:
    """Write adapter_config.json and adapter_model.safetensors, in float32.

    They are written into a temporary folder beside `folder`, which is then renamed. On
    several hosts all must call it; the first writes.

    Args:
        folder: Must not exist; its parents are made.
        config: Its `lora` has rank, alpha and targets.
        adapter: The tree of `init_lora`, of host or device arrays.
        base: The folder or the name of the policy that the adapter is of, which the
            adapter's config will say.

    Raises:
        FileExistsError: `folder` is there.
        OSError: The disk is full, or the like; nothing is left.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder}: exists already; name another folder")
    tensors = dict(_published(config, adapter))
    if jax.process_index() == 0:
        temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
        try:
            temporary.mkdir(parents=True)
            text = json.dumps(adapter_document(config, base=base), indent=2) + "\n"
            (temporary / ADAPTER).write_text(text, encoding="utf-8")
            save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
            # safetensors makes files that only their owner may read
            shutil.copymode(temporary / ADAPTER, temporary / WEIGHTS)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"save_lora {folder}")


def adapter_document(config: Qwen25VLConfig, *, base: str) -> dict[str, Any]:
    """What adapter_config.json says.

    Its targets are one pattern over whole names, since a list of ends such as "up_proj"
    would mean the vision tower's matrices too.

    Args:
        config: Its `lora` has rank, alpha and targets.
        base: The folder or the name of the policy that the adapter is of.
    """
    lora = check_lora(config.lora)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": _pattern(find_targets(config)),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _pattern(targets: list[Target]) -> str:
    """What matches the names of all layers of the targets, and of nothing else."""
    parts = []
    for target in targets:
        name = nested_name(target.tensors[0].name).removesuffix(".weight")
        name = re.escape(name)
        if target.stack:
            name = name.replace(r"\.0\.", r"\.\d+\.", 1)
        parts.append(name)
    return "|".join(parts)


def _published(
    config: Qwen25VLConfig, adapter: Params
) -> Iterator[tuple[str, np.ndarray]]:
    """PEFT's name and [r, in] or [out, r] of each matrix."""
    for target in find_targets(config):
        node = adapter
        for level in target.path.split("/"):
            node = node[level]
        for leaf, letter in (("lora_a", "A"), ("lora_b", "B")):
            stacked = node[leaf]
            if isinstance(stacked, jax.Array) and not stacked.is_fully_addressable:
                stacked = multihost_utils.process_allgather(stacked, tiled=True)
            values = np.asarray(stacked, np.float32)
            for tensor in target.tensors:
                half = values if tensor.layer is None else values[tensor.layer]
                name = nested_name(tensor.name).removesuffix(".weight")
                yield (
                    f"base_model.model.{name}.lora_{letter}.weight",
                    np.ascontiguousarray(half.T),
                )
