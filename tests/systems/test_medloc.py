"""The medloc step: one program, independent of layout, split form, learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax.rl.parse_text import parse_text
from medjax.rl.schedules import piecewise_schedule
from medjax.sharding import batch_sharding, make_mesh, to_named_sharding
from medjax.systems import medloc
from medjax.systems.grounding import check_answers, make_evaluate
from tests.tiny import (
    PAD,
    STOP,
    pick_contexts,
    tiny_batch,
    tiny_config,
    tiny_tables,
    token_texts,
)

CONFIG, TABLES = tiny_config(), tiny_tables()
SCHEDULE = piecewise_schedule()._replace(
    start=0.05, window=2, hit_rates=(0.0,) * 3, deviations=(1.0,) * 3, margin=-1.0
)
RULES = {
    name: ("data",) if name == "batch" else None
    for name in (
        *("batch", "layers", "embed", "vocab", "heads", "kv_heads", "mlp", "norm"),
        "patch",
    )
}


def build(**changes):
    options = {
        "accuracy": "curriculum",
        "schedule": SCHEDULE,
        "total_steps": 10,
        "group": 4,
        "max_tokens": 3,
        "stop_tokens": [STOP],
        "pad": PAD,
        "sampling": {"temperature": 1.0},
        "advantages": {"scale": "group"},
        "loss": {"beta": 0.1, "clip_low": 0.2, "clip_high": 0.2, "reduction": "grpo"},
        "reward_weights": {"accuracy": 1.0, "format": 1.0},
    }
    # plain gradient steps: Adam divides by the gradient's size, and where that is 0
    # rounding would decide on a step of full length
    optimizer = changes.pop("optimizer", optax.sgd(0.5))
    evaluate = make_evaluate(CONFIG, TABLES, max_tokens=3, stop_tokens=[STOP], pad=PAD)
    return medloc.build(CONFIG, TABLES, optimizer, evaluate, **(options | changes))


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
def update(system):
    return jax.jit(system.update)


@pytest.fixture(scope="module")
def state(system):
    return jax.jit(system.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def stepped(update, state):
    return update(state, tiny_batch(), jax.random.key(1))


def test_step_is_one_program_without_host_transfer(system, state):
    batch = jax.device_put(tiny_batch())
    key = jax.random.key(1)
    traces = []

    def counted(*args):
        traces.append(1)
        return system.update(*args)

    program = jax.jit(counted).lower(state, batch, key).compile()
    text = program.as_text()
    assert "callback" not in text
    assert "infeed" not in text
    with jax.transfer_guard("disallow"):
        carried = state
        for step in range(3):
            carried, metrics = program(carried, batch, key)
            del step
        jax.block_until_ready(metrics)
    assert len(traces) == 1
    assert int(carried.step) == 3


def test_metrics_say_what_happened(stepped):
    _, metrics = stepped
    values = {name: float(x) for name, x in metrics.items()}
    assert values["groups"] == 8
    parts = ("effective", "unparsable", "all_wrong", "all_right", "tied")
    assert sum(values[f"groups_{p}"] for p in parts) == values["groups"]
    assert values["groups_effective"] > 0
    assert values["tau"] == pytest.approx(0.05)
    assert 0 < values["parse_rate"] <= 1
    assert values["kl"] == pytest.approx(0, abs=1e-6)  # the reference is the start
    assert values["ratio_mean"] == pytest.approx(1, abs=1e-5)
    for name in ("loss", "grad_norm", "entropy", "reward", "reward_std", "iou"):
        assert np.isfinite(values[name]), name
    assert 1 <= values["length"] <= 3


def test_tau_rises_and_each_raise_is_recorded(update, state):
    carried = state
    taus = []
    for step in range(5):
        carried, metrics = update(carried, tiny_batch(seed=step), jax.random.key(step))
        taus.append(round(float(metrics["tau"]), 6))
    # window 2, half kept: full after two steps, then after each further one
    assert taus == [0.05, 0.05, 0.2, 0.35, 0.5]
    log = jax.device_get(carried.aux.threshold.log)
    np.testing.assert_array_equal(log.step[:4], [1, 2, 3, 4])
    np.testing.assert_allclose(log.tau_after[:3], [0.2, 0.35, 0.5], atol=1e-6)
    assert np.isfinite(log.hit_rate[:4]).all()


@pytest.mark.parametrize("accuracy", ["fixed", "raw_iou", "progress"])
def test_baselines_keep_the_threshold(accuracy, state):
    system = build(accuracy=accuracy)
    step = jax.jit(system.update)
    carried = state
    for n in range(4):
        carried, metrics = step(carried, tiny_batch(seed=n), jax.random.key(n))
    assert float(carried.aux.threshold.tau) == pytest.approx(0.05)
    if accuracy == "raw_iou":
        assert float(metrics["reward_accuracy"]) == pytest.approx(float(metrics["iou"]))
    if accuracy == "progress":
        assert float(metrics["tau"]) == pytest.approx(0.99)


def test_unknown_reward_is_named():
    with pytest.raises(ValueError, match="'curiculum'.*curriculum"):
        build(accuracy="curiculum")
    with pytest.raises(TypeError, match="clip_hihg"):
        system = build(loss={"beta": 0.0, "clip_hihg": 1, "reduction": "grpo"})
        key = jax.random.key(0)
        jax.eval_shape(system.update, system.init(key), tiny_batch(), key)


def test_split_step_with_host_rewards_gives_the_same_numbers(stepped, state):
    texts = token_texts()

    def python_rewards(batch, rollout, step, threshold):
        del step
        accuracy, form = (
            np.zeros(rollout.mask.shape[:2]),
            np.zeros(rollout.mask.shape[:2]),
        )
        for n, g in np.ndindex(accuracy.shape):
            kept = rollout.tokens[n, g][rollout.mask[n, g]]
            parsed = parse_text("".join(texts[t] for t in kept))
            a, b = np.float64(parsed.boxes), np.float64(batch.boxes[n])
            low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
            overlap = np.prod(np.maximum(high - low, 0))
            union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap
            accuracy[n, g] = parsed.box_found and overlap / union >= threshold.tau
            form[n, g] = parsed.format
        return {"python_accuracy": accuracy, "python_format": form}

    weights = {
        "accuracy": 0.0,
        "format": 0.0,
        "python_accuracy": 1.0,
        "python_format": 1.0,
    }
    system = build(host_rewards=python_rewards, reward_weights=weights)
    batch, key = tiny_batch(), jax.random.key(1)
    scored = system.prepare(state, batch, key)
    split_state, split_metrics = jax.jit(system.update)(state, scored, key)
    fused_state, fused_metrics = stepped
    assert_close(split_state, fused_state, atol=1e-6)
    for name in fused_metrics:
        assert_close(split_metrics[name], fused_metrics[name], atol=1e-5)


def test_host_reward_of_wrong_shape_is_named(state):
    system = build(
        host_rewards=lambda *_: {"mine": np.zeros(3)},
        reward_weights={"accuracy": 1.0, "format": 1.0, "mine": 1.0},
    )
    with pytest.raises(ValueError, match=r"'mine'.*\(8, 4\).*\(3,\)"):
        system.prepare(state, tiny_batch(), jax.random.key(0))


def test_batch_layout_changes_nothing(update, state, stepped):
    batch = pick_contexts(tiny_batch(), [2, 0, 3, 1])
    moved_state, moved_metrics = update(state, batch, jax.random.key(1))
    assert_close(moved_state.params, stepped[0].params, atol=1e-5)
    assert_close(moved_metrics["reward"], stepped[1]["reward"])


def test_one_and_eight_devices_agree(system, state):
    assert len(jax.devices()) == 8
    batch, key = tiny_batch(contexts=8), jax.random.key(1)
    results = []
    for devices in (1, 8):
        mesh = make_mesh({"data": devices}, jax.devices()[:devices])
        shardings = to_named_sharding(system.axes, mesh, RULES, state)
        placed = jax.device_put(state, shardings)
        rows = jax.device_put(batch, batch_sharding(batch, mesh, RULES))
        new, metrics = jax.jit(system.update, out_shardings=(shardings, None))(
            placed, rows, key
        )
        results.append(jax.device_get((new.params, new.aux, metrics)))
    assert_close(results[1], results[0], atol=1e-5)


def test_parameters_may_be_sharded(system, state, stepped):
    """fsdp on embed and model on mlp: the numbers stay, the arrays are split."""
    mesh = make_mesh({"data": 2, "fsdp": 2, "model": 2})
    rules = RULES | {
        "batch": ("data", "fsdp"),
        "embed": ("fsdp",),
        "mlp": ("model",),
        "vocab": ("model",),
        "heads": ("model",),
    }
    shardings = to_named_sharding(system.axes, mesh, rules, state)
    placed = jax.device_put(state, shardings)
    kernel = placed.params["text"]["layers"]["mlp"]["up"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (2, 16, 24)
    batch = tiny_batch()
    rows = jax.device_put(batch, batch_sharding(batch, mesh, rules))
    new, _ = jax.jit(system.update, out_shardings=(shardings, None))(
        placed, rows, jax.random.key(1)
    )
    assert_close(new.params, stepped[0].params, atol=1e-5)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradient_is_exact(parts, state, stepped):
    system = build(accumulate=parts)
    new, metrics = jax.jit(system.update)(state, tiny_batch(), jax.random.key(1))
    for name in ("loss", "grad_norm", "entropy", "kl", "ratio_max"):
        assert_close(metrics[name], stepped[1][name], atol=1e-5)
    assert_close(new.params, stepped[0].params, atol=1e-6)


def test_parts_must_divide_the_contexts(state):
    system = build(accumulate=3)
    with pytest.raises(ValueError, match="accumulate=3.*4 contexts"):
        jax.eval_shape(system.update, state, tiny_batch(), jax.random.key(1))


def test_several_iterations_leave_the_old_policy_behind(state):
    system = build(iterations=3)
    _, metrics = jax.jit(system.update)(state, tiny_batch(), jax.random.key(1))
    assert abs(float(metrics["ratio_max"]) - 1) > 1e-3
    assert float(metrics["kl"]) > 0


def test_rows_that_fill_a_batch_do_not_count(update, state):
    batch = tiny_batch()
    valid = np.array([True] * 6 + [False] * 2)
    batch = batch._replace(valid=valid)
    spoilt = batch._replace(boxes=np.where(valid[:, None], batch.boxes, 1e6))
    ids = np.where(valid, batch.sample_id, 999).astype(np.int32)
    one = update(state, batch, jax.random.key(1))
    two = update(state, spoilt._replace(sample_id=ids), jax.random.key(1))
    assert_close(two[0].params, one[0].params, atol=1e-6)
    for name in ("loss", "reward", "iou", "length", "groups"):
        assert_close(two[1][name], one[1][name])
    assert float(one[1]["groups"]) == 6


def test_no_reference_without_a_kl_term(state):
    loss = {"beta": 0.0, "clip_low": 0.2, "clip_high": 0.2, "reduction": "dapo"}
    system = build(loss=loss)
    start = jax.jit(system.init)(jax.random.key(0))
    assert start.aux.reference == ()
    _, metrics = jax.jit(system.update)(start, tiny_batch(), jax.random.key(1))
    assert "kl" not in metrics
    assert float(metrics["grad_norm"]) > 0


def test_frozen_vision_gets_no_gradient(state):
    system = build(freeze_vision=True)
    new, _ = jax.jit(system.update)(state, tiny_batch(), jax.random.key(1))
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), new.params, state.params)
    assert not any(jax.tree.leaves(moved["vision"]))
    assert any(jax.tree.leaves(moved["text"]))


def test_starts_from_given_parameters(system, state):
    given = jax.tree.map(lambda x: x + 1, state.params)
    start = jax.jit(system.init)(jax.random.key(5), given)
    assert_close(start.params, given)
    assert_close(start.aux.reference, given)


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


def test_reward_rises():
    loss = {"beta": 0.0, "clip_low": 0.2, "clip_high": 0.2, "reduction": "grpo"}
    system = build(accuracy="raw_iou", loss=loss, group=8, optimizer=optax.adam(5e-3))
    step = jax.jit(system.update, donate_argnums=0)
    state = jax.jit(system.init)(jax.random.key(0))
    batch = tiny_batch(contexts=2)
    rewards = []
    for n in range(40):
        state, metrics = step(state, batch, jax.random.key(n))
        rewards.append(float(metrics["reward"]))
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.3


def test_evaluation_is_greedy_and_reads_boxes(system, state):
    batch = tiny_batch()
    evaluate = jax.jit(system.evaluate)
    predictions, metrics = evaluate(state, batch, jax.random.key(0))
    again, _ = evaluate(state, batch, jax.random.key(9))
    np.testing.assert_array_equal(predictions.tokens, again.tokens)
    assert predictions.boxes.shape == (8, 4)
    assert metrics["iou"].shape == (8,)
    found = np.asarray(metrics["parsed"])
    assert (np.asarray(predictions.boxes)[~found] == 0).all()


def test_self_test_accepts_the_truth_and_names_what_is_wrong():
    batch, names = tiny_batch(), [f"sample {n}" for n in range(8)]
    check_answers(batch, TABLES, tau=0.8, names=names)
    other_frame = batch._replace(boxes=batch.boxes * 2)
    with pytest.raises(ValueError, match=r"8 of 8.*\n.*sample 0.*IoU") as caught:
        check_answers(other_frame, TABLES, tau=0.8, names=names)
    assert "resized pixels" in str(caught.value)
    cut = batch._replace(answer_mask=np.zeros_like(batch.answer_mask))
    with pytest.raises(ValueError, match="no box"):
        check_answers(cut, TABLES, tau=0.8, names=names)


def test_axes_have_the_structure_of_the_state():
    for beta in (0.0, 0.1):
        loss = {"beta": beta, "clip_low": 0.2, "clip_high": 0.2, "reduction": "grpo"}
        built = build(loss=loss)
        shapes = jax.eval_shape(built.init, jax.random.key(0))
        mesh = make_mesh({"data": 8})
        to_named_sharding(built.axes, mesh, RULES, shapes)  # raises where they differ
