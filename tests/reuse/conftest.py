"""JAX as a program has it that sets no switches: the suite's are stricter."""

import contextlib
import itertools

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


TESTS = itertools.count(1)


@pytest.fixture(autouse=True)
def forget_programs():
    """Every call under every switch is a program more: gigabytes, if all were kept."""
    yield
    if next(TESTS) % 20 == 0:
        jax.clear_caches()
