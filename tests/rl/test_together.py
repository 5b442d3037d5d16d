"""Boxes or labels to loss as one program, on one device and on eight."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.advantages import group_advantages
from medjax.rl.grpo import grpo_loss
from medjax.rl.label_rewards import (
    fuzzy_grade_reward,
    grade_table,
    label_format_reward,
    label_reward,
)
from medjax.rl.rewards import (
    combine_rewards,
    format_reward,
    parsed_iou,
    threshold_reward,
)
from medjax.rl.schedules import piecewise_schedule
from medjax.rl.signal import group_signal, reward_signal
from medjax.rl.text.boxes import build_tables
from medjax.rl.text.label_text import label_forms, option_letters, parse_label_text
from medjax.rl.text.labels import label_tables, parse_labels
from medjax.rl.text.recitation import recitation_reward
from medjax.rl.text.recitation_text import recitation_score
from medjax.rl.text.reference_tables import recitation_tables
from medjax.rl.threshold import init_threshold, update_threshold

SCHEDULE = piecewise_schedule()._replace(window=4)


def reward_step(carry, batch):
    boxes, found, targets, valid, logp, mask = batch
    iou = parsed_iou(boxes, found, targets[:, None])
    rewards = {"iou": threshold_reward(iou, carry.tau), "format": format_reward(found)}
    weights, rows = {"iou": 1.0, "format": 1.0}, valid[:, None]
    total, counted, parts = combine_rewards(rewards, weights, valid=rows)
    advantages = group_advantages(total, scale="group", valid=counted)
    mask = mask & jnp.repeat(valid, iou.shape[1])[:, None]

    def loss_of(logp):
        return grpo_loss(
            logp,
            None,
            advantages.reshape(-1),
            mask,
            logp_ref=logp - 0.1,
            beta=0.04,
            clip_low=0.2,
            clip_high=0.2,
            reduction="grpo",
        )

    (loss, metrics), gradient = jax.value_and_grad(loss_of, has_aux=True)(logp)
    signal = group_signal(total, rewards["iou"] > 0, found, valid=counted)
    carry, info = update_threshold(carry, iou, SCHEDULE, valid=rows)
    return carry, (loss, gradient, metrics, signal, parts, info)


def batch_of(seed, rows=3, group=4, tokens=5):
    rng = np.random.default_rng(seed)
    targets = np.array([[20.0, 30, 90, 110]] * rows, np.float32)
    boxes = targets[:, None] + rng.normal(0, 3, (rows, group, 4)).astype(np.float32)
    return (
        boxes,
        rng.random((rows, group)) < 0.95,
        targets,
        np.arange(rows) < rows - 1,
        -rng.random((rows * group, tokens)).astype(np.float32),
        np.arange(tokens) < rng.integers(1, tokens + 1, (rows * group, 1)),
    )


@pytest.mark.parametrize("x64", [True, False])
def test_one_program_without_host_transfer_in_float32(x64):
    with jax.enable_x64(x64):
        chex.clear_trace_counter()
        step = jax.jit(chex.assert_max_traces(reward_step, n=1))

        carry = init_threshold(SCHEDULE)
        carry = jax.device_put(carry, jax.devices()[0])
        batches = [jax.device_put(batch_of(k), jax.devices()[0]) for k in range(12)]
        step(carry, batches[0])
        with jax.transfer_guard("disallow"):
            for batch in batches:
                carry, out = step(carry, batch)
        assert int(carry.raises) >= 2 and float(carry.tau) > 0.5
        widths = {x.dtype.name for x in jax.tree.leaves((carry, out))}
        assert widths == {"float32", "int32", "bool"}
        chex.assert_tree_all_finite(out)
        assert float(out[3]["groups"]) == 2


def test_eight_devices_give_the_numbers_of_one():
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((8,), ("rows",), axis_types=auto)
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    batch = batch_of(0, rows=16)
    step = jax.jit(reward_step)
    one = step(init_threshold(SCHEDULE), jax.tree.map(jnp.asarray, batch))
    eight = step(init_threshold(SCHEDULE), jax.device_put(batch, rows))
    # float32 sums over devices, in another order.
    chex.assert_trees_all_close(eight, one, rtol=1e-5, atol=1e-7)


GRADES = ("none", "mild", "moderate", "severe")
FORMS = label_forms(GRADES, letters=option_letters(4), grades=range(4))
KNOWLEDGE = [
    f"{grade} widening of the ventricles, all four of them" for grade in GRADES
]
TABLE = grade_table("sixteenth", 4)
WEIGHTS = {"label": 1.0, "grade": 0.5, "format": 1.0, "recitation": -0.5}
TEXTS = [
    "<think>The ventricles are wide.</think><answer>C</answer>",
    "<think>Mild widening of the ventricles.</think><answer>mild</answer>",
    "<think>severe widening of the ventricles, all four</think><answer>3</answer>",
    "<think></think><answer>(b)</answer>",
    "<think>who knows</think><answer>A, B</answer>",
    "<think>four of them</think><answer>D. severe</answer> or so",
    "<think>mild or moderate</think><answer>5</answer>",
    "I see four of them.",
]


def label_step(tokens, mask, target, valid, tables):
    vocabulary, labels, references = tables
    parsed = parse_labels(tokens, mask, vocabulary, labels)
    goal = jnp.broadcast_to(target[:, None], parsed.label.shape)
    rewards = {
        "label": label_reward(parsed.label, goal),
        "grade": fuzzy_grade_reward(parsed.label, goal, TABLE),
        "format": label_format_reward(parsed, min_words=1, require_label=False),
        "recitation": recitation_reward(
            tokens, mask, parsed.think, vocabulary, references
        ),
    }
    valid = valid[:, None]
    total, counted, metrics = combine_rewards(rewards, WEIGHTS, valid=valid)
    hits = rewards["label"] > 0
    signal = group_signal(total, hits, parsed.parsed, valid=counted)
    signal |= reward_signal(rewards, valid=valid)
    advantages = group_advantages(total, scale="group", valid=counted)
    return rewards, total, advantages, metrics, signal


def label_batch(seed, rows=6, group=4):
    rng = np.random.default_rng(seed)
    texts = rng.choice(TEXTS, (rows, group))
    data = [list(text.encode()) for text in texts.reshape(-1)]
    tokens = np.array([row + [0] * (80 - len(row)) for row in data], np.int32)
    mask = np.arange(80) < np.array([len(row) for row in data])[:, None]
    shape = (rows, group, 80)
    target = rng.integers(0, 4, rows, np.int32)
    valid = np.arange(rows) < rows - 1
    return texts, (tokens.reshape(shape), mask.reshape(shape), target, valid)


@pytest.mark.parametrize("x64", [True, False])
def test_every_label_reward_without_host_transfer_in_float32(x64):
    """One program from tokens to advantages, with the host's numbers."""
    with jax.enable_x64(x64):
        vocabulary = build_tables([bytes([byte]) for byte in range(256)])
        tables = (vocabulary, label_tables(FORMS), recitation_tables(KNOWLEDGE))
        device = jax.devices()[0]
        tables = jax.device_put(tables, device)
        step = jax.jit(label_step)
        batches = [label_batch(seed) for seed in range(4)]
        arrays = [jax.device_put(batch, device) for _, batch in batches]
        step(*arrays[0], tables)
        with jax.transfer_guard("disallow"):
            outputs = [step(*batch, tables) for batch in arrays]
        widths = {x.dtype.name for x in jax.tree.leaves(outputs)}
        assert widths == {"float32"}
    for (texts, (*_, target, valid)), output in zip(batches, outputs, strict=True):
        rewards, total, advantages, metrics, signal = jax.device_get(output)
        for at in np.ndindex(texts.shape):
            data, goal = texts[at].encode(), target[at[0]]
            parsed = parse_label_text(data, FORMS)
            near = TABLE[abs(parsed.label - goal)] if parsed.parsed else 0
            want = {
                "label": float(parsed.label == goal),
                "grade": near,
                "format": float(parsed.well_formed and parsed.think_words > 0),
                "recitation": recitation_score(data[slice(*parsed.think)], KNOWLEDGE),
            }
            found = {name: float(reward[at]) for name, reward in rewards.items()}
            assert found == pytest.approx(want, abs=1e-6)
            want = sum(WEIGHTS[name] * x for name, x in want.items())
            assert total[at] == pytest.approx(want * valid[at[0]], abs=1e-6)
        tied = np.ptp(rewards["label"][valid], axis=1) == 0
        assert signal["label_tied"] == pytest.approx(tied.mean())
        assert metrics["grade"] == pytest.approx(rewards["grade"][valid].mean())
        assert signal["groups"] == valid.sum()
        np.testing.assert_allclose(advantages.sum(axis=1), 0, atol=1e-5)


def test_label_rewards_of_eight_devices_are_those_of_one():
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((8,), ("rows",), axis_types=auto)
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    vocabulary = build_tables([bytes([byte]) for byte in range(256)])
    tables = (vocabulary, label_tables(FORMS), recitation_tables(KNOWLEDGE))
    _, batch = label_batch(9, rows=16)
    step = jax.jit(label_step)
    one = step(*jax.tree.map(jnp.asarray, batch), jax.tree.map(jnp.asarray, tables))
    eight = step(*jax.device_put(batch, rows), jax.device_put(tables, whole))
    chex.assert_trees_all_close(eight, one, rtol=1e-5, atol=1e-6)
