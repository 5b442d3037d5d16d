"""Every public function under JAX's switches: one answer under all of them."""

import contextlib

import jax
import numpy as np
import pytest

from tests.reuse import (
    fit_calls,
    mri_calls,
    qwen25vl_calls,
    rl_calls,
    scan_calls,
    text_calls,
)
from tests.reuse.calls import assert_same, run

CALLS = [
    call
    for room in (
        rl_calls,
        text_calls,
        mri_calls,
        scan_calls,
        fit_calls,
        qwen25vl_calls,
    )
    for call in room.CALLS
]
each_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)

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
    assert_same(call, found, run(call))


@each_call
def test_jit_takes_numpy_and_keeps_dtypes(call):
    found = jax.jit(call.function)(*call.arrays)
    expected = run(call)
    assert_same(call, found, expected)
    for left, right in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        assert np.asarray(left).dtype == np.asarray(right).dtype, call.name
