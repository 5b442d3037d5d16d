"""A system whose checkpoints hold an adapter alone: what is saved, read, refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from medjax.runtime import checkpoint, loop
from medjax.runtime.errors import CheckpointError
from medjax.runtime.naming import ArchitectureError
from medjax.runtime.stages import Stage, read_state, run_stages
from medjax.sharding import make_mesh, optimizer_axes
from medjax.types import Adapter, System, TrainState
from tests.runtime import toy_system

RULES = toy_system.RULES
KERNEL = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
TX = optax.adam(0.1)


def split(params):
    return {"bias": params["bias"]}, {"kernel": params["kernel"]}


def join(base, adapter):
    return {**base, **adapter}


def fresh(key):
    return {"bias": jax.random.normal(key, (8,), jnp.float32)}


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # optax: 1 - decay**count
        yield


def make_system(adapter=True):
    """Linear regression; with an adapter the bias alone is trained."""
    axes = {"kernel": P("embed", "mlp"), "bias": P("mlp")}

    def trained(params):
        return split(params)[0] if adapter else params

    def init(key, params=None):
        if params is None:
            params = {"kernel": jnp.ones((4, 8), jnp.float32), **fresh(key)}
        return TrainState(params, TX.init(trained(params)), jnp.zeros((), jnp.int32))

    def update(state, batch, key):
        def loss_fn(part):
            params = {**state.params, **part}
            noise = jax.random.normal(key, batch["y"].shape, jnp.float32)
            out = batch["x"] @ params["kernel"] + params["bias"][None]
            return jnp.mean((out.mean(1) - batch["y"] - 0.1 * noise) ** 2)

        part = trained(state.params)
        loss, grads = jax.value_and_grad(loss_fn)(part)
        updates, opt_state = TX.update(grads, state.opt_state, part)
        params = {**state.params, **optax.apply_updates(part, updates)}
        return TrainState(params, opt_state, state.step + 1), {"loss": loss}

    def evaluate(state, batch, key):
        return (), {"bias": jnp.sum(state.params["bias"])[None]}

    shapes = jax.eval_shape(init, jax.random.key(0)).params
    opt_axes = optimizer_axes(TX, trained(shapes), trained(axes))
    parts = Adapter(fresh, split, join) if adapter else None
    return System(
        init, update, evaluate, TrainState(axes, opt_axes, P()), adapter=parts
    )


def load_kernel(shardings, kernel=KERNEL):
    return {"kernel": jax.device_put(kernel, shardings["kernel"])}


def place():
    return {"mesh": make_mesh(toy_system.MESH), "rules": RULES}


def train(folder, system=None, *, steps=5, base=load_kernel, **more):
    options = {"seed": 0, "checkpoint_every": 2, "keep": 5, "identity": {"base": 1}}
    return loop.train(
        system or make_system(),
        toy_system.source(),
        steps=steps,
        workdir=folder,
        base=base,
        **options | place() | more,
    )


def test_checkpoints_hold_the_adapter_and_a_resume_loads_the_base(tmp_path):
    whole = train(tmp_path / "a")
    np.testing.assert_array_equal(whole.params["kernel"], KERNEL)
    train(tmp_path / "b", steps=3)
    resumed = train(tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    with checkpoint._manager(tmp_path / "b" / "checkpoints", read_only=True) as manager:
        names = set(manager.item_metadata(5)["state"])
    assert "params.bias" in names
    assert not [name for name in names if "kernel" in name]
    # what was drawn, by the key of the run
    assert np.any(np.asarray(whole.params["bias"]) != 0)


def test_an_adapter_starts_from_the_stage_before(tmp_path):
    stages = [
        Stage(name, make_system(), toy_system.source(), 2, {"base": 1})
        for name in ("first", "second")
    ]
    stages = [stage._replace(base=load_kernel) for stage in stages]
    saving = {"checkpoint_every": 9, "keep": 1, "on_nonfinite": "stop", "facts": {}}
    run_stages(stages[:1], seed=0, workdir=tmp_path, **saving, **place())
    state = run_stages(stages, seed=0, workdir=tmp_path, **saving, **place())
    read = partial(read_state, make_system(), accepts=None, load=None, **place())
    first = read(tmp_path, name="first", base=load_kernel)
    again = train(
        tmp_path / "alone",
        name="second",
        steps=2,
        start=first.params and {"bias": first.params["bias"]},
    )
    jax.tree.map(np.testing.assert_array_equal, state.params, again.params)


def test_a_folder_is_a_whole_policy_and_gets_an_adapter_of_its_own(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    seen = []

    def load(path, shardings):
        seen.append((path, sorted(shardings)))
        return load_kernel(shardings, 2 * KERNEL)

    state = read_state(
        make_system(), folder, name="x", accepts=None, load=load, **place()
    )
    assert seen == [(folder, ["kernel"])]
    np.testing.assert_array_equal(state.params["kernel"], 2 * KERNEL)
    assert state.params["bias"].shape == (8,)


def test_what_is_missing_or_mixed_up_is_named(tmp_path):
    train(tmp_path / "low", steps=2)
    everything = make_system(adapter=False)
    train(tmp_path / "all", everything, steps=2, base=None)
    with pytest.raises(
        ArchitectureError, match=r"params.kernel: found float32\[4, 8\]"
    ):
        train(tmp_path / "all")
    with pytest.raises(ArchitectureError, match="params.kernel: found nothing"):
        train(tmp_path / "low", everything, base=None)
    with pytest.raises(ValueError, match="an adapter needs `base`"):
        train(tmp_path / "low", base=None)
    with pytest.raises(ValueError, match="an adapter needs `base`"):
        train(tmp_path / "new", base=None)
    with pytest.raises(ArchitectureError, match=r"base of the adapter .*\n.*\[2, 8\]"):
        train(tmp_path / "low", base=partial(load_kernel, kernel=KERNEL[:2]))
    with pytest.raises(CheckpointError, match="base: the checkpoint has 1, this run"):
        train(tmp_path / "low", identity={"base": 2})
