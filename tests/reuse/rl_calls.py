"""Calls of `medjax.rl`, the text functions and the sampler apart (`text_calls.py`)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from medjax import rl
from tests.reuse.calls import Call

RNG = np.random.default_rng(0)
BOXES = np.sort(RNG.uniform(0, 100, (8, 3, 2, 2)).astype(np.float32), axis=-2)
BOXES = BOXES.reshape(8, 3, 4)
SIZES = np.full((8, 3, 2), 100.0, np.float32)
FLAGS = RNG.random((8, 3)) < 0.7
VALID = RNG.random((8, 3)) < 0.8
REWARDS = RNG.random((8, 3)).astype(np.float32)
NAN = np.where(VALID, REWARDS, np.nan).astype(np.float32)  # what does not count is NaN
BOTH = np.stack([NAN, 10 * REWARDS.T.reshape(8, 3)])
LABELS = RNG.integers(-1, 4, (8, 3)).astype(np.int32)
LOGP = -RNG.random((16, 5)).astype(np.float32)
OLD = LOGP + 0.2 * RNG.standard_normal((16, 5)).astype(np.float32)
MASK = np.arange(5) < RNG.integers(0, 6, (16, 1))
ADVANTAGES = RNG.standard_normal(16).astype(np.float32)
COLUMN = ADVANTAGES[:, None]
RATIO = np.exp(LOGP - OLD)
SLOPES = np.linspace(0.5, 1.5, 5, dtype=np.float32)
SHOWN, TRUTH = RNG.random((2, 8, 3, 4)) < 0.4  # sets of four labels
STEP = np.int32(3)
SCHEDULE = rl.piecewise_schedule()._replace(window=6)
VISITS = rl.VisitState(np.int32([0, 3, 2, 1, 0, 5]))
RAMP = rl.RewardRamp(steps=4, above=0.5, window=3)
FULL = rl.RampState(np.float32([0.9, 0.8, 0.7]), np.int32(3), np.int32(2))
PARSED = rl.ParsedLabels(
    label=LABELS,
    parsed=FLAGS,
    well_formed=VALID,
    num_answers=np.ones_like(LABELS),
    think=np.stack([0 * LABELS, 5 + LABELS], axis=-1),
    think_words=LABELS + 1,
    answer=np.stack([0 * LABELS, 0 * LABELS], axis=-1),
)
CLIP = {"clip_low": 0.2, "clip_high": 0.3}
WEIGHTS = {"level": "token", "mode": "truncate", "low": 0.9, "high": 1.1}
VESPO = {"k_positive": 2.0, "lambda_positive": 3.0}
VESPO |= {"k_negative": 3.0, "lambda_negative": 2.0}


def bind(function, **options):
    return functools.partial(function, **options)


def over(name, function, arrays, batch, out=None, **options):
    """A call that takes statistics over the batch, so that axes have names."""
    plain = functools.partial(function, **options)
    gathered = functools.partial(plain, axis_name="d")
    return Call(name, plain, arrays, batch, out, gathered)


def state(samples=0):
    """A window one entry short of full, in which every condition holds."""
    start = rl.init_threshold(SCHEDULE, samples=samples, log_size=2)
    start = start._replace(
        hit_rates=np.float32([0, 1, 1, 0.9, 1, 1]),
        ious=np.float32([0, 0.8, 0.8, 0.9, 0.8, 0.9]),
        count=np.int32(5),
        samples=np.full((6, samples), 0.9, np.float32) if samples else None,
    )
    return jax.tree.map(np.asarray, start)


def policy_gradient(slopes, logp, old, advantages, mask, *, axis_name=None, **options):
    """Loss, metrics and gradient by parameters that every device holds."""

    def loss_of(slopes):
        return rl.grpo_loss(
            logp * slopes[None],
            old,
            advantages,
            mask,
            logp_ref=old,
            beta=0.1,
            axis_name=axis_name,
            **CLIP | options,
        )

    return jax.value_and_grad(loss_of, has_aux=True)(slopes)


def combine(a, b, scored, valid, *, axis_name=None):
    return rl.combine_rewards(
        {"a": a, "b": b},
        {"a": 1.0, "b": 0.5},
        scored={"b": scored},
        valid=valid,
        axis_name=axis_name,
    )


def signals(a, scored, valid, *, axis_name=None):
    return rl.reward_signal(
        {"a": a}, scored={"a": scored}, valid=valid, axis_name=axis_name
    )


TOKENS = (LOGP, OLD, ADVANTAGES, MASK)
LOSSES = [
    {"reduction": "grpo"},
    {"reduction": "dapo", "dual_clip": 1.1, "kl_ratio": True},
    {"reduction": "dr_grpo", "max_length": 5, "ratio": "sequence"},
    {"reduction": "luspo", "surrogate": "sapo", "off_policy_threshold": 0.1},
    {"reduction": "bnpo", "surrogate": "cispo", "kl": "k2"},
    {"reduction": "dapo", "surrogate": "vespo"},
]
CALLS = [
    Call("box_iou", rl.box_iou, (BOXES, BOXES[:, ::-1]), batch=(0, 0)),
    Call("generalized_box_iou", rl.generalized_box_iou, (BOXES, BOXES[::-1]), (0, 0)),
    Call(
        "pairwise_box_iou", rl.pairwise_box_iou, (BOXES[:, 0], BOXES[:, 1]), (0, None)
    ),
    Call(
        "pairwise_generalized_box_iou",
        rl.pairwise_generalized_box_iou,
        (BOXES[:, 0], BOXES[:, 1]),
        (0, None),
    ),
    Call(
        "convert_boxes",
        lambda boxes, size: rl.convert_boxes(
            boxes, "original", "unit", size=size, resized=None
        ),
        (jnp.asarray(BOXES), SIZES),
        (0, 0),
    ),
    Call(
        "clip_boxes",
        lambda boxes, size: rl.clip_boxes(boxes, size=size),
        (jnp.asarray(BOXES), 0.5 * SIZES),
        (0, 0),
    ),
    Call(
        "parsed_iou",
        rl.parsed_iou,
        (np.where(FLAGS[..., None], BOXES, np.nan), FLAGS, BOXES[:, :1]),
        (0, 0, 0),
    ),
    Call(
        "box_set_quality",
        rl.box_set_quality,
        (np.where(FLAGS[..., None], BOXES, np.nan), FLAGS, BOXES[:, :2], VALID[:, :2]),
        (0, 0, 0, 0),
    ),
    Call("threshold_reward", bind(rl.threshold_reward, tau=0.5), (REWARDS,), (0,)),
    Call("raw_iou_reward", rl.raw_iou_reward, (REWARDS,), (0,)),
    Call(
        "progress_reward",
        bind(rl.progress_reward, total_steps=9),
        (REWARDS, STEP),
        (0, None),
    ),
    Call("progress_threshold", bind(rl.progress_threshold, total_steps=9), (STEP,)),
    Call("format_reward", rl.format_reward, (FLAGS,), (0,)),
    Call("label_reward", rl.label_reward, (LABELS, np.abs(LABELS)), (0, 0)),
    Call(
        "fuzzy_grade_reward",
        bind(rl.fuzzy_grade_reward, table=(1.0, 0.5)),
        (LABELS, np.abs(LABELS)),
        (0, 0),
    ),
    Call(
        "label_format_reward",
        bind(rl.label_format_reward, min_words=1, require_label=True),
        (PARSED,),
        (0,),
    ),
    *(
        Call(f"{reward.__name__}", reward, (SHOWN, TRUTH, FLAGS), (0, 0, 0))
        for reward in (rl.label_set_f1, rl.label_set_exact, rl.label_accuracy)
    ),
    Call(
        "label_set_reward",
        functools.partial(rl.label_set_reward, "f1"),
        (SHOWN, TRUTH, FLAGS),
        (0, 0, 0),
    ),
    over(
        "combine_rewards",
        combine,
        (REWARDS, NAN, VALID, FLAGS),
        (0, 0, 0, 0),
        (0, 0, None),
    ),
    Call(
        "group_statistics",
        lambda rewards, valid: rl.group_statistics(rewards, valid=valid),
        (NAN, VALID),
        (0, 0),
    ),
    *(
        over(
            f"group_advantages[{scale}]",
            lambda rewards, valid, *, axis_name=None, scale=scale: rl.group_advantages(
                rewards, scale=scale, valid=valid, axis_name=axis_name
            ),
            (NAN, VALID),
            (0, 0),
            0,
        )
        for scale in ("group", "batch", "none")
    ),
    over(
        "gdpo_advantages",
        lambda rewards, scored, valid, *, axis_name=None: rl.gdpo_advantages(
            rewards, [1.0, 0.2], scored=scored, valid=valid, axis_name=axis_name
        ),
        (BOTH, np.stack([VALID, VALID | FLAGS]), FLAGS),
        (1, 1, 0),
        0,
    ),
    Call(
        "has_signal",
        lambda rewards, valid: rl.has_signal(rewards, floor=0.1, valid=valid),
        (NAN, VALID),
        (0, 0),
    ),
    over(
        "group_signal",
        lambda *x, axis_name=None: rl.group_signal(
            *x[:3], valid=x[3], axis_name=axis_name
        ),
        (NAN, FLAGS, FLAGS | VALID, VALID),
        (0, 0, 0, 0),
    ),
    over("reward_signal", signals, (NAN, VALID, FLAGS), (0, 0, 0)),
    *(
        over(
            f"grpo_loss[{options.get('surrogate', options['reduction'])}]",
            policy_gradient,
            (SLOPES, *TOKENS),
            (None, 0, 0, 0, 0),
            **options,
        )
        for options in LOSSES
    ),
    *(
        over(
            f"{function.__name__}[{reduction}]",
            function,
            arrays,
            (0,) * len(arrays),
            reduction=reduction,
            **options,
        )
        for reduction in ("grpo", "dapo", "dr_grpo")
        for function, arrays, options in (
            (rl.reduce_tokens, (LOGP, MASK), {}),
            (rl.loss_denominator, (MASK,), {"max_length": 5}),
            (rl.entropy_bonus, (-LOGP, MASK), {"coefficient": 0.1, "max_length": 5}),
        )
    ),
    Call(
        "clip_surrogate",
        bind(rl.clip_surrogate, dual_clip=1.5, **CLIP),
        (RATIO, COLUMN),
        (0, 0),
    ),
    Call(
        "cispo_surrogate",
        bind(rl.cispo_surrogate, clip_high=0.1),
        (RATIO, COLUMN, LOGP),
        (0, 0, 0),
    ),
    Call(
        "sapo_surrogate",
        bind(rl.sapo_surrogate, temperature_positive=1.0, temperature_negative=1.1),
        (RATIO, COLUMN),
        (0, 0),
    ),
    Call(
        "vespo_surrogate",
        bind(rl.vespo_surrogate, weights=None, **VESPO),
        (LOGP - OLD, COLUMN, LOGP, MASK),
        (0, 0, 0, 0),
    ),
    Call("kl_estimate", bind(rl.kl_estimate, kl="k3", clamp=None), (LOGP, OLD), (0, 0)),
    Call(
        "importance_weights",
        bind(rl.importance_weights, **WEIGHTS),
        (LOGP, np.where(MASK, OLD, -np.inf).astype(np.float32), MASK),
        (0, 0, 0),
    ),
    Call(
        "off_policy_keep",
        bind(rl.off_policy_keep, threshold=0.05),
        (LOGP, OLD, COLUMN, MASK),
        (0, 0, 0, 0),
    ),
    Call("drop_truncated", rl.drop_truncated, (MASK, ADVANTAGES > 0), (0, 0)),
    Call("init_threshold", lambda: rl.init_threshold(SCHEDULE, samples=2), ()),
    Call(
        "raise_threshold",
        bind(rl.raise_threshold, schedule=SCHEDULE),
        (np.float32(0.4),),
    ),
    Call("init_visits", lambda: rl.init_visits(9), ()),
    Call(
        "pick_prompts",
        lambda state, prompts: rl.pick_prompts(
            state, prompts, jax.random.key(0), size=3, visits=2, keep=0.5
        ),
        (VISITS, np.int32([5, 4, 3, 2, 1, 0])),
    ),
    Call("is_settled", bind(rl.is_settled, visits=2), (VISITS, np.int32([0, 5]))),
    Call(
        "update_visits",
        lambda state, prompts, signal, valid: rl.update_visits(
            state, prompts, signal, valid=valid
        ),
        (VISITS, np.int32([0, 5, 0]), np.array([1, 0, 0], bool), np.ones(3, bool)),
    ),
    Call("init_ramp", lambda: rl.init_ramp(RAMP), ()),
    Call("ramp_factor", bind(rl.ramp_factor, ramp=RAMP), (FULL,)),
    Call(
        "update_ramp",
        lambda state, mean, valid: rl.update_ramp(state, mean, RAMP, valid=valid),
        (FULL, np.float32(0.9), np.array(True)),
    ),
    Call("window_statistics", rl.window_statistics, (state(),)),
    *(
        over(
            f"update_threshold[{entries}, {samples} samples]",
            lambda state, iou, valid, *, axis_name=None, e=entries: rl.update_threshold(
                state, iou, SCHEDULE, valid=valid, entries=e, axis_name=axis_name
            ),
            (state(samples), np.where(VALID, 0.9, np.nan).astype(np.float32), VALID),
            (None, 0, 0),
        )
        for entries, samples in (("step", 0), ("step", 24), ("group", 0), ("group", 3))
    ),
]
PLAIN = "of Python's numbers, before anything is compiled"
HOST = {
    "smart_resize": PLAIN,
    "grade_table": PLAIN,
    "check_grade_table": PLAIN,
    "check_schedule": PLAIN,
    "check_ramp": PLAIN,
    "RewardRamp": PLAIN,
    **{
        f"{name}_schedule": PLAIN
        for name in (
            "piecewise",
            "linear",
            "cosine",
            "fixed",
            "fixed_conservative",
            "fixed_moderate",
            "fixed_aggressive",
        )
    },
}
