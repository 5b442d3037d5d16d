"""vrft_aug with several labels: one program, rewards and answers as on the host."""

import jax
import numpy as np
import optax
import pytest

from medjax.rl.label_rewards import grade_table
from medjax.rl.label_set_rewards import label_set_f1
from medjax.rl.text.boxes import build_tables
from medjax.rl.text.label_set_text import label_set_forms, parse_label_set_text
from medjax.rl.text.label_sets import label_set_tables
from medjax.rl.text.reference_tables import recitation_tables
from medjax.sharding import batch_sharding, make_mesh, to_named_sharding
from medjax.systems import vrft_aug
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.classes import Reading, check_answers, make_evaluate
from medjax.systems.policy.exploration import Step
from medjax.systems.policy.learner import Loss, Teaching
from medjax.types import LabelBatch, Rollout, TrainState
from tests.tiny import ANSWERS, PAD, STOP, VOCAB, decoding, tiny_batch, tiny_model

CLASSES = ("edema", "mass", "nodule")
FORMS = label_set_forms(CLASSES, letters="ABC")
LABELS = label_set_tables(FORMS)
REFERENCES = recitation_tables(("hazy all over", "a large spot", "a small spot"))
SAID = ("none", "A", "B", "A, B", "C", "C, A", "c,B", "B, A, C", "A, spleen", "")
SETS = [()] + [tuple(n for n in range(3) if k >> n & 1) for k in range(1, 8)]


def text_of(token):
    reason = ("a large spot", "hazy", "")[token % 3]
    return f"<think>{reason}</think><answer>{SAID[token % len(SAID)]}</answer>"


TEXTS = [text_of(n) for n in range(ANSWERS)] + ["word"] * (STOP - ANSWERS)
TEXTS += [""] * (VOCAB - STOP)
TABLES = build_tables([text.encode() for text in TEXTS])
ALONE = np.array([[n, STOP, PAD] for n in (1, 2, 4, 0)], np.int32)  # A, B, C, none
READING = Reading(TABLES, LABELS, REFERENCES, ALONE, ALONE != PAD, max_words=8, draws=3)
REWARDS = vrft_aug.Rewards(
    labels=LABELS,
    references=REFERENCES,
    grade_table=grade_table("exact", 3),
    min_words=1,
    require_label=True,
    min_different=1,
    without_words=0.0,
    max_words=8,
)
AXES = "batch layers embed vocab heads kv_heads mlp norm patch".split()
AXES += ["vision_heads", "vision_mlp"]
RULES = {name: ("data",) if name == "batch" else None for name in AXES}
WEIGHTS = {"accuracy": 1.0, "format": 0.5, "recitation": -0.5}


def batch_of(contexts=4):
    """`tiny_batch` with marks a row, and an answer that is right."""
    batch = tiny_batch(contexts=contexts)
    rows = len(batch.valid)
    label = np.random.default_rng(1).random((rows, 3)) < 0.4
    answer = np.full((rows, 3), PAD, np.int32)
    for n, row in enumerate(label):
        named = ", ".join("ABC"[k] for k in np.flatnonzero(row)) or "none"
        sets = {
            frozenset(x.upper().replace(" ", "").split(",")): k
            for k, x in enumerate(SAID[:8])
        }
        answer[n, :2] = sets[frozenset(named.upper().replace(" ", "").split(","))], STOP
    return LabelBatch(
        prompt=batch.prompt,
        label=label,
        valid=batch.valid,
        sample_id=batch.sample_id,
        answer=answer,
        answer_mask=answer != PAD,
    )


def parsed_by_hand(tokens, mask):
    texts = [
        "".join(TEXTS[t] for t in row[here])
        for row, here in zip(tokens, mask, strict=True)
    ]
    return [parse_label_set_text(text, FORMS) for text in texts]


@pytest.mark.parametrize("rule", ["f1", "exact", "labels"])
def test_rewards_are_the_hosts(rule):
    rng = np.random.default_rng(0)
    batch, group = batch_of(), 6
    tokens = rng.integers(0, ANSWERS, (len(batch.valid), group, 1)).astype(np.int32)
    mask = np.ones(tokens.shape, bool)
    rollout = Rollout(tokens, mask, None, None)
    score = jax.jit(
        lambda batch, rollout: vrft_aug.score(
            TABLES,
            REWARDS._replace(set_rule=rule),
            tuple(WEIGHTS),
            vrft_aug.VrftCarry(()),
            batch,
            rollout,
            np.int32(0),
        )
    )
    found = jax.device_get(score(batch, rollout))
    assert set(found.rewards) == set(WEIGHTS)
    for n, g in np.ndindex(tokens.shape[:2]):
        (said,) = parsed_by_hand(tokens[n, g : g + 1], mask[n, g : g + 1])
        truth, shown = (
            set(np.flatnonzero(batch.label[n])),
            set(np.flatnonzero(said.shown)),
        )
        exact = bool(said.parsed) and shown == truth
        size = len(truth) + len(shown)
        expected = {
            "f1": (2 * len(truth & shown) / size if size else 1.0) * said.parsed,
            "exact": float(exact),
            "labels": (1 - len(truth ^ shown) / 3) * said.parsed,
        }[rule]
        assert found.rewards["accuracy"][n, g] == pytest.approx(expected)
        assert found.hits[n, g] == exact and found.parsed[n, g] == said.parsed
        right = said.parsed and said.well_formed and said.think_words > 0
        assert found.rewards["format"][n, g] == right
    counted = batch.valid[:, None].repeat(group, 1)
    shown = np.stack(
        [
            [p.shown for p in parsed_by_hand(t, m)]
            for t, m in zip(tokens, mask, strict=True)
        ]
    )
    f1 = label_set_f1(shown, batch.label[:, None].repeat(group, 1), found.parsed)
    assert found.metrics["set_f1"] == pytest.approx(np.asarray(f1)[counted].mean())
    assert 0 < found.metrics["label_accuracy"] < 1


def test_one_right_class_is_not_asked_for_where_there_is_none():
    batch = batch_of()
    tokens = np.zeros((len(batch.valid), 2, 1), np.int32)
    rollout = Rollout(tokens, tokens == 0, None, None)
    for rewards, weighed, message in (
        (REWARDS._replace(leak_label=True), ("accuracy",), "leak_label: a picture may"),
        (REWARDS, ("accuracy", "grade"), "reward grade: a picture may show several"),
    ):
        with pytest.raises(ValueError, match=message):
            vrft_aug.score(
                TABLES, rewards, weighed, vrft_aug.VrftCarry(()), batch, rollout, 0
            )


@pytest.fixture(scope="module")
def system():
    model = tiny_model()
    loss = Loss(beta=0.0, clip_low=0.2, clip_high=0.2, reduction="grpo")
    return vrft_aug.build(
        model,
        TABLES,
        optax.sgd(0.5),
        make_evaluate(model, READING, decoding=decoding()),
        rewards=REWARDS,
        step=Step(
            group=4,
            decoding=decoding(temperature=1.0),
            advantages=Advantages(scale="group"),
            reward_weights=WEIGHTS,
            teaching=Teaching(loss),
        ),
    )


@pytest.fixture(scope="module")
def stepped(system, params):
    """The step, compiled ahead: a host transfer would be an error."""
    state = system.init(jax.random.key(0), params)
    arguments = jax.device_put((state, batch_of(8), jax.random.key(1)))
    update = jax.jit(system.update).lower(*arguments).compile()
    for word in ("callback", "infeed", "outfeed"):
        assert word not in update.as_text()
    with jax.transfer_guard("disallow"):
        found = update(*arguments)
        jax.block_until_ready(found)
    return state, *found


def test_step_is_one_program_without_host_transfer(stepped):
    _, moved, measured = stepped
    assert int(moved.step) == 1
    assert 0 <= float(measured["set_f1"]) <= 1
    assert float(measured["reward_accuracy"]) == pytest.approx(
        float(measured["set_f1"])
    )


def test_eight_devices_agree_with_one(system, stepped):
    state, moved, measured = stepped
    mesh = make_mesh({"data": 8, "fsdp": 1, "model": 1})
    shardings = to_named_sharding(system.axes, mesh, RULES, state)
    batch = batch_of(8)
    rows = jax.device_put(batch, batch_sharding(batch, mesh, RULES))
    assert rows.label.sharding.shard_shape(rows.label.shape) == (2, 3)
    step = jax.jit(system.update, out_shardings=(shardings, None))
    new, found = step(jax.device_put(state, shardings), rows, jax.random.key(1))
    for one, other in ((new.params, moved.params), (found, measured)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5),
            *(one, other),
        )


def test_evaluation_reads_sets_and_weighs_each_class(params):
    evaluate = make_evaluate(tiny_model(), READING, decoding=decoding())
    batch, state = batch_of(), TrainState(params, (), np.int32(0))
    found, measured = jax.device_get(jax.jit(evaluate)(state, batch, jax.random.key(0)))
    rows = parsed_by_hand(found.tokens, found.mask)
    assert np.array_equal(found.shown, np.stack([row.shown for row in rows]))
    assert np.array_equal(found.read, np.stack([row.parsed for row in rows]))
    right = found.read & (found.shown == batch.label).all(axis=1)
    assert np.array_equal(measured["right"], right)
    assert found.class_logp.shape == (len(batch.valid), 4)
    assert (found.class_logp < 0).all()
    model = tiny_model()
    more = model.sample(
        params,
        model.prefill(params, batch.prompt),
        batch.sample_id,
        jax.random.key(0),
        group=3,
        decoding=decoding(temperature=1.0),
    )
    shape = (len(batch.valid) * 3, -1)
    rows = parsed_by_hand(
        np.asarray(more.tokens).reshape(shape), np.asarray(more.mask).reshape(shape)
    )
    drawn = np.stack([row.shown for row in rows]).reshape(-1, 3, 3)
    assert np.array_equal(found.drawn, drawn) and 0 < drawn.mean() < 1
    none = make_evaluate(model, READING._replace(draws=0), decoding=decoding())
    (found, _) = jax.eval_shape(none, state, batch, jax.random.key(0))
    assert found.drawn.shape == (len(batch.valid), 0, 3)


def check(batch, **changes):
    names = [f"row {n}" for n in range(len(batch.valid))]
    how = {"min_words": 1, "names": names, "classes": CLASSES} | changes
    check_answers(batch, TABLES, LABELS, **how)


def test_the_self_test_names_what_does_not_earn_the_reward():
    batch = batch_of()
    good = batch._replace(
        answer=np.where(batch.answer < ANSWERS, batch.answer % 30, batch.answer)
    )
    with_reason = [n for n in range(len(SAID)) if text_of(n).count("<think></think>")]
    keep = ~np.isin(good.answer[:, 0], with_reason)
    check(good._replace(valid=batch.valid & keep))
    label = good.label.copy()
    row = int(np.flatnonzero(batch.valid & keep)[0])
    label[row, 0] = ~label[row, 0]
    with pytest.raises(
        ValueError, match=rf"self-test: 1 of .*\n  row {row}: '"
    ) as caught:
        check(good._replace(label=label, valid=batch.valid & keep))
    assert "read '" in str(caught.value)
