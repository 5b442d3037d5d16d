"""Arrays of one dtype, under strict promotion too."""

import functools

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array


def promoted(*arrays: ArrayLike) -> tuple[Array, ...]:
    """The arrays in the dtype to which JAX's rules promote all of them together.

    The rules of floats and complex numbers are NumPy's. JAX's own function refuses
    mixed dtypes where `jax_numpy_dtype_promotion` is "strict", even if they are meant.
    """
    dtypes = (jnp.result_type(x) for x in arrays)
    dtype = functools.reduce(np.promote_types, dtypes)
    return tuple(jnp.asarray(x, dtype) for x in arrays)
