"""Parameters are told apart by every value, name, shape and dtype, on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from medjax.runtime.fingerprint import fingerprint

RNG = np.random.default_rng(0)
PARAMS = {
    "a": {"kernel": jnp.asarray(RNG.normal(size=(8, 6, 5)), jnp.float32)},
    "scale": jnp.ones(4, jnp.bfloat16),
    "step": jnp.float32(2),
}


def test_equal_trees_are_equal_and_changes_show():
    whole = fingerprint(PARAMS)
    assert whole == fingerprint(jax.tree.map(jnp.array, PARAMS)) and len(whole) == 16
    kernel = PARAMS["a"]["kernel"]
    changed = [
        PARAMS | {"a": {"kernel": kernel.at[3, 2, 1].add(1e-6)}},
        PARAMS | {"a": {"kernel": kernel[::-1]}},
        PARAMS | {"a": {"kernel": kernel.swapaxes(1, 2)}},
        PARAMS | {"a": {"kernel": kernel.astype(jnp.bfloat16)}},
        PARAMS | {"b": PARAMS["a"], "a": {}},
        PARAMS | {"scale": PARAMS["scale"] * -1},
    ]
    assert len({whole, *map(fingerprint, changed)}) == 1 + len(changed)


def test_a_mesh_does_not_matter():
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    spread = jax.device_put(PARAMS["a"]["kernel"], NamedSharding(mesh, P("y", "x")))
    assert fingerprint(PARAMS) == fingerprint(PARAMS | {"a": {"kernel": spread}})
