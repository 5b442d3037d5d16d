"""The public functions from outside: with jit and without, and what they refuse."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax import rl

PLAIN = {"beta": 0.0, "clip_low": 0.2, "clip_high": 0.2, "reduction": "grpo"}
TABLES = rl.build_tables([bytes([byte]) for byte in range(256)])
LABELS = rl.label_tables(rl.label_forms(["liver"], letters=None, grades=None))
REFERENCES = rl.recitation_tables(["a big liver"])
TEXT = b'<think>a big liver</think><answer>"bbox_2d":[1,2,3,4]</answer>'


def f32(*shape):
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def i32(*shape):
    return np.ones(shape, np.int32)


def flags(*shape):
    return np.ones(shape, bool)


class Variants(chex.TestCase):
    """One answer from NumPy arrays and from JAX's, compiled and not."""

    def check(self, fn, *args, expected):
        found = self.variant(fn)(*args)
        chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-7)

    @chex.variants(with_jit=True, without_jit=True, without_device=True)
    def test_group_advantages(self):
        rewards = np.array([[0.0, 1.0], [3.0, 3.0]], np.float32)
        fn = functools.partial(rl.group_advantages, scale="none")
        self.check(fn, rewards, expected=np.float32([[-0.5, 0.5], [0, 0]]))

    @chex.variants(with_jit=True, without_jit=True, without_device=True)
    def test_grpo_loss(self):
        fn = functools.partial(rl.grpo_loss, **PLAIN)
        logp, advantages = f32(2, 3), np.array([1.0, 3.0], np.float32)
        out = self.variant(fn)(logp, logp, advantages, flags(2, 3))
        chex.assert_trees_all_close(out[0], np.float32(-2.0), rtol=1e-6)
        chex.assert_tree_all_finite(out)

    @chex.variants(with_jit=True, without_jit=True, without_device=True)
    def test_box_iou(self):
        boxes = np.array([[0.0, 0, 2, 2], [0, 0, 0, 2]], np.float32)
        targets = np.array([[0.0, 0, 2, 1]] * 2, np.float32)
        self.check(rl.box_iou, boxes, targets, expected=np.float32([0.5, 0]))

    @chex.variants(with_jit=True, without_jit=True)
    def test_update_threshold(self):
        schedule = rl.piecewise_schedule()._replace(window=1)
        fn = functools.partial(rl.update_threshold, schedule=schedule)
        state, info = self.variant(fn)(rl.init_threshold(schedule), flags(1, 2) * 1.0)
        chex.assert_trees_all_close(
            (state.tau, info["raised"]), (np.float32(0.45), np.array(True))
        )

    @chex.variants(with_jit=True, without_jit=True, without_device=True)
    def test_completions(self):
        def read(tokens, mask):
            box = rl.parse_completions(tokens, mask, TABLES)
            label = rl.parse_labels(tokens, mask, TABLES, LABELS)
            score = rl.recitation_reward(tokens, mask, label.think, TABLES, REFERENCES)
            return box.boxes, label.label, score

        tokens = np.frombuffer(TEXT, np.uint8).astype(np.int32)
        expected = (np.float32([1, 2, 3, 4]), np.int32(-1), np.float32(1))
        self.check(read, tokens, tokens > 0, expected=expected)


def loss(logp, old, advantages, mask, **options):
    return rl.grpo_loss(logp, old, advantages, mask, **{**PLAIN, **options})


THRESHOLD = rl.init_threshold(rl.piecewise_schedule())
X, M = f32(3, 3), flags(3, 3)  # square: a wrong axis would be broadcast in silence
REFUSED = [
    ("grpo_loss: advantages: .*N = 3 from logp", loss, X, X, X[:1], M),
    ("grpo_loss: logp_old", loss, X, X[:1], X[0], M),
    ("grpo_loss: mask", loss, X, X, X[0], M[0]),
    ("grpo_loss: logp: expected float", loss, i32(3, 3), X, X[0], M),
    ("entropy_bonus: mask", rl.entropy_bonus, X, M[0]),
    ("group_statistics: rewards", rl.group_statistics, X[0]),
    ("group_advantages: rewards", rl.group_advantages, X[0]),
    ("gdpo_advantages: weights", rl.gdpo_advantages, f32(2, 3, 3), [1.0]),
    ("box_iou: targets", rl.box_iou, f32(3, 4), f32(4)),
    ("box_iou: boxes: .*found bool", rl.box_iou, flags(3, 4), f32(3, 4)),
    ("generalized_box_iou: boxes", rl.generalized_box_iou, f32(3, 5), f32(3, 4)),
    ("convert_boxes: boxes", rl.convert_boxes, f32(4, 3), "unit", "thousand"),
    ("clip_boxes: boxes", rl.clip_boxes, f32(4, 3)),
    ("parsed_iou: found", rl.parsed_iou, f32(3, 4), M, f32(3, 4)),
    ("threshold_reward: tau", rl.threshold_reward, X, X[0]),
    ("threshold_reward: iou", rl.threshold_reward, M, 0.5),
    ("format_reward: well_formed", rl.format_reward, X),
    ("progress_reward: step", rl.progress_reward, X, X[0, 0]),
    (r"combine_rewards: rewards\['b'\]", rl.combine_rewards, {"a": X, "b": X[:1]}),
    ("pairwise_box_iou: targets", rl.pairwise_box_iou, f32(3, 4), f32(4)),
    ("pairwise_generalized_box_iou: boxes", rl.pairwise_generalized_box_iou, X, X),
    ("box_iou: boxes", rl.box_iou, X[0], X[0]),
    ("update_threshold: iou", rl.update_threshold, THRESHOLD, X[0]),
    ("raise_threshold: tau", rl.raise_threshold, X[0]),
    ("label_reward: target", rl.label_reward, i32(3, 3), i32(3)),
    ("fuzzy_grade_reward: grade", rl.fuzzy_grade_reward, X, i32(3, 3), (1.0,)),
    ("fuzzy_grade_reward: table", rl.fuzzy_grade_reward, i32(3), i32(3), X),
    ("group_signal: hits", rl.group_signal, X, M[:1], M),
    (r"reward_signal: rewards\['a'\]", rl.reward_signal, {"a": X[0]}),
    ("restrict_logits: logits", rl.restrict_logits, X[0]),
    ("rollout_keys: sample_id", rl.rollout_keys, jax.random.key(0), X[0], 2),
    ("loss_denominator: mask", rl.loss_denominator, M[0]),
    ("kl_estimate: logp_ref", rl.kl_estimate, X, X[0]),
    ("clip_surrogate: advantages", rl.clip_surrogate, X, X[0]),
    ("drop_truncated: finished", rl.drop_truncated, M, M),
    ("parse_completions: tokens", rl.parse_completions, X, M, TABLES),
    ("parse_completions: mask", rl.parse_completions, i32(3, 3), X, TABLES),
    ("parse_labels: mask", rl.parse_labels, i32(3, 3), M[0], TABLES, LABELS),
    (
        r"recitation_reward: think: .*\[\*N, 2\] with N = 3 from tokens",
        *(rl.recitation_reward, i32(3, 3), M, i32(3, 3), TABLES, REFERENCES),
    ),
]
OPTIONS = {
    "group_advantages": {"scale": "group"},
    "convert_boxes": {"size": None, "resized": None},
    "clip_boxes": {"size": (9, 9)},
    "progress_reward": {"total_steps": 9},
    "combine_rewards": {"weights": {"a": 1.0, "b": 1.0}},
    "update_threshold": {"schedule": rl.piecewise_schedule()},
    "raise_threshold": {"schedule": rl.piecewise_schedule()},
    "loss_denominator": {"reduction": "grpo"},
    "entropy_bonus": {"reduction": "grpo", "coefficient": 0.1},
    "kl_estimate": {"kl": "k3", "clamp": None},
    "clip_surrogate": {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": None},
}


def test_a_valid_row_is_a_flag():
    with pytest.raises(ValueError, match="group_advantages: valid: expected bool or"):
        rl.group_advantages(X, scale="group", valid=X)


BATCHES = [
    lambda valid: rl.group_statistics(X, valid=valid),
    lambda valid: rl.group_advantages(X, scale="group", valid=valid),
    lambda valid: rl.gdpo_advantages(X[None], [1.0], valid=valid),
    lambda valid: rl.combine_rewards({"a": X}, {"a": 1.0}, valid=valid),
    lambda valid: rl.has_signal(X, floor=0.0, valid=valid),
    lambda valid: rl.group_signal(X, M, M, valid=valid),
    lambda valid: rl.reward_signal({"a": X}, valid=valid),
    lambda valid: rl.update_threshold(
        THRESHOLD, X, rl.piecewise_schedule(), valid=valid
    ),
]


@pytest.mark.parametrize("call", BATCHES)
def test_valid_means_the_same_everywhere(call):
    """Flags [B, G] or [B, 1], integers for flags; a vector is refused with the way."""
    flags = np.array([[1], [0], [1]], bool)
    whole = np.broadcast_to(flags, (3, 3))
    for same in (whole, flags.astype(np.int32), 2 * whole.astype(np.uint8)):
        chex.assert_trees_all_equal(call(same), call(flags))
    with pytest.raises(ValueError, match=r"valid\[:, None\] marks whole groups"):
        call(flags[:, 0])
    with pytest.raises(ValueError, match=r"valid: expected .* B = 3.*\(2, 3\)"):
        call(whole[:2])


MASKS = {
    "grpo_loss": lambda m: rl.grpo_loss(X, X, X[0], m, **PLAIN),
    "loss_denominator": lambda m: rl.loss_denominator(m, reduction="grpo"),
    "entropy_bonus": lambda m: rl.entropy_bonus(
        X, m, coefficient=0.1, reduction="grpo"
    ),
    "reduce_tokens": lambda m: rl.reduce_tokens(X, m, reduction="dapo"),
    "off_policy_keep": lambda m: rl.off_policy_keep(X, X, X[:, :1], m, threshold=0.0),
    "importance_weights": lambda m: rl.importance_weights(
        X, 2 * X, m, level="sequence", mode="mask", low=None, high=None
    ),
    "vespo_surrogate": lambda m: rl.vespo_surrogate(
        *(X, X[:, :1], X, m),
        weights=None,
        k_positive=2.0,
        lambda_positive=3.0,
        k_negative=3.0,
        lambda_negative=2.0,
    ),
    "drop_truncated": lambda m: rl.drop_truncated(m, M[0]),
}


@pytest.mark.parametrize("name", MASKS)
def test_half_a_mask_is_refused_and_any_integer_is_true(name):
    mask = np.tril(M)
    expected = MASKS[name](mask)
    chex.assert_trees_all_equal(MASKS[name](3 * mask.astype(np.int32)), expected)
    with pytest.raises(ValueError, match=f"^{name}: mask: expected bool or int"):
        MASKS[name](mask * 0.5)


STATIC = {
    "grpo_loss: dual_clip": lambda x: rl.grpo_loss(X, X, X[0], M, dual_clip=x, **PLAIN),
    "grpo_loss: kl_ratio": lambda x: rl.grpo_loss(X, X, X[0], M, kl_ratio=x, **PLAIN),
    "group_advantages: leave_one_out": lambda x: rl.group_advantages(
        X, scale="none", leave_one_out=x
    ),
    "progress_reward: binary": lambda x: rl.progress_reward(
        X, np.int32(0), total_steps=9, binary=x
    ),
    "progress_threshold: total_steps": lambda x: rl.progress_threshold(
        np.int32(0), total_steps=x
    ),
    "init_threshold: samples": lambda x: rl.init_threshold(
        rl.piecewise_schedule(), samples=x
    ),
    "init_threshold: window": lambda x: rl.init_threshold(
        rl.piecewise_schedule()._replace(window=x, start=jnp.float32(0))
    ),
    "check_schedule: start": lambda x: rl.check_schedule(
        rl.piecewise_schedule()._replace(start=x)
    ),
}


@pytest.mark.parametrize("name", STATIC)
def test_static_arguments_say_so_when_they_are_traced(name):
    with pytest.raises(ValueError, match=f"^{name}: expected .*found a traced"):
        jax.jit(STATIC[name])(2)


@pytest.mark.parametrize(
    ("option", "value"),
    [("clip_low", 1.5), ("clip_high", -0.1), ("beta", float("nan")), ("max_length", 0)],
)
def test_numbers_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"^grpo_loss: {option}: expected .*{value}"):
        loss(X, X, X[0], M, logp_ref=X, **{option: value})


@pytest.mark.parametrize(
    ("message", "fn", "args"),
    [(message, fn, args) for message, fn, *args in REFUSED],
    ids=lambda x: x if isinstance(x, str) else "",
)
@pytest.mark.parametrize("compiled", [False, True], ids=["called", "jitted"])
def test_wrong_shapes_and_dtypes_are_refused(message, fn, args, compiled):
    arrays = [isinstance(x, np.ndarray | jax.Array) for x in args]

    def call(*given):
        rest = iter(given)
        whole = [
            next(rest) if is_array else x
            for x, is_array in zip(args, arrays, strict=True)
        ]
        return fn(*whole, **OPTIONS.get(fn.__name__, {}))

    given = [x for x, is_array in zip(args, arrays, strict=True) if is_array]
    with pytest.raises(ValueError, match=f"^{message}"):
        (jax.jit(call) if compiled else call)(*given)


def test_under_vmap_the_mapped_axis_is_not_seen():
    batch = jnp.asarray(f32(4, 3, 3))
    fn = functools.partial(rl.group_advantages, scale="group")
    assert jax.vmap(fn)(batch).shape == batch.shape
    with pytest.raises(ValueError, match=r"rewards: .*\[B, G\]; found float32 .*\(3,"):
        jax.vmap(fn)(batch[0])


@pytest.mark.parametrize(
    "option",
    [{"weights": X[:, :2]}, {"logp_ref": X[0]}, {"denominator": X[0]}, {"beta": X}],
    ids=lambda x: next(iter(x)),
)
def test_options_of_the_loss_are_checked_too(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"grpo_loss: {name}: expected float"):
        loss(X, X, X[0], M, **option)
    wide = {"weights": X[:, :1], "logp_ref": X, "denominator": 2, "beta": 0}
    assert np.isfinite(loss(jnp.asarray(X), None, X[0], M, **{name: wide[name]})[0])


A, LOG = np.ones((1, 1), np.float32), np.zeros((1, 2), np.float32)
SAPO = {"temperature_positive": 1.0, "temperature_negative": 1.0}
VESPO = dict.fromkeys(
    ("k_positive", "lambda_positive", "k_negative", "lambda_negative"), 1.0
)
BOX = np.float32([0, 0, 10, 10])


def weigh(low, high):
    marks = np.ones((1, 2), bool)
    return rl.importance_weights(
        LOG, LOG, marks, level="token", mode="truncate", low=low, high=high
    )


def clip_with(dual_clip):
    return rl.clip_surrogate(
        LOG + 1, A, clip_low=0.2, clip_high=0.3, dual_clip=dual_clip
    )


# Each passed once, and gave a number that meant nothing.
MEANINGLESS = {
    "group_statistics: ddof": lambda: rl.group_statistics(LOG, ddof=2),
    "group_advantages: eps": lambda: rl.group_advantages(LOG, scale="group", eps=-1),
    "gdpo_advantages: floor": lambda: rl.gdpo_advantages(LOG[None], [1.0], floor=-1),
    "entropy_bonus: coefficient": lambda: rl.entropy_bonus(
        -LOG, LOG == 0, coefficient=-0.1, reduction="grpo"
    ),
    "has_signal: floor": lambda: rl.has_signal(LOG, floor=-1.0),
    "group_signal: floor": lambda: rl.group_signal(LOG, LOG > 0, LOG > 0, floor=-1),
    "reward_signal: floor": lambda: rl.reward_signal({"a": LOG}, floor=-1.0),
    "importance_weights: low": lambda: weigh(-1.0, None),
    "importance_weights: high": lambda: weigh(2.0, 1.0),
    "clip_surrogate: dual_clip": lambda: clip_with(0.9),
    "sapo_surrogate: temperature_negative": lambda: rl.sapo_surrogate(
        LOG, A, **SAPO | {"temperature_negative": 0.0}
    ),
    "vespo_surrogate: k_negative": lambda: rl.vespo_surrogate(
        LOG, A, LOG, LOG == 0, weights=None, **VESPO | {"k_negative": -1.0}
    ),
    r"kl_estimate: clamp\[1\]": lambda: rl.kl_estimate(
        LOG, LOG, kl="k3", clamp=(1.0, -1.0)
    ),
    "convert_boxes: size": lambda: rl.convert_boxes(
        jnp.asarray(BOX), "original", "unit", size=(0, 5), resized=None
    ),
    "clip_boxes: size": lambda: rl.clip_boxes(jnp.asarray(BOX), size=(-4, 5)),
    "progress_threshold: boundaries": lambda: rl.progress_threshold(
        np.int32(5), total_steps=9, boundaries=(0.6, 0.2)
    ),
    "progress_threshold: thresholds": lambda: rl.progress_threshold(
        np.int32(5), total_steps=9, thresholds=(85, 95, 99)
    ),
}


@pytest.mark.parametrize("name", MEANINGLESS)
def test_numbers_without_a_meaning_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name}"):
        MEANINGLESS[name]()


def test_a_dual_clip_below_the_clip_bounds_what_the_docstring_says():
    ratio = np.float32([[0.5, 1.2, 3.0]])

    def loss(sign):
        return rl.clip_surrogate(
            ratio, sign * A, clip_low=0.2, clip_high=0.3, dual_clip=1.1
        )

    np.testing.assert_allclose(loss(-1), [[0.8, 1.2, 1.3]], rtol=1e-6)
    np.testing.assert_allclose(loss(1), [[-0.5, -1.1, -1.1]], rtol=1e-6)


def loss_with(**options):
    return loss(X, X, X[0], M, **options)


# What an inner function refuses is named by the function that was called.
CALLED = {
    "grpo_loss: ratio 'group'": lambda: loss_with(ratio="group"),
    "grpo_loss: surrogate 'ppo'": lambda: loss_with(surrogate="ppo"),
    "grpo_loss: reduction 'mean'": lambda: loss_with(reduction="mean"),
    "grpo_loss: max_length: expected": lambda: loss_with(reduction="dr_grpo"),
    "grpo_loss: kl 'k4'": lambda: loss_with(kl="k4", logp_ref=X),
    r"grpo_loss: kl_clamp\[1\]": lambda: loss_with(kl_clamp=(1.0, 0.0), logp_ref=X),
    r"grpo_loss: sapo_temperatures\[0\]": lambda: loss_with(
        surrogate="sapo", sapo_temperatures=(0.0, 1.0)
    ),
    r"grpo_loss: vespo_negative\[1\]": lambda: loss_with(
        surrogate="vespo", vespo_negative=(1.0, -1.0)
    ),
    "progress_reward: total_steps": lambda: rl.progress_reward(
        X, np.int32(0), total_steps=0
    ),
    "progress_reward: thresholds": lambda: rl.progress_reward(
        X, np.int32(0), total_steps=9, thresholds=(0.5,)
    ),
}


@pytest.mark.parametrize("name", CALLED)
def test_messages_name_the_function_that_was_called(name):
    with pytest.raises(ValueError, match=f"^{name}"):
        CALLED[name]()


def test_options_that_are_not_read_are_not_refused():
    assert np.isfinite(loss_with(denominator=3, reduction="dr_grpo")[0])
    assert np.isfinite(loss_with(kl="k4", sapo_temperatures=(0.0, 1.0))[0])


@pytest.mark.parametrize(
    ("way", "call"),
    [
        ("boxes.reshape(-1, 4)", lambda: rl.box_iou(f32(8), f32(2, 4))),
        ("boxes[None] has", lambda: rl.pairwise_box_iou(f32(4), f32(2, 4))),
        ("jnp.moveaxis(boxes, 0, -1)", lambda: rl.clip_boxes(f32(4, 8), size=(5, 5))),
        ("targets.reshape(3, 1, 4)", lambda: rl.box_iou(f32(3, 2, 4), f32(3, 4))),
        ("targets.reshape(1, 4)", lambda: rl.box_iou(f32(3, 4), f32(4))),
        (
            "rewards.reshape(-1, G) has this shape, and rewards[None] with B = 1",
            lambda: rl.has_signal(f32(8), floor=0.0),
        ),
        ("logp.reshape(-1, T)", lambda: loss(f32(4), None, X[0], M)),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_messages_say_how_to_come_to_the_shape(way, call):
    with pytest.raises(ValueError, match=re.escape(f"; {way}")):
        call()
