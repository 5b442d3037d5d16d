"""Fits against scipy voxel by voxel, their error bars against noise, and bad input."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from medjax.mri import catalogue, fit, signals
from medjax.mri.catalogue import signal_model
from medjax.mri.fit import FitStatus, fit_map
from medjax.mri.signals import signal_t1_ir, signal_t2

TE = np.array([0.015, 0.03, 0.05, 0.08, 0.12])
TI = np.array([0.05, 0.2, 0.5, 1.0, 2.0, 4.0])
ANGLES = np.deg2rad([2.0, 5.0, 9.0, 14.0, 20.0])
VFA = signal_model("t1_vfa", repetition_time=0.015)
REPETITIONS = (0.03, 0.015, 0.02, 0.015, 0.04)  # one an angle

CASES = {
    "t2": (catalogue.T2, TE, {"t2": (0.03, 0.2)}),
    "t2_offset": (catalogue.T2_OFFSET, TE, {"t2": (0.02, 0.06), "offset": (0.1, 0.3)}),
    "t1_ir": (catalogue.T1_IR, TI, {"t1": (0.3, 3.0)}),
    "t1_ir3": (catalogue.T1_IR3, TI, {"t1": (0.3, 2.0), "efficiency": (0.8, 1.0)}),
    "t1_look_locker": (
        catalogue.T1_LOOK_LOCKER,
        TI,
        {"t1star": (0.3, 0.9), "t1": (0.9, 2.0)},
    ),
    "t1_sr": (catalogue.T1_SR, TI, {"t1": (0.3, 3.0)}),
    "t1_vfa": (VFA, ANGLES, {"t1": (0.3, 3.0)}),
    "t1_vfa_tr": (catalogue.vfa_model(REPETITIONS), ANGLES, {"t1": (0.3, 3.0)}),
}


def case(name, *, voxels=16, noise=0.01, seed=0):
    """Model, times, truth, noisy images [E, N], weights [E, N]."""
    model, times, ranges = CASES[name]
    rng = np.random.default_rng(seed)
    truth = {"s0": rng.uniform(0.6, 1.4, voxels)}
    truth |= {key: rng.uniform(*span, voxels) for key, span in ranges.items()}
    clean = np.asarray(signals.signal(model, truth, times))
    sd = noise * np.abs(clean).max()
    images = clean + sd * rng.standard_normal(clean.shape)
    return model, times, truth, images, rng.uniform(0.3, 2.0, images.shape)


def scipy_fit(model, times, images, weights, truth):
    """Per voxel: parameters, their sd by the residual, weighted cost; float64."""
    forward = jax.jit(
        lambda x, times: signals.signal(
            model, dict(zip(model.parameters, x, strict=True)), times
        )
    )

    rows = []
    for i in range(images.shape[1]):
        root = np.sqrt(weights[:, i])

        def residual(x, i=i, root=root):
            left = root * (np.asarray(forward(tuple(x), times)) - images[:, i])
            return np.concatenate([left.real, left.imag])

        start = [truth[key][i] for key in model.parameters]
        found = scipy.optimize.least_squares(
            residual, start, x_scale=start, xtol=1e-14, ftol=1e-14, gtol=1e-14
        )
        jac = scipy.optimize.approx_fprime(found.x, residual, 1e-7 * found.x)
        variance = 2 * found.cost / (len(times) - len(start))
        cov = variance * np.linalg.inv(jac.T @ jac)
        rows.append((found.x, np.sqrt(np.diag(cov)), 2 * found.cost))
    return [np.stack(column, axis=-1) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_equals_scipy_voxel_by_voxel(name):
    model, times, truth, images, weights = case(name)
    found = fit_map(images, times, model=model, weights=weights)
    values, errors, cost = scipy_fit(model, times, images, weights, truth)
    assert np.all(found.status == FitStatus.CONVERGED)
    for i, key in enumerate(model.parameters):
        # least_squares stops where its cost no longer changes: sqrt(eps) in x.
        np.testing.assert_allclose(found.params[key], values[i], rtol=2e-6)
        # Its Jacobian is made of differences of step 1e-7.
        np.testing.assert_allclose(found.sigma[key], errors[i], rtol=1e-4)
    fitted = np.asarray(signals.signal(model, found.params, times))
    left = np.asarray(images) - fitted
    np.testing.assert_allclose(np.sum(weights * left**2, axis=0), cost, rtol=1e-6)
    np.testing.assert_allclose(found.residual, np.sqrt(np.mean(left**2, 0)), rtol=1e-9)
    mean = np.average(images, axis=0, weights=weights)
    total = np.sum(weights * (images - mean) ** 2, axis=0)
    np.testing.assert_allclose(found.r_squared, 1 - cost / total, rtol=1e-9)


def test_complex_samples_equal_scipy_on_both_parts():
    """Complex amplitudes with phases of their own, one real rate (5 unknowns)."""
    model, times, truth, images, _ = case("t1_ir3", voxels=6)
    rng = np.random.default_rng(1)
    phase = np.exp(1j * rng.uniform(-3, 3, 6))
    images = images * phase + 0.01j * rng.standard_normal(images.shape)
    found = fit_map(images, times, model=model)
    for i in range(6):

        def residual(x, i=i):
            a, b = x[0] + 1j * x[1], x[2] + 1j * x[3]
            left = a + b * np.exp(-times * np.exp(x[4])) - images[:, i]
            return np.concatenate([left.real, left.imag])

        a = truth["s0"][i] * phase[i]
        b = -2 * a
        start = [a.real, a.imag, b.real, b.imag, -np.log(truth["t1"][i])]
        best = scipy.optimize.least_squares(
            residual, start, xtol=1e-14, ftol=1e-14, gtol=1e-14
        )
        a, b = best.x[0] + 1j * best.x[1], best.x[2] + 1j * best.x[3]
        np.testing.assert_allclose(found.params["s0"][i], a, rtol=1e-5)
        np.testing.assert_allclose(found.params["t1"][i], np.exp(-best.x[4]), rtol=1e-5)
        efficiency = np.real(-b / (2 * a))
        np.testing.assert_allclose(found.params["efficiency"][i], efficiency, rtol=1e-5)
        cov = np.linalg.inv(best.jac.T @ best.jac) * 2 * best.cost / (12 - 5)
        sigma = np.exp(-best.x[4]) * np.sqrt(cov[4, 4])
        np.testing.assert_allclose(found.sigma["t1"][i], sigma, rtol=1e-4)
        along = np.array([a.real, a.imag]) / abs(a)
        modulus = np.sqrt(along @ cov[:2, :2] @ along)
        np.testing.assert_allclose(found.sigma["s0"][i], modulus, rtol=1e-4)
    assert np.all(found.status == FitStatus.CONVERGED)


def test_in_vivo_maps_are_reproduced(shared):
    """The stored reference is an unweighted fit of |image|: ours is never the worse."""
    with np.load(shared / "data" / "invivo_t2_slice.npz") as file:
        stored = {name: file[name] for name in ("image", "roi", "t2", "pd")}
    times = np.array([0, 25, 35, 45, 65, 85, 105, 125]) / 1000
    roi = stored["roi"].astype(bool) & (stored["t2"] < 2)  # the rest was clipped
    image = np.abs(stored["image"])[:, roi].astype(np.float64)
    found = fit_map(image, times, model=catalogue.T2)
    assert np.all(found.status == FitStatus.CONVERGED)
    theirs = signal_t2(stored["pd"][roi], stored["t2"][roi], times)
    theirs = np.sqrt(np.mean((image - np.asarray(theirs)) ** 2, axis=0))
    assert np.all(found.residual <= theirs * (1 + 1e-12))
    for ours, name in ((found.params["t2"], "t2"), (found.params["s0"], "pd")):
        error = np.abs(np.asarray(ours) / stored[name][roi] - 1)
        assert np.median(error) < 1e-6 and error.max() < 1e-4


def test_minimum_is_the_global_one():
    """Noise alone has several: none of 4,000 rates is better."""
    rng = np.random.default_rng(3)
    images = np.concatenate(
        [rng.standard_normal((6, 200)), 1 + rng.standard_normal((6, 200))], axis=1
    )
    found = fit_map(images, TI, model=catalogue.T1_IR)
    rates = np.geomspace(1 / 20, 1 / 0.01, 4000)
    basis = 1 - 2 * np.exp(-TI * rates[:, None])
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    best = np.max((basis @ images) ** 2, axis=0)
    fitted = np.asarray(signals.signal(catalogue.T1_IR, found.params, TI))
    ok = np.asarray(found.status) <= FitStatus.AT_BOUND
    assert ok.mean() > 0.99
    cost = np.sum((images - fitted) ** 2, axis=0)[ok]
    dense = (np.sum(images**2, axis=0) - best)[ok]
    assert np.all(cost <= dense * (1 + 1e-9))


# ---- error bars

SPIN_ECHO = np.linspace(0.015, 0.12, 8)


@pytest.fixture(scope="module")
def simulated():
    """The yardstick: 16,384 voxels, T2 40-200 ms, noise sd 0.02, float32."""
    rng = np.random.default_rng(0)
    t2, s0 = rng.uniform(0.04, 0.2, 16384), rng.uniform(0.6, 1.4, 16384)
    clean = np.asarray(signal_t2(s0, t2, SPIN_ECHO))
    images = clean + 0.02 * rng.standard_normal(clean.shape)
    weights = np.full(8, 1 / 0.02**2, np.float32)
    found = fit_map(
        images.astype(np.float32),
        SPIN_ECHO,
        model=catalogue.T2,
        weights=weights,
        noise="known",
    )
    return {"s0": s0, "t2": t2}, found


@pytest.mark.parametrize("name", ["s0", "t2"])
def test_z_scores_and_coverage(simulated, name):
    truth, found = simulated
    assert np.all(found.status == FitStatus.CONVERGED)
    assert found.params[name].dtype == np.float32
    z = (np.asarray(found.params[name]) - truth[name]) / np.asarray(found.sigma[name])
    assert abs(z.std() - 1) < 0.02  # its own standard error: 0.0055
    assert abs(np.mean(np.abs(z) < 1.96) - 0.95) < 0.006  # likewise 0.0017


def test_accuracy_of_the_yardstick(simulated):
    truth, found = simulated
    error = np.abs(np.asarray(found.params["t2"]) / truth["t2"] - 1)
    np.testing.assert_allclose(np.percentile(error, 50), 0.0313, atol=5e-4)
    np.testing.assert_allclose(np.percentile(error, 95), 0.102, atol=1.5e-3)


def test_sigma_needs_no_scale_of_weights_unless_noise_is_known():
    model, times, _, images, weights = case("t2")
    one = fit_map(images, times, model=model, weights=weights)
    hundred = fit_map(images, times, model=model, weights=weights * 100.0)
    chex.assert_trees_all_close(one, hundred, rtol=1e-9)
    options = {"model": model, "noise": "known"}
    one = fit_map(images, times, weights=weights, **options)
    hundred = fit_map(images, times, weights=weights * 100.0, **options)
    np.testing.assert_allclose(one.sigma["t2"], 10 * hundred.sigma["t2"], rtol=1e-9)
    np.testing.assert_allclose(one.params["t2"], hundred.params["t2"], rtol=1e-9)


def test_zero_weight_drops_an_echo_whatever_stands_there():
    model, times, _, images, weights = case("t2")
    expected = fit_map(images[1:], times[1:], model=model, weights=weights[1:])
    dropped = np.concatenate([np.zeros((1, images.shape[1])), weights[1:]])
    for garbage in (images[0], np.nan, np.inf):
        spoiled = images.copy()
        spoiled[0] = garbage
        found = fit_map(spoiled, times, model=model, weights=dropped)
        chex.assert_trees_all_close(found, expected, rtol=1e-9)
    found = fit_map(images, times, model=model, weights=weights, skip=(0,))
    chex.assert_trees_all_equal(found, expected)


# ---- status


def test_bad_voxels_have_a_status_and_leave_the_others_alone():
    model, times, _, images, _ = case("t2", voxels=24)
    good = fit_map(images, times, model=model)
    spoiled, weights = images.copy(), np.ones_like(images)
    spoiled[2, 1] = np.nan
    spoiled[0, 3] = -np.inf
    spoiled[:, 5] = 0.0
    weights[1:, 7] = 0.0
    weights[2, 9] = np.nan
    weights[2, 11] = -1.0
    weights[:, 13] = 0.0
    weights[2:, 15] = 0.0
    spoiled[:, 17] = 0.7  # no decay
    spoiled[:, 19] = (1.0, 0.0, 0.0, 0.0, 0.0)  # nothing but the first echo
    found = fit_map(spoiled, times, model=model, weights=weights)
    expected = {1: "INVALID", 3: "INVALID", 5: "NO_SIGNAL", 7: "TOO_FEW"}
    expected |= {9: "INVALID", 11: "INVALID", 13: "TOO_FEW", 15: "EXACT"}
    expected |= {17: "AT_BOUND", 19: "AT_BOUND"}
    status = np.asarray(found.status)
    assert {i: FitStatus(status[i]).name for i in expected} == expected
    rest = [i for i in range(24) if i not in expected]
    same = fit_map(images, times, model=model, weights=np.ones_like(images))
    chex.assert_trees_all_equal(
        *(jax.tree.map(lambda x: np.asarray(x)[..., rest], y) for y in (found, same))
    )
    chex.assert_trees_all_close(same, good, rtol=1e-9)
    for x in [*found.params.values(), found.residual, found.r_squared]:
        lost = [i for i, name in expected.items() if name not in ("EXACT", "AT_BOUND")]
        assert np.all(np.isnan(np.asarray(x)[lost]))
    np.testing.assert_allclose(found.params["t2"][17], 10.0)  # the bound itself
    np.testing.assert_allclose(found.params["t2"][19], 1e-3)
    for x in found.sigma.values():
        assert np.all(np.isnan(np.asarray(x)[list(expected)]))
        assert np.all(np.isfinite(np.asarray(x)[rest]))


def test_as_many_samples_as_parameters_is_flagged():
    images = np.asarray(signal_t2(np.array([1.0, 0.7]), np.array([0.05, 0.1]), TE[:2]))
    found = fit_map(images, TE[:2], model=catalogue.T2)
    assert np.all(found.status == FitStatus.EXACT)
    np.testing.assert_allclose(found.params["t2"], [0.05, 0.1], rtol=1e-9)
    assert np.all(np.isnan(found.sigma["t2"]))
    weights = np.full(2, 1e4)
    known = fit_map(images, TE[:2], model=catalogue.T2, weights=weights, noise="known")
    assert np.all(known.status == FitStatus.EXACT)
    # log(y1 / y2) / (t2 - t1) = R: its variance by hand.
    variance = np.sum(1 / images**2, axis=0) / 1e4 / (TE[1] - TE[0]) ** 2
    expected = np.array([0.05, 0.1]) ** 2 * np.sqrt(variance)
    np.testing.assert_allclose(known.sigma["t2"], expected, rtol=1e-9)


def test_constant_does_not_determine_a_rate_beside_an_offset():
    images = np.stack([np.full(6, 0.5), np.asarray(signal_t1_ir(0.5, 0.8, TI))], axis=1)
    found = fit_map(images, TI, model=catalogue.T1_IR3)
    assert [FitStatus(s).name for s in found.status] == ["UNDETERMINED", "CONVERGED"]
    assert np.isnan(found.params["t1"][0]) and np.isnan(found.sigma["s0"][0])
    np.testing.assert_allclose(found.params["t1"][1], 0.8, rtol=1e-9)


def test_bounds_hold_and_are_reported():
    truth = np.array([0.03, 0.08, 0.3])
    images = np.asarray(signal_t2(1.0, truth, TE))
    found = fit_map(images, TE, model=catalogue.T2, bounds=(0.05, 0.2))
    assert [int(s) for s in found.status] == [2, 0, 2]
    np.testing.assert_allclose(found.params["t2"], [0.05, 0.08, 0.2], rtol=1e-9)
    free = fit_map(images[:, 1:2], TE, model=catalogue.T2)
    np.testing.assert_allclose(found.params["s0"][1:2], free.params["s0"], rtol=1e-9)


# ---- numbers


@pytest.mark.parametrize("name", ["t2", "t2_offset"])
@pytest.mark.parametrize("t2", [0.008, 0.06, 2.0])
def test_float32_is_good_to_a_hundredth_of_sigma(name, t2):
    """T2 half the first echo time and 17 times the last, scales far from 1."""
    model = signal_model(name)
    rng = np.random.default_rng(5)
    images = np.asarray(signal_t2(np.full(64, 1.0), t2, TE))
    images = images + 1e-3 * rng.standard_normal(images.shape)
    for scale in (1.0, 1e-12, 1e12):
        wide = fit_map(images * scale, TE, model=model)
        narrow = fit_map((images * scale).astype(np.float32), TE, model=model)
        both = (np.asarray(wide.status) == 0) & (np.asarray(narrow.status) == 0)
        assert both.mean() > (0.95 if name == "t2" else 0.1)
        for key in model.parameters:
            wide_sigma = np.asarray(wide.sigma[key])[both]
            difference = np.asarray(narrow.params[key]) - np.asarray(wide.params[key])
            assert np.all(np.abs(difference[both]) <= 0.01 * wide_sigma)
            np.testing.assert_allclose(
                np.asarray(narrow.sigma[key])[both], wide_sigma, rtol=2e-2
            )


@pytest.mark.parametrize("dtype", ["float32", "complex64", "bfloat16"])
def test_dtype_follows_the_images(dtype):
    model, times, _, images, _ = case("t2", voxels=3)
    found = fit_map(jnp.asarray(images).astype(dtype), times, model=model)
    assert found.params["s0"].dtype == ("complex64" if "c" in dtype else "float32")
    real = [found.params["t2"], *found.sigma.values(), found.residual, found.r_squared]
    assert {x.dtype for x in real} == {jnp.dtype("float32")}
    assert found.status.dtype == jnp.int8


def test_shapes_of_voxels_do_not_matter():
    model, times, _, images, weights = case("t2", voxels=12)
    flat = fit_map(images, times, model=model, weights=weights)
    block = fit_map(
        images.reshape(-1, 3, 2, 2),
        np.broadcast_to(times[:, None, None, None], (5, 3, 2, 2)),  # as with a B1 map
        model=model,
        weights=weights.reshape(-1, 3, 2, 2),
    )
    one = fit_map(images[:, 0], times, model=model, weights=weights[:, 0])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y.reshape(x.shape), rtol=1e-9),
        flat,
        block,
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y[0], rtol=1e-9), one, flat)


def test_log_linear_start_ends_at_the_same_fit():
    model, times, _, images, weights = case("t2")
    grid = fit_map(images, times, model=model, weights=weights)
    line = fit_map(images, times, model=model, weights=weights, start="log-linear")
    chex.assert_trees_all_close(grid, line, rtol=1e-8)


# ---- inside other code


def test_derivative_is_that_of_the_fit_beside_bad_voxels():
    model, times, _, images, weights = case("t2", voxels=6)
    images[1, 4], images[:, 5] = np.nan, 0.0

    @jax.jit
    def total(images, weights, times):
        found = fit_map(images, times, model=model, weights=weights)
        good = found.status == FitStatus.CONVERGED
        kept = [*found.params.values(), *found.sigma.values(), found.residual]
        return sum(jnp.sum(jnp.where(good, x, 0)) for x in kept)

    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(images, weights, times)
    assert all(np.all(np.isfinite(g)) for g in gradients)
    rng = np.random.default_rng(0)
    for _ in range(3):
        ways = [rng.standard_normal(np.shape(g)) for g in gradients]
        ways[0][:, 5] = 0  # a step would give it a signal
        ways[2] *= 0.05  # seconds

        def moved(step, ways=ways):
            parts = zip((images, weights, times), ways, strict=True)
            return float(total(*(x + step * way for x, way in parts)))

        slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
        exact = sum(float(np.sum(g * w)) for g, w in zip(gradients, ways, strict=True))
        # Central differences of step 1e-5: 1e-6 of a result that is a sum of hundreds.
        np.testing.assert_allclose(slope, exact, rtol=1e-5, atol=1e-5)


def test_sharded_over_voxels_without_communication():
    model, times, _, images, _ = case("t2", voxels=64)
    mesh = jax.make_mesh((8,), ("voxel",))
    spec = jax.sharding.PartitionSpec(None, "voxel")
    spread = jax.device_put(images, jax.sharding.NamedSharding(mesh, spec))
    program = jax.jit(lambda x: fit_map(x, times, model=model))
    text = program.lower(spread).compile().as_text()
    for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute"):
        assert word not in text
    found = program(spread)
    assert len(found.params["t2"].sharding.device_set) == 8
    alone = fit_map(images, times, model=model)
    chex.assert_trees_all_close(found, alone, rtol=1e-9)


def test_one_compilation_for_all_numbers():
    model, times, _, images, weights = case("t2", voxels=7)
    before = fit._fit._cache_size()
    for factor in (1.0, 2.0, 3.0):
        bounds = (0.01 * factor, 1.0)
        fit_map(
            images * factor, times * factor, model=model, weights=weights, bounds=bounds
        )
    assert fit._fit._cache_size() == before + 1


# ---- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": TE * 1000}, "milliseconds: divide by 1000"),
        ({"times": -TE}, "none negative"),
        ({"times": TE[:3]}, r"times: .*E = 5 from images; found .*\(3,\)"),
        ({"times": [0.01] * 5}, "t2 has 2 parameters.*found 1"),
        ({"images": np.ones((1, 4)), "times": [0.01]}, "needs as many.*found 1"),
        ({"images": np.ones((4, 5))}, r"jnp.moveaxis\(images, -1, 0\)"),
        ({"images": np.ones((5, 4), int)}, "found int"),
        ({"images": np.ones((5, 4)) * 1j, "magnitude": True}, "images are complex"),
        ({"weights": np.ones((4, 5))}, r"weights: .*E = 5 .*N = 4 .*\(4, 5\)"),
        ({"times": np.ones((5, 3))}, r"times: .*E = 5 .*N = 4 .*\(5, 3\)"),
        ({"noise": "known"}, "needs weights"),
        ({"noise": "white"}, "noise 'white'"),
        ({"bounds": (0.2, 0.1)}, "0 < low < high in seconds"),
        ({"bounds": (20, 400)}, "0 < low < high in seconds"),
        ({"skip": (5,)}, "skip: expected 0 to 4"),
        ({"skip": (0, 1, 2, 3)}, "t2 has 2 parameters.*found 1"),
        ({"start": "guess"}, "start 'guess'"),
        ({"model": catalogue.T1_IR, "start": "log-linear"}, "log S of t1_ir"),
        ({"points": 3}, "at least 8 points"),
    ],
)
def test_bad_arguments(options, message):
    given = {"images": np.ones((5, 4)), "times": TE, "model": catalogue.T2} | options
    with pytest.raises(ValueError, match=message):
        fit_map(given.pop("images"), given.pop("times"), **given)
