"""Calls of `medjax.mri` on scans as they come: magnitudes, trains, moved slices."""

import functools

import jax
import numpy as np

from medjax import mri
from tests.reuse.calls import Call

B, E, H, W = 8, 4, 6, 8
RNG = np.random.default_rng(0)
TE = np.array([0.015, 0.03, 0.045, 0.06], np.float32)
MODEL, TRAIN = mri.signal_model("t2"), mri.signal_model("t2_epg")
T2 = RNG.uniform(0.04, 0.1, (B, H, W)).astype(np.float32)
ANGLE = RNG.uniform(2.1, 2.9, B).astype(np.float32)
NOISE = np.float32(0.05)


def magnitudes(curves):
    """Of one coil, with noise."""
    parts = NOISE * RNG.standard_normal((2, *curves.shape))
    return np.hypot(curves + parts[0], parts[1]).astype(np.float32)


SLICES = magnitudes(np.exp(-TE[:, None, None, None] / T2))
VOXELS = SLICES[:, :, 0, 0]
with jax.enable_x64(False):
    ECHOES = np.asarray(mri.signal_t2_epg(np.ones_like(ANGLE), T2[:, 0, 0], ANGLE, TE))
    FIT = jax.tree.map(np.asarray, mri.fit_map(SLICES, TE, model=MODEL))
ECHOES = ECHOES + 0.002 * RNG.standard_normal(ECHOES.shape).astype(np.float32)
BRIGHT = T2 > 0.06
SUMS = mri.ContrastSums(
    *(RNG.uniform(1, 2, shape).astype(np.float32) for shape in [(B,)] + [(B, E)] * 4)
)
# A head that lies elsewhere in each contrast, by whole points
HEAD = np.zeros((B, 1, 32, 34), np.float32)
HEAD[..., 8:18, 10:24] = RNG.uniform(1, 2, (B, 1, 10, 14))
MOVED = np.stack([np.roll(HEAD[:, 0], (e, -e), (1, 2)) / (1 + e) for e in range(3)])
MOVES = RNG.uniform(-2, 2, (B, 2)).astype(np.float32)
FIT_AXES = jax.tree.map(lambda _: 0, FIT)

CALLS = [
    Call(
        "expected_magnitude",
        lambda signal, noise: mri.expected_magnitude(signal, noise=noise),
        (VOXELS[0], np.full(B, NOISE)),
        (0, 0),
    ),
    Call(
        "expected_magnitude[coils]",
        functools.partial(mri.expected_magnitude, noise=0.05, coils=3),
        (VOXELS,),
        (1,),
        out=1,
    ),
    Call(
        "fit_magnitudes",
        lambda y, noise: mri.fit_magnitudes(y, TE, model=MODEL, noise=noise),
        (VOXELS, np.full(B, NOISE)),
        (1, 0),
        rtol=1e-3,  # six fits in a row, whose data is what the one before left
        atol=1e-4,
    ),
    Call(
        "signal_t2_epg",
        lambda t2, angle: mri.signal_t2_epg(1.0, t2, angle, TE),
        (T2[:, 0, 0], ANGLE),
        (0, 0),
        out=1,
    ),
    Call(
        "fit_map[t2_epg]",
        functools.partial(mri.fit_map, times=TE, model=TRAIN),
        (ECHOES,),
        (1,),
        rtol=1e-2,  # the angle of a noisy train is a flat direction of the cost
        atol=1e-4,
    ),
    Call("bright_voxels", mri.bright_voxels, (SLICES, FIT), (1, FIT_AXES)),
    Call(
        "residual_by_contrast",
        lambda y, fit, bright: mri.residual_by_contrast(y, TE, fit, MODEL, bright),
        (SLICES, FIT, BRIGHT),
        (1, FIT_AXES, 0),
    ),
    Call(
        "residual_by_contrast[coils]",
        lambda y, fit, bright: mri.residual_by_contrast(
            y, TE, fit, MODEL, bright, coils=1
        ),
        (SLICES, FIT, BRIGHT),
        (1, FIT_AXES, 0),
    ),
    Call("even_odd_misfit", mri.even_odd_misfit, (SUMS,), (0,)),
    Call("contrast_motion", mri.contrast_motion, (MOVED,), (1,), out=1, rtol=1e-3),
    Call("move_rigid", mri.move_rigid, (HEAD[:, 0], MOVES, ANGLE / 20), (0, 0, 0)),
    Call(
        "move_rigid[inverse]",
        functools.partial(mri.move_rigid, inverse=True),
        (HEAD[:, 0], MOVES, ANGLE / 20),
        (0, 0, 0),
    ),
]

HOST = {
    "background_noise": "NumPy, reads values",
    "clipped_samples": "NumPy, reads values",
}
