"""Calls of `medjax.mri`: operators, transforms, proximal maps, reconstructions."""

import functools

import jax
import numpy as np

from medjax import mri
from tests.reuse.calls import Call

B, E, C, H, W, K, S = 8, 3, 2, 8, 8, 2, 2
RNG = np.random.default_rng(0)


def draw(*shape):
    parts = RNG.standard_normal((2, *shape))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


SENS = draw(B, C, H, W)
SENS /= np.sqrt(np.sum(np.abs(SENS) ** 2, axis=1, keepdims=True))
SENS[:, :, 0] = 0  # outside the object
MASK = RNG.random((B, E, 1, W)) < 0.6
IMAGES, COILS = draw(B, E, H, W), draw(B, E, C, H, W)
BASIS = np.linalg.qr(RNG.standard_normal((E, K)))[0].astype(np.float32)
KERNEL = np.einsum("ek,beij,el->bklij", BASIS, MASK, BASIS).astype(np.float32)
PHASE = RNG.standard_normal((B, 1, H, W)).astype(np.float32)
MATRIX = draw(B, 2, C)
PROBLEM = (COILS, SENS, MASK)
WEIGHTS = (0.1 * RNG.standard_normal(S)).astype(np.float32)
INTERVALS = np.cumsum(abs(IMAGES), axis=1).swapaxes(0, 1)
EXPONENTS = (np.array([0.5, 0.2, 0.3], np.float32), np.float32(0.1))
DAMPING = np.full(S, 0.2, np.float32)
KEY = jax.random.key_data(jax.random.key(0))  # NumPy, as all arrays of a call
EACH = (0, 0, 0)
ITERATIVE = {"rtol": 1e-3, "atol": 1e-4}  # rounding grows with the steps


def bind(function, **options):
    return functools.partial(function, **options)


def with_key(function, **options):
    """The problem, then a key that is made inside."""

    def call(kspace, sens, mask):
        key = jax.random.wrap_key_data(KEY)
        return function(kspace, sens, mask, key, **options)

    return call


def with_phase(function, **options):
    def call(kspace, sens, mask, phase):
        return function(kspace, sens, mask, constraint="phase", phase=phase, **options)

    return call


def denoise(weight, images):
    return weight.astype(images.dtype) * images.conj(), abs(images).sum((-3, -2, -1))


def unrolled(consistency, **options):
    def call(weights, damping, kspace, sens, mask):
        images, _ = mri.unrolled_reconstruction(
            denoise,
            weights,
            kspace,
            sens,
            mask,
            consistency=consistency,
            damping=damping,
            **options,
        )
        return images

    return call


def least_squares(matrix, rhs):
    """Problems [B, n] whose operator is closed over."""

    def normal(x):
        return (matrix * x[:, None, :]).sum(-1) + x

    return mri.conjugate_gradient(normal, rhs, iterations=4, axes=(-1,))


def lasso(data):
    return mri.fista(
        lambda x: x - data,
        lambda x, _: mri.soft_threshold(x, 0.3),
        data,
        jax.random.wrap_key_data(KEY),
        iterations=3,
    )


def matrices():
    x = RNG.standard_normal((B, 4, 4)).astype(np.float32)
    return x @ x.swapaxes(-1, -2)


def replicas(kspace, sens):
    """Images of the coils' combination, which is linear: noise alone counts."""
    key = jax.random.wrap_key_data(KEY)

    def combine(samples):
        return mri.combine_coils(samples, sens)

    return mri.replica_level(combine, kspace, key, noise=0.5, replicas=2)


def found_weight(kspace, sens, mask):
    """Of the adjoint's shrinkage, from samples at every second column."""
    odd = np.arange(W, dtype=np.int32) % 2 == 1
    start = mri.zero_filled(kspace, sens, mask & ~odd[None, None, None])

    def shrunk(weight):
        return start / (1 + weight[:, None, None, None]).astype(start.dtype)

    found = mri.held_out_weight(
        shrunk,
        kspace,
        sens,
        mask & odd[None, None, None],
        weights=np.array([0.5, 1, 2], np.float32),
        extensions=1,
    )
    return found._replace(weights=found.weights.T, misfit=found.misfit.T)


SOLVE = {"damping": 0.1, "iterations": 3}
SPARSE = {"threshold": 0.1, "iterations": 2}
HAAR = {"levels": 1, "order": 1}

CALLS = [
    Call("batch_fft", bind(mri.batch_fft, axes=(-1,)), (IMAGES,), batch=(0,)),
    Call("batch_fft[inner axis]", bind(mri.batch_fft, axes=(2,)), (IMAGES,), (0,)),
    Call("fft2c", mri.fft2c, (IMAGES,), batch=(0,)),
    Call("fft2c[real]", mri.fft2c, (IMAGES.real,), batch=(0,)),
    Call("ifft2c", mri.ifft2c, (IMAGES,), batch=(0,)),
    Call("sense_forward", mri.sense_forward, (IMAGES, SENS, MASK), batch=EACH),
    Call("sense_forward[shared]", mri.sense_forward, (IMAGES, SENS[:1]), (0, None)),
    Call("sense_adjoint", mri.sense_adjoint, PROBLEM, batch=EACH),
    Call("sense_normal", mri.sense_normal, (IMAGES, SENS, MASK), batch=EACH),
    Call("sense_normal[no mask]", mri.sense_normal, (IMAGES.real, SENS), (0, 0)),
    Call(
        "sense_normal[mask alone]",
        mri.sense_normal,
        (IMAGES[:1], SENS[:1], MASK),
        batch=(None, None, 0),
    ),
    Call("combine_coils", mri.combine_coils, (COILS, SENS), batch=(0, 0)),
    Call(
        "normalize_sensitivities",
        bind(mri.normalize_sensitivities, floor=0.1),
        (SENS,),
        batch=(0,),
    ),
    Call("mix_coils", mri.mix_coils, (COILS, MATRIX), batch=(0, 0)),
    Call("root_sum_of_squares", mri.root_sum_of_squares, (COILS,), batch=(0,)),
    Call("project", mri.project, (IMAGES, BASIS), batch=(0, None)),
    Call("expand", mri.expand, (IMAGES[:, :K], BASIS), batch=(0, None)),
    Call("subspace_kernel", mri.subspace_kernel, (MASK, BASIS), batch=(0, None)),
    Call("subspace_normal", mri.subspace_normal, (IMAGES[:, :K], SENS, KERNEL), EACH),
    Call("soft_threshold", mri.soft_threshold, (IMAGES, 0.5), batch=(0, None)),
    Call("wavelet_prox", bind(mri.wavelet_prox, **HAAR), (IMAGES, 0.2), (0, None)),
    Call(
        "wavelet_prox[padded, shifted]",
        lambda x, shift: mri.wavelet_prox(x, 0.2, levels=2, shift=(shift, 1)),
        (IMAGES[..., :7], np.int32(3)),
        batch=(0, None),
    ),
    Call("low_rank_prox", bind(mri.low_rank_prox, block=4), (IMAGES, 1.0), (0, None)),
    Call(
        "low_rank_prox[cut, shifted]",
        lambda x, shift: mri.low_rank_prox(x, 1.0, block=3, shift=(shift, 1)),
        (IMAGES, np.int32(2)),
        batch=(0, None),
    ),
    Call(
        "random_shift",
        lambda bits: mri.random_shift(jax.random.wrap_key_data(bits), 8),
        (KEY,),
        batch=(None,),
        out=None,
        gathered=lambda bits: mri.random_shift(jax.random.wrap_key_data(bits), 8),
    ),
    Call("wavelet_transform", bind(mri.wavelet_transform, levels=2), (IMAGES,), (0,)),
    Call(
        "inverse_wavelet_transform",
        bind(mri.inverse_wavelet_transform, levels=2),
        (IMAGES,),
        batch=(0,),
    ),
    Call("pad_to_multiple", bind(mri.pad_to_multiple, multiple=5), (IMAGES,), (0,)),
    Call(
        "conjugate_gradient",
        least_squares,
        (matrices(), IMAGES.real[:, 0, 0, :4]),
        batch=(0, 0),
    ),
    Call(
        "conjugate_gradient[operator]",
        lambda matrix, rhs: least_squares(matrix, rhs[None].repeat(len(matrix), 0)),
        (matrices(), IMAGES.real[0, 0, 0, :4]),
        batch=(0, None),
    ),
    Call("fista", lasso, (IMAGES,), batch=(0,)),
    Call("zero_filled", mri.zero_filled, PROBLEM, batch=EACH),
    Call(
        "zero_filled[phase]",
        with_phase(mri.zero_filled),
        (*PROBLEM, PHASE),
        batch=(*EACH, 0),
    ),
    Call("cg_sense", bind(mri.cg_sense, **SOLVE), PROBLEM, EACH, **ITERATIVE),
    Call(
        "cg_sense[phase]",
        with_phase(mri.cg_sense, **SOLVE),
        (*PROBLEM, PHASE),
        batch=(*EACH, 0),
        **ITERATIVE,
    ),
    Call(
        "subspace_sense",
        bind(mri.subspace_sense, basis=BASIS, constraint="real", **SOLVE),
        PROBLEM,
        batch=EACH,
        **ITERATIVE,
    ),
    Call(
        "wavelet_sense",
        with_key(mri.wavelet_sense, **SPARSE, **HAAR),
        PROBLEM,
        batch=EACH,
        **ITERATIVE,
    ),
    Call(
        "low_rank_sense",
        with_key(mri.low_rank_sense, block=4, **SPARSE),
        PROBLEM,
        batch=EACH,
        **ITERATIVE,
    ),
    Call(
        "low_rank_sense[basis]",
        with_key(mri.low_rank_sense, block=4, basis=BASIS, **SPARSE),
        PROBLEM,
        batch=EACH,
        **ITERATIVE,
    ),
    Call(
        "half_lines",
        lambda mask: mri.half_lines(mask, jax.random.wrap_key_data(KEY), center=2),
        (MASK,),
    ),
    Call(
        "half_scores",
        mri.half_scores,
        (INTERVALS, 1.1 * INTERVALS, SENS[:, 0].real > 0),
        batch=(1, 1, 0),
    ),
    Call("gradient_level", mri.gradient_level, (IMAGES.real,), batch=(0,)),
    Call("change_level", mri.change_level, (IMAGES.real, IMAGES.imag), batch=(0, 0)),
    Call("residual_level", mri.residual_level, (abs(IMAGES[:, 0]),), batch=(0,)),
    Call("rms_level", mri.rms_level, (IMAGES.real,), batch=(0,)),
    Call("replica_level", replicas, (COILS, SENS)),
    Call(
        "held_out_level",
        lambda misfit, noise: mri.held_out_level(misfit, noise=noise, coils=C),
        (abs(IMAGES[:, 0, 0, 0]), np.float32(0.1)),
        batch=(0, None),
    ),
    Call(
        "error_sd",
        lambda x, w, level: mri.error_sd(x, exponents=w, level=level),
        (abs(IMAGES).swapaxes(0, 1), *EXPONENTS),
        batch=(1, None, None),
    ),
    Call(
        "wavelet_sense[joint]",
        with_key(mri.wavelet_sense, joint=True, **SPARSE, **HAAR),
        PROBLEM,
        batch=EACH,
        **ITERATIVE,
    ),
    Call(
        "joint_tv_sense",
        bind(mri.joint_tv_sense, basis=BASIS, weight=0.1, iterations=2),
        PROBLEM,
        batch=EACH,
        **ITERATIVE,
    ),
    Call("image_differences", mri.image_differences, (IMAGES,), batch=(0,)),
    Call(
        "divergence",
        lambda rows, cols: mri.divergence(mri.Differences(rows, cols)),
        (IMAGES, IMAGES),
        batch=(0, 0),
    ),
    Call("joint_total_variation", mri.joint_total_variation, (IMAGES,), batch=(0,)),
    Call(
        "joint_tv_prox",
        bind(mri.joint_tv_prox, iterations=2),
        (IMAGES, np.full(B, 0.3, np.float32)),
        batch=(0, 0),
    ),
    Call(
        "hold_out_lines",
        lambda mask: mri.hold_out_lines(mask, jax.random.wrap_key_data(KEY), center=0),
        (np.ones((B, E, 1, W), bool),),
    ),
    # The parabola's bend is a difference of numbers that are nearly one.
    Call("held_out_weight", found_weight, PROBLEM, batch=EACH, rtol=1e-3, atol=1e-3),
    Call(
        "contrast_offsets",
        functools.partial(mri.contrast_offsets, steps=1),
        (COILS, IMAGES, SENS, MASK),
        (0, *EACH),
        **ITERATIVE,
    ),
    Call("held_out_misfit", mri.held_out_misfit, (IMAGES, *PROBLEM), batch=(0, *EACH)),
    Call(
        "unrolled_reconstruction[hard]",
        unrolled("hard"),
        (WEIGHTS, DAMPING, *PROBLEM),
        batch=(None, None, *EACH),
        **ITERATIVE,
    ),
    Call(
        "unrolled_reconstruction[cg]",
        unrolled("cg", iterations=2, start_iterations=2, basis=BASIS),
        (WEIGHTS, DAMPING, *PROBLEM),
        batch=(None, None, *EACH),
        **ITERATIVE,
    ),
]

HOST = {
    "exponential_basis": "a table, in NumPy",
    "inversion_recovery_basis": "a table, in NumPy",
    "daubechies_filter": "a table, in NumPy",
    "detail_mask": "a table, in NumPy",
}
