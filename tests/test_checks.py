import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from medjax.checks import (
    batch_axes,
    check_arrays,
    check_flags,
    check_integers,
    check_key,
    check_static,
)

LOGP = np.zeros((3, 5), np.float32)


def check(logp, mask=None, **others):
    check_arrays("loss", logp=(logp, "N T", float), mask=(mask, "N T", bool), **others)


@pytest.mark.parametrize(
    ("value", "axes", "kind"),
    [
        (LOGP, "N T", float),
        (LOGP, "3 5", np.float32),
        (LOGP, "N _", (int, float)),
        (LOGP, "*N", None),
        (LOGP, "*N 3 5", float),  # no leading axes at all
        (LOGP, "... 5", float),
        (jnp.zeros((2, 3, 5), jnp.bfloat16), "*N T", float),
        (LOGP[:, :1], "N #T", float),
        (LOGP.astype(np.complex128), "N T", complex),
        (LOGP.astype(np.complex64), "N T", complex),
        (np.zeros(3, np.uint8), "N", int),
        (np.zeros(3, bool), "N", (int, bool)),
        (0.5, "", float),
        (2, "", (float, int)),
        (True, "", bool),
        (None, "N T", float),
    ],
)
def test_what_fits_passes(value, axes, kind):
    check_arrays("f", x=(value, axes, kind))


@pytest.mark.parametrize(
    ("value", "axes", "kind", "found"),
    [
        (LOGP, "N", float, r"float of shape \[N\]; found float32 of shape \(3, 5\)"),
        (LOGP, "", float, r"shape \[\]; found"),
        (LOGP, "N 4", float, r"shape \[N, 4\]; found"),
        (LOGP, "... 4", float, r"\[\.\.\., 4\]"),
        (LOGP, "*N 1 3 5", float, r"found float32 of shape \(3, 5\)"),
        (LOGP, "N T", int, r"int of shape \[N, T\]; found float32"),
        (LOGP, "N T", (int, bool), "int or bool of shape"),
        (LOGP, "N T", np.float64, "float64 of shape"),
        (LOGP, "N T", complex, "complex of shape"),
        (LOGP > 0, "N T", (float, int), "found bool of shape"),
        (0.5, "N", float, "found a float"),
        (True, "", int, "found a bool"),
        ([0.5, 1.0], "N", float, "found a list"),
        ([0.5, 1.0], "...", None, "found a list"),
    ],
)
def test_what_does_not_fit_is_named(value, axes, kind, found):
    with pytest.raises(ValueError, match=f"^f: x: expected .*{found}"):
        check_arrays("f", x=(value, axes, kind))


def test_names_bind_sizes_across_arguments():
    check(LOGP, LOGP > 0, weights=(LOGP[:, :1], "N #T", float), n=(LOGP[0], "T", float))
    message = r"mask: expected bool of .* with N = 3 from logp, T = 5 from logp; found"
    with pytest.raises(ValueError, match=message):
        check(LOGP, LOGP[:, :4] > 0)
    with pytest.raises(ValueError, match=r"weights: .*T = 5 from logp.*\(3, 2\)"):
        check(LOGP, weights=(LOGP[:, :2], "N #T", float))
    with pytest.raises(ValueError, match=r"size: expected float of shape \[\*N, 2\]"):
        check_arrays(
            "f",
            boxes=(np.zeros((2, 3, 4)), "*N 4", float),
            size=(np.zeros((3, 2)), "*N 2", float),
        )
    with pytest.raises(ValueError, match=r"N = \(2, 3\) from boxes"):
        check_arrays(
            "f",
            boxes=(np.zeros((2, 3, 4)), "*N 4", float),
            found=(np.zeros((3, 2)), "*N", float),
        )
    check_arrays("f", x=(LOGP[:, :3], "N N", float))
    with pytest.raises(ValueError, match="N = 3 from x"):  # within one argument, too
        check_arrays("f", x=(LOGP, "N N", float))


def test_axes_that_may_be_broadcast():
    def pair(left, right):
        x, y = np.zeros((*left, 4)), np.zeros((*right, 4))
        check_arrays("f", x=(x, "*#N 4", float), y=(y, "*#N 4", float))

    for left, right in ([(), ()], [(8, 1), (1, 9)], [(8,), (1,)], [(0,), (1,)]):
        pair(left, right)
        pair(right, left)
    for left, right in ([(), (1,)], [(8,), (9,)], [(8, 1), (9, 9)], [(8,), (1, 8)]):
        with pytest.raises(ValueError, match=r"y: expected .*\[\*#N, 4\] with N = "):
            pair(left, right)
    check_arrays("f", x=(LOGP, "#N T", float), y=(LOGP[:1], "#N T", float))
    with pytest.raises(ValueError, match="N = 3 from x; found float32 of shape"):
        check_arrays("f", x=(LOGP[:, 0], "N", float), y=(LOGP[:2], "#N T", float))
    with pytest.raises(ValueError, match="N = 1 from x"):  # N itself is no #N
        check_arrays("f", x=(LOGP[:1, 0], "N", float), y=(LOGP, "#N T", float))


def test_left_out_arguments_bind_nothing():
    check(LOGP, None, advantages=(LOGP[:, 0], "N", float))
    check_arrays("f", x=(None, "N", float), y=(LOGP, "T N", float))


def test_under_jit_and_vmap_and_at_no_cost():
    def plain(logp, mask):
        return jnp.where(mask, logp, 0).sum()

    def checked(logp, mask):
        check(logp, mask)
        return plain(logp, mask)

    logp, mask = jnp.asarray(LOGP), jnp.asarray(LOGP > 0)
    assert str(jax.make_jaxpr(checked)(logp, mask)) == str(
        jax.make_jaxpr(plain)(logp, mask)
    )
    assert jax.jit(checked)(logp, mask) == 0
    assert jax.vmap(checked)(logp[None], mask[None]).shape == (1,)
    with pytest.raises(ValueError, match="loss: mask"):
        jax.jit(checked)(logp, mask[:, :2])
    with pytest.raises(ValueError, match=r"loss: logp: .* found float32 of shape"):
        jax.vmap(checked)(logp, mask)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1, "n: expected an integer from 2 to 4, found 1"),
        (5, "n: expected an integer from 2 to 4, found 5"),
        (2.0, "n: expected an integer from 2 to 4, found 2.0"),
        (True, "n: expected an integer from 2 to 4, found True"),
        ("3", "n: expected an integer from 2 to 4, found '3'"),
    ],
)
def test_integers_out_of_their_range_are_named(value, message):
    with pytest.raises(ValueError, match=f"^f: {message}"):
        check_integers("f", m=(0, 0, None), n=(value, 2, 4))
    check_integers("f", n=(np.int64(3), 2, 4))


def test_a_traced_integer_names_the_way_out():
    with pytest.raises(ValueError, match=r"f: n: .* at least 1 .*static_argnames"):
        jax.jit(lambda n: check_integers("f", n=(n, 1, None)))(3)


@pytest.mark.parametrize("flag", ["no", "False", 1, 0.0, None, np.ones(2, bool)])
def test_what_is_no_flag_is_named(flag):
    with pytest.raises(ValueError, match="f: b: expected True or False; found"):
        check_flags("f", a=True, b=flag)
    check_flags("f", a=False, b=np.bool_(True))
    with pytest.raises(ValueError, match="f: b: .*static_argnames"):
        jax.jit(lambda b: check_flags("f", b=b))(True)


@pytest.mark.parametrize("key", [np.zeros(2, np.uint32), 0, None])
def test_what_is_no_typed_key_is_named(key):
    with pytest.raises(ValueError, match=r"f: key: .* jax.random.key\(seed\)"):
        check_key("f", key=key)
    check_key("f", key=jax.random.key(0))
    with pytest.raises(ValueError, match="f: key: .* take one of them"):
        check_key("f", key=jax.random.split(jax.random.key(0)))


def test_static_values_are_refused_when_traced():
    check_static("f", dual_clip=2.0, clamp=(1.0, jnp.float32(2)), none=None)
    message = "f: dual_clip: expected a Python number.*static_argnames"
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda x: check_static("f", dual_clip=x))(1.0)
    with pytest.raises(ValueError, match="f: clamp: .*a traced float"):
        jax.jit(lambda x: check_static("f", clamp=(1.0, x)))(1.0)


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
def test_axes_that_vary_have_to_be_named(check):
    mesh = jax.make_mesh((4, 2), ("d", "m"), axis_types=(AxisType.Auto,) * 2)

    def run(axis_name, *, replicated=False):
        def part(x):
            axes = batch_axes("f", axis_name, x=x, other=None)
            return jax.lax.psum(jnp.sum(x), axes) if axes else jnp.zeros(())

        return jax.shard_map(
            part,
            mesh=mesh,
            in_specs=P() if replicated else P("d"),
            out_specs=P(),
            check_vma=check,
        )

    x = jnp.arange(8.0)
    with pytest.raises(ValueError, match=r"f: axis_name: expected 'd' in it, as x var"):
        run(None)(x)
    assert float(run(())(x)) == 0
    if check:
        assert float(run("d")(x)) == float(run(("d",))(x)) == 28
        assert float(run(None, replicated=True)(x)) == 0
        with pytest.raises(ValueError, match=r"found 'm'; pass axis_name=\('m', 'd'\)"):
            run("m")(x)
    else:  # what is not checked may vary along every axis
        with pytest.raises(ValueError, match=r"pass axis_name=\('d', 'm'\)"):
            run("d")(x)
        assert float(run(("d", "m"))(x)) == 2 * 28
    assert batch_axes("f", None, x=x) == ()
    with pytest.raises(ValueError, match="axis_name: .* there is none; found 'd'"):
        batch_axes("f", "d", x=x)
