import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.runtime.naming import (
    ArchitectureError,
    check_arrays,
    check_params,
    differences,
    named,
    unnamed,
)
from medjax.types import TrainState


def test_names_are_paths_and_can_be_undone():
    key = jax.random.key(3)
    state = TrainState({"a": [jnp.ones(2)]}, (), jnp.int32(1), {"key": key})
    arrays = named(state)
    assert list(arrays) == ["params.a.0", "step", "aux.key"]
    assert arrays["aux.key"].dtype == jnp.uint32
    back = unnamed(jax.eval_shape(lambda: state), arrays, jax.random.key(0))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert back.aux["key"] == key


def test_arrays_of_another_architecture():
    found, expected = {"a": np.zeros(2)}, {"a": np.zeros(2, np.float32)}
    with pytest.raises(ArchitectureError, match=r"float64\[2\], expected float32\[2\]"):
        check_params(found, expected, "x")
    check_params(found, found, "x")
    many = {str(i): np.zeros(1) for i in range(30)}
    with pytest.raises(ArchitectureError, match="30 arrays differ") as error:
        check_arrays(many, {}, "x")
    lines = str(error.value).splitlines()
    assert len(lines) == 22 and lines[-1] == "  ... and 10 more"


@pytest.mark.parametrize(
    ("found", "now", "lines"),
    [
        ({"a": [1, 2]}, {"a": (1, 2)}, []),
        (
            {"a": {"b": 1}},
            {"a": {"b": 2}},
            ["a.b: the checkpoint has 1, this run has 2"],
        ),
        ({"a": 1}, {}, ["a: the checkpoint has 1, this run has 'nothing'"]),
        ({"a": {"b": 1}}, {"a": 3}, ["a: the checkpoint has {'b': 1}, this run has 3"]),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, 2),
    ],
)
def test_differences(found, now, lines):
    got = differences(found, now)
    assert (len(got) if isinstance(lines, int) else got) == lines
