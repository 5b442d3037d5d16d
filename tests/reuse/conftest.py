"""JAX as a program has it that sets no switches: the suite's are stricter."""

import contextlib

import jax
import pytest


@contextlib.contextmanager
def defaults(*, x64):
    with (
        jax.enable_x64(x64),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


@pytest.fixture
def plain_jax():
    """JAX's defaults."""
    with defaults(x64=False):
        yield


@pytest.fixture
def double_jax():
    """The same in double precision, where an independent value has that of NumPy."""
    with defaults(x64=True):
        yield
