"""SENSE's operators in other people's solvers, beside a dense matrix of NumPy."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import optimistix as optx
import pytest

from medjax import cg_sense, sense_adjoint, sense_forward
from medjax.mri import sense_normal

pytestmark = pytest.mark.usefixtures("double_jax")

E, C, H, W = 2, 3, 4, 6
DAMPING = 0.05
RNG = np.random.default_rng(6)


def complex_normal(*shape):
    return RNG.normal(size=shape) + 1j * RNG.normal(size=shape)


SENS = complex_normal(C, H, W)
SENS = SENS / np.sqrt((np.abs(SENS) ** 2).sum(0))
MASK = RNG.uniform(size=(E, H, W)) < 0.6
TRUTH = complex_normal(E, H, W)


def forward_in_numpy(images):
    """Centred, orthonormal, one coil and one contrast at a time."""
    kspace = np.zeros((E, C, H, W), complex)
    for e in range(E):
        for c in range(C):
            shifted = np.fft.ifftshift(SENS[c] * images[e])
            kspace[e, c] = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho")) * MASK[e]
    return kspace


def matrix():
    """Column k is what the k-th unit image gives."""
    units = np.eye(E * H * W).reshape(-1, E, H, W)
    return np.stack([forward_in_numpy(unit).ravel() for unit in units], axis=1)


A = matrix()
KSPACE = (A @ TRUTH.ravel()).reshape(E, C, H, W) + 0.01 * complex_normal(E, C, H, W) * (
    MASK[:, None]
)
NORMAL = A.conj().T @ A + DAMPING * np.eye(A.shape[1])
SOLUTION = np.linalg.solve(NORMAL, A.conj().T @ KSPACE.ravel()).reshape(E, H, W)


def damped(images):
    return sense_normal(images, SENS, MASK) + DAMPING * images


def test_operators_are_the_matrix_and_its_adjoint():
    found = sense_forward(TRUTH, SENS, MASK)
    np.testing.assert_allclose(found, forward_in_numpy(TRUTH), atol=1e-12)
    found = sense_adjoint(KSPACE, SENS, MASK)
    expected = (A.conj().T @ KSPACE.ravel()).reshape(E, H, W)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_linear_transpose_is_what_jax_makes_of_it():
    """jax.linear_transpose gives A^T: the adjoint without the conjugates."""
    shape = jax.ShapeDtypeStruct((E, H, W), complex)
    transpose = jax.linear_transpose(lambda x: sense_forward(x, SENS, MASK), shape)
    (found,) = transpose(jnp.array(KSPACE))
    np.testing.assert_allclose(
        found, (A.T @ KSPACE.ravel()).reshape(E, H, W), atol=1e-12
    )


def test_lineax_solves_the_normal_equations():
    operator = lx.FunctionLinearOperator(
        damped,
        jax.ShapeDtypeStruct((E, H, W), complex),
        lx.positive_semidefinite_tag,
    )
    rhs = sense_adjoint(KSPACE, SENS, MASK)
    solver = lx.CG(rtol=1e-12, atol=1e-12)
    found = jax.jit(lambda b: lx.linear_solve(operator, b, solver).value)(rhs)
    np.testing.assert_allclose(found, SOLUTION, atol=1e-9)
    # and medjax's own loop comes to the same images
    own = cg_sense(KSPACE, SENS, MASK, damping=DAMPING, iterations=80)
    np.testing.assert_allclose(own, SOLUTION, atol=1e-9)


def test_optimistix_fits_the_images():
    """Least squares in real numbers: 2 E H W of the images."""

    def residuals(parts, kspace):
        images = jax.lax.complex(*parts)
        left = sense_forward(images, SENS, MASK) - kspace
        held = [np.sqrt(DAMPING) * part for part in parts]
        return jnp.real(left), jnp.imag(left), *held

    start = (jnp.zeros((E, H, W)), jnp.zeros((E, H, W)))
    solver = optx.LevenbergMarquardt(rtol=1e-10, atol=1e-10)
    found = optx.least_squares(residuals, solver, start, args=jnp.array(KSPACE))
    np.testing.assert_allclose(jax.lax.complex(*found.value), SOLUTION, atol=1e-6)


def test_optax_descends_to_the_same_images():
    """Nesterov's steps; a gradient of JAX is the conjugate of the steepest ascent."""
    optimizer = optax.sgd(0.9, momentum=0.8, nesterov=True)

    def cost(images):
        left = sense_forward(images, SENS, MASK) - KSPACE
        return (
            jnp.sum(jnp.abs(left) ** 2) + DAMPING * jnp.sum(jnp.abs(images) ** 2)
        ) / 2

    @jax.jit
    def descend(images):
        def step(carry, _):
            images, state = carry
            gradient = jnp.conj(jax.grad(cost)(images))
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(images, updates), state), None

        carry = (images, optimizer.init(images))
        return jax.lax.scan(step, carry, length=400)[0][0]

    found = descend(jnp.zeros((E, H, W), complex))
    np.testing.assert_allclose(found, SOLUTION, atol=1e-6)


def test_the_gradient_of_a_reconstruction_is_a_difference():
    """d |x|^2 / d damping through cg_sense, and through lineax's implicit solve."""
    rhs = sense_adjoint(KSPACE, SENS, MASK)
    shape = jax.ShapeDtypeStruct((E, H, W), complex)

    def by_medjax(damping):
        images = cg_sense(KSPACE, SENS, MASK, damping=damping, iterations=80)
        return jnp.sum(jnp.abs(images) ** 2)

    def by_lineax(damping):
        operator = lx.FunctionLinearOperator(
            lambda x: sense_normal(x, SENS, MASK) + damping * x,
            shape,
            lx.positive_semidefinite_tag,
        )
        solver = lx.CG(rtol=1e-12, atol=1e-12)
        images = lx.linear_solve(operator, rhs, solver).value
        return jnp.sum(jnp.abs(images) ** 2)

    def by_numpy(damping):
        normal = A.conj().T @ A + damping * np.eye(A.shape[1])
        images = np.linalg.solve(normal, A.conj().T @ KSPACE.ravel())
        return np.sum(np.abs(images) ** 2)

    expected = (by_numpy(DAMPING + 1e-5) - by_numpy(DAMPING - 1e-5)) / 2e-5
    for function in (by_medjax, by_lineax):
        np.testing.assert_allclose(jax.grad(function)(DAMPING), expected, rtol=1e-6)
