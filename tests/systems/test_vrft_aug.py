"""The vrft_aug step: one program, rewards as on the host, split form, learning."""

import jax
import numpy as np
import optax
import pytest

from medjax.rl.label_rewards import grade_table
from medjax.rl.ramps import RewardRamp
from medjax.rl.text.boxes import build_tables
from medjax.rl.text.label_text import parse_label_text
from medjax.rl.text.recitation_text import recitation_score
from medjax.runtime.naming import named
from medjax.sharding import batch_sharding, make_mesh, to_named_sharding
from medjax.systems import vrft_aug
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.classes import Reading, make_evaluate
from medjax.systems.policy.exploration import Step
from medjax.systems.policy.host_rewards import HostReward
from medjax.systems.policy.learner import Loss, Teaching
from medjax.types import Rollout
from tests.tiny import decoding, pick_contexts, tiny_model
from tests.tiny_labels import (
    FORMS,
    KNOWLEDGE,
    LABELS,
    REFERENCES,
    tiny_label_tables,
    tiny_labels,
    token_texts,
    written_answers,
)

TABLES = tiny_label_tables()
CONTEXTS, ROWS, GROUP = 8, 16, 4  # a context for each of eight devices
TABLE = grade_table("tenth", 4)
WEIGHTS = {"accuracy": 0.0, "grade": 1.0, "format": 0.5, "recitation": -0.5}
LOSS = Loss(beta=0.0, clip_low=0.2, clip_high=0.2, reduction="grpo")
AXES = "batch layers embed vocab heads kv_heads mlp norm patch".split()
AXES += ["vision_heads", "vision_mlp"]
RULES = {name: ("data",) if name == "batch" else None for name in AXES}
READING = Reading(TABLES, LABELS, REFERENCES, **written_answers(), max_words=24)
REWARDS = vrft_aug.Rewards(
    labels=LABELS,
    references=REFERENCES,
    grade_table=TABLE,
    min_words=1,
    require_label=True,
    min_different=3,
    without_words=1.0,
    max_words=24,
)


def build(
    *,
    group=GROUP,
    reward_weights=WEIGHTS,
    optimizer=None,
    rewards=REWARDS,
    audit=False,
    **options,
):
    model = tiny_model()
    return vrft_aug.build(
        model,
        TABLES,
        optax.sgd(0.5) if optimizer is None else optimizer,
        make_evaluate(model, READING, decoding=decoding()),
        rewards=rewards,
        step=Step(
            group=group,
            decoding=decoding(temperature=1.0),
            advantages=Advantages(scale="group"),
            reward_weights=reward_weights,
            teaching=Teaching(LOSS),
            audit=audit,
        ),
        **options,
    )


def batch_of(seed=0):
    return tiny_labels(contexts=CONTEXTS, seed=seed)


def assert_close(found, expected, atol=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-5),
        found,
        expected,
    )


@pytest.fixture(scope="module")
def system():
    return build()


@pytest.fixture(scope="module")
def state(system, params):
    return jax.jit(system.init)(jax.random.key(0), params)


@pytest.fixture(scope="module")
def update(system, state):
    """The step, compiled ahead: another shape or a host transfer would be an error."""
    arguments = jax.device_put((state, batch_of(), jax.random.key(1)))
    return jax.jit(system.update).lower(*arguments).compile()


@pytest.fixture(scope="module")
def stepped(update, state):
    return update(state, batch_of(), jax.random.key(1))


def test_step_is_one_program_without_host_transfer(update, state):
    text = update.as_text()
    for word in ("callback", "infeed", "outfeed"):
        assert word not in text
    carried, batch, key = jax.device_put((state, batch_of(), jax.random.key(1)))
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            carried, metrics = update(carried, batch, key)
        jax.block_until_ready(metrics)
    assert int(carried.step) == 3


def test_metrics_say_what_each_reward_did(stepped):
    _, metrics = stepped
    values = {name: float(x) for name, x in metrics.items()}
    parts = ("effective", "unparsable", "all_wrong", "all_right", "tied")
    assert sum(values[f"groups_{p}"] for p in parts) == values["groups"] == ROWS
    for name in WEIGHTS:
        assert np.isfinite(values[f"reward_{name}"])
        assert 0 <= values[f"reward_{name}_tied"] <= 1
        assert values[f"reward_{name}_std"] >= 0
    assert values["hit_rate"] == pytest.approx(values["reward_accuracy"])
    assert values["reward"] == pytest.approx(
        sum(w * values[f"reward_{name}"] for name, w in WEIGHTS.items()), abs=1e-6
    )
    for name in ("loss", "grad_norm", "entropy", "think_words", "parse_rate"):
        assert np.isfinite(values[name]), name


def test_batch_layout_changes_nothing(update, state, stepped):
    batch = pick_contexts(batch_of(), [2, 0, 3, 1, 7, 6, 4, 5])
    moved_state, moved_metrics = update(state, batch, jax.random.key(1))
    assert_close(moved_state.params, stepped[0].params)
    assert_close(moved_metrics["reward"], stepped[1]["reward"])


def test_eight_devices_agree_with_one(system, state, stepped):
    """Rows over four devices, kernels over fsdp and model: arrays are split."""
    mesh = make_mesh({"data": 2, "fsdp": 2, "model": 2})
    split = dict.fromkeys(("mlp", "vocab", "heads", "vision_mlp"), ("model",))
    rules = RULES | split | {"batch": ("data", "fsdp"), "embed": ("fsdp",)}
    shardings = to_named_sharding(system.axes, mesh, rules, state)
    batch = batch_of()
    rows = jax.device_put(batch, batch_sharding(batch, mesh, rules))
    assert rows.label.sharding.shard_shape(rows.label.shape) == (4,)
    step = jax.jit(system.update, out_shardings=(shardings, None))
    new, metrics = step(jax.device_put(state, shardings), rows, jax.random.key(1))
    assert_close((new.params, new.aux), (stepped[0].params, stepped[0].aux))
    assert_close(metrics, stepped[1])


def python_rewards(batch, rollout, step, carry):
    """The rewards of the fused step, by the host's references and in loops."""
    texts, shape = token_texts(), rollout.mask.shape[:2]
    found = {f"python_{name}": np.zeros(shape) for name in WEIGHTS}
    for at in np.ndindex(shape):
        text = "".join(texts[t] for t in rollout.tokens[at][rollout.mask[at]])
        parsed = parse_label_text(text, FORMS)
        label, target = int(parsed.label), int(batch.label[at[0]])
        start, end = parsed.think
        think = text.encode()[start:end].decode()
        right = bool(parsed.well_formed) and parsed.think_words >= 1 and label >= 0
        found["python_accuracy"][at] = label == target
        found["python_grade"][at] = TABLE[abs(label - target)] if label >= 0 else 0
        found["python_format"][at] = right
        found["python_recitation"][at] = (
            recitation_score(think, KNOWLEDGE) if parsed.think_words else 1
        )
    return {name: HostReward(values) for name, values in found.items()}


def test_split_step_with_host_rewards_gives_the_same_numbers(state, stepped):
    silent = dict.fromkeys(WEIGHTS, 0.0)
    mine = {f"python_{name}": weight for name, weight in WEIGHTS.items()}
    split = build(host_rewards=python_rewards, reward_weights=silent | mine)
    scored = split.prepare(state, batch_of(), jax.random.key(1))
    new, metrics = jax.jit(split.update)(state, scored, jax.random.key(1))
    assert_close(new, stepped[0], atol=1e-6)
    for name in WEIGHTS:
        assert_close(metrics[f"reward_python_{name}"], stepped[1][f"reward_{name}"])
    for name in ("loss", "reward", "reward_std", "groups_effective"):
        assert_close(metrics[name], stepped[1][name])


SAID = (
    "a narrow dark slit",  # recites
    "a dark gap a dark gap a dark gap",
    "slit dark narrow a",
)


@pytest.mark.parametrize("without", [0.0, 1.0])
def test_a_reasoning_that_repeats_itself_earns_no_recitation(without):
    texts = [f"<think>{x}</think><answer>1</answer>" for x in SAID]
    tables = build_tables([text.encode() for text in texts] + [b""])
    tokens = np.arange(3, dtype=np.int32)[None, :, None]
    rollout = Rollout(tokens, np.ones((1, 3, 1), bool), None, None)
    batch = tiny_labels(contexts=1)._replace(
        label=np.array([1], np.int32), valid=np.ones(1, bool)
    )

    def scored(**changes):
        options = REWARDS._replace(without_words=without, **changes)
        carry = vrft_aug.VrftCarry(())
        return vrft_aug.score(
            tables, options, ("recitation",), carry, batch, rollout, np.int32(0)
        )

    plain, guarded = scored(), scored(repeat_ngram=2, repeat_limit=0.5)
    assert "repeated" not in plain.metrics
    # of 3, 8 and 3 pairs 0, 5 and 0 stood there before
    assert float(guarded.metrics["repeated"]) == pytest.approx(5 / 8 / 3)
    before, after = (np.asarray(x.rewards["recitation"])[0] for x in (plain, guarded))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert after[1] == without != before[1]
    same = scored(repeat_ngram=2, repeat_limit=5 / 8)
    np.testing.assert_array_equal(same.rewards["recitation"][0], before)


def test_recitation_is_let_in_once_answers_are_right(state):
    """The weight of a step is that of the state before it; the state is saved."""
    ramp = RewardRamp(steps=2, above=0.0, window=1)
    system = build(rewards=REWARDS._replace(ramp=ramp, ramp_by="grade"))
    begun = jax.jit(system.init)(jax.random.key(0), state.params)
    assert "aux.ramp.means" in named(begun) and "aux.ramp.means" not in named(state)
    update = jax.jit(system.update)
    for factor in (0.0, 0.5, 1.0, 1.0):
        begun, metrics = update(begun, batch_of(), jax.random.key(1))
        values = {name: float(x) for name, x in metrics.items()}
        assert values["recitation_ramp"] == factor
        scaled = WEIGHTS | {"recitation": WEIGHTS["recitation"] * factor}
        assert values["reward"] == pytest.approx(
            sum(w * values[f"reward_{name}"] for name, w in scaled.items()), abs=1e-6
        )
    assert float(begun.aux.ramp.means[0]) == pytest.approx(values["reward_grade"])
    waiting = build(
        rewards=REWARDS._replace(ramp=ramp._replace(above=1.0), ramp_by="grade")
    )
    shape = jax.eval_shape(waiting.init, jax.random.key(0))
    assert jax.tree.structure(shape.aux) == jax.tree.structure(waiting.axes.aux)


@pytest.mark.slow
def test_accuracy_rises_and_recitation_falls_with_its_weight(params):
    system = build(
        group=8,
        optimizer=optax.adam(5e-3),
        reward_weights={"accuracy": 1.0, "format": 0.5, "recitation": -0.5},
    )
    step = jax.jit(system.update, donate_argnums=0)
    state = jax.jit(system.init)(jax.random.key(0), params)
    assert state.aux.reference == ()
    batch = tiny_labels(contexts=2)
    rows = []
    for n in range(40):
        state, metrics = step(state, batch, jax.random.key(n))
        rows.append({k: float(x) for k, x in metrics.items()})
    first, last = (
        {k: np.mean([row[k] for row in part]) for k in rows[0]}
        for part in (rows[:5], rows[-5:])
    )
    assert last["hit_rate"] > first["hit_rate"] + 0.15
    assert last["reward_format"] > first["reward_format"]
    assert last["reward_recitation"] < first["reward_recitation"]
    assert last["think_words"] >= 1  # an emptied think block does not pay


def test_what_is_not_weighted_is_not_a_reward():
    system = build(reward_weights={"accuracy": 1.0})
    state = jax.eval_shape(system.init, jax.random.key(0))
    key = jax.random.key(0)
    _, metrics = jax.eval_shape(system.update, state, tiny_labels(contexts=2), key)
    assert "reward_accuracy" in metrics and "overlap" in metrics
    assert "reward_grade" not in metrics and "reward_recitation" not in metrics
    with pytest.raises(ValueError, match="'acuracy'.*named alike"):
        wrong = build(reward_weights={"acuracy": 1.0})
        jax.eval_shape(wrong.update, state, tiny_labels(contexts=2), key)
