"""Fits as an outsider uses them: own models, traced times, files, export, edges."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.mri import (
    FitResult,
    FitStatus,
    SignalModel,
    check_times,
    cramer_rao_bound,
    exponential_basis,
    fit_map,
    inversion_recovery_basis,
    signal,
    signal_model,
    vfa_model,
)

TE = np.array([0.01, 0.03, 0.06, 0.1])
T2 = signal_model("t2")
TRUTH = np.array([0.05, 0.08, 0.11])
DECAY = np.exp(-TE[:, None] / TRUTH)


# ---- a model of one's own


def stretched(rate, time, power):
    return (jnp.exp(-((time * rate) ** power)),)


def two_pools(rate, time, slow):
    """A fast pool of unknown T and one of a known, slow rate."""
    return jnp.exp(-time * slow) * jnp.ones_like(rate), jnp.exp(-time * rate)


def pools(amplitudes, rate):
    return amplitudes[1], 1 / rate, amplitudes[0]


def from_pools(fast, t2, slow):
    return (slow, fast), 1 / t2


OPTIONS = {
    "name": "stretched",
    "parameters": ("s0", "t2"),
    "units": ("image", "s"),
    "basis": stretched,
    "constants": (0.8,),
    "bounds": (1e-3, 10.0),
    "longest": 5.0,
}
TWO = {
    "name": "two pools",
    "parameters": ("fast", "t2", "slow"),
    "units": ("image", "s", "image"),
    "basis": two_pools,
    "constants": (1.0,),
    "to_parameters": pools,
    "from_parameters": from_pools,
    "bounds": (1e-3, 0.5),
    "longest": 5.0,
}


def test_own_models_are_fitted():
    truth = {"s0": np.array([1.0, 2.0, 3.0]), "t2": TRUTH}
    curve = truth["s0"] * np.exp(-((TE[:, None] / TRUTH) ** 0.8))
    model = SignalModel(**OPTIONS)
    np.testing.assert_allclose(signal(model, truth, TE), curve, rtol=1e-12)
    found = fit_map(curve, TE, model=model)
    np.testing.assert_allclose(found.params["t2"], TRUTH, rtol=1e-9)
    np.testing.assert_allclose(found.params["s0"], truth["s0"], rtol=1e-9)
    bound = cramer_rao_bound(TE, model=model, params=truth, noise_sd=0.01)
    step = 1e-6

    def by_hand(s0, t2):
        x = (TE / t2) ** 0.8
        jac = np.stack([np.exp(-x), s0 * np.exp(-x) * 0.8 * x / t2], axis=1)
        return 0.01 * np.sqrt(np.linalg.inv(jac.T @ jac)[1, 1])

    expected = [by_hand(s, t) for s, t in zip(truth["s0"], TRUTH, strict=True)]
    np.testing.assert_allclose(bound["t2"], expected, rtol=step)


def test_own_model_of_two_amplitudes():
    curve = 0.7 * DECAY + 0.3 * np.exp(-TE[:, None])
    found = fit_map(curve, TE, model=SignalModel(**TWO))
    np.testing.assert_allclose(found.params["t2"], TRUTH, rtol=1e-8)
    np.testing.assert_allclose(found.params["slow"], 0.3, rtol=1e-8)


def test_models_are_values():
    """Pickled, equal, and no second compilation when built a second time."""
    for model in (T2, signal_model("t1_ir3"), vfa_model(0.01), SignalModel(**OPTIONS)):
        copy = pickle.loads(pickle.dumps(model))
        assert copy == model and hash(copy) == hash(model)
    traces = []

    def fitted(images, model):
        traces.append(model)
        return fit_map(images, TE, model=model).params["t2"]

    program = jax.jit(fitted, static_argnames="model")
    for power in (0.8, 0.8, 0.9):
        program(DECAY, model=SignalModel(**OPTIONS | {"constants": (power,)}))
    assert len(traces) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": ("image", "1")}, 'units: expected "s" of the time constant'),
        ({"units": ("image", "ms")}, 'units: expected "s" of the time constant'),
        ({"units": ("s",)}, "units: expected a tuple of one for each of s0, t2"),
        ({"parameters": ["s0", "t2"]}, "parameters: expected a tuple"),
        ({"parameters": ("t2",), "units": ("s",)}, "parameters: .* two or more"),
        ({"bounds": (0.0, 1.0)}, "bounds: expected a tuple .*0 < low"),
        ({"longest": 0.0}, "longest: expected a number above 0"),
        ({"constants": (np.ones(2),)}, "constants: expected a tuple of Python"),
        ({"basis": "exp"}, "basis: expected a function"),
        ({"basis": lambda r, t, p: jnp.exp(-t * r)}, "basis: expected a tuple of 1 "),
        ({"basis": lambda r, t, p: (r * t, r * t)}, "basis: expected a tuple of 1 "),
        ({"basis": lambda r, t, p: ((r * t).sum(),)}, r"basis: .*float32\[\]"),
        ({"to_parameters": lambda a, r: (1 / r,)}, "to_parameters: expected 2 values"),
        ({"from_parameters": lambda s, t: s / t}, "from_parameters: expected"),
    ],
)
def test_what_is_no_model_is_refused_by_field(change, message):
    model = SignalModel(**OPTIONS | change)
    with pytest.raises(ValueError, match=f"model stretched: {message}"):
        fit_map(DECAY, TE, model=model)
    if "from_parameters" not in change:
        with pytest.raises(ValueError, match=message):
            cramer_rao_bound(
                TE, model=model, params={"s0": 1.0, "t2": 0.1}, noise_sd=0.1
            )


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_map(DECAY, TE, model="t2"),
        lambda: signal("t2", {"s0": 1.0, "t2": 0.1}, TE),
        lambda: check_times(TE, model="t2"),
        lambda: cramer_rao_bound(TE, model="t2", params={}, noise_sd=1.0),
    ],
)
def test_a_name_is_no_model(call):
    with pytest.raises(ValueError, match=r"signal_model\('t2'\).*found 't2'"):
        call()


# ---- what is traced


@pytest.mark.parametrize("bad", [1000.0, -1.0, np.nan, np.inf])
def test_traced_times_out_of_range_are_invalid(bad):
    program = jax.jit(lambda y, t: fit_map(y, t, model=T2))
    found = program(DECAY, TE * bad)
    assert np.all(found.status == FitStatus.INVALID)
    for x in [*found.params.values(), *found.sigma.values(), found.residual]:
        assert np.all(np.isnan(x))
    good = fit_map(DECAY, TE, model=T2)
    mixed = np.stack([TE, TE * bad, TE], axis=1)
    found = program(DECAY, mixed)
    assert [int(s) for s in found.status] == [0, FitStatus.INVALID, 0]
    np.testing.assert_allclose(found.params["t2"][::2], good.params["t2"][::2])
    slopes = jax.grad(
        lambda y, t: jnp.nansum(fit_map(y, t, model=T2).params["t2"]), (0, 1)
    )(DECAY, mixed)
    assert all(np.all(np.isfinite(x)) for x in slopes)
    bound = jax.jit(
        lambda t: cramer_rao_bound(
            t, model=T2, params={"s0": 1.0, "t2": 0.08}, noise_sd=0.01
        )
    )
    assert np.isinf(bound(TE * bad)["t2"]) and np.isfinite(bound(TE)["t2"])


def test_traced_numbers_in_a_list_and_equal_times():
    program = jax.jit(lambda y, t: fit_map(y, [0.01, t, 2 * t, 0.1], model=T2))
    found = program(DECAY, 0.03)
    np.testing.assert_allclose(found.params["t2"], TRUTH, rtol=1e-9)
    equal = jax.jit(lambda y, t: fit_map(y, t, model=T2))(DECAY, np.full(4, 0.05))
    assert np.all(equal.status >= FitStatus.NOT_CONVERGED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("points", 24),
        ("iterations", 4),
        ("magnitude", True),
        ("bounds", (0.01, 1.0)),
        ("skip", (0,)),
    ],
)
def test_static_options_are_refused_when_traced(name, value):
    with pytest.raises(ValueError, match=f"fit_map: {name}: expected a Python number"):
        jax.jit(lambda v: fit_map(DECAY, TE, model=T2, **{name: v}))(value)


def test_host_functions_are_refused_when_traced():
    options = {"rank": 2, "low": 0.01, "high": 1.0, "atoms": 9}
    for function in (exponential_basis, inversion_recovery_basis):
        with pytest.raises(ValueError, match=f"{function.__name__}: times: .*static"):
            jax.jit(lambda t, f=function: f(t, **options))(TE)
    with pytest.raises(ValueError, match="vfa_model: repetition_time: .*static"):
        jax.jit(lambda tr: vfa_model(tr).constants[0])(0.01)


# ---- types


def test_types_are_promoted_or_refused():
    narrow = DECAY.astype(np.float32)
    weights = np.ones_like(DECAY)
    assert fit_map(narrow, TE, model=T2).params["t2"].dtype == np.float32
    wide = fit_map(narrow, TE, model=T2, weights=weights)
    assert wide.params["t2"].dtype == np.float64
    counted = fit_map(DECAY, TE, model=T2, weights=np.ones(4, np.int32))
    np.testing.assert_allclose(counted.params["t2"], TRUTH, rtol=1e-9)
    for half in (jnp.float16, jnp.bfloat16):
        found = fit_map(jnp.asarray(DECAY, half), TE, model=T2)
        assert found.params["t2"].dtype == np.float32
        expected = fit_map(jnp.asarray(DECAY, half).astype(float), TE, model=T2)
        np.testing.assert_allclose(found.params["t2"], expected.params["t2"], rtol=1e-5)
    for given, name in (
        ({"images": (100 * DECAY).astype(np.int32)}, "images: .*float or complex"),
        ({"times": TE * 1j}, "times: expected float"),
        ({"weights": weights * 1j}, "weights: expected float"),
    ):
        arguments = {"images": DECAY, "times": TE} | given
        with pytest.raises(ValueError, match=name):
            fit_map(
                arguments.pop("images"), arguments.pop("times"), model=T2, **arguments
            )
    whole = signal(T2, {"s0": np.array([1, 2]), "t2": np.array([1, 2])}, [0, 1])
    np.testing.assert_allclose(whole, [[1, 2], [np.exp(-1), 2 * np.exp(-0.5)]])
    mixed = signal(T2, {"s0": np.ones(2, np.float32), "t2": TRUTH[:2]}, TE)
    assert mixed.dtype == np.float64
    with pytest.raises(ValueError, match="signal: t2: expected real"):
        signal(T2, {"s0": 1.0, "t2": 0.1 + 0j}, TE)
    with pytest.raises(ValueError, match="signal: times"):
        signal(T2, {"s0": 1.0, "t2": 0.1}, TE * 1j)


def test_bounds_of_noise_are_checked():
    params = {"s0": 1.0, "t2": 0.08}
    for sd in (-0.01, 0.0, np.nan):
        with pytest.raises(ValueError, match="noise_sd: expected a number above 0"):
            cramer_rao_bound(TE, model=T2, params=params, noise_sd=sd)
    sd = np.array([0.01, -0.01, 0.0, np.nan])
    found = cramer_rao_bound(TE, model=T2, params=params, noise_sd=sd)
    assert np.isfinite(found["t2"]).tolist() == [True, False, False, False]
    assert np.all(np.asarray(found["t2"])[1:] == np.inf)
    weights = np.stack([np.ones(4), [1, 1, 1, -1], [1, 1, 1, np.inf]], axis=1)
    found = cramer_rao_bound(
        TE, model=T2, params=params, noise_sd=0.01, weights=weights
    )
    assert np.isfinite(found["t2"]).tolist() == [True, False, False]
    negative = cramer_rao_bound(
        TE, model=T2, params={"s0": -1.0, "t2": 0.08}, noise_sd=0.01
    )
    np.testing.assert_allclose(negative["t2"], found["t2"][0], rtol=1e-12)
    with pytest.raises(ValueError, match="s0: expected real.*modulus"):
        cramer_rao_bound(TE, model=T2, params={"s0": 1j, "t2": 0.1}, noise_sd=0.01)


@pytest.mark.parametrize(
    "bounds",
    [0.1, (0.1,), (0.1, 0.2, 0.3), (0.01, np.inf), ("a", "b"), np.ones((2, 3))],
)
def test_bounds_of_another_form(bounds):
    with pytest.raises(ValueError, match="bounds of t2: expected two numbers"):
        fit_map(DECAY, TE, model=T2, bounds=bounds)


# ---- records


def test_results_are_saved_read_and_exported(tmp_path):
    found = fit_map(DECAY, TE, model=T2)
    path = tmp_path / "fit.npz"
    np.savez(path, **found.params, status=found.status)
    with np.load(path) as file:
        host = jax.tree.map(np.asarray, found)._replace(
            params={k: file[k] for k in T2.parameters}, status=file["status"]
        )
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(host))
    doubled = jax.jit(lambda r: r._replace(residual=2 * r.residual))(host)
    np.testing.assert_array_equal(doubled.residual, 2 * np.asarray(found.residual))
    program = jax.export.export(jax.jit(lambda y: fit_map(y, TE, model=T2)))
    text = program(jax.ShapeDtypeStruct(DECAY.shape, DECAY.dtype)).serialize()
    again = jax.export.deserialize(text).call(DECAY)
    assert isinstance(again, FitResult)
    np.testing.assert_allclose(again.params["t2"], found.params["t2"], rtol=1e-12)


# ---- sizes


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 0), (1, 1), ()])
def test_any_number_of_voxels(shape):
    images = np.broadcast_to(DECAY[:, 0].reshape((4,) + (1,) * len(shape)), (4, *shape))
    times = np.broadcast_to(TE.reshape((4,) + (1,) * len(shape)), (4, *shape))
    for t in (TE, times):
        found = fit_map(images, t, model=T2)
        assert all(x.shape == shape for x in jax.tree.leaves(found))
        np.testing.assert_allclose(found.params["t2"], np.full(shape, 0.05), rtol=1e-9)
    values = {"s0": np.ones(shape), "t2": np.full(shape, 0.05)}
    np.testing.assert_allclose(signal(T2, values, TE), images, rtol=1e-9)
    assert signal(T2, values, []).shape == (0, *shape)
    bound = cramer_rao_bound(TE, model=T2, params=values, noise_sd=0.01)
    assert bound["t2"].shape == shape and np.all(np.isfinite(bound["t2"]))


def test_too_few_contrasts_are_refused():
    for count in (0, 1):
        for call in (
            lambda n: fit_map(DECAY[:n], TE[:n], model=T2),
            lambda n: jax.jit(lambda t: fit_map(DECAY[:n], t, model=T2))(TE[:n]),
            lambda n: check_times(TE[:n], model=T2),
            lambda n: cramer_rao_bound(
                TE[:n], model=T2, params={"s0": 1.0, "t2": 0.1}, noise_sd=0.1
            ),
        ):
            with pytest.raises(ValueError, match=f"2 parameters.*found {count}"):
                call(count)
    with pytest.raises(ValueError, match="found 0"):
        fit_map(DECAY, TE, model=T2, skip=(0, 1, 2, 3))
    with pytest.raises(ValueError, match="skip: expected 0 to 3, found 0"):
        fit_map(DECAY, TE, model=T2, skip=0)


def test_tables_of_one_contrast_and_of_none():
    options = {"low": 0.01, "high": 1.0, "atoms": 9}
    for function in (exponential_basis, inversion_recovery_basis):
        one = function(TE[:1], rank=1, **options)
        np.testing.assert_array_equal(one, [[1.0]])
        assert one.dtype == np.float64
        for times, change in (
            (TE[:0], {"rank": 0}),
            (TE, {"rank": 0}),
            (TE, {"rank": 2.0}),
            (TE, {"rank": 2, "high": np.inf}),
            (TE, {"rank": 2, "atoms": 1}),
        ):
            with pytest.raises(ValueError, match=function.__name__):
                function(times, **options | change)
    for efficiencies in ((), (np.nan,)):
        with pytest.raises(ValueError, match="efficiencies: expected at least one"):
            inversion_recovery_basis(TE, rank=2, **options, efficiencies=efficiencies)
