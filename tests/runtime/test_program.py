import contextlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.runtime.naming import named
from medjax.runtime.program import (
    abstract_state,
    compile_by_shape,
    describe,
    init_state,
    judged,
    shapes_of,
)
from medjax.runtime.progress import Progress
from medjax.sharding import make_mesh
from medjax.types import TrainState
from tests.runtime import toy_system as toy


def quiet():
    said = []

    def busy(what):
        said.append(what)
        return contextlib.nullcontext()

    return Progress(lambda *_: None, said.append, busy), said


def test_one_program_per_shape_and_no_surprise():
    report, said = quiet()
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    chex.clear_trace_counter()
    call = compile_by_shape(
        chex.assert_max_traces(lambda s, batch, key: (s + batch.sum(), key), n=2),
        out_shardings=(sharding, sharding),
        report=report,
    )
    key = jax.random.key(0)
    state = jnp.zeros((), jnp.float32)
    batches = [jax.device_put(np.ones(n, np.float32)) for n in (3, 4, 3, 4)]
    for batch in batches:
        state, key = call(state, batch, key)
    assert said == ["compiling for batch shape 1: 3", "compiling for batch shape 2: 4"]
    assert float(state) == 14
    with pytest.raises(Exception, match="[Tt]ransfer"):
        call(state, np.ones(3, np.float32), key)


def test_shapes_in_words():
    batch = {"a": np.zeros((2, 3)), "b": np.int32(1), "c": np.zeros(9), "d": np.ones(1)}
    assert describe(shapes_of(batch)) == "9, 2x3, 1"


def state_and_update():
    state = TrainState({"w": jnp.ones(2)}, (), jnp.int32(0), jax.random.key(1))

    def update(state, batch, key):
        new = state._replace(
            params={"w": state.params["w"] * batch},
            step=state.step + 1,
            aux=jax.random.fold_in(state.aux, 1),
        )
        return new, {"loss": jnp.float32(1), "accuracy": jnp.float32(jnp.nan)}

    return state, update


@pytest.mark.parametrize("skip", [False, True])
def test_judged(skip):
    state, update = state_and_update()
    update = jax.jit(judged(update, skip=skip))
    new, metrics = update(state, 2.0, jax.random.key(0))
    # a metric without a value is no fault
    assert metrics["nonfinite"] == 0 and (new.params["w"] == 2).all()
    new, metrics = update(state, jnp.nan, jax.random.key(0))
    assert metrics["nonfinite"] == 1 and new.step == 1
    kept = bool((new.params["w"] == 1).all()) and bool(new.aux == state.aux)
    assert kept == skip


def test_states_are_placed_as_the_axes_say():
    mesh = make_mesh(toy.MESH)
    system = toy.build()
    abstract, shardings = abstract_state(system, mesh=mesh, rules=toy.RULES)
    key = jax.random.key(0)
    plain = system.init(key)
    start = jax.tree.map(np.asarray, plain.params)
    for given in (None, start, lambda shardings: start):
        state = init_state(system, key, start=given, shardings=shardings)
        places = [
            jax.tree.map(lambda x: x.sharding, tree) for tree in (abstract, state)
        ]
        assert places[0] == places[1]
        chex.assert_trees_all_equal_shapes_and_dtypes(abstract, state)
        chex.assert_trees_all_equal(named(state), named(plain), strict=True)
