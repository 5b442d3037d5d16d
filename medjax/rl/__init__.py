"""Reinforcement learning on arrays: boxes, rewards, advantages, losses, thresholds.

Every function here is pure, works under jit, vmap and grad, and knows no model. Those
that read completions need tables of the tokenizer's vocabulary (`build_tables`), of
sets of boxes (`box_set_tables`), of the classes (`label_tables`) or of their
descriptions (`recitation_tables`).
"""

from jax.export import register_namedtuple_serialization

from medjax.rl.advantages import (
    GroupStatistics,
    gdpo_advantages,
    group_advantages,
    group_statistics,
)
from medjax.rl.box_sets import MOST_BOXES, box_set_quality
from medjax.rl.boxes import (
    FRAMES,
    box_iou,
    clip_boxes,
    convert_boxes,
    generalized_box_iou,
    pairwise_box_iou,
    pairwise_generalized_box_iou,
    smart_resize,
)
from medjax.rl.entropy import entropy_bonus
from medjax.rl.grpo import grpo_loss
from medjax.rl.label_rewards import (
    GRADE_RULES,
    check_grade_table,
    fuzzy_grade_reward,
    grade_table,
    label_format_reward,
    label_reward,
)
from medjax.rl.label_set_rewards import (
    SET_RULES,
    label_accuracy,
    label_set_exact,
    label_set_f1,
    label_set_reward,
)
from medjax.rl.off_policy import drop_truncated, importance_weights, off_policy_keep
from medjax.rl.ramps import (
    RampState,
    RewardRamp,
    check_ramp,
    init_ramp,
    ramp_factor,
    update_ramp,
)
from medjax.rl.reductions import loss_denominator, reduce_tokens
from medjax.rl.rewards import (
    combine_rewards,
    format_reward,
    parsed_iou,
    progress_reward,
    progress_threshold,
    raw_iou_reward,
    threshold_reward,
)
from medjax.rl.sampling import Samples, restrict_logits, rollout_keys, sample_loop
from medjax.rl.schedules import (
    COSINE,
    LINEAR,
    PIECEWISE,
    ThresholdSchedule,
    check_schedule,
    cosine_schedule,
    fixed_aggressive_schedule,
    fixed_conservative_schedule,
    fixed_moderate_schedule,
    fixed_schedule,
    linear_schedule,
    piecewise_schedule,
)
from medjax.rl.signal import group_signal, has_signal, reward_signal
from medjax.rl.surrogates import (
    cispo_surrogate,
    clip_surrogate,
    kl_estimate,
    sapo_surrogate,
    vespo_surrogate,
)
from medjax.rl.text.box_set_reader import (
    BoxSetTables,
    box_confidence,
    box_set_tables,
    parse_box_sets,
)
from medjax.rl.text.box_set_text import ParsedSets, parse_box_set_text
from medjax.rl.text.box_text import Parsed, parse_text
from medjax.rl.text.boxes import (
    ParseTables,
    build_tables,
    fold_bytes,
    parse_completions,
)
from medjax.rl.text.label_set_text import (
    ParsedLabelSets,
    label_set_forms,
    parse_label_set_text,
    read_label_set,
)
from medjax.rl.text.label_sets import (
    LabelSetTables,
    label_set_tables,
    parse_label_sets,
)
from medjax.rl.text.label_text import (
    LabelForms,
    ParsedLabels,
    label_forms,
    option_letters,
    parse_label_text,
    read_label,
)
from medjax.rl.text.labels import LabelTables, label_tables, parse_labels
from medjax.rl.text.recitation import bleu, recitation_reward, score_words
from medjax.rl.text.recitation_text import recitation_score, sentence_bleu
from medjax.rl.text.reference_tables import RecitationTables, recitation_tables
from medjax.rl.text.repetition import repeated_ngrams
from medjax.rl.text.word_reader import Words, count_different, read_words
from medjax.rl.text.words import split_words
from medjax.rl.threshold import (
    init_threshold,
    raise_threshold,
    update_threshold,
)
from medjax.rl.visits import (
    VisitState,
    init_visits,
    is_settled,
    pick_prompts,
    update_visits,
)
from medjax.rl.window import RaiseLog, ThresholdState, window_statistics

__all__ = [
    "COSINE",
    "FRAMES",
    "GRADE_RULES",
    "LINEAR",
    "MOST_BOXES",
    "PIECEWISE",
    "SET_RULES",
    "BoxSetTables",
    "GroupStatistics",
    "LabelForms",
    "LabelSetTables",
    "LabelTables",
    "ParseTables",
    "Parsed",
    "ParsedLabelSets",
    "ParsedLabels",
    "ParsedSets",
    "RaiseLog",
    "RampState",
    "RecitationTables",
    "RewardRamp",
    "Samples",
    "ThresholdSchedule",
    "ThresholdState",
    "VisitState",
    "Words",
    "bleu",
    "box_confidence",
    "box_iou",
    "box_set_quality",
    "box_set_tables",
    "build_tables",
    "check_grade_table",
    "check_ramp",
    "check_schedule",
    "cispo_surrogate",
    "clip_boxes",
    "clip_surrogate",
    "combine_rewards",
    "convert_boxes",
    "cosine_schedule",
    "count_different",
    "drop_truncated",
    "entropy_bonus",
    "fixed_aggressive_schedule",
    "fixed_conservative_schedule",
    "fixed_moderate_schedule",
    "fixed_schedule",
    "fold_bytes",
    "format_reward",
    "fuzzy_grade_reward",
    "gdpo_advantages",
    "generalized_box_iou",
    "grade_table",
    "group_advantages",
    "group_signal",
    "group_statistics",
    "grpo_loss",
    "has_signal",
    "importance_weights",
    "init_ramp",
    "init_threshold",
    "init_visits",
    "is_settled",
    "kl_estimate",
    "label_accuracy",
    "label_format_reward",
    "label_forms",
    "label_reward",
    "label_set_exact",
    "label_set_f1",
    "label_set_forms",
    "label_set_reward",
    "label_set_tables",
    "label_tables",
    "linear_schedule",
    "loss_denominator",
    "off_policy_keep",
    "option_letters",
    "pairwise_box_iou",
    "pairwise_generalized_box_iou",
    "parse_box_set_text",
    "parse_box_sets",
    "parse_completions",
    "parse_label_set_text",
    "parse_label_sets",
    "parse_label_text",
    "parse_labels",
    "parse_text",
    "parsed_iou",
    "pick_prompts",
    "piecewise_schedule",
    "progress_reward",
    "progress_threshold",
    "raise_threshold",
    "ramp_factor",
    "raw_iou_reward",
    "read_label",
    "read_label_set",
    "read_words",
    "recitation_reward",
    "recitation_score",
    "recitation_tables",
    "reduce_tokens",
    "repeated_ngrams",
    "restrict_logits",
    "reward_signal",
    "rollout_keys",
    "sample_loop",
    "sapo_surrogate",
    "score_words",
    "sentence_bleu",
    "smart_resize",
    "split_words",
    "threshold_reward",
    "update_ramp",
    "update_threshold",
    "update_visits",
    "vespo_surrogate",
    "window_statistics",
]

# So that programs with them as arguments or results can be written and read.
for _record in (
    BoxSetTables,
    GroupStatistics,
    LabelSetTables,
    LabelTables,
    ParseTables,
    Parsed,
    ParsedLabelSets,
    ParsedLabels,
    ParsedSets,
    RaiseLog,
    RampState,
    RecitationTables,
    Samples,
    ThresholdState,
    VisitState,
    Words,
):
    register_namedtuple_serialization(
        _record, serialized_name=f"medjax.rl.{_record.__name__}"
    )
