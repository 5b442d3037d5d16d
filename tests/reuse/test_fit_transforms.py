"""fit_map inside other programs: per device, voxel by voxel, and differentiated.

SciPy fits each voxel by itself; derivatives are differences of SciPy's fits.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from scipy import optimize

from medjax import fit_map, signal_model
from medjax.mri import signal

pytestmark = pytest.mark.usefixtures("double_jax")

TIMES = np.array([0.01, 0.03, 0.05, 0.08, 0.12])  # seconds
RNG = np.random.default_rng(3)
T2 = RNG.uniform(0.04, 0.12, 16)
IMAGES = np.exp(-TIMES[:, None] / T2) + RNG.normal(0, 0.02, (5, 16))
fit = functools.partial(fit_map, model=signal_model("t2"))


def t2_of_scipy(samples):
    """The root of the cost's slope by log R, the amplitude eliminated by hand."""

    def slope(log_rate):
        decay = np.exp(-TIMES * np.exp(log_rate))
        amplitude = decay @ samples / (decay @ decay)
        residual = samples - amplitude * decay
        return amplitude * np.exp(log_rate) * TIMES * decay @ residual

    low, high = np.log(1 / 0.3), np.log(1 / 0.02)
    return np.exp(-optimize.brentq(slope, low, high, xtol=1e-15, rtol=1e-15))


@pytest.fixture(scope="module")
def expected():
    return np.array([t2_of_scipy(voxel) for voxel in IMAGES.T])


def test_each_device_fits_its_voxels(expected):
    mesh = jax.make_mesh((8,), ("voxels",))
    program = jax.shard_map(
        lambda images: fit(images, TIMES).params["t2"],
        mesh=mesh,
        in_specs=P(None, "voxels"),
        out_specs=P("voxels"),
    )
    images = jax.device_put(IMAGES, jax.NamedSharding(mesh, P(None, "voxels")))
    np.testing.assert_allclose(jax.jit(program)(images), expected, rtol=1e-7)


def test_voxels_sharded_over_a_mesh_need_no_shard_map(expected):
    mesh = jax.make_mesh((8,), ("voxels",))
    with jax.set_mesh(mesh):
        images = jax.device_put(IMAGES, jax.NamedSharding(mesh, P(None, "voxels")))
        found = fit(images, TIMES).params["t2"]
    assert found.sharding.spec == P("voxels")
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_rows_one_after_the_other_need_little_memory(expected):
    rows = jnp.moveaxis(jnp.array(IMAGES).reshape(5, 4, 4), 1, 0)
    found = jax.lax.map(lambda images: fit(images, TIMES).params["t2"], rows)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-7)


def test_first_derivatives_are_differences_of_fits():
    def t2(samples):
        return fit(samples, TIMES).params["t2"]

    for jacobian in (jax.jacfwd, jax.jacrev):
        found = jacobian(t2)(jnp.array(IMAGES[:, 0]))
        for echo in range(5):
            move = np.eye(5)[echo] * 1e-5
            up, down = (t2_of_scipy(IMAGES[:, 0] + s * move) for s in (1, -1))
            np.testing.assert_allclose(found[echo], (up - down) / 2e-5, rtol=1e-6)


def test_the_hessian_is_a_difference_of_fits():
    """All 25 second derivatives; the step of 2e-3 leaves a relative error of 1e-5."""

    def t2(samples):
        return fit(samples, TIMES).params["t2"]

    found = np.asarray(jax.hessian(t2)(jnp.array(IMAGES[:, 0])))
    h, expected = 2e-3, np.zeros((5, 5))

    def at(*moves):
        return t2_of_scipy(IMAGES[:, 0] + h * sum(moves, np.zeros(5)))

    axes = np.eye(5)
    for i in range(5):
        for j in range(5):
            # two step lengths, extrapolated: the error is of the fourth order
            values = [
                (
                    at(k * axes[i], k * axes[j])
                    - at(k * axes[i], -k * axes[j])
                    - at(-k * axes[i], k * axes[j])
                    + at(-k * axes[i], -k * axes[j])
                )
                / (4 * (k * h) ** 2)
                for k in (1, 2)
            ]
            expected[i, j] = (4 * values[0] - values[1]) / 3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(found).max())


def test_the_bias_of_second_order_is_that_of_many_fits():
    """E[T2] - T2 = sigma^2 / 2 trace(H), beside 200,000 fits of noisy samples."""
    clean, sigma = np.exp(-TIMES / 0.08), 0.02

    def t2(samples):
        return fit(samples, TIMES).params["t2"]

    bias = sigma**2 / 2 * jnp.trace(jax.hessian(t2)(jnp.array(clean)))
    noise = np.random.default_rng(4).normal(0, sigma, (5, 100_000))
    # antithetic pairs take the odd orders out of the mean
    pairs = (t2(clean[:, None] + noise) + t2(clean[:, None] - noise)) / 2 - 0.08
    error = np.std(pairs) / np.sqrt(pairs.size)
    # 4 standard errors, and the fourth order: sigma^4
    np.testing.assert_allclose(bias, np.mean(pairs), atol=4 * error + 0.02 * bias)


def test_second_derivatives_of_voxels_in_a_loop_are_differences_of_first_ones():
    """`lax.map` over voxels, reverse over reverse: JAX 0.10 drops rules there."""
    times, move = TIMES[::2], RNG.normal(size=3)

    def t2(samples):
        found = fit_map(samples, times, model=signal_model("t2"), points=8)
        return jnp.log(found.params["t2"])

    def along(step):
        voxels = jnp.array(IMAGES[::2, :2].T) + step * jnp.array(move)[None]
        return jnp.sum(jnp.sin(jax.lax.map(t2, voxels)))

    slope = jax.jit(jax.grad(along))
    found = jax.jit(jax.grad(slope))(0.0)
    # central differences of a step of 1e-5: their error is of the order 1e-10
    expected = (slope(1e-5) - slope(-1e-5)) / 2e-5
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_second_derivatives_of_an_echo_train_in_a_loop_are_differences():
    """Forward over reverse, T2 and angle fitted: jax before 0.12 drops rules there."""
    model, times = signal_model("t2_epg"), 0.015 * np.arange(1.0, 6)
    rng = np.random.default_rng(0)
    clean = signal(model, {"s0": 1.0, "t2": 0.06, "angle": 2.6}, times)
    start = jnp.asarray(clean + rng.normal(0, 0.01, 5))
    way, bend = jnp.array(0.1 * rng.normal(size=5)), jnp.array(rng.normal(size=5))

    def t2(samples):
        return fit_map(samples, times, model=model, points=8).params["t2"]

    def along(step):
        voxels = (start + step * way + step**2 * bend)[None]
        return jnp.sum(jnp.sin(20 * jax.lax.map(t2, voxels)))

    slope = jax.jit(jax.grad(along))
    found = jax.jit(lambda s: jax.jvp(slope, (s,), (1.0,))[1])(0.0)
    near, far = (slope(s * 1e-4) - slope(-s * 1e-4) for s in (1, 2))
    # Richardson's: the rounding of 1e-10 over a step of 1e-4
    np.testing.assert_allclose(found, (8 * near - far) / 12e-4, rtol=1e-6)
