"""Supervised training, and the optimiser all policies use."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax.models.qwen25vl.policy import init_params
from medjax.systems import supervised
from medjax.systems.grounding import make_evaluate
from medjax.systems.optimizer import make_optimizer
from tests.tiny import PAD, STOP, tiny_batch, tiny_config, tiny_tables

CONFIG = tiny_config()


def build(optimizer):
    evaluate = make_evaluate(
        CONFIG, tiny_tables(), max_tokens=3, stop_tokens=[STOP], pad=PAD
    )
    return supervised.build(CONFIG, optimizer, evaluate)


def test_loss_falls_and_greedy_answers_become_right():
    system = build(optax.adam(1e-2))
    state = jax.jit(system.init)(jax.random.key(0))
    step = jax.jit(system.update, donate_argnums=0)
    batch = tiny_batch(contexts=2)
    first = None
    for _ in range(60):
        state, metrics = step(state, batch, jax.random.key(0))
        first = float(metrics["loss"]) if first is None else first
    # uniform over 64 tokens at the start: log 64 = 4.16 nats
    assert first == pytest.approx(np.log(64), abs=0.5)
    assert float(metrics["loss"]) < 0.1
    _, scores = jax.jit(system.evaluate)(state, batch, jax.random.key(0))
    assert float(scores["iou"].mean()) == pytest.approx(1)


def test_padding_and_filler_rows_do_not_count():
    system = build(optax.sgd(1.0))
    state = jax.jit(system.init)(jax.random.key(0))
    step = jax.jit(system.update)
    batch = tiny_batch(contexts=2)
    batch = batch._replace(valid=np.array([True, True, True, False]))
    answer = batch.answer.copy()
    answer[3], answer[:, 2] = 5, 9
    one, _ = step(state, batch, jax.random.key(0))
    two, _ = step(state, batch._replace(answer=answer), jax.random.key(0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one.params, two.params
    )


def test_optimizer_follows_its_schedule_and_freezes():
    params = init_params(CONFIG, jax.random.key(0))
    grads = jax.tree.map(jnp.ones_like, params)
    tx = make_optimizer(
        lr=0.1, steps=10, decay="linear", warmup=2, clip_norm=None, freeze=("vision",)
    )
    update = jax.jit(tx.update)
    state, sizes = tx.init(params), []
    for _ in range(10):
        updates, state = update(grads, state, params)
        sizes.append(float(-updates["text"]["norm"]["scale"][0]))
        frozen = jax.tree.leaves(updates["vision"])
        assert all(not jnp.any(x) for x in frozen)
    expected = [0, 0.05, *(0.1 * (1 - n / 8) for n in range(8))]
    np.testing.assert_allclose(sizes, expected, atol=1e-6)


def test_decay_leaves_norms_and_biases_alone():
    params = init_params(CONFIG, jax.random.key(0))
    zero = jax.tree.map(jnp.zeros_like, params)
    tx = make_optimizer(lr=0.1, steps=5, weight_decay=0.5)
    updates, _ = jax.jit(tx.update)(zero, tx.init(params), params)
    for path, update in jax.tree.leaves_with_path(updates):
        moved = bool(jnp.any(update))
        assert moved is (path[-1].key in ("kernel", "embedding"))


def test_optimizer_refuses():
    with pytest.raises(ValueError, match="'exponential'.*cosine"):
        make_optimizer(lr=1.0, steps=5, decay="exponential")
    with pytest.raises(ValueError, match=r"0\.\.5"):
        make_optimizer(lr=1.0, steps=5, warmup=6)
