"""optax raises floats to int32 counts, which strict promotion refuses."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield
