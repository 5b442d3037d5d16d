import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri.fourier import fft2c
from medjax.mri.held_out import held_out_weight, hold_out_lines
from medjax.mri.reconstruct import cg_sense
from medjax.recipes.qmri.methods import (
    METHODS,
    in_order,
    make_classical,
    tv_scales,
    tv_search,
)
from medjax.recipes.qmri.options import Method, Subspace
from medjax.recipes.qmri.weighed import middle_part
from medjax.systems.puq.joint_tv import Search
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
            r"options damping, iterations \(and may have weights, share\), found iter",
        ),
        (
            Method("wavelet", damping=0.1, threshold=0.1, iterations=5),
            r"options threshold, iterations \(and may have subs.*, share\), found damp",
        ),
        (
            Method("subspace", SUBSPACE._replace(rank=0), damping=0.1, iterations=5),
            r"options subspace, damping, iterations \(and .*\), found damping, iterat",
        ),
        (Method("zero_filled", SUBSPACE), "options none, found subspace"),
    ],
)
def test_options_of_another_kind_are_named(method, message):
    with pytest.raises(ValueError, match=f"method 'x': kind .* has the {message}"):
        in_order({"x": method})


SEARCH = {"weights": (0.01, 0.1, 1.0), "share": 0.25}


def test_the_weight_of_each_slice_is_found_from_its_held_out_lines():
    """And is the usual one where a slice has no outer line."""
    batch = toy_batch()
    mask = np.array(batch.mask)
    columns, middle = mask.shape[-1], np.zeros(mask.shape[-1], bool)
    middle[columns // 2 - 1 :][:2] = True
    mask[:, :, 0] |= middle
    mask[1] = middle
    batch = batch._replace(mask=jnp.asarray(mask))
    usual = Method("cg_sense", damping=0.2, iterations=5)
    method = usual._replace(**SEARCH)
    key = jax.random.key(0)

    def images(method):
        made = make_classical({"x": method}, lambda _: BASIS, center=2)
        return jax.jit(made["x"].reconstruct)(batch, key)

    found = images(method)
    np.testing.assert_allclose(found[1], images(usual)[1], atol=1e-6)
    lines, _ = jax.random.split(key)
    draw = jax.random.fold_in(lines, batch.sample_id[0])
    one = jax.tree.map(lambda x: x[0], batch)
    kept, held = hold_out_lines(one.mask, draw, center=2)
    options = {"iterations": 5, "constraint": "real"}
    weight = held_out_weight(
        lambda w: cg_sense(one.kspace, one.sens, kept, damping=w, **options),
        one.kspace,
        one.sens,
        held,
        weights=np.array(SEARCH["weights"], np.float32),
        extensions=1,
    ).weight
    expected = cg_sense(one.kspace, one.sens, one.mask, damping=weight, **options)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert abs(float(weight) - 0.2) > 0.01


def test_weights_are_tried_on_the_middle_third_of_whole_columns():
    """Whose k-space is that of the rows alone, with white noise as it was."""
    rng = np.random.default_rng(0)
    shape = (1, 2, 3, 100, 20)
    images = rng.standard_normal((2, *shape)).astype(np.float32)
    images = jnp.asarray(images[0] + 1j * images[1])
    columns = jnp.asarray(rng.random((1, 2, 1, 20)) < 0.5)
    batch = toy_batch()._replace(
        kspace=jnp.where(columns[:, :, None], fft2c(images), 0),
        mask=columns,
        sens=images[:, 0],
    )
    part = middle_part(batch)
    rows = slice(26, 74)  # 48: a third, in steps of 16
    expected = jnp.where(columns[:, :, None], fft2c(images[..., rows, :]), 0)
    np.testing.assert_allclose(part.kspace, expected, atol=1e-5)
    np.testing.assert_array_equal(part.sens, batch.sens[..., rows, :])
    points = jnp.broadcast_to(columns, (1, 2, 100, 20))
    for whole in (batch._replace(mask=points), toy_batch()):
        assert middle_part(whole).kspace.shape == whole.kspace.shape


JOINT_TV = Method(
    "joint_tv",
    SUBSPACE,
    iterations=5,
    inner=2,
    scales=(1.0, 0.7),
    weights=(1e-3, 3e-3, 1e-2),
    share=0.25,
    draws=2,
)


def test_how_joint_tv_finds_its_weight():
    search = tv_search("x", JOINT_TV, 4)
    one = tv_search("x", JOINT_TV._replace(draws=1), 4)
    assert one.part and one._replace(part=False, draws=2) == search
    assert search == Search((1e-3, 3e-3, 1e-2), 0.25, 4, 5, 2, 2, False)
    wider = JOINT_TV._replace(subspace=SUBSPACE._replace(rank=4))
    assert tv_scales(wider) == (1.0, 0.7, 0.7, 0.7)  # the last one is repeated
    assert tv_scales(JOINT_TV._replace(subspace=SUBSPACE._replace(rank=1))) == (1.0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": (0.1, 0.2), "share": 0.25}, "weights .* expected 3 or more"),
        ({"weights": (0.1, 0.3, 0.2), "share": 0.25}, "weights .* that rise"),
        ({"weights": (0.1, 0.2, 0.4), "share": 1.0}, "share 1.0: expected one between"),
        ({"weights": (0.1, 0.2, 0.4)}, "weights and share: expected both"),
    ],
)
def test_weights_that_cannot_be_searched(change, message):
    method = Method("cg_sense", damping=0.1, iterations=5)._replace(**change)
    with pytest.raises(ValueError, match=f"method 'x': {message}"):
        make_classical({"x": method}, lambda _: BASIS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": (1e-3, 1e-2)}, "weights .*expected 3 or more that rise"),
        ({"weights": (1e-2, 1e-3, 1e-4)}, "expected 3 or more that rise"),
        ({"weights": (0.0, 1e-3, 1e-2)}, "from above 0"),
        ({"share": 1.0}, "share 1.0: expected one between 0 and 1"),
        ({"scales": (1.0, 0.0)}, "scales .*expected some above 0"),
        ({"draws": 0}, "draws 0: expected 1 or more"),
    ],
)
def test_options_of_joint_tv_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=f"method 'x': .*{message}"):
        tv_search("x", JOINT_TV._replace(**change), 4)
