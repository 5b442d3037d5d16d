"""medjax: medical-imaging systems as pure functions in JAX.

What other code imports most often is named here; every part is importable by its path.
"""

from medjax.models.qwen25vl.export import save_qwen25vl
from medjax.models.qwen25vl.policy import completion_logps
from medjax.models.qwen25vl.weights import load_qwen25vl
from medjax.mri.bounds import cramer_rao_bound
from medjax.mri.cg import conjugate_gradient
from medjax.mri.espirit import estimate_sensitivities
from medjax.mri.fit import FitResult, fit_map
from medjax.mri.masks import undersampling_mask
from medjax.mri.moments import monte_carlo_moments
from medjax.mri.reconstruct import (
    cg_sense,
    low_rank_sense,
    subspace_sense,
    wavelet_sense,
)
from medjax.mri.samples import FitStatus
from medjax.mri.sense import sense_adjoint, sense_forward
from medjax.mri.signal import signal_model, signal_t1_ir, signal_t2
from medjax.mri.unroll import unrolled_reconstruction
from medjax.rl.advantages import group_advantages
from medjax.rl.boxes import box_iou, convert_boxes, generalized_box_iou, smart_resize
from medjax.rl.grpo import grpo_loss
from medjax.rl.label_rewards import fuzzy_grade_reward, label_reward
from medjax.rl.rewards import combine_rewards, format_reward, threshold_reward
from medjax.rl.schedules import ThresholdSchedule, piecewise_schedule
from medjax.rl.text.boxes import parse_completions
from medjax.rl.text.labels import parse_labels
from medjax.rl.text.recitation import recitation_reward
from medjax.rl.threshold import ThresholdState, init_threshold, update_threshold
from medjax.systems.policy.qwen25vl import sample
from medjax.types import Rollout, System, TrainState

__version__ = "0.2.0"

__all__ = [
    "FitResult",
    "FitStatus",
    "Rollout",
    "System",
    "ThresholdSchedule",
    "ThresholdState",
    "TrainState",
    "box_iou",
    "cg_sense",
    "combine_rewards",
    "completion_logps",
    "conjugate_gradient",
    "convert_boxes",
    "cramer_rao_bound",
    "estimate_sensitivities",
    "fit_map",
    "format_reward",
    "fuzzy_grade_reward",
    "generalized_box_iou",
    "group_advantages",
    "grpo_loss",
    "init_threshold",
    "label_reward",
    "load_qwen25vl",
    "low_rank_sense",
    "monte_carlo_moments",
    "parse_completions",
    "parse_labels",
    "piecewise_schedule",
    "recitation_reward",
    "sample",
    "save_qwen25vl",
    "sense_adjoint",
    "sense_forward",
    "signal_model",
    "signal_t1_ir",
    "signal_t2",
    "smart_resize",
    "subspace_sense",
    "threshold_reward",
    "undersampling_mask",
    "unrolled_reconstruction",
    "update_threshold",
    "wavelet_sense",
]
