"""medjax: medical-imaging systems as pure functions in JAX.

What other code imports most often is named here, and its module is imported when the
name is first used: fitting a map needs no network library. Every part is importable by
its path as well.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see
    from medjax import models as models
    from medjax import mri as mri
    from medjax import rl as rl
    from medjax.models.qwen25vl.export import save_qwen25vl
    from medjax.models.qwen25vl.policy import completion_logps, encode_images, prefill
    from medjax.models.qwen25vl.weights import load_qwen25vl
    from medjax.mri import (
        FitResult,
        FitStatus,
        calibration_size,
        cg_sense,
        conjugate_gradient,
        cramer_rao_bound,
        estimate_sensitivities,
        exponential_basis,
        fit_map,
        inversion_recovery_basis,
        low_rank_sense,
        monte_carlo_moments,
        sense_adjoint,
        sense_forward,
        signal_model,
        signal_saturation_recovery,
        signal_t1_ir,
        signal_t2,
        signal_vfa,
        smooth_phase,
        subspace_sense,
        undersampling_mask,
        unrolled_reconstruction,
        wavelet_sense,
    )
    from medjax.rl import (
        ThresholdSchedule,
        ThresholdState,
        box_iou,
        build_tables,
        combine_rewards,
        convert_boxes,
        cosine_schedule,
        fixed_schedule,
        format_reward,
        fuzzy_grade_reward,
        generalized_box_iou,
        grade_table,
        group_advantages,
        grpo_loss,
        importance_weights,
        init_threshold,
        label_forms,
        label_reward,
        label_tables,
        linear_schedule,
        parse_completions,
        parse_labels,
        piecewise_schedule,
        progress_reward,
        raw_iou_reward,
        recitation_reward,
        recitation_tables,
        smart_resize,
        threshold_reward,
        update_threshold,
    )
    from medjax.systems.policy.qwen25vl import sample
    from medjax.types import Images, Prompt, Rollout, Segment, System, TrainState

__version__ = "0.2.0"

__all__ = [
    "FitResult",
    "FitStatus",
    "Images",
    "Prompt",
    "Rollout",
    "Segment",
    "System",
    "ThresholdSchedule",
    "ThresholdState",
    "TrainState",
    "box_iou",
    "build_tables",
    "calibration_size",
    "cg_sense",
    "combine_rewards",
    "completion_logps",
    "conjugate_gradient",
    "convert_boxes",
    "cosine_schedule",
    "cramer_rao_bound",
    "encode_images",
    "estimate_sensitivities",
    "exponential_basis",
    "fit_map",
    "fixed_schedule",
    "format_reward",
    "fuzzy_grade_reward",
    "generalized_box_iou",
    "grade_table",
    "group_advantages",
    "grpo_loss",
    "importance_weights",
    "init_threshold",
    "inversion_recovery_basis",
    "label_forms",
    "label_reward",
    "label_tables",
    "linear_schedule",
    "load_qwen25vl",
    "low_rank_sense",
    "monte_carlo_moments",
    "parse_completions",
    "parse_labels",
    "piecewise_schedule",
    "prefill",
    "progress_reward",
    "raw_iou_reward",
    "recitation_reward",
    "recitation_tables",
    "sample",
    "save_qwen25vl",
    "sense_adjoint",
    "sense_forward",
    "signal_model",
    "signal_saturation_recovery",
    "signal_t1_ir",
    "signal_t2",
    "signal_vfa",
    "smart_resize",
    "smooth_phase",
    "subspace_sense",
    "threshold_reward",
    "undersampling_mask",
    "unrolled_reconstruction",
    "update_threshold",
    "wavelet_sense",
]

NAMES = {
    "FitResult": "medjax.mri",
    "FitStatus": "medjax.mri",
    "Images": "medjax.types",
    "Prompt": "medjax.types",
    "Rollout": "medjax.types",
    "Segment": "medjax.types",
    "System": "medjax.types",
    "ThresholdSchedule": "medjax.rl",
    "ThresholdState": "medjax.rl",
    "TrainState": "medjax.types",
    "box_iou": "medjax.rl",
    "build_tables": "medjax.rl",
    "calibration_size": "medjax.mri",
    "cg_sense": "medjax.mri",
    "combine_rewards": "medjax.rl",
    "completion_logps": "medjax.models.qwen25vl.policy",
    "conjugate_gradient": "medjax.mri",
    "convert_boxes": "medjax.rl",
    "cosine_schedule": "medjax.rl",
    "cramer_rao_bound": "medjax.mri",
    "encode_images": "medjax.models.qwen25vl.policy",
    "estimate_sensitivities": "medjax.mri",
    "exponential_basis": "medjax.mri",
    "fit_map": "medjax.mri",
    "fixed_schedule": "medjax.rl",
    "format_reward": "medjax.rl",
    "fuzzy_grade_reward": "medjax.rl",
    "generalized_box_iou": "medjax.rl",
    "grade_table": "medjax.rl",
    "group_advantages": "medjax.rl",
    "grpo_loss": "medjax.rl",
    "importance_weights": "medjax.rl",
    "init_threshold": "medjax.rl",
    "inversion_recovery_basis": "medjax.mri",
    "label_forms": "medjax.rl",
    "label_reward": "medjax.rl",
    "label_tables": "medjax.rl",
    "linear_schedule": "medjax.rl",
    "load_qwen25vl": "medjax.models.qwen25vl.weights",
    "low_rank_sense": "medjax.mri",
    "monte_carlo_moments": "medjax.mri",
    "parse_completions": "medjax.rl",
    "parse_labels": "medjax.rl",
    "piecewise_schedule": "medjax.rl",
    "prefill": "medjax.models.qwen25vl.policy",
    "progress_reward": "medjax.rl",
    "raw_iou_reward": "medjax.rl",
    "recitation_reward": "medjax.rl",
    "recitation_tables": "medjax.rl",
    "sample": "medjax.systems.policy.qwen25vl",
    "save_qwen25vl": "medjax.models.qwen25vl.export",
    "sense_adjoint": "medjax.mri",
    "sense_forward": "medjax.mri",
    "signal_model": "medjax.mri",
    "signal_saturation_recovery": "medjax.mri",
    "signal_t1_ir": "medjax.mri",
    "signal_t2": "medjax.mri",
    "signal_vfa": "medjax.mri",
    "smart_resize": "medjax.rl",
    "smooth_phase": "medjax.mri",
    "subspace_sense": "medjax.mri",
    "threshold_reward": "medjax.rl",
    "undersampling_mask": "medjax.mri",
    "unrolled_reconstruction": "medjax.mri",
    "update_threshold": "medjax.rl",
    "wavelet_sense": "medjax.mri",
}


ROOMS = ("models", "mri", "rl")


def __getattr__(name: str) -> Any:
    """A public name out of its module, or a room of the package (PEP 562)."""
    if name in NAMES:
        return getattr(importlib.import_module(NAMES[name]), name)
    if name in ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Every public name, used before or not."""
    return sorted({*globals(), *NAMES, *ROOMS})
