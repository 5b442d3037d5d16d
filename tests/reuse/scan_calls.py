"""Calls of `medjax.mri` about scans: coils, noise, moments, phase, masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from medjax import mri
from medjax.models.denoiser import Denoiser, Regressor, from_channels, to_channels
from medjax.systems.puq.fits import guided_variance
from medjax.systems.puq.guided_fit import regressor_inputs
from medjax.systems.puq.network import image_scale
from tests.reuse.calls import Call

B, E, C, H, W = 8, 2, 3, 6, 8
RNG = np.random.default_rng(0)


def draw(*shape):
    """Complex normal numbers, single precision."""
    parts = RNG.standard_normal((2, *shape)).astype(np.float32)
    return parts[0] + 1j * parts[1]


KSPACE = draw(B, E, C, H, W)
SENS = draw(B, C, H, W)
SENS = (SENS / np.linalg.norm(SENS, axis=1, keepdims=True)).astype(np.complex64)
SAMPLES = draw(B, C, 20)
COVARIANCE = np.einsum("bcn,bdn->bcd", SAMPLES, SAMPLES.conj()) / 20
COLUMNS = RNG.random((B, E, 1, W)) < 0.6


ROWS = np.arange(B, dtype=np.int32)


def moments(x, rows):
    """Of noisy rows; a row's draws are its own, whatever device has it."""

    def draw(key):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
        return x + jax.vmap(lambda k: jax.random.normal(k, x.shape[1:], x.dtype))(keys)

    return mri.monte_carlo_moments(draw, jax.random.key(0), passes=6, chunk=3)


def replicas(kspace, sens, rows):
    """Of each row alone, by a key of its own."""

    def variance(kspace, sens, row):
        return mri.replica_variance(
            functools.partial(mri.sense_adjoint, sens=sens),
            kspace,
            jax.random.fold_in(jax.random.key(0), row),
            replicas=4,
        )

    return jax.vmap(variance)(kspace, sens, rows)


MATRIX = functools.partial(mri.compression_matrix, coils=2)
ESPIRIT = functools.partial(
    mri.estimate_sensitivities,
    calibration=(5, 5),
    kernel=2,
    threshold=0.02,
    crop=0.2,
    iterations=5,
)

X = RNG.standard_normal((B, H, W, 2 * E)).astype(np.float32)
STD = np.abs(KSPACE[:, :, 0].imag)


def denoised(x, rows):
    """A fresh network whose last norm is not 0, with dropout."""
    net = Denoiser(4, 1, 0.5)
    variables = net.init(jax.random.key(0), X[:1], None, training=False)
    ones = jax.tree.map(jnp.ones_like, variables["params"]["BatchNorm_2"]["scale"])
    variables["params"]["BatchNorm_2"]["scale"] = ones
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(1), rows)
    return net.apply(variables, x, keys, training=False)


def regressed(x):
    """A fresh regressor's."""
    net = Regressor(4, 1)
    return net.apply(net.init(jax.random.key(0), X[:1]), x)


CALLS = [
    Call("to_channels", to_channels, (KSPACE[:, :, 0],), batch=(0,)),
    Call("from_channels", from_channels, (X,), batch=(0,)),
    Call("Denoiser", denoised, (X, ROWS), batch=(0, 0)),
    Call("Regressor", regressed, (X,), batch=(0,)),
    Call("image_scale", image_scale, (KSPACE, SENS), batch=(0, 0)),
    Call(
        "guided_variance",
        functools.partial(guided_variance, misfit=np.float32([0.1, 0.0])),
        (KSPACE[:, :, 0].real, STD),
        batch=(0, 0),
    ),
    *[
        Call(
            f"regressor_inputs[{name}]",
            functools.partial(regressor_inputs, normalisation=name),
            (KSPACE[:, :, 0].real, STD),
            batch=(0, 0),
        )
        for name in ("first", "largest")
    ],
    Call("noise_covariance", mri.noise_covariance, (SAMPLES,), batch=(0,)),
    Call("whitening_matrix", mri.whitening_matrix, (COVARIANCE,), batch=(0,)),
    Call("prewhiten", mri.prewhiten, (KSPACE, SENS, COVARIANCE), batch=(0, 0, 0)),
    Call("combined_variance", mri.combined_variance, (SENS, COVARIANCE), batch=(0, 0)),
    Call(
        "sense_variance",
        functools.partial(mri.sense_variance, damping=0.1),
        (SENS, COLUMNS),
        batch=(0, 0),
    ),
    Call("monte_carlo_moments", moments, (KSPACE.real, ROWS), batch=(0, 0)),
    Call("monte_carlo_moments[complex]", moments, (KSPACE, ROWS), batch=(0, 0)),
    Call("replica_variance", replicas, (KSPACE, SENS, ROWS), batch=(0, 0, 0)),
    Call("compression_matrix", MATRIX, (KSPACE,), batch=(0,)),
    Call(
        "compress_sensitivities",
        mri.compress_sensitivities,
        (SENS, draw(B, 2, C)),
        batch=(0, 0),
    ),
    Call("estimate_sensitivities", ESPIRIT, (KSPACE,), batch=(0,)),
    Call(
        "estimate_sensitivities[soft]",
        functools.partial(ESPIRIT, soft=True),
        (KSPACE,),
        batch=(0,),
    ),
    Call(
        "smooth_phase",
        functools.partial(mri.smooth_phase, width=4),
        (KSPACE, SENS),
        batch=(0, 0),
    ),
    Call(
        "smooth_phase[contrast]",
        functools.partial(mri.smooth_phase, width=4, contrast=-1),
        (KSPACE, SENS),
        batch=(0, 0),
    ),
    Call(
        "phase_misfit",
        functools.partial(mri.phase_misfit, width=4, signed=True),
        (KSPACE, SENS, np.ones((B, E, 1, W), bool)),
        batch=(0, 0, 0),
    ),
]

HOST = {
    "calibration_size": "NumPy, before arrays reach a device",
    "check_acquisition": "NumPy, before arrays reach a device",
    "sampled_points": "NumPy, before arrays reach a device",
    "undersampling_mask": "NumPy, drawn from a seed",
}
