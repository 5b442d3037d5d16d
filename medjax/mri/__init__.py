"""MR physics and inverse problems, on arrays: what other code may call, by name."""

from jax.export import register_namedtuple_serialization

from medjax.mri.background import (
    Background,
    Clipped,
    background_noise,
    clipped_samples,
)
from medjax.mri.bounds import cramer_rao_bound
from medjax.mri.catalogue import signal_model, vfa_model
from medjax.mri.cg import CgInfo, conjugate_gradient
from medjax.mri.checks import check_acquisition, sampled_points
from medjax.mri.compression import compress_sensitivities, compression_matrix
from medjax.mri.espirit import estimate_sensitivities
from medjax.mri.fit import FitResult, fit_map
from medjax.mri.fourier import fft2c, ifft2c
from medjax.mri.halves import HalfScores, Halves, half_lines, half_scores
from medjax.mri.held_out import (
    Held,
    HeldOutWeight,
    held_out_misfit,
    held_out_weight,
    hold_out_lines,
)
from medjax.mri.magnitude import expected_magnitude, fit_magnitudes
from medjax.mri.masks import calibration_size, undersampling_mask
from medjax.mri.model import SignalModel
from medjax.mri.moments import monte_carlo_moments
from medjax.mri.motion import Motion, contrast_motion, move_rigid
from medjax.mri.mp2rage import (
    Mp2rage,
    mp2rage_signals,
    mp2rage_t1,
    mp2rage_uniform,
)
from medjax.mri.noise import (
    combined_variance,
    noise_covariance,
    prewhiten,
    replica_variance,
    sense_variance,
    whitening_matrix,
)
from medjax.mri.offsets import Offsets, contrast_offsets
from medjax.mri.partition import batch_fft
from medjax.mri.phase import PhaseMisfit, phase_misfit, smooth_phase
from medjax.mri.posterior import PosteriorFit, fit_posterior
from medjax.mri.proximal import (
    low_rank_prox,
    random_shift,
    soft_threshold,
    wavelet_prox,
)
from medjax.mri.proximal_gradient import fista
from medjax.mri.reconstruct import cg_sense, subspace_sense, zero_filled
from medjax.mri.residuals import (
    ContrastSums,
    bright_voxels,
    even_odd_misfit,
    residual_by_contrast,
)
from medjax.mri.samples import FitStatus
from medjax.mri.sense import (
    combine_coils,
    mix_coils,
    normalize_sensitivities,
    root_sum_of_squares,
    sense_adjoint,
    sense_forward,
    sense_normal,
)
from medjax.mri.signals import (
    signal,
    signal_saturation_recovery,
    signal_t1_ir,
    signal_t2,
    signal_t2_epg,
    signal_vfa,
)
from medjax.mri.sparse import low_rank_sense, wavelet_sense
from medjax.mri.subspace import (
    expand,
    exponential_basis,
    inversion_recovery_basis,
    project,
    subspace_kernel,
    subspace_normal,
)
from medjax.mri.times import check_times
from medjax.mri.total_variation import (
    Differences,
    JointTvProx,
    divergence,
    image_differences,
    joint_total_variation,
    joint_tv_prox,
    joint_tv_sense,
)
from medjax.mri.uncertainty import (
    change_level,
    error_sd,
    gradient_level,
    held_out_level,
    replica_level,
    residual_level,
    rms_level,
)
from medjax.mri.unroll import unrolled_reconstruction
from medjax.mri.wavelet import (
    daubechies_filter,
    detail_mask,
    inverse_wavelet_transform,
    pad_to_multiple,
    wavelet_transform,
)

__all__ = [
    "Background",
    "CgInfo",
    "Clipped",
    "ContrastSums",
    "Differences",
    "FitResult",
    "FitStatus",
    "HalfScores",
    "Halves",
    "Held",
    "HeldOutWeight",
    "JointTvProx",
    "Motion",
    "Mp2rage",
    "Offsets",
    "PhaseMisfit",
    "PosteriorFit",
    "SignalModel",
    "background_noise",
    "batch_fft",
    "bright_voxels",
    "calibration_size",
    "cg_sense",
    "change_level",
    "check_acquisition",
    "check_times",
    "clipped_samples",
    "combine_coils",
    "combined_variance",
    "compress_sensitivities",
    "compression_matrix",
    "conjugate_gradient",
    "contrast_motion",
    "contrast_offsets",
    "cramer_rao_bound",
    "daubechies_filter",
    "detail_mask",
    "divergence",
    "error_sd",
    "estimate_sensitivities",
    "even_odd_misfit",
    "expand",
    "expected_magnitude",
    "exponential_basis",
    "fft2c",
    "fista",
    "fit_magnitudes",
    "fit_map",
    "fit_posterior",
    "gradient_level",
    "half_lines",
    "half_scores",
    "held_out_level",
    "held_out_misfit",
    "held_out_weight",
    "hold_out_lines",
    "ifft2c",
    "image_differences",
    "inverse_wavelet_transform",
    "inversion_recovery_basis",
    "joint_total_variation",
    "joint_tv_prox",
    "joint_tv_sense",
    "low_rank_prox",
    "low_rank_sense",
    "mix_coils",
    "monte_carlo_moments",
    "move_rigid",
    "mp2rage_signals",
    "mp2rage_t1",
    "mp2rage_uniform",
    "noise_covariance",
    "normalize_sensitivities",
    "pad_to_multiple",
    "phase_misfit",
    "prewhiten",
    "project",
    "random_shift",
    "replica_level",
    "replica_variance",
    "residual_by_contrast",
    "residual_level",
    "rms_level",
    "root_sum_of_squares",
    "sampled_points",
    "sense_adjoint",
    "sense_forward",
    "sense_normal",
    "sense_variance",
    "signal",
    "signal_model",
    "signal_saturation_recovery",
    "signal_t1_ir",
    "signal_t2",
    "signal_t2_epg",
    "signal_vfa",
    "smooth_phase",
    "soft_threshold",
    "subspace_kernel",
    "subspace_normal",
    "subspace_sense",
    "undersampling_mask",
    "unrolled_reconstruction",
    "vfa_model",
    "wavelet_prox",
    "wavelet_sense",
    "wavelet_transform",
    "whitening_matrix",
    "zero_filled",
]

# So that programs with it as a result can be written and read.
for _record in (
    CgInfo,
    ContrastSums,
    Differences,
    FitResult,
    HalfScores,
    Halves,
    Held,
    HeldOutWeight,
    JointTvProx,
    Motion,
    Offsets,
    PhaseMisfit,
    PosteriorFit,
):
    register_namedtuple_serialization(
        _record, serialized_name=f"medjax.mri.{_record.__name__}"
    )
