"""Calls of the fits and signal models of `medjax.mri`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from medjax import mri
from tests.reuse.calls import Call

RNG = np.random.default_rng(0)
TE = np.array([0.01, 0.03, 0.06, 0.1], np.float32)
TI = np.array([0.05, 0.3, 1.0, 3.0], np.float32)
S0 = RNG.uniform(0.8, 1.2, 8).astype(np.float32)
T2 = RNG.uniform(0.04, 0.1, 8).astype(np.float32)
T1 = RNG.uniform(0.5, 1.5, 8).astype(np.float32)
DECAY = (S0 * np.exp(-TE[:, None] / T2)).astype(np.float32)
RECOVERY = (S0 * (1 - 1.9 * np.exp(-TI[:, None] / T1))).astype(np.float32)
DECAY, RECOVERY = (
    x + 0.01 * RNG.standard_normal(x.shape).astype(np.float32)
    for x in (DECAY, RECOVERY)
)
PHASED = (DECAY * np.exp(0.4j)).astype(np.complex64)
WEIGHTS = RNG.uniform(0.5, 2, DECAY.shape).astype(np.float32)
DEVIATION = RNG.uniform(0.01, 0.03, 8).astype(np.float32)
COVARIANCE = (DEVIATION**2 * (np.eye(4) + 0.2)[..., None]).astype(np.float32)
SPIN, INVERSION = mri.signal_model("t2"), mri.signal_model("t1_ir3")
ERNST = functools.partial(mri.signal_vfa, repetition_time=0.015)
ANGLES = np.deg2rad([3.0, 8.0, 15.0]).astype(np.float32)
TRAINS = {
    "protocol": mri.Mp2rage((0.8, 2.7), (0.12, 0.09), 6.0, 0.0067, (80, 80), 0.96)
}
UNIFORM = np.linspace(-0.3, 0.45, 8, dtype=np.float32)


def weighted(images, weights, times):
    return mri.fit_map(images, times, model=SPIN, weights=weights, noise="known")


def equal(images, times):
    """The weights are a constant, which is not divided over the mesh as images are."""
    return weighted(images, jnp.ones(images.shape), times)


def posterior(images, u, times=TE):
    found = mri.fit_posterior(
        images, times, u, model=SPIN, low=0.01, high=1.0, points=32
    )
    return found._replace(quantiles=jnp.moveaxis(found.quantiles, 0, -1))


def covered(images, covariance, times):
    found = mri.fit_posterior(
        images, times, covariance, model=SPIN, points=32, amplitude="marginalised"
    )
    return found.mean, found.sd


def bound(s0, t2, times, weights, sd):
    return mri.cramer_rao_bound(
        times,
        model=SPIN,
        params={"s0": s0, "t2": t2},
        noise_sd=sd,
        weights=weights,
    )


def curvature(images):
    """Voxels do not mix: the sum's second derivative along ones is each voxel's own."""

    def total(y):
        return mri.fit_map(y, TE, model=SPIN).params["t2"].sum()

    gradient = jax.grad(total)
    return jax.jvp(gradient, (images,), (jnp.ones_like(images),))[1]


CALLS = [
    Call("fit_map[t2]", functools.partial(mri.fit_map, model=SPIN), (DECAY, TE)),
    Call("fit_map[weights]", weighted, (DECAY, WEIGHTS, TE), rtol=1e-4),
    Call("fit_map[weights on every device]", equal, (DECAY, TE), rtol=1e-4),
    Call(
        "fit_posterior[u on every device]",
        lambda images: posterior(images, jnp.full(images.shape[1:], 0.02)),
        (DECAY,),
        rtol=1e-4,
    ),
    Call("fit_map[complex]", functools.partial(mri.fit_map, model=SPIN), (PHASED, TE)),
    Call(
        "fit_map[magnitude]",
        functools.partial(mri.fit_map, model=INVERSION, magnitude=True),
        (np.abs(RECOVERY), TI),
    ),
    Call("fit_map[second derivative]", curvature, (DECAY,)),
    Call("fit_posterior", posterior, (DECAY, DEVIATION, TE), rtol=1e-4),
    Call("fit_posterior[covariance]", covered, (PHASED, COVARIANCE, TE), rtol=1e-4),
    Call("cramer_rao_bound", bound, (S0, T2, TE, WEIGHTS, S0)),
    Call(
        "signal",
        lambda s0, t2, times: mri.signal(SPIN, {"s0": s0, "t2": t2}, times),
        (S0, T2, TE),
    ),
    Call("signal_t2", mri.signal_t2, (S0, T2, TE)),
    Call("signal_t1_ir", mri.signal_t1_ir, (S0, T1, TI)),
    Call("signal_saturation_recovery", mri.signal_saturation_recovery, (S0, T1, TI)),
    Call("signal_vfa", ERNST, (S0, T1, ANGLES)),
    Call("mp2rage_signals", functools.partial(mri.mp2rage_signals, **TRAINS), (T1,)),
    Call("mp2rage_uniform", mri.mp2rage_uniform, (S0, T1)),
    Call("mp2rage_t1", functools.partial(mri.mp2rage_t1, **TRAINS), (UNIFORM,)),
]


def _batch(array):
    return None if array.ndim == 1 and len(array) != 8 else array.ndim - 1


CALLS = [
    call._replace(
        batch=tuple(map(_batch, call.arrays)),
        out=1 if call.name.startswith("signal") or "derivative" in call.name else 0,
    )
    for call in CALLS
]

HOST = {
    "FitResult": "a record",
    "FitStatus": "numbers with names",
    "Mp2rage": "a record",
    "PosteriorFit": "a record",
    "SignalModel": "a record",
    "check_times": "reads concrete times",
    "exponential_basis": "a NumPy table",
    "inversion_recovery_basis": "a NumPy table",
    "signal_model": "a name",
    "vfa_model": "a number",
}
