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
    from medjax.rl.advantages import group_advantages
    from medjax.rl.boxes import (
        box_iou,
        convert_boxes,
        generalized_box_iou,
        smart_resize,
    )
    from medjax.rl.grpo import grpo_loss
    from medjax.rl.label_rewards import fuzzy_grade_reward, grade_table, label_reward
    from medjax.rl.rewards import (
        combine_rewards,
        format_reward,
        progress_reward,
        raw_iou_reward,
        threshold_reward,
    )
    from medjax.rl.schedules import (
        ThresholdSchedule,
        cosine_schedule,
        fixed_schedule,
        linear_schedule,
        piecewise_schedule,
    )
    from medjax.rl.surrogates import importance_weights
    from medjax.rl.text.boxes import build_tables, parse_completions
    from medjax.rl.text.label_text import label_forms
    from medjax.rl.text.labels import label_tables, parse_labels
    from medjax.rl.text.recitation import recitation_reward
    from medjax.rl.text.recitation_tables import recitation_tables
    from medjax.rl.threshold import ThresholdState, init_threshold, update_threshold
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
    "ThresholdSchedule": "medjax.rl.schedules",
    "ThresholdState": "medjax.rl.threshold",
    "TrainState": "medjax.types",
    "box_iou": "medjax.rl.boxes",
    "build_tables": "medjax.rl.text.boxes",
    "calibration_size": "medjax.mri",
    "cg_sense": "medjax.mri",
    "combine_rewards": "medjax.rl.rewards",
    "completion_logps": "medjax.models.qwen25vl.policy",
    "conjugate_gradient": "medjax.mri",
    "convert_boxes": "medjax.rl.boxes",
    "cosine_schedule": "medjax.rl.schedules",
    "cramer_rao_bound": "medjax.mri",
    "encode_images": "medjax.models.qwen25vl.policy",
    "estimate_sensitivities": "medjax.mri",
    "exponential_basis": "medjax.mri",
    "fit_map": "medjax.mri",
    "fixed_schedule": "medjax.rl.schedules",
    "format_reward": "medjax.rl.rewards",
    "fuzzy_grade_reward": "medjax.rl.label_rewards",
    "generalized_box_iou": "medjax.rl.boxes",
    "grade_table": "medjax.rl.label_rewards",
    "group_advantages": "medjax.rl.advantages",
    "grpo_loss": "medjax.rl.grpo",
    "importance_weights": "medjax.rl.surrogates",
    "init_threshold": "medjax.rl.threshold",
    "inversion_recovery_basis": "medjax.mri",
    "label_forms": "medjax.rl.text.label_text",
    "label_reward": "medjax.rl.label_rewards",
    "label_tables": "medjax.rl.text.labels",
    "linear_schedule": "medjax.rl.schedules",
    "load_qwen25vl": "medjax.models.qwen25vl.weights",
    "low_rank_sense": "medjax.mri",
    "monte_carlo_moments": "medjax.mri",
    "parse_completions": "medjax.rl.text.boxes",
    "parse_labels": "medjax.rl.text.labels",
    "piecewise_schedule": "medjax.rl.schedules",
    "prefill": "medjax.models.qwen25vl.policy",
    "progress_reward": "medjax.rl.rewards",
    "raw_iou_reward": "medjax.rl.rewards",
    "recitation_reward": "medjax.rl.text.recitation",
    "recitation_tables": "medjax.rl.text.recitation_tables",
    "sample": "medjax.systems.policy.qwen25vl",
    "save_qwen25vl": "medjax.models.qwen25vl.export",
    "sense_adjoint": "medjax.mri",
    "sense_forward": "medjax.mri",
    "signal_model": "medjax.mri",
    "signal_saturation_recovery": "medjax.mri",
    "signal_t1_ir": "medjax.mri",
    "signal_t2": "medjax.mri",
    "signal_vfa": "medjax.mri",
    "smart_resize": "medjax.rl.boxes",
    "smooth_phase": "medjax.mri",
    "subspace_sense": "medjax.mri",
    "threshold_reward": "medjax.rl.rewards",
    "undersampling_mask": "medjax.mri",
    "unrolled_reconstruction": "medjax.mri",
    "update_threshold": "medjax.rl.threshold",
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
