import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from medjax.indexing import devices_along


def test_devices_that_an_axis_is_divided_over():
    mesh = jax.make_mesh((2, 4), ("a", "b"))
    x = jax.device_put(jnp.zeros((8, 3)), NamedSharding(mesh, P(("a", "b"))))
    assert devices_along(x, 0) == 8 and devices_along(x, 1) == 1
    assert devices_along(np.zeros((8, 3)), 0) == 1
