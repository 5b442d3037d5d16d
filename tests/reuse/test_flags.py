"""Every public function under JAX's switches: one answer under all of them."""

import contextlib

import jax
import numpy as np
import pytest

from tests.reuse.calls import assert_same, expected, run
from tests.reuse.rooms import each_call

SWITCHES = {
    "without x64": lambda: jax.enable_x64(False),
    "debug_nans": lambda: jax.debug_nans(True),
    "checking_leaks": jax.checking_leaks,
    "disable_jit": jax.disable_jit,
}


@pytest.mark.parametrize("switch", SWITCHES)
@each_call
def test_switch(call, switch):
    with contextlib.ExitStack() as stack:
        stack.enter_context(SWITCHES[switch]())
        found = run(call)
    assert_same(call, found, expected(call))


@each_call
def test_jit_takes_numpy_and_keeps_dtypes(call):
    found = jax.jit(call.function)(*call.arrays)
    alone = expected(call)
    assert_same(call, found, alone)
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        assert np.asarray(left).dtype == np.asarray(right).dtype, call.name
