"""Posteriors beside quadrature in float64, their coverage, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from scipy import special

from medjax.mri import catalogue, signals
from medjax.mri.catalogue import signal_model
from medjax.mri.fit import FitStatus, fit_map
from medjax.mri.posterior import fit_posterior

TE = np.linspace(0.012, 0.12, 8)
TI = np.array([0.05, 0.2, 0.5, 1.0, 2.0, 4.0])
ANGLES = np.deg2rad([2.0, 5.0, 9.0, 14.0, 20.0])
VFA = signal_model("t1_vfa", repetition_time=0.015)
CASES = {
    "t2": (catalogue.T2, TE, (0.02, 2.5), {}),
    "t2star": (catalogue.T2STAR, TE / 4, (0.005, 1.0), {}),
    "t2_offset": (catalogue.T2_OFFSET, TE, (0.01, 1.0), {"offset": 0.2}),
    "t1_ir": (catalogue.T1_IR, TI, (0.1, 6.0), {}),
    "t1_ir3": (catalogue.T1_IR3, TI, (0.1, 6.0), {"efficiency": 0.9}),
    "t1_sr": (catalogue.T1_SR, TI, (0.1, 6.0), {}),
    "t1_vfa": (VFA, ANGLES, (0.1, 6.0), {}),
}
Q = (0.025, 0.1, 0.5, 0.9, 0.975)


def draw(name, *, voxels=12, noise=0.02, seed=0, dtype=np.float64):
    """Images [E, N], T and the noise's sd."""
    model, times, (low, high), others = CASES[name]
    rng = np.random.default_rng(seed)
    t = np.exp(rng.uniform(np.log(low), np.log(high), voxels))
    params = {"s0": rng.uniform(0.5, 1.5, voxels), model.time_constant: t} | others
    clean = np.asarray(signals.signal(model, params, times))
    sd = noise * np.abs(clean).max()
    images = clean + sd * rng.standard_normal(clean.shape)
    return images.astype(dtype), t, sd


def basis(model, times, t):
    """[D, E, K] by the model's own functions, NumPy."""
    columns = model.basis(1 / t[:, None], times[None], *model.constants)
    return np.stack([np.asarray(c) for c in columns], axis=-1)


def brute(
    model,
    times,
    samples,
    covariance,
    low,
    high,
    *,
    marginal=False,
    positive=False,
    prior=None,
    places=20_000,
    around=None,
    limit=None,
):
    """Mean, sd, quantiles Q and log evidence of one voxel: sums over a dense grid.

    `around` gives the range of T where the posterior is, if it is narrow.
    """
    ends = np.log((low, high) if around is None else around)
    width = (ends[1] - ends[0]) / places
    log_t = ends[0] + width * (np.arange(places) + 0.5)
    t = np.exp(log_t)
    phi = basis(model, times, t)
    inverse = np.linalg.inv(covariance)
    parts = [samples.real, samples.imag] if np.iscomplexobj(samples) else [samples]
    gram = np.einsum("dek,ef,dfl->dkl", phi, inverse, phi)
    value = np.zeros(places)
    for y in parts:
        right = np.einsum("dek,ef,f->dk", phi, inverse, y)
        best = np.linalg.solve(gram, right[..., None])[..., 0]
        if positive:
            sd = gram[:, 0, 0] ** -0.5
            free, best = best[:, 0] / sd, np.maximum(best, 0)
        left = y - np.einsum("dek,dk->de", phi, best)
        value -= np.einsum("de,ef,df->d", left, inverse, left) / 2
        value -= np.linalg.slogdet(2 * np.pi * covariance)[1] / 2
        if marginal:
            value -= np.linalg.slogdet(gram / (2 * np.pi))[1] / 2
        if marginal and positive:
            value += special.log_ndtr(free) + np.minimum(free, 0) ** 2 / 2
    full = np.log(high / low)
    density = np.full(places, 1 / full)
    if prior is not None:
        bins = ((log_t - np.log(low)) / full * len(prior)).astype(int)
        density = prior[bins] / prior.sum() * len(prior) / full
    with np.errstate(divide="ignore"):
        value = value + np.log(density)
    weights = np.exp(value - value.max())
    evidence = value.max() + np.log(weights.sum() * width)
    weights /= weights.sum()
    t = t if limit is None else np.minimum(t, limit)
    mean = weights @ t
    sd = np.sqrt(weights @ (t - mean) ** 2)
    edges = np.exp(ends[0] + width * np.arange(places + 1))
    cumulative = np.concatenate([[0], np.cumsum(weights)])
    found = np.interp(Q, cumulative, edges)
    return mean, sd, found if limit is None else np.minimum(found, limit), evidence


def compare(found, expected, *, share=0.01, far=0.02):
    """Within a share of the posterior's own width; `far` of it for the tails."""
    for voxel, (mean, sd, quantiles, evidence) in enumerate(expected):
        assert found.status[voxel] <= FitStatus.AT_BOUND
        assert abs(found.mean[voxel] - mean) < share * sd
        assert abs(found.sd[voxel] - sd) < 2 * share * sd
        assert abs(found.median[voxel] - quantiles[2]) < share * sd
        left = np.abs(np.asarray(found.quantiles)[:, voxel] - quantiles)
        assert np.all(left < far * sd), (left / sd, quantiles)
        assert abs(found.log_evidence[voxel] - evidence) < 0.02


@pytest.mark.parametrize(
    ("name", "amplitude"),
    [
        ("t2", "profiled"),
        ("t2", "marginalised"),
        ("t2star", "profiled"),
        ("t2_offset", "profiled"),
        ("t1_ir", "profiled"),
        ("t1_ir3", "marginalised"),
        ("t1_sr", "profiled"),
        ("t1_vfa", "profiled"),
    ],
)
def test_equals_quadrature(name, amplitude):
    """From noise that leaves a hundredth of the grid's spacing to whole ranges."""
    model, times, (low, high), _ = CASES[name]
    noise = np.repeat([1e-4, 0.005, 0.1], 4)
    images, t, sd = draw(name, noise=noise)
    found = fit_posterior(
        images,
        times,
        sd,
        model=model,
        low=low,
        high=high,
        quantiles=Q,
        amplitude=amplitude,
    )
    expected = []
    for voxel in range(12):
        options = {"marginal": amplitude == "marginalised"}
        if voxel < 4:  # a grid of the whole range would be too wide
            centre, width = float(found.median[voxel]), float(found.sd[voxel])
            ends = (centre - 9 * width, centre + 9 * width)
            options["around"] = (max(ends[0], low), min(ends[1], high))
        covariance = sd[voxel] ** 2 * np.eye(len(times))
        expected.append(
            brute(model, times, images[:, voxel], covariance, low, high, **options)
        )
    compare(found, expected)


def test_a_covariance_and_complex_samples_equal_quadrature():
    model, times, (low, high), _ = CASES["t1_ir3"]
    images, _, sd = draw("t1_ir3", voxels=6, noise=0.03)
    rng = np.random.default_rng(4)
    mixed = rng.normal(size=(6, 6, 6)) * 0.3 + np.eye(6)
    covariance = sd**2 * np.einsum("nij,nkj->ikn", mixed, mixed)
    images = images * np.exp(0.7j) + 0.02j * rng.standard_normal(images.shape)
    found = fit_posterior(
        images, times, covariance, model=model, low=low, high=high, quantiles=Q
    )
    expected = [
        brute(model, times, images[:, i], covariance[:, :, i], low, high)
        for i in range(6)
    ]
    compare(found, expected)


def test_one_u_a_contrast_a_prior_and_a_limit_equal_quadrature():
    model, times, (low, high), _ = CASES["t2"]
    images, _, sd = draw("t2", voxels=8, noise=0.05)
    u = sd * np.random.default_rng(5).uniform(0.5, 2, images.shape)
    prior = np.array([0, 1.0, 4, 2, 0, 3, 1])
    options = {"low": low, "high": high, "limit": 1.0}
    found = fit_posterior(
        images,
        times,
        u,
        model=model,
        quantiles=Q,
        prior=prior,
        amplitude="marginalised",
        positive=True,
        **options,
    )
    options |= {"prior": prior, "marginal": True, "positive": True}
    expected = [
        brute(model, times, images[:, i], np.diag(u[:, i] ** 2), **options)
        for i in range(8)
    ]
    # A quantile in the cell of a bin's edge is right to that cell.
    compare(found, expected, share=0.02, far=0.15)


def test_magnitudes_are_the_sum_over_all_places_of_the_null():
    model, times, (low, high), _ = CASES["t1_ir"]
    signed, _, sd = draw("t1_ir", voxels=8, noise=0.04, seed=3)
    images = np.abs(signed)
    found = fit_posterior(
        images, times, sd, model=model, low=low, high=high, quantiles=Q, magnitude=True
    )
    log_t = np.log(low) + np.log(high / low) * (np.arange(20_000) + 0.5) / 20_000
    phi = basis(model, times, np.exp(log_t))[..., 0]
    for voxel in range(8):
        density = np.zeros(20_000)
        for negative in range(6):
            y = np.where(np.arange(6) < negative, -1, 1) * images[:, voxel]
            best = (phi @ y) / np.sum(phi**2, 1)
            left = y - best[:, None] * phi
            density += np.exp(-np.sum(left**2, 1) / (2 * sd**2))
        density /= density.sum()
        expected = np.exp(np.interp(Q, np.cumsum(density), log_t))
        spread = np.sqrt(density @ (np.exp(log_t) - density @ np.exp(log_t)) ** 2)
        np.testing.assert_allclose(
            found.quantiles[:, voxel], expected, atol=0.02 * spread
        )


def test_magnitudes_with_one_u_a_contrast_are_those_of_one_u():
    model, times, (low, high), _ = CASES["t1_ir"]
    signed, _, sd = draw("t1_ir", voxels=5, noise=0.04, seed=3)
    options = {"model": model, "low": low, "high": high, "magnitude": True}
    options |= {"points": 64, "positive": True}
    plain = fit_posterior(np.abs(signed), times, sd, **options)
    each = fit_posterior(np.abs(signed), times, np.full(signed.shape, sd), **options)
    for left, right in zip(each, plain, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5)


@pytest.mark.parametrize("amplitude", ["profiled", "marginalised"])
def test_intervals_hold_the_truth_as_often_as_they_say(amplitude):
    """100,000 voxels of T from the prior; the other's amplitude costs little."""
    model, times, (low, high), _ = CASES["t2"]
    rng = np.random.default_rng(6)
    t = np.exp(rng.uniform(np.log(low), np.log(high), 100_000))
    phi = np.exp(-times[:, None] / t)
    s0 = rng.uniform(0.5, 1.5, t.shape)
    if amplitude == "profiled":  # flat in the signal
        s0 /= np.linalg.norm(phi, axis=0) / np.sqrt(8)
    images = s0 * phi + 0.02 * rng.standard_normal(phi.shape)
    found = fit_posterior(
        images.astype(np.float32),
        times,
        0.02,
        model=model,
        low=low,
        high=high,
        amplitude=amplitude,
    )
    first, _, last = np.asarray(found.quantiles)
    covered = np.mean((t >= first) & (t <= last))
    assert abs(covered - 0.95) < 0.005  # its own sampling error is 0.0007
    assert abs(np.mean(t < first) - 0.025) < 0.004
    assert found.mean.dtype == np.float32


def test_sd_is_that_of_the_fit_where_noise_is_small():
    model, times, (low, high), _ = CASES["t1_ir"]
    images, t, sd = draw("t1_ir", voxels=40, noise=2e-4)
    fit = fit_map(images, times, model=model, weights=np.full(6, sd**-2), noise="known")
    found = fit_posterior(images, times, sd, model=model, low=low, high=high)
    # The mean and the sd of a Gaussian, but for terms of the order of sd / T.
    np.testing.assert_allclose(found.sd, fit.sigma["t1"], rtol=0.02)
    left = np.abs(np.asarray(found.median) - np.asarray(fit.params["t1"]))
    assert np.all(left < 0.02 * np.asarray(fit.sigma["t1"]))


def test_bad_u_and_samples_are_flagged_and_neighbours_untouched():
    images, _, sd = draw("t2", voxels=8)
    u = np.full(8, sd)
    clean = fit_posterior(images, TE, u, model=catalogue.T2)
    images, u = images.copy(), u.copy()
    u[:4] = [0, np.nan, -sd, np.inf]
    images[0, 4], images[:, 5] = np.nan, 0
    found = fit_posterior(images, TE, u, model=catalogue.T2)
    names = [FitStatus(s).name for s in found.status[:6]]
    assert names == ["INVALID"] * 3 + ["INVALID", "INVALID", "NO_SIGNAL"]
    for bad, good in zip(found[:-1], clean[:-1], strict=True):
        assert np.all(np.isnan(bad[..., :6]))
        np.testing.assert_array_equal(bad[..., 6:], good[..., 6:])


def test_bad_covariances_are_flagged():
    images, _, sd = draw("t2", voxels=5)
    covariance = np.repeat((sd**2 * np.eye(8))[..., None], 5, axis=-1)
    covariance[0, 1, 0] = 0.3 * sd**2  # not symmetric
    covariance[0, 1, 1] = covariance[1, 0, 1] = sd**2  # singular
    covariance[2, 2, 2] = np.nan
    covariance[3, 3, 3] = 0
    found = fit_posterior(images, TE, covariance, model=catalogue.T2)
    assert found.status.tolist() == [7, 7, 7, 7, 0]
    plain = fit_posterior(images, TE, sd, model=catalogue.T2)
    np.testing.assert_allclose(found.median[4], plain.median[4], rtol=1e-6)


def test_a_sample_of_infinite_u_is_not_there():
    images, _, sd = draw("t2", voxels=4)
    u = np.full(images.shape, sd)
    u[3], u[:, 3] = np.inf, np.inf
    found = fit_posterior(images, TE, u, model=catalogue.T2)
    keep = np.arange(8) != 3
    others = fit_posterior(images[keep], TE[keep], sd, model=catalogue.T2)
    assert found.status.tolist() == [*others.status[:3], FitStatus.INVALID]
    for left, right in zip(found[:5], others[:5], strict=True):
        np.testing.assert_allclose(left[..., :3], right[..., :3], rtol=1e-5)


def test_blocks_change_nothing():
    images, _, sd = draw("t2", voxels=42)
    images = images.reshape(8, 6, 7)
    options = {"model": catalogue.T2, "low": 0.02, "high": 2.5}
    whole = fit_posterior(images, TE, sd, block=None, **options)
    parts = fit_posterior(images, TE, sd, block=10, **options)
    for left, right in zip(whole, parts, strict=True):
        assert left.shape[-2:] == (6, 7)
        np.testing.assert_allclose(left, right, rtol=1e-9)


def test_blocks_stay_on_the_devices_of_a_mesh():
    images, _, sd = draw("t2", voxels=32)
    options = {"model": catalogue.T2, "low": 0.02, "high": 2.5, "points": 32}
    expected = fit_posterior(images, TE, np.full(32, sd), **options)
    mesh = jax.make_mesh((8,), ("d",))
    with jax.set_mesh(mesh):
        place = functools.partial(jax.NamedSharding, mesh)
        given = jax.device_put(images, place(PartitionSpec(None, "d")))
        u = jax.device_put(np.full(32, sd), place(PartitionSpec("d")))
        found = fit_posterior(given, TE, u, block=3, **options)
        scalar = fit_posterior(given, TE, sd, block=3, **options)
    for one, other, third in zip(found, scalar, expected, strict=True):
        assert one.sharding.spec[-1] == "d"
        np.testing.assert_allclose(one, third, rtol=1e-6)
        np.testing.assert_allclose(other, third, rtol=1e-6)


def test_agrees_with_a_sampler():
    """Metropolis over log T and s0, flat in both: a posterior nobody has integrated."""
    images, t, sd = draw("t2", voxels=4, noise=0.05, seed=8)
    found = fit_posterior(
        images,
        TE,
        sd,
        model=catalogue.T2,
        low=0.02,
        high=2.5,
        quantiles=Q,
        amplitude="marginalised",
    )
    rng = np.random.default_rng(9)
    walkers, steps = 2000, 1500
    shape = (walkers, 4)
    place = np.stack([np.broadcast_to(np.log(t), shape), np.ones(shape)])

    def log_density(place):
        curve = place[1] * np.exp(-TE[:, None, None] / np.exp(place[0]))
        cost = np.sum((images[:, None] - curve) ** 2, axis=0)
        inside = (place[0] > np.log(0.02)) & (place[0] < np.log(2.5))
        return np.where(inside, -cost / (2 * sd**2), -np.inf)

    value, kept = log_density(place), []
    spread = np.stack([found.sd / found.mean, np.full(4, sd)])[:, None]
    for step in range(steps):
        proposed = place + 1.2 * spread * rng.standard_normal(place.shape)
        new = log_density(proposed)
        better = np.log(rng.uniform(size=shape)) < new - value
        place = np.where(better, proposed, place)
        value = np.where(better, new, value)
        if step >= 500 and step % 50 == 0:
            kept.append(np.exp(place[0]))
    draws = np.concatenate(kept)
    # 40,000 draws, of which a good half are independent.
    left = (np.asarray(found.mean) - draws.mean(0)) / draws.std(0)
    assert np.all(np.abs(left) < 0.03)
    np.testing.assert_allclose(found.sd, draws.std(0), rtol=0.03)
    left = np.asarray(found.quantiles) - np.quantile(draws, Q, axis=0)
    assert np.all(np.abs(left) < 0.06 * draws.std(0))


def test_derivatives_are_differences():
    images, _, sd = draw("t2", voxels=3, noise=0.03)
    images[:, 2] = np.nan

    def total(y, u):
        found = fit_posterior(y, TE, u, model=catalogue.T2, low=0.02, high=2.5)
        kept = [jnp.where(jnp.isnan(x), 0, x) for x in (*found[:3], found.quantiles)]
        return sum(jnp.sum(x) for x in kept) + jnp.nansum(found.log_evidence)

    u = jnp.full(3, sd)
    by_image, by_u = jax.jit(jax.grad(total, (0, 1)))(jnp.asarray(images), u)
    assert not np.any(by_image[:, 2]) and not by_u[2]
    move = np.random.default_rng(7).normal(size=(8, 3)) * 1e-6
    slope = (total(images + move, u) - total(images - move, u)) / 2
    # The grid follows the samples: what it changes is within the quadrature's error.
    np.testing.assert_allclose(
        np.nansum(by_image * np.nan_to_num(move)), slope, rtol=0.03
    )
    step = 1e-6 * sd
    slope = (total(images, u + step) - total(images, u - step)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(by_u), slope, rtol=0.03)


REFUSED = {
    "quantiles: expected .* from 1e-05 to": {"quantiles": (0.0, 0.5)},
    "quantiles: expected a tuple": {"quantiles": 0.5},
    "u: expected a standard deviation above 0": {"u": 0.0},
    r"u: expected a standard deviation for each voxel": {"u": np.ones((8, 8, 8, 3, 3))},
    "low, high of t2: expected two": {"low": 0.5, "high": 0.1},
    "low: expected seconds, below 10": {"low": 20.0, "high": 2500.0},
    "amplitude 'best': expected": {"amplitude": "best"},
    "prior: expected finite masses": {"prior": np.array([1.0, -1.0])},
    "prior: expected 1 to points - 1 bins": {"prior": np.ones(96)},
    "points: expected an integer of at least 32": {"points": 16},
    "block: expected an integer of at least 1": {"block": 0},
    "limit: expected seconds above 0": {"limit": -1.0},
    "model t2_epg: expected one unknown": {"model": catalogue.T2_EPG},
    "model t1_look_locker: expected one": {"model": catalogue.T1_LOOK_LOCKER},
    "positive=True: expected real": {"positive": True, "model": catalogue.T2_OFFSET},
    "fit_posterior: images: expected 8": {"images": np.ones((3, 8))},
    "times: expected seconds": {"times": 1000 * TE},
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals_name_the_argument(message):
    given = {"images": np.ones((8, 3)), "times": TE, "u": 0.1, "model": catalogue.T2}
    given |= REFUSED[message]
    with pytest.raises(ValueError, match=message):
        fit_posterior(given.pop("images"), given.pop("times"), given.pop("u"), **given)
