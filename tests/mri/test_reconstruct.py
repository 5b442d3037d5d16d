"""Reconstructions against dense solves and each other, batched, sharded, refused."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from medjax.mri.proximal import low_rank_prox, random_shift, wavelet_prox
from medjax.mri.reconstruct import cg_sense, subspace_sense, zero_filled
from medjax.mri.sense import sense_forward
from medjax.mri.sparse import low_rank_sense, wavelet_sense
from medjax.mri.subspace import exponential_basis

TIMES = np.array([0.0, 0.03, 0.06, 0.12])
BASIS = exponential_basis(TIMES, rank=2, low=0.03, high=2.5, atoms=50)
KEY = jax.random.key(3)


def setup(lead=(), *, size=(8, 8), coils=3, share=0.6, seed=0, dtype=np.complex128):
    """Decaying real images with a smooth phase, sensitivities, a mask of lines."""
    rng = np.random.default_rng(seed)
    h, w = size
    rates = rng.uniform(2, 20, (*lead, 1, h, w))
    images = rng.uniform(0.5, 1, (*lead, 1, h, w)) * np.exp(
        -TIMES[:, None, None] * rates
    )
    phase = rng.uniform(-1, 1) + np.linspace(0, 2, w) * np.ones((*lead, 1, h, 1))
    sens = rng.standard_normal((2, *lead, coils, h, w))
    sens = sens[0] + 1j * sens[1]
    sens = sens / np.linalg.norm(sens, axis=-3, keepdims=True)
    mask = rng.random((*lead, 4, 1, w)) < share
    mask[..., w // 2] = True
    return images.astype(dtype), phase, sens.astype(dtype), mask


def acquire(images, sens, mask):
    return np.array(sense_forward(images, sens, mask))


def dense(sens, mask, columns):
    """A as a matrix, applied to the columns of a basis of all images."""
    apply = jax.jit(jax.vmap(lambda x: sense_forward(x, sens, mask)))
    return np.asarray(apply(columns)).reshape(len(columns), -1).T


def unit_images(shape, dtype=np.complex128):
    size = int(np.prod(shape))
    return np.eye(size, dtype=dtype).reshape(size, *shape)


# ---- the solution


@pytest.mark.parametrize("constraint", ["complex", "real", "phase", "each phase"])
@pytest.mark.parametrize("points", ["lines", "points"])
@pytest.mark.parametrize("subspace", [False, True])
def test_conjugate_gradients_equal_a_dense_solve(constraint, points, subspace):
    images, phase, sens, mask = setup(size=(4, 6))
    if constraint == "each phase":
        constraint, phase = "phase", phase + np.arange(4.0)[:, None, None]
    if points == "points":
        mask = np.random.default_rng(1).random((4, 4, 6)) < 0.6
    if constraint == "phase":
        images = images * np.exp(1j * phase)
    y = acquire(images, sens, mask)
    y = y + 0.1 * mask[:, None] * np.random.default_rng(2).standard_normal(y.shape)
    columns = unit_images((2 if subspace else 4, 4, 6))
    if subspace:
        columns = np.einsum("ek,nkhw->nehw", BASIS, columns)
    if constraint == "phase":
        columns = columns * np.exp(1j * phase)
    a, b = dense(sens, mask, columns), y.ravel()
    if constraint != "complex":  # a real unknown: real and imaginary equations
        a, b = np.vstack([a.real, a.imag]), np.concatenate([b.real, b.imag])
    solution = np.linalg.solve(
        a.conj().T @ a + 0.02 * np.eye(a.shape[1]), a.conj().T @ b
    )
    expected = solution.reshape(-1, 4, 6)
    if subspace:
        expected = np.einsum("ek,khw->ehw", BASIS, expected)

    fn = functools.partial(subspace_sense, basis=BASIS) if subspace else cg_sense
    x = jax.jit(
        lambda y: fn(
            y,
            sens,
            mask,
            damping=0.02,
            iterations=200,
            constraint=constraint,
            phase=phase if constraint == "phase" else None,
        )
    )(y)
    assert jnp.iscomplexobj(x) == (constraint == "complex")
    np.testing.assert_allclose(x, expected, atol=1e-12)


def test_no_threshold_is_the_limit_of_conjugate_gradients():
    images, _, sens, mask = setup(share=0.9, coils=4)
    y = acquire(images, sens, mask)

    @jax.jit
    def all_of_them(y):
        options = {"threshold": 0.0, "iterations": 400}
        return (
            cg_sense(y, sens, mask, damping=0.0, iterations=100),
            wavelet_sense(y, sens, mask, KEY, levels=2, **options),
            low_rank_sense(y, sens, mask, KEY, block=4, **options),
            subspace_sense(y, sens, mask, basis=BASIS, damping=0.0, iterations=100),
            wavelet_sense(y, sens, mask, KEY, basis=BASIS, levels=2, **options),
            low_rank_sense(y, sens, mask, KEY, basis=BASIS, block=4, **options),
        )

    cg, wavelets, low_rank, *subspace = all_of_them(y)
    for x in (cg, wavelets, low_rank):  # determined: nothing is missing
        np.testing.assert_allclose(x, images, atol=1e-5)
    for x in subspace[1:]:
        np.testing.assert_allclose(x, subspace[0], atol=1e-5)


@pytest.mark.parametrize("name", ["wavelet", "low_rank"])
def test_of_full_sampling_the_solution_is_the_proximal_map(name):
    images, _, sens, _ = setup()
    mask = np.ones((4, 1, 8), bool)  # A^H A = 1
    y = acquire(images, sens, mask)
    key = jax.random.fold_in(KEY, 0)
    if name == "wavelet":
        x = wavelet_sense(y, sens, mask, KEY, threshold=0.1, iterations=1, levels=2)
        shift = random_shift(key, 4)
        expected = wavelet_prox(images, 0.1, levels=2, shift=shift)
    else:
        x = low_rank_sense(y, sens, mask, KEY, threshold=0.1, iterations=1, block=4)
        expected = low_rank_prox(images, 0.1, block=4, shift=random_shift(key, 4))
    assert np.abs(expected - images).max() > 0.05
    np.testing.assert_allclose(x, expected, atol=1e-12)


def test_low_rank_fills_what_is_missing_of_low_rank_images():
    """One curve for a whole slice, R = 2, one coil: what CG-SENSE cannot know."""
    rng = np.random.default_rng(0)
    curve = np.exp(-TIMES * 8)[:, None, None]
    image = np.kron(rng.uniform(0.5, 1, (4, 4)), np.ones((4, 4)))
    images = (curve * image).astype(np.complex128)
    sens, mask = np.ones((1, 16, 16), complex), rng.random((4, 1, 16)) < 0.5
    mask[..., 7:10] = True
    mask[0] |= ~mask.any(0)
    y = acquire(images, sens, mask)
    plain = jax.jit(lambda: cg_sense(y, sens, mask, damping=1e-6, iterations=20))()
    options = {"iterations": 400, "block": 16, "constraint": "real"}
    low = jax.jit(
        lambda: low_rank_sense(y, sens, mask, KEY, threshold=1e-3, **options)
    )()
    error = [
        np.linalg.norm(np.asarray(x) - images) / np.linalg.norm(images)
        for x in (plain, low)
    ]
    assert error[0] > 0.1 and error[1] < 0.02


def test_phase_is_the_real_constraint_in_turned_sensitivities():
    images, phase, sens, mask = setup()
    y = acquire(images * np.exp(1j * phase), sens, mask)
    turned = sens * np.exp(1j * phase)

    @jax.jit
    def both(y):
        options = {"threshold": 1e-3, "iterations": 10}
        ours = wavelet_sense(
            y, sens, mask, KEY, constraint="phase", phase=phase, **options
        )
        return ours, wavelet_sense(y, turned, mask, KEY, constraint="real", **options)

    np.testing.assert_allclose(*both(y), atol=1e-12)
    each = phase + np.arange(4.0)[:, None, None]  # a phase for every contrast
    y = acquire(images * np.exp(1j * each), sens, np.ones((4, 1, 8), bool))
    x = zero_filled(y, sens, np.ones((4, 1, 8), bool), constraint="phase", phase=each)
    np.testing.assert_allclose(x, images.real, atol=1e-12)


# ---- batches


METHODS = {
    "zero_filled": zero_filled,
    "cg_sense": functools.partial(cg_sense, damping=1e-2, iterations=5),
    "subspace_sense": functools.partial(
        subspace_sense, basis=BASIS, damping=1e-2, iterations=5
    ),
    "wavelet_sense": lambda *args, **options: wavelet_sense(
        *args, KEY, threshold=1e-2, iterations=3, levels=2, **options
    ),
    "subspace_wavelet_sense": lambda *args, **options: wavelet_sense(
        *args, KEY, threshold=1e-2, iterations=3, levels=2, basis=BASIS, **options
    ),
    "low_rank_sense": lambda *args, **options: low_rank_sense(
        *args, KEY, threshold=1e-2, iterations=3, block=4, **options
    ),
}


@pytest.mark.parametrize(
    ("name", "constraint"),
    [*((name, "complex") for name in METHODS), ("wavelet_sense", "phase")],
)
def test_a_sharded_batch_is_its_slices_without_communication(name, constraint):
    images, phase, sens, mask = setup((8,), dtype=np.complex64)
    phase = phase.astype(np.float32)
    y = acquire((images * np.exp(1j * phase)).astype(np.complex64), sens, mask)
    y[2, 0, 0, 0, 4] = np.nan

    def fn(y, sens, mask, phase):
        options = {"constraint": constraint}
        if constraint == "phase":
            options["phase"] = phase
        return METHODS[name](y, sens, mask, **options)

    arguments = (y, sens, mask, phase)
    alone = jax.jit(fn)
    expected = np.stack([alone(*(a[i] for a in arguments)) for i in range(8)])
    mesh = Mesh(np.array(jax.devices()), ("slices",))
    placed = jax.device_put(arguments, NamedSharding(mesh, PartitionSpec("slices")))
    program = jax.jit(fn).lower(*placed).compile()
    traffic = r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    assert not re.findall(rf"({traffic})(?:-start)?\(", program.as_text())
    x = program(*placed)
    assert x.dtype == (np.complex64 if constraint == "complex" else np.float32)
    np.testing.assert_allclose(x, expected, atol=1e-5)
    spoilt = np.isnan(np.asarray(x)).any(axis=(1, 2, 3))  # NaN shows, and only there
    np.testing.assert_array_equal(spoilt, np.arange(8) == 2)


def test_gradient_reaches_damping_and_data():
    images, _, sens, mask = setup(size=(4, 6))
    y = jnp.asarray(acquire(images, sens, mask))

    def loss(damping, scale):
        x = cg_sense(
            scale.astype(y.dtype) * y, sens, mask, damping=damping, iterations=60
        )
        return jnp.sum(jnp.abs(x - images) ** 2)

    at = (jnp.array(0.05), jnp.array(1.1))
    gradient = jax.jit(jax.grad(loss, (0, 1)))(*at)
    loss = jax.jit(loss)
    for axis, found in enumerate(gradient):
        steps = [jnp.array(1e-5 * (i == axis)) for i in (0, 1)]
        up = loss(*(a + s for a, s in zip(at, steps, strict=True)))
        down = loss(*(a - s for a, s in zip(at, steps, strict=True)))
        np.testing.assert_allclose(found, (up - down) / 2e-5, rtol=1e-6)


# ---- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sens": (8, 3, 8, 8)}, r"sens: .* B = \(\) from kspace"),
        ({"sens": (4, 8, 8)}, "sens: .* C = 3 from kspace"),
        ({"kspace": (3, 8, 8)}, r"subspace_sense: kspace: .* \[\*B, E, C, H, W\]"),
        ({"mask": (4, 3, 8, 8)}, r"mask: .* \[\*B, E, #H, #W\]"),
        ({"mask": (4, 8, 1, 8)}, r"mask: .* \[\*B, E, #H, #W\]"),
        ({"mask": (4, 1, 6)}, r"mask: .* W = 8 from kspace; .* \(4, 1, 6\)"),
        ({"basis": (3, 2)}, r"basis: .* \[E, K\] with E = 4"),
        ({"constraint": "imaginary"}, "one of complex, real, phase"),
        ({"constraint": "phase"}, "phase: expected with constraint=.phase."),
        ({"phase": (1, 8, 8)}, "phase: expected with constraint=.phase."),
        ({"constraint": "phase", "phase": (8, 8)}, r"phase: .* \[\*B, #E, H, W\]"),
        ({"constraint": "phase", "phase": (3, 8, 8)}, r"phase: .* E = 4"),
    ],
    ids=str,
)
def test_refusals(change, message):
    shapes = {"kspace": (4, 3, 8, 8), "sens": (3, 8, 8), "mask": (4, 1, 8)}
    shapes |= {k: v for k, v in change.items() if k in shapes}
    arrays = [jnp.ones(s, bool if k == "mask" else complex) for k, s in shapes.items()]
    options = {"basis": jnp.ones(change.get("basis", (4, 2)))}
    if "phase" in change:
        options["phase"] = jnp.ones(change["phase"])
    options["constraint"] = change.get("constraint", "complex")
    with pytest.raises(ValueError, match=message):
        subspace_sense(*arrays, damping=0.0, iterations=1, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": np.ones(4)}, r"cg_sense: damping: .* B = \(\) from kspace"),
        ({"damping": 1j}, "cg_sense: damping: expected float or int or bool"),
        ({"damping": -1.0}, "cg_sense: damping: expected 0 or more; found -1.0"),
        ({"iterations": -1}, "cg_sense: iterations: .* at least 0, found -1"),
        ({"tolerance": -1.0}, "tolerance: expected 0 or more"),
    ],
)
def test_options_of_another_form(options, message):
    arrays = [np.ones(s, complex) for s in ((4, 3, 8, 8), (3, 8, 8))]
    mask = np.ones((4, 1, 8), bool)
    with pytest.raises(ValueError, match=message):
        cg_sense(*arrays, mask, **({"damping": 0.1, "iterations": 1} | options))


def test_mask_and_sensitivities_in_the_other_order():
    """Contrasts and coils are as many, so that shapes say nothing."""
    kspace, sens = np.ones((3, 3, 8, 8), complex), np.ones((3, 8, 8), complex)
    mask = np.ones((3, 8, 8), bool)
    with pytest.raises(ValueError, match="cg_sense: .* the order is sens, mask"):
        cg_sense(kspace, mask, sens, damping=0.1, iterations=1)
    with pytest.raises(ValueError, match="mask: expected bool or int of shape"):
        cg_sense(kspace, sens, mask.astype(float), damping=0.1, iterations=1)


def test_the_widest_of_k_space_and_sensitivities_counts():
    images, _, sens, mask = setup(size=(4, 6))
    y = acquire(images, sens, mask)
    narrow = sens.astype(np.complex64)
    options = {"damping": 0.1, "iterations": 20}
    expected = cg_sense(y, narrow.astype(complex), mask, **options)
    found = cg_sense(y, narrow, mask, **options)
    assert found.dtype == np.complex128
    np.testing.assert_allclose(found, expected, atol=1e-12)
    low = low_rank_sense(y, narrow, mask, KEY, threshold=0.1, iterations=2)
    assert low.dtype == np.complex128
    real = wavelet_sense(
        y, narrow, mask, KEY, threshold=0.1, iterations=2, levels=1, constraint="real"
    )
    assert real.dtype == np.float64
