"""What the programs of this folder share: JAX as it comes, without the suite's switches."""

import jax
import pytest


@pytest.fixture
def plain_jax():
    """JAX's defaults, as a program has them that sets none: the suite's are stricter."""
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield
