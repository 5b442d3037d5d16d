"""The medloc step: one program, independent of layout, split form, learning."""

import jax
import numpy as np
import optax
import pytest

from medjax.rl.schedules import piecewise_schedule
from medjax.rl.text.box_text import parse_text
from medjax.sharding import batch_sharding, make_mesh, to_named_sharding
from medjax.systems import medloc
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.boxes import make_evaluate
from medjax.systems.policy.exploration import Step
from medjax.systems.policy.host_rewards import HostReward
from medjax.systems.policy.learner import Loss, Teaching
from tests.oracles.box_loops import iou
from tests.tiny import (
    decoding,
    pick_contexts,
    tiny_batch,
    tiny_model,
    tiny_tables,
    token_texts,
)

TABLES = tiny_tables()
CONTEXTS, ROWS, GROUP = 8, 16, 4  # a context for each of eight devices
SCHEDULE = piecewise_schedule()._replace(
    start=0.05, window=2, hit_rates=(0.0,) * 3, deviations=(1.0,) * 3, margin=-1.0
)
LOSS = Loss(beta=0.0, clip_low=0.2, clip_high=0.2, reduction="grpo")
AXES = "batch layers embed vocab heads kv_heads mlp norm patch".split()
AXES += ["vision_heads", "vision_mlp"]
RULES = {name: ("data",) if name == "batch" else None for name in AXES}


def build(**changes):
    rewards = medloc.Rewards(changes.pop("accuracy", "curriculum"), SCHEDULE, 10)
    model = tiny_model(freeze_vision=changes.pop("freeze_vision", False))
    step = Step(
        group=changes.pop("group", GROUP),
        decoding=decoding(temperature=1.0),
        advantages=Advantages(scale="group"),
        reward_weights=changes.pop("reward_weights", {"accuracy": 1.0, "format": 1.0}),
        teaching=Teaching(changes.pop("loss", LOSS)),
        audit=changes.pop("audit", False),
    )
    # plain gradient steps: Adam divides by the gradient's size, and where that is 0
    # rounding would decide on a step of full length
    optimizer = changes.pop("optimizer", optax.sgd(0.5))
    evaluate = make_evaluate(model, TABLES, decoding=decoding())
    return medloc.build(
        model, TABLES, optimizer, evaluate, rewards=rewards, step=step, **changes
    )


def batch_of(seed=0):
    return tiny_batch(contexts=CONTEXTS, seed=seed)


def start(system, params):
    return jax.jit(system.init)(jax.random.key(0), params)


def assert_close(found, expected, atol=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-5),
        found,
        expected,
    )


def assert_moved(found, before, part, moved):
    """Whether anything in a top-level part of the parameters differs."""
    pairs = zip(
        jax.tree.leaves(found[part]), jax.tree.leaves(before[part]), strict=True
    )
    assert any(np.any(np.asarray(a) != np.asarray(b)) for a, b in pairs) is moved


@pytest.fixture(scope="module")
def system():
    return build()


@pytest.fixture(scope="module")
def state(system, params):
    return start(system, params)


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
    assert "callback" not in text
    assert "infeed" not in text and "outfeed" not in text
    carried, batch, key = jax.device_put((state, batch_of(), jax.random.key(1)))
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            carried, metrics = update(carried, batch, key)
        jax.block_until_ready(metrics)
    assert int(carried.step) == 3


def test_metrics_say_what_happened(stepped):
    _, metrics = stepped
    values = {name: float(x) for name, x in metrics.items()}
    assert values["groups"] == ROWS
    parts = ("effective", "unparsable", "all_wrong", "all_right", "tied")
    assert sum(values[f"groups_{p}"] for p in parts) == values["groups"]
    assert values["groups_effective"] > 0
    assert values["tau"] == pytest.approx(0.05)
    assert 0 < values["parse_rate"] <= 1
    assert values["ratio_mean"] == pytest.approx(1, abs=1e-5)
    for name in ("loss", "grad_norm", "entropy", "reward", "reward_std", "iou"):
        assert np.isfinite(values[name]), name
    assert 1 <= values["length"] <= 3


def test_tau_rises_and_each_raise_is_recorded(update, state):
    carried, taus = state, []
    for step in range(5):
        carried, metrics = update(carried, batch_of(step), jax.random.key(step))
        taus.append(round(float(metrics["tau"]), 6))
    # window 2, half kept: full after two steps, then after each further one
    assert taus == [0.05, 0.05, 0.2, 0.35, 0.5]
    log = jax.device_get(carried.aux.threshold.log)
    np.testing.assert_array_equal(log.step[:4], [1, 2, 3, 4])
    np.testing.assert_allclose(log.tau_after[:3], [0.2, 0.35, 0.5], atol=1e-6)
    assert np.isfinite(log.hit_rate[:4]).all()


def test_batch_layout_changes_nothing(update, state, stepped):
    batch = pick_contexts(batch_of(), [2, 0, 3, 1, 7, 6, 4, 5])
    moved_state, moved_metrics = update(state, batch, jax.random.key(1))
    assert_close(moved_state.params, stepped[0].params, atol=1e-5)
    assert_close(moved_metrics["reward"], stepped[1]["reward"])


def test_rows_that_fill_a_batch_do_not_count(update, state):
    batch = batch_of()
    valid = np.arange(ROWS) < 12
    batch = batch._replace(valid=valid)
    boxes = np.where(valid[:, None], batch.boxes, 1e6).astype(np.float32)
    ids = np.where(valid, batch.sample_id, 999).astype(np.int32)
    spoilt = batch._replace(boxes=boxes, sample_id=ids)
    one = update(state, batch, jax.random.key(1))
    two = update(state, spoilt, jax.random.key(1))
    assert_close(two[0].params, one[0].params, atol=1e-6)
    for name in ("loss", "reward", "iou", "length", "groups"):
        assert_close(two[1][name], one[1][name])
    assert float(one[1]["groups"]) == 12


def run_on(mesh, rules, system, state):
    """One step with state and batch placed by the rules."""
    shardings = to_named_sharding(system.axes, mesh, rules, state)
    batch = batch_of()
    rows = jax.device_put(batch, batch_sharding(batch, mesh, rules))
    placed = jax.device_put(state, shardings)
    step = jax.jit(system.update, out_shardings=(shardings, None))
    return placed, rows, step(placed, rows, jax.random.key(1))


def test_eight_devices_agree_with_one(system, state, stepped):
    """Rows over four devices, kernels over fsdp and model: arrays are split."""
    assert len(jax.devices()) == 8
    mesh = make_mesh({"data": 2, "fsdp": 2, "model": 2})
    split = dict.fromkeys(("mlp", "vocab", "heads", "vision_mlp"), ("model",))
    rules = RULES | split | {"batch": ("data", "fsdp"), "embed": ("fsdp",)}
    placed, rows, (new, metrics) = run_on(mesh, rules, system, state)
    kernel = placed.params["text"]["layers"]["mlp"]["up"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (2, 16, 24)
    assert rows.boxes.sharding.shard_shape(rows.boxes.shape) == (4, 4)
    assert_close((new.params, new.aux), (stepped[0].params, stepped[0].aux), atol=1e-5)
    assert_close(metrics, stepped[1], atol=1e-5)


@pytest.mark.slow
def test_eight_devices_with_whole_parameters_agree_with_one(system, state, stepped):
    _, rows, (new, metrics) = run_on(make_mesh({"data": 8}), RULES, system, state)
    assert rows.boxes.sharding.shard_shape(rows.boxes.shape) == (2, 4)
    assert_close((new.params, new.aux), (stepped[0].params, stepped[0].aux), atol=1e-5)
    assert_close(metrics, stepped[1], atol=1e-5)


def python_rewards(batch, rollout, step, threshold):
    """The rewards of the fused step, by the host's parser and in loops."""
    texts, shape = token_texts(), rollout.mask.shape[:2]
    accuracy, form = np.zeros(shape), np.zeros(shape)
    for n, g in np.ndindex(shape):
        kept = rollout.tokens[n, g][rollout.mask[n, g]]
        parsed = parse_text("".join(texts[t] for t in kept))
        overlap = iou(parsed.boxes, batch.boxes[n]) if parsed.box_found else -1
        accuracy[n, g] = overlap >= threshold.tau
        form[n, g] = parsed.format
    if step == 7:  # a mistake, to be named
        form = form[:3]
    found = {"python_accuracy": accuracy, "python_format": form}
    return {name: HostReward(values) for name, values in found.items()}


@pytest.fixture(scope="module")
def split():
    weights = {"accuracy": 0.0, "format": 0.0}
    weights |= {"python_accuracy": 1.0, "python_format": 1.0}
    return build(host_rewards=python_rewards, reward_weights=weights)


@pytest.fixture(scope="module")
def scored(split, state):
    """Completions of the batch that `stepped` saw, with their rewards."""
    return split.prepare(state, batch_of(), jax.random.key(1))


def test_split_step_with_host_rewards_gives_the_same_numbers(
    split, scored, state, stepped
):
    split_state, split_metrics = jax.jit(split.update)(state, scored, jax.random.key(1))
    fused_state, fused_metrics = stepped
    assert_close(split_state, fused_state, atol=1e-6)
    for name in fused_metrics:
        assert_close(split_metrics[name], fused_metrics[name], atol=1e-5)


def test_host_reward_of_wrong_shape_is_named(split, state):
    later = state._replace(step=np.int32(7))
    with pytest.raises(ValueError, match=r"'python_format'.*\(16, 4\).*\(3, 4\)"):
        split.prepare(later, batch_of(), jax.random.key(1))


def test_fixed_reward_keeps_its_threshold(scored, state):
    """On completions sampled before: the half of the step that learns."""
    system = build(accuracy="fixed", host_rewards=lambda *_: {})
    learn = jax.jit(system.update)
    carried, batch = state, scored._replace(rewards={}, scored={})
    for _ in range(4):
        carried, metrics = learn(carried, batch, jax.random.key(1))
        assert float(metrics["tau"]) == pytest.approx(0.05)
    assert float(carried.aux.threshold.tau) == pytest.approx(0.05)
    assert "kl" not in metrics and state.aux.reference == ()
    assert_moved(carried.params, state.params, "vision", True)


def test_progress_reward_raises_its_own_threshold_and_vision_may_be_frozen(
    scored, state
):
    system = build(accuracy="progress", freeze_vision=True, host_rewards=lambda *_: {})
    learn = jax.jit(system.update)
    carried, taus = state, []
    for _ in range(4):
        batch = scored._replace(rewards={}, scored={})
        carried, metrics = learn(carried, batch, jax.random.key(1))
        taus.append(float(metrics["tau"]))
    # 0.85 up to a tenth of ten steps, 0.95 up to a quarter, then 0.99 (V-Triune)
    np.testing.assert_allclose(taus, [0.85, 0.85, 0.95, 0.99], atol=1e-6)
    assert float(carried.aux.threshold.tau) == pytest.approx(0.05)
    assert_moved(carried.params, state.params, "vision", False)
    assert_moved(carried.params, state.params, "text", True)


def test_raw_iou_reward_is_the_iou_and_rises(params):
    system = build(
        accuracy="raw_iou",
        loss=LOSS._replace(beta=0.1),
        group=8,
        optimizer=optax.adam(5e-3),
    )
    step = jax.jit(system.update, donate_argnums=0)
    state, batch = start(system, params), tiny_batch(contexts=2)
    rewards = []
    for n in range(40):
        state, metrics = step(state, batch, jax.random.key(n))
        values = {k: float(metrics[k]) for k in ("reward_accuracy", "iou", "tau")}
        assert values["reward_accuracy"] == pytest.approx(values["iou"])
        rewards.append(float(metrics["reward"]))
        if n == 0:  # the reference is the start
            assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)
    assert values["tau"] == 0
    assert float(metrics["kl"]) > 0.01
    assert_close(state.aux.reference, params)
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.3


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match="'curiculum'.*curriculum"):
        build(accuracy="curiculum")
    with pytest.raises(TypeError, match="clip_hihg"):
        Loss(beta=0.0, clip_hihg=1, reduction="grpo")


def test_starts_from_given_parameters(state, params):
    assert_close(state.params, params)
    assert int(state.step) == 0


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_axes_have_the_structure_of_the_state(beta):
    built = build(loss=LOSS._replace(beta=beta))
    shapes = jax.eval_shape(built.init, jax.random.key(0))
    mesh = make_mesh({"data": 8})
    to_named_sharding(built.axes, mesh, RULES, shapes)  # raises where they differ


@pytest.mark.slow
def test_vmaps_over_seeds(system):
    keys = jax.random.split(jax.random.key(3), 2)
    batch = tiny_batch(contexts=2)
    states = jax.vmap(system.init)(keys)
    together, _ = jax.jit(jax.vmap(system.update, (0, None, 0)))(states, batch, keys)
    for n in range(2):
        one = jax.tree.map(lambda x, n=n: x[n], states)
        alone, _ = jax.jit(system.update)(one, batch, keys[n])
        here = jax.tree.map(lambda x, n=n: x[n], together)
        assert_close(here.params, alone.params, atol=2e-5)
