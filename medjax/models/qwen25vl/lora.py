"""Low-rank adapters that are trained: two small matrices beside each kernel they name.

A kernel W [in, out] that has them maps x to

    x W + s (x A) B,    A [in, r],  B [r, out],  s = alpha / r

(LoRA: Hu et al. 2021). They are leaves of the policy's tree, `lora_a` and `lora_b`
beside `kernel`: a tree without them is the base, and `Linear` adds nothing there.
"""

import difflib
import math
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from medjax.models.qwen25vl.config import Lora, Qwen25VLConfig
from medjax.models.qwen25vl.layers import accumulator
from medjax.models.qwen25vl.parameters import param_axes
from medjax.models.qwen25vl.tensor_table import HEAD, HubTensor, hub_tensors
from medjax.types import Key, Params

LEAVES = ("lora_a", "lora_b")
_TOWER = "visual"
_LAYER = re.compile(r"\.\d+(?=\.)")


class Target(NamedTuple):
    """A kernel that an adapter changes: all layers of one matrix."""

    path: str  # of the module in our tree, "/" between levels
    tensors: tuple[HubTensor, ...]  # as published, a layer each

    @property
    def stack(self) -> tuple[int, ...]:
        """The leading axes of the leaves: the number of layers where they are stacked.

        The merger of the vision tower has none.
        """
        return () if self.tensors[0].layer is None else (len(self.tensors),)


def find_targets(config: Qwen25VLConfig) -> list[Target]:
    """The kernels that the config's adapter changes, in the order of the published.

    A target is the end of a matrix's published name, such as "q_proj" or "mlp.up_proj",
    and means the text decoder's; behind "visual." it means the vision tower's, as in
    "visual.qkv" or "visual.mlp.up_proj". Embedding, output layer and the convolution of
    patches have no adapter.

    Args:
        config: Its `lora` has the targets, its sizes the matrices.

    Raises:
        ValueError: There is no adapter, its rank or alpha is not above 0, or a target
            names no matrix; those near are listed.
    """
    lora = check_lora(config.lora)
    modules: dict[str, list[HubTensor]] = {}
    for tensor in hub_tensors(config):
        if tensor.name.endswith(".weight") and len(tensor.shape) == 2:
            if tensor.path.endswith("/kernel") and tensor.name != HEAD:
                name = _LAYER.sub("", tensor.name.removesuffix(".weight"))
                modules.setdefault(name, []).append(tensor)
    found = {target: _named(target, modules) for target in lora.targets}
    unknown = [target for target, names in found.items() if not names]
    if unknown or not lora.targets:
        lines = [f"  {target!r}{_near(target, modules)}" for target in unknown]
        raise ValueError(
            "\n".join(
                [
                    f"lora.targets: {len(unknown)} of {len(lora.targets)} name no "
                    "matrix of the policy, which has "
                    f"{', '.join(sorted({_short(name) for name in modules}))}",
                    *lines,
                ]
            )
        )
    chosen = {name for names in found.values() for name in names}
    return [
        Target(tensors[0].path.removesuffix("/kernel"), tuple(tensors))
        for name, tensors in modules.items()
        if name in chosen
    ]


def check_lora(lora: Lora | None) -> Lora:
    """An adapter's numbers, as they are.

    Args:
        lora: Rank and alpha are looked at, not the targets.

    Raises:
        ValueError: There is none, or rank or alpha is not above 0.
    """
    if lora is None:
        raise ValueError("lora is None: expected a `Lora` with rank, alpha and targets")
    if isinstance(lora.rank, bool) or not isinstance(lora.rank, int) or lora.rank < 1:
        raise ValueError(
            f"lora.rank is {lora.rank!r}: expected a whole number of 1 or more, such "
            "as 16; or None, which trains all parameters"
        )
    if not 0 < lora.alpha < math.inf:
        raise ValueError(
            f"lora.alpha is {lora.alpha!r}: expected a number above 0; what the "
            "adapter adds is alpha / rank times the product of its matrices"
        )
    return lora


def init_lora(config: Qwen25VLConfig, key: Key) -> Params:
    """A fresh adapter, which adds nothing: A drawn as PEFT draws it, B zero.

    A is uniform between -1 / sqrt(in) and 1 / sqrt(in).

    Args:
        config: See `find_targets`. The numbers are float32, or float64 where
            `param_dtype` is: however the base is stored, they learn.
        key: A typed key, which is consumed. Each kernel has a draw of its own, by its
            name: the other targets bear on it in nothing.

    Returns:
        The part of the policy's tree that has `lora_a` [.., in, r] and `lora_b`
        [.., r, out], stacked over layers as the kernels are.
    """
    dtype = accumulator(jnp.dtype(config.param_dtype))
    rank = check_lora(config.lora).rank

    def draw(target: Target) -> tuple[Array, Array]:
        into, out = target.tensors[0].our_shape
        own = jax.random.fold_in(key, zlib.crc32(target.path.encode()))
        bound = 1 / math.sqrt(into)
        down = jax.random.uniform(
            own, (*target.stack, into, rank), dtype, minval=-bound, maxval=bound
        )
        return down, jnp.zeros((*target.stack, rank, out), dtype)

    return _tree(config, draw)


def lora_axes(config: Qwen25VLConfig) -> Params:
    """The tree of `init_lora` with a PartitionSpec of logical names for each array.

    A's input lies as the kernel's, B's output as the kernel's; the rank is whole.

    Args:
        config: See `find_targets`.
    """
    axes = param_axes(config)

    def halves(target: Target) -> tuple[PartitionSpec, PartitionSpec]:
        node = axes
        for level in target.path.split("/"):
            node = node[level]
        *stack, into, out = node["kernel"]
        return PartitionSpec(*stack, into, None), PartitionSpec(*stack, None, out)

    return _tree(config, halves)


def split_lora(params: Params) -> tuple[Params, Params]:
    """The adapter's part of a tree, and the rest, which is a whole policy.

    Args:
        params: Nested mappings of anything, such as arrays or their shardings.

    Returns:
        Both hold what `params` does; a level without an entry is left out.
    """
    adapter: dict[str, Any] = {}
    base: dict[str, Any] = {}
    for name, node in params.items():
        if isinstance(node, Mapping):
            inner, rest = split_lora(node)
            if inner:
                adapter[name] = inner
            if rest:
                base[name] = rest
        else:
            (adapter if name in LEAVES else base)[name] = node
    return adapter, base


def join_lora(base: Params, adapter: Params) -> Params:
    """One tree of two that share no entry, the reverse of `split_lora`.

    Args:
        base: Nested mappings.
        adapter: Likewise; where both have a level, it gets the entries of both.
    """
    joined = dict(base)
    for name, node in adapter.items():
        below = joined.get(name)
        joined[name] = node if below is None else join_lora(below, node)
    return joined


def merge_lora(config: Qwen25VLConfig, params: Params) -> Params:
    """The base with W + s A B in place of each kernel that has an adapter.

    Args:
        config: Its `lora` has rank and alpha.
        params: The whole tree, with the adapter's leaves.

    Returns:
        A tree without them, in the base's dtypes: the sum is made in float32 (float64
        of float64) and rounded once.
    """
    scale = config.lora_scale

    def merge(node: Params) -> Params:
        if not isinstance(node, Mapping):
            return node
        merged = {name: merge(x) for name, x in node.items() if name not in LEAVES}
        if LEAVES[0] in node:
            merged["kernel"] = _changed(node["kernel"], *_halves(node), scale)
        return merged

    return merge(params)


def _halves(node: Mapping[str, Array]) -> tuple[Array, Array]:
    down, up = (node[name] for name in LEAVES)
    return down, up


def _changed(
    kernel: Float[Array, "*n i o"],
    down: Float[Array, "*n i r"],
    up: Float[Array, "*n r o"],
    scale: float,
) -> Float[Array, "*n i o"]:
    wide = kernel.astype(accumulator(kernel.dtype))
    added = jnp.matmul(down, up, precision=jax.lax.Precision.HIGHEST)
    return (wide + scale * added.astype(wide.dtype)).astype(kernel.dtype)


def _tree(config: Qwen25VLConfig, halves: Callable[[Target], tuple[Any, Any]]) -> Any:
    """A tree with the two leaves of each target."""
    tree: dict[str, Any] = {}
    for target in find_targets(config):
        node = tree
        for level in target.path.split("/"):
            node = node.setdefault(level, {})
        node.update(zip(LEAVES, halves(target), strict=True))
    return tree


def _named(target: str, modules: Mapping[str, Any]) -> list[str]:
    """The modules that a target means."""
    tower = target.startswith(f"{_TOWER}.")
    end = target.removeprefix(f"{_TOWER}.")
    return [
        name
        for name in modules
        if name.startswith(f"{_TOWER}.") == tower
        and end
        and f".{name}".endswith(f".{end}")
    ]


def _short(name: str) -> str:
    """A target that means a module alone of its part, such as visual.attn.qkv."""
    part, *rest = name.split(".")
    short = ".".join(x for x in rest if x not in ("layers", "blocks"))
    if part == _TOWER:
        return f"{_TOWER}.{short}"
    return short.split(".")[-1]


def _near(target: str, modules: Mapping[str, Any]) -> str:
    """The targets whose last words are like this one's, for an error."""
    last = target.split(".")[-1]

    def likeness(name: str) -> float:
        return difflib.SequenceMatcher(None, last, name.split(".")[-1]).ratio()

    names = sorted({_short(name) for name in modules})
    near = [name for name in names if likeness(name) >= 0.7]
    near = sorted(near, key=likeness, reverse=True)[:3]
    return f": did you mean {' or '.join(near)}?" if near else ""
