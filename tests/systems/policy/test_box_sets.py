"""Answers that are sets: judged, evaluated, checked, and paid for by `medloc`."""

import jax
import numpy as np
import optax
import pytest

from medjax.evals.box_sets import SetAnswers, set_scores
from medjax.rl.schedules import piecewise_schedule
from medjax.rl.text.box_set_reader import box_set_tables
from medjax.rl.text.box_set_text import parse_box_set_text
from medjax.rl.text.boxes import build_tables
from medjax.sharding import batch_sharding, make_mesh
from medjax.systems import medloc
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.box_sets import (
    check_set_answers,
    judge_sets,
    make_set_evaluate,
)
from medjax.systems.policy.exploration import Step
from medjax.systems.policy.learner import Loss, Teaching
from medjax.types import BoxSetBatch, Rollout, TrainState
from tests.tiny import PAD, STOP, box_of, decoding, tiny_batch, tiny_model
from tests.tiny import VOCAB as SIZE

GROUP, LENGTH = 4, 3
TEXTS = [  # each token a whole answer with 0, 1, 2 or 9 boxes, or a word
    f"<think>here</think><answer>{[box_of(n + k) for k in range((0, 1, 2, 9)[n % 4])]}"
    "</answer>"
    for n in range(48)
]
TEXTS += ["word"] * (STOP - 48) + [""] * (SIZE - STOP)
TABLES = build_tables([text.encode() for text in TEXTS])
SETS = box_set_tables()
SCHEDULE = piecewise_schedule()._replace(window=2)


def batch_of(contexts=4):
    """Questions whose right answers are tokens with 0, 1 and 2 boxes in turn."""
    batch = tiny_batch(contexts=contexts)
    rows = len(batch.valid)
    boxes = np.zeros((rows, 8, 4), np.float32)
    flags = np.zeros((rows, 8), bool)
    for n in range(rows):
        parsed = parse_box_set_text(TEXTS[right(n)])
        boxes[n], flags[n] = parsed.boxes, parsed.box_valid
    answer = np.full_like(batch.answer, PAD)
    answer[:, 0], answer[:, 1] = [right(n) for n in range(rows)], STOP
    mask = np.arange(answer.shape[1])[None] < np.full((rows, 1), 2)
    return BoxSetBatch(
        prompt=batch.prompt,
        boxes=boxes,
        box_valid=flags,
        valid=batch.valid,
        sample_id=batch.sample_id,
        answer=answer,
        answer_mask=mask,
    )


def right(n):
    return (4 * n) % 48 + n % 3


def rollout_of(batch, seed=0):
    rng = np.random.default_rng(seed)
    shape = (len(batch.valid), GROUP, LENGTH)
    tokens = rng.integers(0, STOP, shape).astype(np.int32)
    tokens[:, 0] = batch.answer[:, :LENGTH]  # one of the group is right
    mask = np.arange(LENGTH) < rng.integers(1, LENGTH + 1, (*shape[:2], 1))
    logp = -rng.random(shape).astype(np.float32)
    return Rollout(tokens, mask, logp, logp)


def by_hand(rollout, batch):
    """(Q, found, format) through the host's parser and scipy's matching."""
    found = []
    for n, g in np.ndindex(rollout.mask.shape[:2]):
        kept = rollout.tokens[n, g][rollout.mask[n, g]]
        parsed = parse_box_set_text("".join(TEXTS[t] for t in kept))
        answers = SetAnswers(
            boxes=(parsed.boxes[parsed.box_valid],),
            targets=(batch.boxes[n][batch.box_valid[n]],),
            read=parsed.found[None],
            structure=np.array(["a"]),
            slice_id=np.array(["a"]),
        )
        found.append((set_scores(answers).quality[0], parsed.found, parsed.format))
    shape = (3, *rollout.mask.shape[:2])
    return np.array(found, float).T.reshape(shape)


def score(rewards, batch, rollout, step=0):
    carry = medloc.start(SCHEDULE, ())
    run = jax.jit(lambda *given: medloc.score(TABLES, rewards, *given))
    return jax.device_get(run(carry, batch, rollout, np.int32(step)))


def test_completions_are_judged_as_on_the_host():
    batch, rollout = batch_of(), rollout_of(batch_of())
    judged = jax.device_get(
        jax.jit(judge_sets)(
            rollout.tokens,
            rollout.mask,
            batch.boxes[:, None],
            batch.box_valid[:, None],
            TABLES,
            SETS,
        )
    )
    quality, found, right_format = by_hand(rollout, batch)
    np.testing.assert_allclose(judged.quality, quality, atol=1e-6)
    np.testing.assert_array_equal(judged.parsed, found)
    np.testing.assert_array_equal(judged.well_formed, right_format)
    assert (quality[:, 0] == 1).all() and 0 < found.mean() < 1
    nine = judged.sets.num_boxes > 8
    assert nine.any() and (judged.quality[nine] == 0).all()


@pytest.mark.parametrize(
    ("accuracy", "needed"),
    [("curriculum", 0.3), ("fixed", 0.3), ("raw_iou", 0.0), ("progress", 0.85)],
)
def test_rewards_and_the_scheduler_go_by_q(accuracy, needed):
    batch = batch_of()
    batch = batch._replace(valid=np.arange(len(batch.valid)) < 6)
    rollout = rollout_of(batch)
    rewards = medloc.Rewards(accuracy, SCHEDULE, 10, sets=SETS)
    scored = score(rewards, batch, rollout)
    quality, found, right_format = by_hand(rollout, batch)
    paid = {
        "raw_iou": quality,
        "progress": np.where(quality >= needed, quality, 0),
    }.get(accuracy, (quality >= np.float32(needed)).astype(float))
    np.testing.assert_allclose(scored.rewards["accuracy"], paid, atol=1e-6)
    np.testing.assert_array_equal(scored.rewards["format"], right_format)
    np.testing.assert_array_equal(scored.parsed, found)
    # where all is paid by its Q, nothing has to be reached, and half is right
    right = quality >= np.float32(0.5 if accuracy == "raw_iou" else needed)
    np.testing.assert_array_equal(scored.hits, right)
    assert "iou" not in scored.metrics
    np.testing.assert_allclose(
        scored.metrics["quality"], quality[batch.valid].mean(), atol=1e-6
    )
    window = scored.aux.threshold
    if accuracy == "curriculum":
        np.testing.assert_allclose(
            window.ious[-1], quality[batch.valid].mean(), atol=1e-6
        )
        hits = (quality >= np.float32(needed))[batch.valid]
        np.testing.assert_allclose(window.hit_rates[-1], hits.mean(), atol=1e-6)
    else:
        assert window.count == 0


def test_eight_devices_score_as_one():
    batch = batch_of(8)
    rollout = rollout_of(batch)
    rewards = medloc.Rewards("curriculum", SCHEDULE, 10, sets=SETS)
    expected = score(rewards, batch, rollout)
    mesh = make_mesh({"data": 8})
    rules = {"batch": ("data",)}
    placed = jax.device_put(
        (batch, rollout), batch_sharding((batch, rollout), mesh, rules)
    )
    assert placed[0].boxes.sharding.shard_shape(placed[0].boxes.shape) == (2, 8, 4)
    found = score(rewards, *placed)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected
    )


def test_a_batch_of_the_other_kind_is_refused():
    batch = batch_of()
    rollout = rollout_of(batch)
    with pytest.raises(ValueError, match="a BoxSetBatch with sets off"):
        score(medloc.Rewards("fixed", SCHEDULE, 10), batch, rollout)
    with pytest.raises(ValueError, match="a GroundingBatch with sets on"):
        score(medloc.Rewards("fixed", SCHEDULE, 10, sets=SETS), tiny_batch(), rollout)


def test_the_fused_step_is_one_program_without_host_transfer(params):
    model = tiny_model()
    system = medloc.build(
        model,
        TABLES,
        optax.sgd(0.5),
        make_set_evaluate(SETS, model, TABLES, decoding=decoding()),
        rewards=medloc.Rewards("curriculum", SCHEDULE, 10, sets=SETS),
        step=Step(
            group=GROUP,
            decoding=decoding(temperature=1.0),
            advantages=Advantages(scale="group"),
            reward_weights={"accuracy": 1.0, "format": 1.0},
            teaching=Teaching(
                Loss(beta=0.0, clip_low=0.2, clip_high=0.2, reduction="grpo")
            ),
        ),
    )
    state = jax.jit(system.init)(jax.random.key(0), params)
    arguments = jax.device_put((state, batch_of(2), jax.random.key(1)))
    update = jax.jit(system.update).lower(*arguments).compile()
    text = update.as_text()
    assert not any(word in text for word in ("callback", "infeed", "outfeed"))
    carried, batch, key = arguments
    with jax.transfer_guard("disallow"):
        for _ in range(2):
            carried, metrics = update(carried, batch, key)
        jax.block_until_ready(metrics)
    assert int(carried.step) == 2 and 0 < float(metrics["parse_rate"]) <= 1
    assert np.isfinite(float(metrics["loss"]))


def test_evaluation_is_greedy_and_gives_confidences(params):
    run = jax.jit(make_set_evaluate(SETS, tiny_model(), TABLES, decoding=decoding(3)))
    batch, state = batch_of(), TrainState(params, (), np.int32(0))
    predictions, metrics = jax.device_get(run(state, batch, jax.random.key(0)))
    again, _ = jax.device_get(run(state, batch, jax.random.key(9)))
    np.testing.assert_array_equal(predictions.tokens, again.tokens)
    for n in range(len(batch.valid)):
        tokens = predictions.tokens[n][predictions.mask[n]]
        parsed = parse_box_set_text("".join(TEXTS[t] for t in tokens))
        np.testing.assert_array_equal(predictions.boxes[n], parsed.boxes)
        np.testing.assert_array_equal(predictions.box_valid[n], parsed.box_valid)
        assert metrics["num_boxes"][n] == parsed.num_boxes
        sure = predictions.confidence[n]
        assert ((sure > 0) == parsed.box_valid).all() and (sure <= 1).all()
    assert metrics["parsed"].any()


def test_self_test_accepts_the_truth_and_names_what_is_wrong():
    batch, names = batch_of(), [f"sample {n}" for n in range(8)]
    check_set_answers(batch, TABLES, SETS, tau=1.0, names=names)
    for change, message in (
        ({"boxes": batch.boxes * 2}, r"5 of 8.*\n  sample 1: targets \[\[.*read \[\["),
        ({"box_valid": np.ones_like(batch.box_valid)}, "8 of 8"),
        ({"answer_mask": np.zeros_like(batch.answer_mask)}, r"read \[\].*format wrong"),
    ):
        with pytest.raises(ValueError, match=rf"(?s)self-test: .*{message}"):
            check_set_answers(
                batch._replace(**change), TABLES, SETS, tau=0.8, names=names
            )
    valid = np.zeros(8, bool)
    check_set_answers(
        batch._replace(boxes=batch.boxes * 2, valid=valid),
        TABLES,
        SETS,
        tau=0.8,
        names=names,
    )
