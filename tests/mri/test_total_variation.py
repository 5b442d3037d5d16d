"""Joint total variation: adjoint differences, a loop in float64, SigPy, long runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import mri
from medjax.mri.subspace import exponential_basis

TIMES = np.array([0.0, 0.03, 0.06, 0.12])
BASIS = exponential_basis(TIMES, rank=2, low=0.03, high=2.5, atoms=50)
SCALES = np.array([1.0, 0.6])


def draw(*shape, seed=0, real=False):
    parts = np.random.default_rng(seed).standard_normal((2, *shape))
    return parts[0] if real else parts[0] + 1j * parts[1]


def setup(lead=(), *, size=(12, 10), seed=0, noise=0.02):
    """Blocks of decays, sensitivities, a mask of lines, k-space with noise."""
    rng = np.random.default_rng(seed)
    h, w = size
    blocks = rng.uniform(2, 20, (*lead, 1, 3, 2))
    rates = np.kron(blocks, np.ones((h // 3, w // 2)))
    images = np.exp(-TIMES[:, None, None] * rates)
    sens = rng.standard_normal((2, *lead, 3, h, w))
    sens = sens[0] + 1j * sens[1]
    sens /= np.linalg.norm(sens, axis=-3, keepdims=True)
    mask = rng.random((*lead, 4, 1, w)) < 0.5
    mask[..., w // 2 - 1 : w // 2 + 2] = True
    y = np.array(mri.sense_forward(images.astype(complex), sens, mask))
    y += noise * draw(*y.shape, seed=seed + 1) * mask[..., None, :, :]
    return images, sens, mask, y


# ---- differences, divergence, penalty


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 7), (3, 1, 4), (1, 1)])
def test_divergence_is_minus_the_adjoint_and_conserves(shape, real):
    x = draw(*shape, real=real)
    p = mri.Differences(
        draw(*shape, seed=1, real=real), draw(*shape, seed=2, real=real)
    )
    d, out = mri.image_differences(x), mri.divergence(p)
    inner = np.vdot(d.rows, p.rows) + np.vdot(d.cols, p.cols)
    np.testing.assert_allclose(inner, -np.vdot(x, out), atol=1e-12)
    for total in (d.rows, d.cols, out):
        np.testing.assert_allclose(np.sum(total, axis=(-2, -1)), 0, atol=1e-12)


def test_differences_and_penalty_by_a_loop():
    x = draw(2, 3, 4, 5)
    found, expected = mri.image_differences(x), np.zeros(2)
    for n in range(2):
        for i in range(4):
            for j in range(5):
                total = 0
                for k in range(3):
                    row = x[n, k, (i + 1) % 4, j] - x[n, k, i, j]
                    col = x[n, k, i, (j + 1) % 5] - x[n, k, i, j]
                    assert found.rows[n, k, i, j] == row
                    assert found.cols[n, k, i, j] == col
                    total += abs(row) ** 2 + abs(col) ** 2
                expected[n] += np.sqrt(total)
    np.testing.assert_allclose(mri.joint_total_variation(x), expected, rtol=1e-13)
    assert mri.joint_total_variation(np.ones((3, 4, 5))) == 0


# ---- the proximal map


def reference_prox(x, weight, *, iterations):
    """Plain projected gradient steps on the dual, pixel by pixel; float64."""
    k, h, w = x.shape
    p = np.zeros((2, k, h, w), x.dtype)
    for _ in range(iterations):
        u = x.copy()
        for i in range(h):
            for j in range(w):
                u[:, i, j] += p[0, :, i, j] - p[0, :, i - 1, j]
                u[:, i, j] += p[1, :, i, j] - p[1, :, i, j - 1]
        for i in range(h):
            for j in range(w):
                p[0, :, i, j] += (u[:, (i + 1) % h, j] - u[:, i, j]) / 8
                p[1, :, i, j] += (u[:, i, (j + 1) % w] - u[:, i, j]) / 8
                length = np.sqrt(np.sum(np.abs(p[:, :, i, j]) ** 2))
                p[:, :, i, j] *= min(1, weight / max(length, 1e-300))
    return u


@pytest.mark.parametrize("real", [False, True])
def test_the_proximal_map_equals_a_loop(real):
    x = draw(2, 4, 5, real=real)
    found = mri.joint_tv_prox(x, 0.4, iterations=400)
    np.testing.assert_allclose(
        found.images, reference_prox(x, 0.4, iterations=2000), atol=1e-7
    )
    assert found.images.dtype == x.dtype
    field = mri.divergence(found.dual)
    np.testing.assert_allclose(found.images, x + np.asarray(field), atol=1e-15)
    length = np.sqrt(sum(np.sum(np.abs(p) ** 2, axis=0) for p in found.dual))
    assert length.max() < 0.4 + 1e-12


def test_the_proximal_map_has_no_gap():
    """P(u) - D(p) = weight TV(u) - <u, div p> bounds |u - u*|^2 / 2."""
    x = draw(3, 8, 8, real=True)
    for weight in (0.05, 0.5, 3.0):
        u, dual = mri.joint_tv_prox(x, weight, iterations=500)
        gap = weight * mri.joint_total_variation(u) + np.vdot(u, mri.divergence(dual))
        assert abs(gap) < 1e-5 * np.sum(x**2)


def test_a_field_that_is_handed_on_goes_on():
    x, dual = draw(2, 6, 6, real=True), None
    exact = mri.joint_tv_prox(x, 0.5, iterations=600).images
    errors = []
    for _ in range(40):
        u, dual = mri.joint_tv_prox(x, 0.5, iterations=3, dual=dual)
        errors.append(np.abs(u - exact).max())
    assert errors[-1] < 0.01 * errors[0]
    alone = mri.joint_tv_prox(x, 0.5, iterations=3).images
    assert np.abs(alone - exact).max() > 10 * errors[-1]


def test_edges_of_the_proximal_map():
    x = draw(2, 3, 4, 6, real=True)
    np.testing.assert_array_equal(mri.joint_tv_prox(x, 0.0, iterations=5).images, x)
    mean = np.broadcast_to(x.mean((-2, -1), keepdims=True), x.shape)
    for weight in (1e3, np.inf):
        u = mri.joint_tv_prox(x, weight, iterations=400).images
        np.testing.assert_allclose(u, mean, atol=1e-6)
    weights = jnp.array([0.3, -1.0])
    u = mri.joint_tv_prox(x, weights, iterations=5).images
    one = mri.joint_tv_prox(x[0], 0.3, iterations=5).images
    np.testing.assert_allclose(u[0], one, atol=1e-14)
    assert np.isnan(u[1]).all()
    x[0, 0, 0, 0] = np.nan
    assert np.isfinite(mri.joint_tv_prox(x, 0.3, iterations=5).images[1]).all()


def test_equals_sigpy_where_an_image_is_a_line():
    """SigPy's penalty is the sum over directions: of one line they are the same."""
    sigpy = pytest.importorskip("sigpy")
    from sigpy.mri.app import TotalVariationRecon

    rng = np.random.default_rng(0)
    image = np.repeat(rng.uniform(0.5, 1, 6), 4)[None] * np.exp(0.5j)
    sens = draw(3, 1, 24)
    sens /= np.linalg.norm(sens, axis=0)
    y = np.array(mri.sense_forward(image[None], sens))[0] + 0.05 * draw(
        3, 1, 24, seed=2
    )
    weight = 0.1
    theirs = TotalVariationRecon(
        y, sens, weight, max_iter=3000, show_pbar=False, device=sigpy.cpu_device
    ).run()
    ours = mri.joint_tv_sense(
        y[None], sens, np.ones((1, 1, 24), bool), weight=weight, iterations=1000
    )[0]
    assert np.abs(ours - image).max() > 0.03
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


# ---- the reconstruction


def objective(x, y, sens, mask, weight, coefficients=None):
    rest = np.asarray(mri.sense_forward(x, sens, mask)) - y
    penalty = mri.joint_total_variation(x if coefficients is None else coefficients)
    return 0.5 * np.sum(np.abs(rest) ** 2) + weight * float(penalty)


def reference(y, sens, mask, weight, columns, *, iterations):
    """A primal-dual iteration (Condat, 2013) with dense matrices; float64.

    `columns` [n, E, H, W] are the images of the unknowns, of which the real factor is
    taken; they are [K, H, W].
    """
    k, h, w = columns.shape[0] // (y.shape[-1] * y.shape[-2]), *y.shape[-2:]
    apply = jax.jit(jax.vmap(lambda x: mri.sense_forward(x, sens, mask)))
    a = np.asarray(apply(columns)).reshape(len(columns), -1).T
    a, b = np.vstack([a.real, a.imag]), np.concatenate([y.ravel().real, y.ravel().imag])
    normal, adjoint = a.T @ a, a.T @ b
    x, p = np.zeros((k, h, w)), np.zeros((2, k, h, w))
    sigma, tau = 0.25, 1 / (0.25 * 8 + 0.5)
    for _ in range(iterations):
        out = p[0] - np.roll(p[0], 1, -2) + p[1] - np.roll(p[1], 1, -1)
        gradient = (normal @ x.ravel() - adjoint).reshape(x.shape)
        new = x - tau * (gradient - out)
        ahead = 2 * new - x
        p += sigma * np.stack(
            [np.roll(ahead, -1, -2) - ahead, np.roll(ahead, -1, -1) - ahead]
        )
        length = np.sqrt(np.sum(p**2, (0, 1)))
        p *= np.minimum(1, weight / np.maximum(length, 1e-300))
        x = new
    return x


def unit(shape):
    size = int(np.prod(shape))
    return np.eye(size).reshape(size, *shape)


@pytest.mark.parametrize(
    ("constraint", "weight"),
    [("real", 0.03), ("shared", 0.03), ("each", 0.03), ("real", 1.0)],
)
def test_no_worse_than_a_long_run(constraint, weight):
    images, sens, mask, y = setup()
    scaled = BASIS * SCALES
    phase = np.linspace(0, 1, 120).reshape(1, 12, 10)
    if constraint == "each":
        phase = phase + np.arange(4.0)[:, None, None]
    turn = 1 if constraint == "real" else np.exp(1j * phase)
    y = np.array(mri.sense_forward(images * turn + 0j, sens, mask))
    y += 0.02 * draw(*y.shape) * mask[:, None]
    columns = turn * np.einsum("ek,nkhw->nehw", scaled, unit((2, 12, 10))) + 0j
    a = reference(y, sens, mask, weight, columns, iterations=4000)
    best = objective(
        turn * np.einsum("ek,khw->ehw", scaled, a) + 0j, y, sens, mask, weight, a
    )

    @functools.partial(jax.jit, static_argnames="iterations")
    def solve(y, iterations):
        return mri.joint_tv_sense(
            y,
            sens,
            mask,
            weight=weight,
            iterations=iterations,
            basis=BASIS,
            scales=SCALES,
            constraint="real" if constraint == "real" else "phase",
            phase=None if constraint == "real" else phase,
        )

    def found(iterations):
        x = np.asarray(solve(y, iterations))
        coefficients = np.einsum("ek,ehw->khw", BASIS, x) / SCALES[:, None, None]
        return x, objective(turn * x + 0j, y, sens, mask, weight, coefficients)

    values = [found(n)[1] for n in (1, 3, 10, 30, 100)]
    assert values == sorted(values, reverse=True)
    x, value = found(600)
    assert value < best * (1 + 3e-6)  # of 600 steps, 3 inner ones each
    np.testing.assert_allclose(x, np.einsum("ek,khw->ehw", scaled, a), atol=2e-4)


def test_no_weight_is_least_squares_and_a_huge_one_constants():
    _, sens, mask, y = setup(size=(6, 6))
    mask |= True
    y = np.array(mri.sense_forward(draw(4, 6, 6), sens, mask))
    x = mri.joint_tv_sense(y, sens, mask, weight=0.0, iterations=50)
    plain = mri.cg_sense(y, sens, mask, damping=0.0, iterations=50)
    np.testing.assert_allclose(x, plain, atol=1e-6)
    for weight in (1e4, np.inf):
        flat = mri.joint_tv_sense(y, sens, mask, weight=weight, iterations=500, inner=3)
        mean = jnp.mean(plain, (-2, -1), keepdims=True)
        np.testing.assert_allclose(flat, jnp.broadcast_to(mean, flat.shape), atol=1e-5)


def test_a_batch_is_its_slices_with_their_weights():
    _, sens, mask, y = setup((2,))
    weights = np.array([0.01, 0.1])

    @jax.jit
    def solve(y, sens, mask, weight):
        return mri.joint_tv_sense(y, sens, mask, weight=weight, iterations=5)

    x = solve(y, sens, mask, weights)
    for n in range(2):
        one = solve(y[n], sens[n], mask[n], weights[n])
        np.testing.assert_allclose(x[n], one, atol=1e-12)
    assert np.isnan(solve(y, sens, mask, jnp.array([0.1, -0.1]))[1]).all()


@pytest.mark.parametrize("name", ["tv", "wavelet", "low_rank"])
def test_maps_of_any_sum_do_not_make_it_diverge(name):
    """The scale of maps, images and weight cancels: x(c S, w) = x(S, w / c) / c."""
    _, sens, mask, y = setup()
    key = jax.random.key(0)
    calls = {
        "tv": lambda s, w: mri.joint_tv_sense(y, s, mask, weight=w, iterations=30),
        "wavelet": lambda s, w: mri.wavelet_sense(
            y, s, mask, key, threshold=w, iterations=30, levels=1
        ),
        "low_rank": lambda s, w: mri.low_rank_sense(
            y, s, mask, key, threshold=w, iterations=30, block=4
        ),
    }
    expected = calls[name](sens, 0.02)
    for scale in (0.2, 5.0):
        found = calls[name](scale * sens, 0.02 * scale) * scale
        # The start is A^H y, which is too large by scale^2.
        start = abs(scale**2 - 1) * np.abs(expected).max()
        error = np.abs(found - expected).max()
        assert np.isfinite(error) and error < 0.1 * start


def test_gradient_reaches_the_weight():
    _, sens, mask, y = setup(size=(6, 4))

    def loss(weight):
        x = mri.joint_tv_sense(y, sens, mask, weight=weight, iterations=4)
        return jnp.sum(jnp.abs(x) ** 2)

    loss = jax.jit(loss)
    found = jax.jit(jax.grad(loss))(0.1)
    slope = (loss(0.1 + 1e-6) - loss(0.1 - 1e-6)) / 2e-6
    np.testing.assert_allclose(found, slope, rtol=1e-5)


# ---- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "joint_tv_sense: weight: expected 0 or more; found -1.0"),
        ({"weight": np.array([0.1, -1.0])}, "weight: expected 0 or more; found -1.0"),
        ({"weight": float("nan")}, "weight: expected 0 or more; found nan"),
        ({"weight": np.ones(3)}, "weight: .* B = 2 from kspace"),
        ({"iterations": -1}, "iterations: .* at least 0, found -1"),
        ({"inner": 0}, "inner: .* at least 1, found 0"),
        ({"scales": np.ones(2)}, "scales: expected with a basis"),
        ({"basis": BASIS, "scales": np.ones(3)}, "scales: .* K = 2 from basis"),
        ({"basis": BASIS, "scales": np.array([1.0, 0.0])}, "scales: .* above 0"),
        ({"basis": BASIS[:3]}, "basis: .* E = 4"),
        ({"constraint": "phase"}, "phase: expected with constraint"),
        ({"phase": np.ones((2, 4, 6, 6))}, "phase: expected with constraint"),
    ],
    ids=str,
)
def test_refusals(options, message):
    _, sens, mask, y = setup((2,), size=(6, 6))
    with pytest.raises(ValueError, match=message):
        mri.joint_tv_sense(
            y, sens, mask, **({"weight": 0.1, "iterations": 1} | options)
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: mri.joint_tv_prox(x[0], 0.1, iterations=1), r"\[\*B, E, H, W\]"),
        (lambda x: mri.joint_tv_prox(x, -0.1, iterations=1), "weight: .* 0 or more"),
        (lambda x: mri.joint_tv_prox(x, 0.1, iterations=0), "at least 1, found 0"),
        (lambda x: mri.joint_tv_prox(x.astype(int), 0.1, iterations=1), "float or"),
        (
            lambda x: mri.joint_tv_prox(
                x, 0.1, iterations=1, dual=mri.Differences(x[:1], x)
            ),
            "rows: .* from images",
        ),
        (lambda x: mri.divergence(mri.Differences(x, x[:1])), "cols: .* from rows"),
        (lambda x: mri.image_differences(x[0, 0]), "image_differences: images"),
        (lambda x: mri.joint_total_variation(x[0]), "joint_total_variation: images"),
    ],
)
def test_refusals_of_the_parts(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 3, 4)))
