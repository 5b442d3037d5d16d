"""The calls are of all public functions: what is missing here is tested nowhere."""

import pytest

import medjax
from medjax import mri, rl
from medjax.models import qwen25vl
from tests.reuse.rooms import HOST, NAMES

CALLED = {name.partition("[")[0] for name in NAMES}


@pytest.mark.parametrize("room", [medjax, rl, mri, qwen25vl])
def test_every_public_function_is_called_or_said_to_be_of_the_host(room):
    public = {name: getattr(room, name) for name in room.__all__}
    functions = {
        name
        for name, value in public.items()
        if callable(value) and not isinstance(value, type)
    }
    assert functions - CALLED - HOST.keys() == set()


def test_what_is_called_is_not_said_to_be_of_the_host():
    assert CALLED & HOST.keys() == set()
