"""From a System's pure functions to compiled programs on a mesh."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, Sharding

from medjax.planning.meshes import nearest_sizes
from medjax.runtime.adapted import load_base, trained_part
from medjax.runtime.naming import check_params
from medjax.runtime.progress import Progress
from medjax.sharding import Rules, shard_tree, to_named_sharding
from medjax.types import Adapter, Key, Params, System, TrainState

Placed = TypeVar("Placed")


def judged(
    update: Callable[..., Any], *, skip: bool, adapter: Adapter | None = None
) -> Callable[[TrainState, Any, Key], tuple[TrainState, dict[str, jax.Array]]]:
    """An update of (state, batch, root key), its key folded inside, its result judged.

    metrics["nonfinite"] is 1 where loss, grad_norm or a parameter is not finite, and 0
    elsewhere.

    Args:
        update: A pure function of (state, batch, key), as `System.update` is.
        skip: True makes a step that is not finite leave the state as it was but for
            its number; False returns the state as it came.
        adapter: Of the system: the parameters that can change, which alone are judged.
    """

    def judged_update(state, batch, root):
        key = jax.random.fold_in(root, state.step)
        new, metrics = update(state, batch, key)
        judged = [metrics[name] for name in ("loss", "grad_norm") if name in metrics]
        judged += jax.tree.leaves(trained_part(adapter, new.params))
        finite = jnp.stack([jnp.isfinite(x).all() for x in judged]).all()
        if skip:
            kept = state._replace(step=new.step)
            new = jax.tree.map(lambda x, old: jax.lax.select(finite, x, old), new, kept)
        return new, metrics | {"nonfinite": (~finite).astype(jnp.int32)}

    return judged_update


def compile_by_shape(
    function: Callable[..., Any],
    *,
    out_shardings: Any,
    report: Progress,
    traced: Callable[[Any], None] | None = None,
) -> Callable[..., Any]:
    """A function of (state, batch, key), compiled once per shape of its batch.

    Each compilation is announced with the shapes it is for, and no call compiles by
    surprise: other shardings, or another shape of the state, are an error. The state
    is donated; nothing is transferred implicitly, so all three must be on the devices.

    Args:
        function: A pure function of (state, batch, key).
        out_shardings: A tree of shardings for what it returns, or a prefix of it.
        report: Told of each compilation by its `busy`, so that a person sees why it
            takes long.
    """
    jitted = jax.jit(function, donate_argnums=0, out_shardings=out_shardings)
    programs = {}

    def call(state, batch, key):
        shapes = shapes_of(batch)
        if shapes not in programs:
            count = len(programs) + 1
            with report.busy(f"compiling for batch shape {count}: {describe(shapes)}"):
                program = jitted.trace(state, batch, key)
                programs[shapes] = program.lower().compile()
            if traced is not None:
                traced(program.jaxpr)
        with jax.transfer_guard("disallow"):
            return programs[shapes](state, batch, key)

    return call


def shapes_of(batch: Any) -> tuple[tuple[tuple[int, ...], np.dtype], ...]:
    """Shape and dtype of each array of a tree: what a compiled program depends on.

    Args:
        batch: A tree of arrays, in the order of `jax.tree.leaves`.
    """
    return tuple((x.shape, x.dtype) for x in jax.tree.leaves(batch))


def describe(shapes: Sequence[tuple[tuple[int, ...], np.dtype]]) -> str:
    """The three largest shapes for a person, such as "16x4, 16"; each shape once.

    Args:
        shapes: From `shapes_of`; dtypes are not shown.
    """
    sizes = sorted({shape for shape, _ in shapes}, key=lambda s: (np.prod(s), s))
    return ", ".join("x".join(map(str, shape)) or "scalar" for shape in sizes[:-4:-1])


def abstract_state(
    system: System, *, mesh: Mesh, rules: Rules
) -> tuple[TrainState, TrainState]:
    """A state's ShapeDtypeStructs (with shardings), and its shardings.

    Args:
        system: Its `init` is traced for shapes, not run; its `axes` name the logical
            axes of each array.
        mesh: The devices that the state is spread over.
        rules: The mesh axes that each logical axis of `system.axes` falls on.

    Raises:
        ValueError: See `medjax.sharding.to_named_sharding`; the nearest mesh of as many
            devices that divides every array is named.
    """
    shapes = jax.eval_shape(system.init, jax.random.key(0))
    shardings = on_mesh(
        lambda one: to_named_sharding(system.axes, one, rules, shapes), mesh
    )
    placed = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        shardings,
    )
    return placed, shardings


def on_mesh(place: Callable[[Any], Placed], mesh: Mesh) -> Placed:
    """What `place` gives on a mesh; where it refuses it, the nearest that it takes.

    Args:
        place: Makes shardings on a mesh, which need not have devices, or raises.
        mesh: Where they are wanted.

    Raises:
        ValueError: What `place` raises, with the sizes of the nearest mesh of as many
            devices on which it does not, if there is one.
    """
    try:
        return place(mesh)
    except ValueError as error:

        def works(sizes: Mapping[str, int]) -> bool:
            try:
                place(AbstractMesh(tuple(sizes.values()), tuple(sizes)))
            except ValueError:
                return False
            return True

        found = nearest_sizes(dict(mesh.shape), mesh.size, works)
        if found is None:
            raise
        raise ValueError(f"{error}; the nearest mesh that works is {found}") from error


def place_key(key: Key, sharding: Sharding) -> Key:
    """A typed key on devices, those of other processes included.

    Over several processes its words are placed, and made a key again there: jax puts no
    typed key on devices that are not this process's.

    Args:
        key: The same on all processes.
        sharding: Holds the key whole on every device.
    """
    if jax.process_count() == 1:
        return jax.device_put(key, sharding)
    words = np.asarray(jax.random.key_data(key))
    wrap = partial(jax.random.wrap_key_data, impl=jax.random.key_impl(key))
    return jax.jit(wrap, out_shardings=sharding)(shard_tree(words, sharding))


def init_state(
    system: System,
    key: Key,
    *,
    start: Params | Callable[[Any], Params] | None,
    shardings: TrainState,
    base: Callable[[Any], Params] | None = None,
) -> TrainState:
    """`system.init` on the mesh, from the parameters `start` where given.

    Args:
        system: Its `init` is called as init(key), or init(key, params) with `start`.
        key: A typed key, which is consumed.
        start: Parameters, which are donated, or a function that loads them given the
            tree of their shardings; None draws random ones. Of a system with an adapter
            they are the adapter's alone.
        shardings: Where each array of the state goes, from `abstract_state`.
        base: Of a system with an adapter, loads the parameters that never change.

    Raises:
        ArchitectureError: `start` or `base` is of another architecture; its arrays are
            named.
        ValueError: The system has an adapter, and there is no `base`.
    """
    adapter = system.adapter
    if adapter is not None:
        loaded = load_base(system, adapter, base, shardings.params)
        places, _ = adapter.split(shardings.params)
        if start is None:
            low = jax.jit(adapter.init, out_shardings=places)(key)
        else:
            low = shard_tree(start(places) if callable(start) else start, places)
        start = adapter.join(loaded, low)
    if start is None:
        return jax.jit(system.init, out_shardings=shardings)(key)
    params = start(shardings.params) if callable(start) else start
    expected = jax.eval_shape(system.init, key).params
    check_params(params, expected, "what to start from")
    params = shard_tree(params, shardings.params)
    init = jax.jit(system.init, donate_argnums=1, out_shardings=shardings)
    return init(key, params)
