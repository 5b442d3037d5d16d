"""What the systems' tests share, so that few programs are compiled."""

import jax
import pytest

from tests.tiny import tiny_config, tiny_params


@pytest.fixture(autouse=True, scope="module")
def standard_promotion():
    """optax raises floats to int32 counts, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def params():
    return tiny_params(tiny_config())
