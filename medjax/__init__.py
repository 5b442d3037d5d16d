"""medjax: medical-imaging systems as pure functions in JAX.

What other code imports most often is named here; every part is importable by its path.
"""

from medjax.models.qwen25vl.export import save_qwen25vl
from medjax.models.qwen25vl.policy import completion_logps
from medjax.models.qwen25vl.weights import load_qwen25vl
from medjax.rl.advantages import group_advantages
from medjax.rl.boxes import box_iou, convert_boxes, generalized_box_iou, smart_resize
from medjax.rl.grpo import grpo_loss
from medjax.rl.parse import parse_completions
from medjax.rl.rewards import combine_rewards, format_reward, threshold_reward
from medjax.rl.schedules import ThresholdSchedule, piecewise_schedule
from medjax.rl.threshold import ThresholdState, init_threshold, update_threshold
from medjax.systems.rollout import sample
from medjax.types import Rollout, System, TrainState

__version__ = "0.1.0"

__all__ = [
    "Rollout",
    "System",
    "ThresholdSchedule",
    "ThresholdState",
    "TrainState",
    "box_iou",
    "combine_rewards",
    "completion_logps",
    "convert_boxes",
    "format_reward",
    "generalized_box_iou",
    "group_advantages",
    "grpo_loss",
    "init_threshold",
    "load_qwen25vl",
    "parse_completions",
    "piecewise_schedule",
    "sample",
    "save_qwen25vl",
    "smart_resize",
    "threshold_reward",
    "update_threshold",
]
