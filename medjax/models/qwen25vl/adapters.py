"""Low-rank adapters as PEFT writes them: what they add to which kernel.

An adapter (LoRA: Hu et al. 2021) makes of a published weight W [out, in]

    W + s B A,    A [r, in],  B [out, r],  s = alpha / r  (rslora: alpha / sqrt(r))
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from medjax.models.qwen25vl.files import ADAPTER
from medjax.models.qwen25vl.tensor_table import HubTensor, published_name

WEIGHTS = "adapter_model.safetensors"
_NAME = re.compile(r"^(.+)\.lora_([AB])(\.\w+)?\.weight$")
# What a LoRA of these settings adds is not s B A, or not to kernels alone.
_OTHERWISE = ("use_dora", "fan_in_fan_out", "modules_to_save", "lora_bias")


class LowRank(NamedTuple):
    """What is added to one published weight: scale * up @ down."""

    down: Float[np.ndarray, "r i"]  # A
    up: Float[np.ndarray, "o r"]  # B
    scale: float


def read_adapter(
    folder: str | Path, tensors: Sequence[HubTensor]
) -> dict[str, LowRank]:
    """What a PEFT folder adds to a policy, by the published name of the weight.

    Args:
        folder: With adapter_config.json and adapter_model.safetensors. Pickled weights
            are never read.
        tensors: Those of the base model, see `hub_tensors`.

    Returns:
        A and B in float32 for each weight that the adapter changes.

    Raises:
        FileNotFoundError: One of the two files is missing.
        ValueError: It is another kind of adapter, does more than s B A, holds numbers
            that are not finite, or does not fit the base model; all that does not fit
            is named, with the base model that the adapter was made for.
    """
    folder = Path(folder)
    about = _read_config(folder)
    halves = _read_halves(folder)
    base = {tensor.name: tensor for tensor in tensors}
    found, faults = {}, []
    for name, pair in sorted(halves.items()):
        fault = _fault(name, pair, base)
        if fault:
            faults.append(f"  {fault}")
            continue
        down, up = pair["A"], pair["B"]
        rank, alpha = _sizes(about, name.removesuffix(".weight"))
        if len(down) != rank:
            faults.append(f"  {name}: rank {len(down)}, {ADAPTER} says {rank}")
            continue
        root = math.sqrt(rank) if about.get("use_rslora") else rank
        found[name] = LowRank(down, up, alpha / root)
    if faults:
        made_for = (
            about.get("base_model_name_or_path") or "a base that it does not name"
        )
        raise ValueError(
            f"{folder}: {len(faults)} of {len(halves)} matrices do not fit this base "
            f"model; the adapter was made for {made_for}:\n" + "\n".join(faults[:20])
        )
    if not found:
        raise ValueError(f"{folder / WEIGHTS}: expected lora_A and lora_B, found none")
    return found


def changed(
    piece: Float[np.ndarray, "i o"], change: LowRank, cut: tuple[slice, ...]
) -> Float[np.ndarray, "i o"]:
    """A piece of a kernel with the adapter's change, computed in float32.

    PEFT merges in the weight's own dtype, which in bfloat16 rounds the change before it
    is added.

    Args:
        piece: Of the kernel [in, out], of any floating dtype.
        change: Of the whole weight.
        cut: Which inputs and which outputs the piece has.
    """
    inputs, outputs = cut
    added = change.down[:, inputs].T @ change.up[outputs].T
    return np.asarray(piece, np.float32) + np.float32(change.scale) * added


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / ADAPTER
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: expected a PEFT adapter, found no {ADAPTER}"
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        kind = about.get("peft_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: expected a JSON object ({error})") from error
    if kind != "LORA":
        raise ValueError(f"{path}: peft_type {kind!r}; only LORA is merged here")
    other = [f"{x} {about[x]!r}" for x in _OTHERWISE if about.get(x)]
    if about.get("bias", "none") != "none":
        other.append(f"bias {about['bias']!r}")
    if other:
        raise ValueError(
            f"{path}: {', '.join(other)}: such an adapter changes more than kernels by "
            "a product of two matrices; merge it with peft"
        )
    for name in ("r", "lora_alpha"):
        value = about.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ValueError(f"{path}: {name} {value!r}; expected a number above 0")
    return about


def _read_halves(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Published name -> A and B, as far as they are there."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: no {WEIGHTS}; pickled weights are not read: save the adapter "
            "with safe_serialization=True"
        )
    halves: dict[str, dict[str, np.ndarray]] = {}
    other = []
    with ExitStack() as stack:
        try:
            file = stack.enter_context(safe_open(path, framework="flax"))
            for key in file.keys():  # noqa: SIM118, the file is no mapping
                matched = _NAME.match(key)
                if matched is None:
                    other.append(key)
                    continue
                name = published_name(f"{matched.group(1)}.weight")
                values = np.asarray(file.get_tensor(key), np.float32)
                halves.setdefault(name, {})[matched.group(2)] = values
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{path}: not a whole safetensors file ({error}); copy it again"
            ) from error
    if other:
        raise ValueError(
            f"{path}: {len(other)} tensors are neither lora_A nor lora_B, such as "
            f"{other[0]}; merge the adapter with peft"
        )
    return halves


def _fault(
    name: str, pair: Mapping[str, np.ndarray], base: Mapping[str, HubTensor]
) -> str:
    """Why a pair of matrices cannot be added; "" where it can."""
    if set(pair) != {"A", "B"}:
        return f"{name}: lora_{'B' if 'A' in pair else 'A'} is missing"
    if name not in base:
        return f"{name}: the base model has no such weight"
    shape = base[name].shape
    down, up = pair["A"], pair["B"]
    if len(shape) != 2 or down.ndim != 2 or up.ndim != 2:
        return f"{name}: {list(shape)} is no matrix, or A and B are none"
    if down.shape[1] != shape[1] or up.shape != (shape[0], len(down)):
        return (
            f"{name}: the base has {list(shape)}, A {list(down.shape)} and B "
            f"{list(up.shape)}"
        )
    if not (np.isfinite(down).all() and np.isfinite(up).all()):
        return f"{name}: not all numbers are finite"
    return ""


def _sizes(about: Mapping[str, Any], module: str) -> tuple[int, float]:
    """Rank and alpha of a module; patterns name some that have others."""

    def of(patterns: Any, usual: Any) -> Any:  # noqa: ANN401
        for pattern, value in (patterns or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        return usual

    rank = of(about.get("rank_pattern"), about["r"])
    return int(rank), float(of(about.get("alpha_pattern"), about["lora_alpha"]))
