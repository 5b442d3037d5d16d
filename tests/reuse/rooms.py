"""All calls of the public functions, and the mark that makes a test of each."""

import pytest

from tests.reuse import (
    fit_calls,
    mri_calls,
    qwen25vl_calls,
    rl_calls,
    scan_calls,
    scanner_calls,
    text_calls,
)

ROOMS = (
    rl_calls,
    text_calls,
    mri_calls,
    scan_calls,
    scanner_calls,
    fit_calls,
    qwen25vl_calls,
)
CALLS = [call for room in ROOMS for call in room.CALLS]
# Public functions without arrays of a program, and why.
HOST = {name: why for room in ROOMS for name, why in room.HOST.items()}
NAMES = [call.name for call in CALLS]
assert len(set(NAMES)) == len(NAMES), "a call's name stands for its result"
each_call = pytest.mark.parametrize("call", CALLS, ids=NAMES)
