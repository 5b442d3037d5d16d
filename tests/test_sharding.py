import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from medjax.sharding import (
    batch_sharding,
    constrain,
    make_mesh,
    mesh_axes,
    optimizer_axes,
    place_batch,
    rule_table,
    shard_tree,
    to_named_sharding,
)

RULES = {
    "batch": ("data", "fsdp"),
    "embed": "fsdp",
    "mlp": "model",
    "heads": "model",
    "whole": None,
    "also_whole": (),
}
SHAPE = {"data": 2, "fsdp": 2, "model": 2}


def test_mesh_takes_all_devices_and_fills_one_size():
    mesh = make_mesh({"data": -1, "fsdp": 2, "model": 2})
    assert dict(mesh.shape) == SHAPE
    assert mesh.axis_types == (AxisType.Auto,) * 3
    one = make_mesh({"data": 1, "fsdp": 1}, jax.devices()[3:4])
    assert one.devices.ravel().tolist() == jax.devices()[3:4]


@pytest.mark.parametrize(
    "shape",
    [
        {"data": 3, "fsdp": 2},
        {"data": -1, "fsdp": 3},
        {"data": -1, "fsdp": -1},
        {"data": 0, "fsdp": -1},
        {"data": 4},
    ],
)
def test_mesh_that_does_not_fit(shape):
    with pytest.raises(ValueError, match=r"mesh .* does not fit 8 devices"):
        make_mesh(shape)


def test_axes_follow_the_rules():
    assert mesh_axes(P("embed", None, "mlp"), RULES) == P("fsdp", None, "model")
    assert mesh_axes(P("batch"), RULES) == P(("data", "fsdp"))
    assert mesh_axes(P("whole", "also_whole"), RULES) == P(None, None)


def test_unknown_logical_axis():
    with pytest.raises(ValueError, match="kernel: no rule for the logical axis 'mpl'"):
        mesh_axes(P("embed", "mpl"), RULES, "kernel")


@pytest.mark.parametrize("axes", [P("mlp", "heads"), P("batch", "embed")])
def test_two_logical_axes_on_one_mesh_axis(axes):
    with pytest.raises(ValueError, match="kernel .*both fall on the mesh axis"):
        mesh_axes(axes, RULES, "kernel")


def test_dimension_that_does_not_divide_names_array_shape_and_rule():
    mesh = make_mesh(SHAPE)
    axes = {"layer": {"kernel": P("embed", "mlp")}}
    shapes = {"layer": {"kernel": jax.ShapeDtypeStruct((4, 7), jnp.float32)}}
    with pytest.raises(ValueError) as error:
        to_named_sharding(axes, mesh, RULES, shapes)
    for part in ("['layer']['kernel'] (4, 7)", "'mlp' of size 7", "2 devices", "model"):
        assert part in str(error.value)


def test_tree_axis_and_rank_mistakes():
    mesh = make_mesh(SHAPE)
    array = jax.ShapeDtypeStruct((4,), jnp.float32)
    with pytest.raises(ValueError, match="different trees"):
        to_named_sharding({"a": P()}, mesh, RULES, {"b": array})
    with pytest.raises(ValueError, match="has more axes named"):
        to_named_sharding({"a": P("embed", "mlp")}, mesh, RULES, {"a": array})
    with pytest.raises(ValueError, match="names the axis 'tensor'; the mesh has"):
        to_named_sharding({"a": P("mlp")}, mesh, {"mlp": "tensor"})


def test_scalars_and_trailing_axes_are_whole():
    mesh = make_mesh(SHAPE)
    shapes = (
        jax.ShapeDtypeStruct((), jnp.float32),
        jax.ShapeDtypeStruct((4, 3), jnp.int32),
    )
    shardings = to_named_sharding((P(), P("embed")), mesh, RULES, shapes)
    assert [s.spec for s in shardings] == [P(), P("fsdp")]


def test_batches():
    mesh = make_mesh(SHAPE)
    batch = {"x": np.arange(24.0).reshape(8, 3), "temperature": np.float32(1)}
    placed = place_batch(batch, mesh, RULES)
    assert placed["x"].sharding.spec == P(("data", "fsdp"))
    assert placed["temperature"].sharding.spec == P()
    np.testing.assert_array_equal(placed["x"], batch["x"])
    assert place_batch(placed, mesh, RULES)["x"].sharding == placed["x"].sharding
    with pytest.raises(ValueError, match=r"\['x'\] \(6, 2\): 'batch' of size 6"):
        batch_sharding({"x": np.zeros((6, 2))}, mesh, RULES)


def test_each_process_brings_its_own_rows(monkeypatch):
    """Sizes are checked, and arrays made, for all processes together."""
    mesh = make_mesh(SHAPE)
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    made = []
    fake = lambda sharding, x: made.append((sharding.spec, x.shape))  # noqa: E731
    monkeypatch.setattr(jax, "make_array_from_process_local_data", fake)
    place_batch({"x": np.zeros((1, 2))}, mesh, RULES)
    assert made == [(P(("data", "fsdp")), (1, 2))]


def test_shard_tree_reads_only_its_parts():
    mesh = make_mesh(SHAPE)
    sharding = to_named_sharding({"a": P("embed")}, mesh, RULES)
    reads = []
    whole = np.arange(8.0)
    lazy = types.SimpleNamespace(shape=(8,), dtype=whole.dtype)

    class Mapped:
        shape, dtype = (8,), whole.dtype

        def __getitem__(self, at):
            reads.append(at[0])
            return whole[at]

    assert lazy.shape == Mapped.shape
    placed = shard_tree({"a": Mapped()}, sharding)
    np.testing.assert_array_equal(placed["a"], whole)
    assert {(r.start, r.stop) for r in reads} == {(0, 4), (4, 8)}
    again = shard_tree(placed, sharding)
    assert again["a"].sharding == sharding["a"]


PARAMS = {"kernel": jnp.ones((4, 6), jnp.float32), "bias": jnp.ones((6,), jnp.float32)}
AXES = {"kernel": P("embed", "mlp"), "bias": P("mlp")}


def axes_of(tx):
    axes = optimizer_axes(tx, PARAMS, AXES)
    state = tx.init(PARAMS)
    is_axes = lambda leaf: isinstance(leaf, P)  # noqa: E731
    assert jax.tree.structure(axes, is_leaf=is_axes) == jax.tree.structure(state)
    for (path, leaf), spec in zip(
        jax.tree_util.tree_leaves_with_path(state),
        jax.tree.leaves(axes, is_leaf=is_axes),
        strict=True,
    ):
        name = next((n for n in PARAMS if f"'{n}'" in jax.tree_util.keystr(path)), "")
        of_param = name and leaf.shape == PARAMS[name].shape
        assert spec == (AXES[name] if of_param else P()), path
    mesh = make_mesh(SHAPE)
    shardings = to_named_sharding(axes, mesh, RULES, state)
    init = jax.jit(tx.init, out_shardings=shardings)
    placed = jax.tree.map(lambda x: x.sharding, init(PARAMS))
    same = jax.tree.map(
        lambda a, b, x: a.is_equivalent_to(b, x.ndim), placed, shardings, state
    )
    assert all(jax.tree.leaves(same))
    return axes


@pytest.mark.parametrize(
    "tx",
    [
        optax.adamw(1e-3),
        optax.sgd(1e-3, momentum=0.9),
        optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adam(optax.linear_schedule(1e-3, 0.0, 10)),
        ),
        optax.adafactor(1e-3, min_dim_size_to_factor=2),
        optax.MultiSteps(optax.adam(1e-3), 2),
        optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
    ],
    ids=["adamw", "sgd", "chain", "adafactor", "multi_steps", "hyperparams"],
)
def test_optimizer_axes(tx):
    axes_of(tx)


def test_optimizer_axes_of_muon():
    tx = optax.contrib.muon(
        1e-3,
        muon_weight_dimension_numbers=lambda params: jax.tree.map(
            lambda x: optax.contrib.MuonDimensionNumbers() if x.ndim == 2 else None,
            params,
        ),
    )
    leaves = jax.tree.leaves(axes_of(tx))
    assert P("embed", "mlp") in leaves and P("mlp") in leaves


def test_optimizer_axes_with_frozen_parameters():
    labels = {"kernel": "train", "bias": "freeze"}
    tx = optax.partition(
        {"train": optax.adam(1.0), "freeze": optax.set_to_zero()}, labels
    )
    axes = axes_of(tx)
    assert P("embed", "mlp") in jax.tree.leaves(axes)
    assert P("mlp") not in jax.tree.leaves(axes)


def test_a_mesh_without_an_axis_or_with_a_device_twice_is_refused():
    with pytest.raises(ValueError, match="expected one named axis or more"):
        make_mesh({})
    with pytest.raises(ValueError, match="a device comes twice"):
        make_mesh({"data": 2}, [jax.devices()[0]] * 2)


def lies(x):
    return tuple(x.sharding.spec) + (None,) * (x.ndim - len(x.sharding.spec))


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((8, 3, 4), ("batch", None, "mlp"), (("data", "fsdp"), None, "model")),
        # two rows for four devices: those along the first mesh axis alone
        ((2, 3, 4), ("batch", None, "mlp"), ("data", None, "model")),
        ((3, 4), ("batch", None), (None, None)),  # neither divides three rows
        ((8, 3), (None, "heads"), (None, None)),  # three heads on two devices
        ((8, 4), ("whole", "also_whole"), (None, None)),
        ((0, 4), ("batch", None), (None, None)),  # as JAX lays what is empty
    ],
)
@pytest.mark.parametrize("given", ["array", "context"])
def test_activations_lie_as_their_rules_say(shape, axes, expected, given):
    """On the mesh of the array, or on that of `jax.set_mesh`."""
    mesh, table = make_mesh(SHAPE), rule_table(RULES)
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    function = jax.jit(lambda x: constrain(x * 2, table, *axes))
    if given == "array":
        found = function(jax.device_put(x, jax.NamedSharding(mesh, P())))
    else:
        with jax.set_mesh(mesh):
            found = function(x)
    np.testing.assert_array_equal(found, x * 2)
    assert lies(found) == expected


def test_nothing_is_said_without_a_mesh_devices_or_rules():
    table, x = rule_table(RULES), jnp.ones((8, 4))

    def program(x, rules=table):
        return str(jax.make_jaxpr(lambda x: constrain(x, rules, "batch", "mlp"))(x))

    one = make_mesh(dict.fromkeys(SHAPE, 1), jax.devices()[:1])
    eight = jax.device_put(x, jax.NamedSharding(make_mesh(SHAPE), P("data")))
    explicit = jax.make_mesh((2, 2, 2), tuple(SHAPE), (AxisType.Explicit,) * 3)
    assert "sharding_constraint" in program(eight)
    for y, rules in (
        (x, table),
        (jax.device_put(x, jax.NamedSharding(one, P())), table),
        (jax.device_put(x, jax.NamedSharding(explicit, P("data"))), table),
        (eight, rule_table(None)),
    ):
        assert "sharding_constraint" not in program(y, rules)


def test_constraints_that_cannot_be():
    x = jax.device_put(jnp.ones((8, 4)), jax.NamedSharding(make_mesh(SHAPE), P()))
    with pytest.raises(ValueError, match="no rule for the logical axis 'vocab'"):
        constrain(x, rule_table(RULES), "batch", "vocab")
    with pytest.raises(ValueError, match="both fall on the mesh axis 'fsdp'"):
        constrain(x, rule_table(RULES), "batch", "embed")
    with pytest.raises(ValueError, match="names the axis 'tensor'"):
        constrain(x, rule_table({"batch": "tensor"}), "batch", None)
    with pytest.raises(ValueError, match="3 logical names for an array of 2 axes"):
        constrain(x, rule_table(RULES), "batch", None, None)
