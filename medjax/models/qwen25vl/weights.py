"""A Hugging Face folder of safetensors, read into the policy's tree.

A parameter is read tensor by tensor into the array that is kept, so that the model is
never held twice.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medjax.models.qwen25vl.adapters import LowRank, changed, read_adapter
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.files import Stored, open_tensors, resolve_tie
from medjax.models.qwen25vl.hf_config import absent_keys, config_from_hf, tie_from_hf
from medjax.models.qwen25vl.tensor_table import (
    EMBEDDING,
    HEAD,
    HubTensor,
    hub_tensors,
)
from medjax.types import Params


def load_qwen25vl(
    path: str | Path,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
    sharding_fn: Callable[[Qwen25VLConfig], Any] | None = None,
    tied: bool | None = None,
    adapter: str | Path | None = None,
) -> tuple[Qwen25VLConfig, Params]:
    """Read a Hugging Face folder.

    The output layer is tied to the embedding where the files hold none or, under a
    config that ties them, the same numbers twice; otherwise the files' own is used, as
    transformers 5 does. Files without one under a config that says
    `tie_word_embeddings: false` are refused unless `tied` is True.

    Args:
        path: A folder with config.json and model.safetensors, or its shards and index.
        dtype: What activations and matmuls will be computed in, such as "bfloat16". It
            is put into the config that is returned; nothing is cast to it here.
        param_dtype: The parameters are cast to it, one tensor at a time; as `dtype` the
            name of a floating-point type.
        sharding_fn: A function of the config that gives a jax sharding for each
            parameter, in the tree of `param_axes`; each process then reads only what
            its devices hold. None puts everything on the default device.
        tied: Whether the output layer is the embedding; None leaves it to the folder.
            True and False are refused where the files say otherwise.
        adapter: A folder of PEFT's with a LoRA of this base model, which is added to
            the kernels as they are read, see `read_adapter`; None adds nothing.

    Returns:
        The config, and the tree of `init_params` with the folder's numbers in
        `param_dtype`.

    Raises:
        FileNotFoundError: There are no safetensors (pickled weights are never read),
            or a shard of the index is missing.
        ValueError: A broken file, an index that leaves its folder, or any missing,
            left-over, doubled or mis-shaped tensor; one error lists them all. Also a
            dtype that is no float, and what `config_from_hf` and `read_adapter` refuse.
    """
    check_floating("load_qwen25vl", dtype=dtype, param_dtype=param_dtype)
    folder = Path(path)
    config = replace(config_from_hf(folder), dtype=dtype, param_dtype=param_dtype)
    with ExitStack() as stack:
        stored = open_tensors(folder, stack)
        said = tie_from_hf(folder)
        config = replace(
            config, tied=resolve_tie(folder, stored, said=said, asked=tied)
        )
        if config.tied:
            stored.pop(HEAD, None)
        tensors = hub_tensors(config)
        _check_tensors(folder, tensors, stored)
        changes = {} if adapter is None else read_adapter(adapter, tensors)

        leaves = defaultdict(list)
        for tensor in tensors:
            leaves[tensor.path].append(tensor)
        shardings = None if sharding_fn is None else flatten_params(sharding_fn(config))
        params = {}
        for path_, parts in leaves.items():
            sharding = None if shardings is None else shardings[path_]
            params[path_] = _load_leaf(
                parts, stored, changes, jnp.dtype(param_dtype), sharding
            )
    return config, _unflatten(params)


def folder_config(
    path: str | Path, *, tied: bool | None = None
) -> tuple[Qwen25VLConfig, bool]:
    """The config that `load_qwen25vl` will find, from the files' headers.

    Only where config.json ties the output layer and the files hold one are two tensors
    read, to be compared.

    Args:
        path: A folder with config.json and model.safetensors, or its shards and index.
        tied: Whether the output layer is the embedding; None leaves it to the folder.
            True and False are refused where the files say otherwise.

    Returns:
        The config, and whether config.json ties the output layer, but the files hold
        another: then that is used, where transformers 4 used the embedding.

    Raises:
        FileNotFoundError: There are no safetensors, or a shard is missing.
        ValueError: A broken file, an index that leaves its folder, a `tied` that the
            files contradict, or what `config_from_hf` refuses. Shapes are not checked
            here.
    """
    folder = Path(path)
    config, said = config_from_hf(folder), tie_from_hf(folder)
    with ExitStack() as stack:
        stored = open_tensors(folder, stack)
        found = resolve_tie(folder, stored, said=said, asked=tied)
    return replace(config, tied=found), bool(said) and tied is None and not found


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


def _check_tensors(
    folder: Path, tensors: Sequence[HubTensor], stored: Mapping[str, Stored]
) -> None:
    faults, hints = [], []
    for tensor in tensors:
        expected = f"{tensor.name}: expected {list(tensor.shape)}"
        if tensor.name not in stored:
            faults.append(f"  missing {expected}")
            continue
        held = stored[tensor.name]
        shape, kind = held.slices.get_shape(), held.slices.get_dtype()
        if tuple(shape) != tensor.shape:
            faults.append(f"  mis-shaped {expected}, found {shape} in {held.where}")
            if tensor.name == EMBEDDING and shape[1:] == list(tensor.shape[1:]):
                hints.append(f"set vocab_size of config.json to {shape[0]}")
        if kind not in ("F64", "F32", "BF16", "F16"):
            faults.append(f"  {tensor.name}: floats expected, found {kind}")
    for name in stored.keys() - {t.name for t in tensors}:
        held = stored[name]
        shape = held.slices.get_shape()
        faults.append(f"  left over {held.name}: found {shape} in {held.where}")
    if faults:
        if absent := absent_keys(folder):
            hints.append(
                "config.json leaves out keys, for which the defaults of transformers' "
                f"class stand: {', '.join(absent)}; copy the base model's config.json"
            )
        kinds = Counter(fault.split()[0] for fault in faults)
        raise ValueError(
            f"{folder}: the weights do not fit config.json ({dict(kinds)}):\n"
            + "\n".join(sorted(faults) + hints)
        )


def _load_leaf(
    parts: Sequence[HubTensor],
    stored: Mapping[str, Stored],
    changes: Mapping[str, LowRank],
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
            piece = _read_part(part, stored[part.name].slices, cut)
            change = changes.get(part.name)
            row[...] = piece if change is None else changed(piece, change, cut)
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
