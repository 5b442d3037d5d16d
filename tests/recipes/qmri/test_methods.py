import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.reconstruct import cg_sense
from medjax.recipes.qmri.methods import METHODS, in_order, make_classical
from medjax.recipes.qmri.options import Method, Subspace
from tests.systems.toy_qmri import BASIS, toy_batch

SUBSPACE = Subspace(rank=2, low=0.03, high=2.5, atoms=50)
OPTIONS = {
    "b": Method("cg_sense", damping=0.1, iterations=5),
    "a": Method("subspace", SUBSPACE, damping=0.1, iterations=5),
    "z": Method("zero_filled", SUBSPACE._replace(rank=0)),
}


def test_rows_come_by_kind_not_by_name():
    assert in_order(OPTIONS) == ["z", "b", "a"]


def test_methods_are_the_library_s_with_real_images():
    batch = toy_batch()
    asked = []

    def make_basis(subspace):
        asked.append(subspace)
        return np.asarray(BASIS)

    made = make_classical(OPTIONS, make_basis)
    assert list(made) == ["z", "b", "a"] and asked == [SUBSPACE]
    run = jax.jit(
        lambda batch: {
            k: one.reconstruct(batch, jax.random.key(0)) for k, one in made.items()
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
    assert {k: one.rank for k, one in made.items()} == {
        "z": None,
        "b": None,
        "a": 2,
    }
    assert all(jnp.isrealobj(x) for x in images.values())


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match=f"'x': kind 'grappa', .*{'.*'.join(METHODS)}"):
        in_order({"x": Method("grappa")})


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            Method("cg_sense", iterations=5),
            "options damping, iterations, found iterations",
        ),
        (
            Method("wavelet", damping=0.1, threshold=0.1, iterations=5),
            r"options threshold, iterations \(and may have subspace\), found damp",
        ),
        (
            Method("subspace", SUBSPACE._replace(rank=0), damping=0.1, iterations=5),
            "options subspace, damping, iterations, found damping, iterations",
        ),
        (Method("zero_filled", SUBSPACE), "options none, found subspace"),
    ],
)
def test_options_of_another_kind_are_named(method, message):
    with pytest.raises(ValueError, match=f"method 'x': kind .* has the {message}"):
        in_order({"x": method})
