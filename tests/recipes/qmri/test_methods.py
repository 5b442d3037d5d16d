import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.reconstruct import cg_sense
from medjax.recipes.qmri.methods import METHODS, in_order, make_classical
from tests.systems.toy_qmri import BASIS, toy_batch

OPTIONS = {
    "b": {"kind": "cg_sense", "damping": 0.1, "iterations": 5},
    "a": {
        "kind": "subspace",
        "subspace": {"rank": 2},
        "damping": 0.1,
        "iterations": 5,
    },
    "z": {"kind": "zero_filled"},
}


def test_rows_come_by_kind_not_by_name():
    assert in_order(OPTIONS) == ["z", "b", "a"]


def test_methods_are_the_library_s_with_real_images():
    batch = toy_batch()
    asked = []

    def make_basis(options):
        asked.append(options)
        return np.asarray(BASIS)

    made = make_classical(OPTIONS, make_basis)
    assert list(made) == ["z", "b", "a"] and asked == [{"rank": 2}]
    run = jax.jit(
        lambda batch: {
            k: found.reconstruct(batch, jax.random.key(0)) for k, found in made.items()
        }
    )
    images = run(batch)
    plain = cg_sense(
        batch.kspace,
        batch.sens,
        batch.mask,
        damping=0.1,
        iterations=5,
        constraint="real",
    )
    np.testing.assert_allclose(images["b"], plain, atol=1e-5)
    assert {k: found.rank for k, found in made.items()} == {
        "z": None,
        "b": None,
        "a": 2,
    }
    assert all(jnp.isrealobj(x) for x in images.values())


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match=f"'x': kind 'grappa', .*{'.*'.join(METHODS)}"):
        in_order({"x": {"kind": "grappa"}})
