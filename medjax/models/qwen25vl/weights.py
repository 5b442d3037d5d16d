"""A Hugging Face folder of safetensors, read into the policy's tree.

A parameter is read tensor by tensor into the array that is kept, so that the model is
never held twice.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.hf_config import config_from_hf
from medjax.models.qwen25vl.tensor_table import (
    EMBEDDING,
    HEAD,
    HubTensor,
    hub_tensors,
    published_name,
)
from medjax.types import Params

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class _Stored(NamedTuple):
    """Where a tensor lies: an open file and the name it has there."""

    file: Any
    name: str
    where: str

    @property
    def slices(self) -> Any:
        return self.file.get_slice(self.name)


def load_qwen25vl(
    path: str | Path,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
    sharding_fn: Callable[[Qwen25VLConfig], Any] | None = None,
) -> tuple[Qwen25VLConfig, Params]:
    """Read a Hugging Face folder.

    The output layer is tied to the embedding where the files hold none or, under a
    config that ties them, the same numbers twice; otherwise the files' own is used.

    Args:
        path: A folder with config.json and model.safetensors, or its shards and index.
        dtype: What activations and matmuls will be computed in, such as "bfloat16". It
            is put into the config that is returned; nothing is cast to it here.
        param_dtype: The parameters are cast to it, one tensor at a time; as `dtype` the
            name of a floating-point type.
        sharding_fn: A function of the config that gives a jax sharding for each
            parameter, in the tree of `param_axes`; each process then reads only what
            its devices hold. None puts everything on the default device.

    Returns:
        The config, and the tree of `init_params` with the folder's numbers in
        `param_dtype`.

    Raises:
        FileNotFoundError: There are no safetensors (pickled weights are never read),
            or a shard of the index is missing.
        ValueError: A broken file, an index that leaves its folder, or any missing,
            left-over, doubled or mis-shaped tensor; one error lists them all. Also a
            dtype that is no float, and what `config_from_hf` refuses.
    """
    check_floating("load_qwen25vl", dtype=dtype, param_dtype=param_dtype)
    folder = Path(path)
    config = replace(config_from_hf(folder), dtype=dtype, param_dtype=param_dtype)
    with ExitStack() as stack:
        stored = _open_tensors(folder, stack)
        config = replace(config, tied=_is_tied(stored, tied=config.tied))
        if config.tied:
            stored.pop(HEAD, None)
        tensors = hub_tensors(config)
        _check_tensors(folder, tensors, stored)

        leaves = defaultdict(list)
        for tensor in tensors:
            leaves[tensor.path].append(tensor)
        shardings = None if sharding_fn is None else flatten_params(sharding_fn(config))
        params = {}
        for path_, parts in leaves.items():
            sharding = None if shardings is None else shardings[path_]
            params[path_] = _load_leaf(parts, stored, jnp.dtype(param_dtype), sharding)
    return config, _unflatten(params)


def check_floating(function: str, /, **dtypes: str) -> None:
    """Refuse a dtype that weights would lose all their digits in.

    Args:
        function: The public function's name, with which a message begins.
        dtypes: By the name of the argument.

    Raises:
        ValueError: naming function and argument, and what was found.
    """
    for name, dtype in dtypes.items():
        known = hasattr(jnp, dtype) if isinstance(dtype, str) else True
        if not known or not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
            raise ValueError(
                f"{function}: {name}: expected a float such as 'bfloat16' or "
                f"'float32'; found {dtype!r}"
            )


def _open_tensors(folder: Path, stack: ExitStack) -> dict[str, _Stored]:
    """Published name -> stored tensor, for all files of a folder."""
    files = [SINGLE] if (folder / SINGLE).is_file() else _shards(folder)
    stored, doubled = {}, []
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
            stored[published_name(key)] = _Stored(file, key, name)
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
        raise FileNotFoundError(f"{folder}: the index names absent shards: {missing}")
    return sorted(names)


def _is_tied(stored: Mapping[str, _Stored], *, tied: bool) -> bool:
    if HEAD not in stored:
        return True
    if not tied or EMBEDDING not in stored:
        return False
    head, embedding = stored[HEAD].slices, stored[EMBEDDING].slices
    if head.get_shape() != embedding.get_shape():
        return False
    rows = head.get_shape()[0]
    chunks = [slice(i, min(i + 8192, rows)) for i in range(0, rows, 8192)]
    return all(np.array_equal(head[c], embedding[c]) for c in chunks)


def _check_tensors(
    folder: Path, tensors: Sequence[HubTensor], stored: Mapping[str, _Stored]
) -> None:
    faults = []
    for tensor in tensors:
        expected = f"{tensor.name}: expected {list(tensor.shape)}"
        if tensor.name not in stored:
            faults.append(f"  missing {expected}")
            continue
        held = stored[tensor.name]
        shape, kind = held.slices.get_shape(), held.slices.get_dtype()
        if tuple(shape) != tensor.shape:
            faults.append(f"  mis-shaped {expected}, found {shape} in {held.where}")
        if kind not in ("F64", "F32", "BF16", "F16"):
            faults.append(f"  {tensor.name}: floats expected, found {kind}")
    for name in stored.keys() - {t.name for t in tensors}:
        held = stored[name]
        shape = held.slices.get_shape()
        faults.append(f"  left over {held.name}: found {shape} in {held.where}")
    if faults:
        kinds = Counter(fault.split()[0] for fault in faults)
        raise ValueError(
            f"{folder}: the weights do not fit config.json ({dict(kinds)}):\n"
            + "\n".join(sorted(faults))
        )


def _load_leaf(
    parts: Sequence[HubTensor],
    stored: Mapping[str, _Stored],
    dtype: np.dtype,
    sharding: jax.sharding.Sharding | None,
) -> jax.Array:
    """One parameter: its layers stacked, read straight into the array that is kept."""
    stacked = parts[0].layer is not None
    shape = (len(parts),) * stacked + parts[0].our_shape

    def read(index: tuple[slice, ...]) -> np.ndarray:
        bounds = [range(n)[i] for n, i in zip(shape, index, strict=True)]
        out = np.empty([len(b) for b in bounds], dtype)
        cut = tuple(slice(b.start, b.stop) for b in bounds[stacked:])
        chosen = [parts[i] for i in bounds[0]] if stacked else parts
        for row, part in zip(out if stacked else [out], chosen, strict=True):
            row[...] = _read_part(part, stored[part.name].slices, cut)
        return out

    if sharding is None:
        return jnp.asarray(read((slice(None),) * len(shape)))
    return jax.make_array_from_callback(shape, sharding, read)


def _read_part(part: HubTensor, slices: Any, cut: tuple[slice, ...]) -> np.ndarray:
    """The wanted piece of one stored tensor, in our layout."""
    if not part.path.endswith("kernel"):
        return slices[cut]
    if len(part.shape) == 2:
        return slices[cut[::-1]].T
    return slices[:].reshape(part.shape[0], -1).T[cut]


def flatten_params(tree: Params) -> dict[str, Any]:
    """Leaves of a parameter tree by their path, "/" between levels.

    These are the paths that `hub_tensors` uses, such as "text/norm/scale".

    Args:
        tree: Any pytree: of names, or of places in a list, which stand as numbers.
            Leaves of any kind are handed on as they are; None is no leaf.

    Returns:
        A dictionary in the order of `jax.tree.leaves`. Names that hold a "/" are not
        escaped, so two leaves of such a tree may fall on one path, and the last stays.
    """
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(k, simple=True, separator="/"): v for k, v in leaves}


def _unflatten(leaves: Mapping[str, Any]) -> Params:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree
