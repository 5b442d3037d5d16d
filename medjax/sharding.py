"""Where arrays live: the mesh, and one table from logical axes to mesh axes.

Models name what an axis *is* (`embed`, `heads`, `batch`); a run's rules say which
mesh axes hold it. The two meet here and nowhere else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from medjax.planning.meshes import nearest_sizes
from medjax.types import Params

# Logical axis -> the mesh axis or axes that divide it; None: held whole everywhere.
Rules = Mapping[str, str | Sequence[str] | None]
# The same, sorted, as a value that can be hashed: a part of a model's config.
RuleTable = tuple[tuple[str, tuple[str, ...]], ...]


def make_mesh(shape: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of named axes over all devices.

    Axis types are Auto: the compiler spreads a computation from the shardings of its
    inputs and outputs.

    Args:
        shape: The number of devices along each named axis, at least 1, in the order
            in which the devices are laid out; at least one axis. One of them may be -1:
            that axis takes what the others leave.
        devices: The jax devices to use, each once; None takes all of `jax.devices()`.

    Returns:
        A mesh of these devices with the axes in the order of `shape`.

    Raises:
        ValueError: The sizes do not multiply to the number of devices, or do not suit
            how they are linked, and the nearest that do are named; there is no axis, or
            a device comes twice.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = dict(shape)
    if not sizes:
        raise ValueError("mesh {}: expected one named axis or more, as {'data': -1}")
    if len(set(devices)) < len(devices):
        raise ValueError(f"mesh {sizes}: a device comes twice: {devices}")
    known = int(np.prod([size for size in sizes.values() if size != -1]))
    rest = [name for name, size in sizes.items() if size == -1]
    if len(rest) == 1 and known > 0 and len(devices) % known == 0:
        sizes[rest[0]] = len(devices) // known
    if min(sizes.values()) < 1 or np.prod(list(sizes.values())) != len(devices):
        raise ValueError(
            f"mesh {dict(shape)} does not fit {len(devices)} devices: the sizes must "
            f"multiply to that number; one of them may be -1{_near(sizes, devices)}"
        )
    try:
        return _laid_out(sizes, devices)
    except NotImplementedError as error:  # axes that are no axes of the torus
        raise ValueError(
            f"mesh {sizes} cannot be laid out on {len(devices)} devices as they are "
            f"linked{_near(sizes, devices)}"
        ) from error


def _laid_out(sizes: Mapping[str, int], devices: Sequence[Any]) -> Mesh:
    return jax.make_mesh(
        tuple(sizes.values()),
        tuple(sizes),
        axis_types=(AxisType.Auto,) * len(sizes),
        devices=devices,
    )


def _near(sizes: Mapping[str, int], devices: Sequence[Any]) -> str:
    """For an error: the nearest mesh that these devices can be laid out as."""

    def works(other: Mapping[str, int]) -> bool:
        try:
            _laid_out(other, devices)
        except (NotImplementedError, ValueError):
            return False
        return True

    found = nearest_sizes(sizes, len(devices), works)
    return "" if found is None else f"; the nearest that works is {found}"


def mesh_axes(axes: PartitionSpec, rules: Rules, name: str = "array") -> PartitionSpec:
    """The mesh axes of an array's logical axes, in the order of its dimensions.

    Args:
        axes: One logical name for each leading dimension of the array; None for a
            dimension that is not divided.
        rules: The mesh axes that each logical name falls on. They may name more than
            `axes` does, and are not compared with any mesh here.
        name: What an error calls the array, such as its path in the tree.

    Returns:
        A PartitionSpec with a mesh axis, several, or None for each dimension.

    Raises:
        ValueError: A logical axis has no rule, or two dimensions fall on one mesh axis.
    """
    spec, owner = [], {}
    for logical in axes:
        if logical is not None and logical not in rules:
            raise ValueError(
                f"{name}: no rule for the logical axis {logical!r}; rules name "
                f"{', '.join(sorted(rules))}"
            )
        mesh_names = _names(rules[logical]) if logical is not None else ()
        for axis in mesh_names:
            if axis in owner:
                raise ValueError(
                    f"{name} with axes {tuple(axes)}: {owner[axis]!r} and {logical!r} "
                    f"both fall on the mesh axis {axis!r}; change the rule of one"
                )
            owner[axis] = logical
        spec.append(mesh_names or None)
    return PartitionSpec(*spec)


def _names(entry: str | Sequence[str] | None) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def rule_table(rules: Rules | None) -> RuleTable:
    """Rules as a value that can be hashed, as `constrain` takes them.

    Args:
        rules: The mesh axes that each logical name falls on; None is no rule.

    Returns:
        Pairs of a logical name and its mesh axes, sorted by name.
    """
    rules = {} if rules is None else rules
    return tuple(sorted((name, _names(entry)) for name, entry in rules.items()))


def constrain(
    x: Shaped[Array, "..."], rules: RuleTable, *axes: str | None
) -> Shaped[Array, "..."]:
    """An activation, told to the compiler to lie on the mesh as its axes' rules say.

    No number changes. Where rows and kernels lie on the same devices, XLA is free to
    gather the rows rather than the kernel; told where the result lies, it is not. The
    mesh is that of the array itself, or else that of `jax.set_mesh`. Without a mesh, on
    one of one device, on one with Explicit or Manual axes (where JAX knows already) and
    without rules nothing happens.

    Args:
        x: An array of any shape, traced or not.
        rules: From `rule_table`; () for none.
        axes: A logical name for each axis of `x`; None keeps it whole. Of the mesh axes
            of a name those are used, from the first on, whose devices divide the axis:
            two key heads on four devices, say, stay whole.

    Raises:
        ValueError: A logical name has no rule, two fall on one mesh axis, or the mesh
            lacks one; or more or fewer names than `x` has axes.
    """
    mesh = _auto_mesh(x)
    if not rules or mesh is None:
        return x
    if len(axes) != x.ndim:
        raise ValueError(f"{len(axes)} logical names for an array of {x.ndim} axes")
    spec = _named_sharding(f"{axes}", PartitionSpec(*axes), mesh, dict(rules), None)
    divided = [
        _fitting(size, _names(names), mesh) or None
        for size, names in zip(x.shape, spec.spec, strict=True)
    ]
    sharding = NamedSharding(mesh, PartitionSpec(*divided))
    return jax.lax.with_sharding_constraint(x, sharding)


def lay_out(tree: Any, axes: Any, rules: RuleTable, dtype: str) -> Any:
    """Arrays of floats in another dtype, told to lie on the mesh as other rules say.

    Args:
        tree: Arrays; integers keep their dtype. What is of the dtype already and has
            no rules is returned as it is.
        axes: A PartitionSpec of logical axis names for each array, same tree.
        rules: See `constrain`, also for what happens where a mesh axis does not divide.
        dtype: Of the result, a name such as "bfloat16".

    Raises:
        ValueError: Another tree, or what `constrain` refuses.
    """

    def place(x: Array, names: PartitionSpec) -> Array:
        wanted = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype != jnp.dtype(dtype)
        x = x.astype(dtype) if wanted else x
        return constrain(x, rules, *names, *[None] * (x.ndim - len(names)))

    return jax.tree.map(place, tree, axes)


def parts_along(x: Shaped[Array, "..."], rules: RuleTable, name: str) -> int:
    """In how many parts `constrain` divides the first axis of an array.

    Args:
        x: An array of any shape, traced or not.
        rules: From `rule_table`; () for none.
        name: The logical name of the first axis, which the rules must have.

    Returns:
        1 wherever `constrain` does nothing.
    """
    mesh = _auto_mesh(x)
    if not rules or mesh is None:
        return 1
    axes = _fitting(x.shape[0], dict(rules)[name], mesh)
    return int(np.prod([mesh.shape[axis] for axis in axes], dtype=int))


def _auto_mesh(x: Shaped[Array, "..."]) -> Mesh | AbstractMesh | None:
    """The mesh of an array or of `jax.set_mesh`, where it is for a compiler to fill."""
    mesh = jax.typeof(x).sharding.mesh
    mesh = jax.sharding.get_abstract_mesh() if mesh.empty else mesh
    auto = set(mesh.axis_types) == {AxisType.Auto}
    return mesh if auto and mesh.size > 1 else None


def _fitting(size: int, axes: tuple[str, ...], mesh: Mesh | AbstractMesh) -> tuple:
    """Mesh axes from the first on, as many as divide an axis of an array together."""
    parts = np.cumprod([mesh.shape[axis] for axis in axes], dtype=int)
    fit = [n for n, part in enumerate(parts, start=1) if size % part == 0]
    return axes[: max(fit, default=0)]


def to_named_sharding(axes: Any, mesh: Mesh, rules: Rules, shapes: Any = None) -> Any:
    """NamedShardings for a tree of logical axes.

    Args:
        axes: A tree with a PartitionSpec of logical axis names in place of each array.
            A spec shorter than its array leaves the last dimensions undivided.
        mesh: Must have every mesh axis that a rule in use names.
        rules: The mesh axes that each logical name falls on; every name in `axes`
            needs one.
        shapes: The arrays themselves, or their ShapeDtypeStructs, in the same tree.
            With them each dimension is checked: the devices along its mesh axes must
            divide it. None skips this check.

    Returns:
        The tree of `axes`, with a NamedSharding on `mesh` in place of each spec.

    Raises:
        ValueError: `mesh_axes` refuses the axes, the mesh lacks a mesh axis, `shapes`
            is another tree, a spec is longer than its array, or a dimension is not
            divided by its mesh axes. Each message names the array and the rule.
    """
    is_axes = lambda leaf: isinstance(leaf, PartitionSpec)  # noqa: E731
    named, treedef = jax.tree_util.tree_flatten_with_path(axes, is_leaf=is_axes)
    if shapes is None:
        arrays = [None] * len(named)
    else:
        arrays, array_tree = jax.tree.flatten(shapes)
        if array_tree != treedef:
            raise ValueError(
                f"the axes and the arrays are different trees:\n{treedef}\n{array_tree}"
            )
    shardings = [
        _named_sharding(jax.tree_util.keystr(path), leaf, mesh, rules, array)
        for (path, leaf), array in zip(named, arrays, strict=True)
    ]
    return jax.tree.unflatten(treedef, shardings)


def _named_sharding(name, axes, mesh, rules, array) -> NamedSharding:
    spec = mesh_axes(axes, rules, name)
    for logical, entry in zip(axes, spec, strict=True):
        for axis in set(_names(entry)) - set(mesh.axis_names):
            raise ValueError(
                f"{name}: the rule {logical!r} -> {entry} names the axis {axis!r}; "
                f"the mesh has {mesh.axis_names}"
            )
    if array is not None:
        if len(axes) > array.ndim:
            raise ValueError(f"{name} {array.shape} has more axes named: {axes}")
        for size, logical, entry in zip(array.shape, axes, spec, strict=False):
            parts = int(np.prod([mesh.shape[axis] for axis in _names(entry)]))
            if size % parts:
                raise ValueError(
                    f"{name} {array.shape}: {logical!r} of size {size} is not "
                    f"divisible by the {parts} devices of {entry}; change the rule "
                    f"{logical!r} or the mesh {dict(mesh.shape)}"
                )
    return NamedSharding(mesh, spec)


def batch_sharding(batch: Any, mesh: Mesh, rules: Rules) -> Any:
    """Shardings that divide a batch along its first axis, the logical axis `batch`.

    Args:
        batch: A tree of arrays or ShapeDtypeStructs with the sizes of the whole batch,
            over all processes, NumPy's or JAX's. Scalars are held by every device.
        mesh: The devices that the rows are divided over.
        rules: Must name `batch`; its mesh axes must divide the number of rows, which
            may be 0.

    Returns:
        The tree of `batch` with a NamedSharding in place of each array.

    Raises:
        ValueError: The rules do not name `batch`, the mesh lacks an axis, or the rows
            are not divided by the devices.
    """
    axes = jax.tree.map(
        lambda x: PartitionSpec("batch") if x.ndim else PartitionSpec(), batch
    )
    return to_named_sharding(axes, mesh, rules, batch)


def place_batch(batch: Any, mesh: Mesh, rules: Rules) -> Any:
    """Put a batch on the mesh, divided along its first axis.

    Args:
        batch: A tree. A NumPy array in it holds this process's rows alone, as many as
            every other process has; a jax array holds the rows of all processes. A
            scalar has to be the same in all of them, and lies on every device.
        mesh: The devices that the rows are divided over.
        rules: Must name `batch`; its mesh axes must divide the rows of all processes.

    Returns:
        The tree with jax arrays that hold the rows of all processes, in their order.

    Raises:
        ValueError: The rules do not name `batch`, the mesh lacks an axis, or the rows
            are not divided by the devices.
    """
    processes = jax.process_count()

    def whole(x):
        rows = x.shape[:1]
        if not isinstance(x, jax.Array):
            rows = tuple(size * processes for size in rows)
        return jax.ShapeDtypeStruct(rows + x.shape[1:], x.dtype)

    shardings = batch_sharding(jax.tree.map(whole, batch), mesh, rules)
    if processes == 1:
        return jax.device_put(batch, shardings)
    return jax.tree.map(
        lambda x, sharding: (
            jax.device_put(x, sharding)
            if isinstance(x, jax.Array)
            else jax.make_array_from_process_local_data(sharding, x)
        ),
        batch,
        shardings,
    )


def shard_tree(tree: Any, shardings: Any) -> Any:
    """Put a tree that every process holds whole onto devices.

    Args:
        tree: Arrays of any shape. Of a host array only the slices of this process's
            devices are read, so it may be memory-mapped and larger than the memory.
        shardings: A jax sharding for each array, in the same tree.

    Returns:
        The tree with jax arrays of the same dtypes.

    Raises:
        ValueError: another tree, or an array that its sharding does not divide (JAX's
            own messages).
    """

    def place(x, sharding):
        if isinstance(x, jax.Array):
            return jax.device_put(x, sharding)
        return jax.make_array_from_callback(x.shape, sharding, lambda at: x[at])

    return jax.tree.map(place, tree, shardings)


def optimizer_axes(
    tx: optax.GradientTransformation, params: Params, axes: Any
) -> optax.OptState:
    """The logical axes of an optimiser's state, in the tree that `tx.init` gives.

    What has a parameter's shape takes its axes; counters, factored moments and other
    leftovers are held whole.

    Args:
        tx: Its `init` is traced for shapes only; nothing is computed.
        params: A tree of arrays or of ShapeDtypeStructs; only shapes and dtypes count.
        axes: A PartitionSpec of logical axis names for each parameter, same tree.

    Returns:
        The state with a PartitionSpec in place of each array: the parameter's, or an
        empty one for what every device holds whole.

    Raises:
        ValueError: `axes` is another tree than `params` (JAX's own message).
    """

    def of_param(value, param, spec):
        if isinstance(value, optax.MaskedNode):
            return value
        return spec if value.shape == param.shape else PartitionSpec()

    return optax.tree_map_params(
        tx,
        of_param,
        jax.eval_shape(tx.init, params),
        params,
        axes,
        transform_non_params=lambda _: PartitionSpec(),
        is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode),
    )
