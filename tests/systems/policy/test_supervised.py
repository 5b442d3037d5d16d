"""Supervised training: its loss, that it learns, and that padding does not count."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

from medjax.systems.policy import supervised
from medjax.systems.policy.boxes import make_evaluate
from tests.oracles.plain_policy import plain_log_probs
from tests.tiny import decoding, tiny_batch, tiny_config, tiny_model, tiny_tables

CONFIG, BATCH = tiny_config(), tiny_batch(contexts=2)


@pytest.fixture(scope="module")
def system():
    model = tiny_model()
    evaluate = make_evaluate(model, tiny_tables(), decoding=decoding())
    return supervised.build(model, optax.adam(1e-2), evaluate)


@pytest.fixture(scope="module")
def step(system):
    program = jax.jit(system.update)
    return lambda state, batch: program(state, batch, jax.random.key(0))


@pytest.fixture(scope="module")
def start(system, params):
    return jax.jit(system.init)(jax.random.key(0), params)


def test_loss_is_the_mean_over_answer_tokens(step, start):
    answer, mask = BATCH.answer[:, None], BATCH.answer_mask[:, None]
    plain = jax.jit(partial(plain_log_probs, CONFIG))
    table = np.asarray(plain(start.params, BATCH.prompt, answer, mask), np.float64)
    logp = np.take_along_axis(table, answer[..., None], axis=-1)[..., 0]
    _, metrics = step(start, BATCH)
    assert float(metrics["loss"]) == pytest.approx(-logp[mask].mean(), abs=1e-5)
    assert float(metrics["grad_norm"]) > 0


def test_loss_falls_and_greedy_answers_become_right(system, step, start):
    state, losses = start, []
    for _ in range(60):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics["loss"]))
    assert losses[0] > np.log(64) - 0.5  # uniform over 64 tokens: 4.16 nats
    assert losses[-1] < 0.1
    assert int(state.step) == 60
    _, scores = jax.jit(system.evaluate)(state, BATCH, jax.random.key(0))
    assert float(scores["iou"].mean()) == pytest.approx(1)


def test_padding_and_filler_rows_do_not_count(step, start):
    batch = BATCH._replace(valid=np.array([True, True, True, False]))
    answer = batch.answer.copy()
    answer[3], answer[:, 2] = 5, 9
    one, _ = step(start, batch)
    two, _ = step(start, batch._replace(answer=answer))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one.params, two.params
    )


def test_starts_from_given_parameters(start, params):
    jax.tree.map(np.testing.assert_array_equal, start.params, params)
    assert int(start.step) == 0
