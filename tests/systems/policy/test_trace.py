"""An audited step: the equations of one that is not, and what it hands out."""

import jax
import numpy as np
import optax

from medjax.systems import medloc
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.exploration import Step
from medjax.systems.policy.learner import Teaching
from medjax.systems.policy.trace import PADDING, Trace
from tests.systems import test_medloc, test_vrft_aug
from tests.systems.policy.test_exploration import table_model
from tests.tiny import decoding


def program(build, batch, audit):
    """The step's equations, its metrics without the trace, and the trace's shapes."""
    system = build(audit=audit)
    key = jax.random.key(0)
    state = jax.eval_shape(system.init, key)

    def update(state, batch, key):
        new, metrics = system.update(state, batch, key)
        return new, {k: x for k, x in metrics.items() if k != "trace"}

    _, metrics = jax.eval_shape(system.update, state, batch, key)
    return str(jax.make_jaxpr(update)(state, batch, key)), metrics.get("trace")


def test_a_trace_adds_no_equation_and_none_is_there_unasked():
    for test in (test_medloc, test_vrft_aug):
        batch = test.batch_of()
        off, nothing = program(test.build, batch, False)
        on, trace = program(test.build, batch, True)
        assert nothing is None
        assert isinstance(trace, Trace)
        assert on == off


def test_a_trace_holds_what_the_step_saw():
    batch = test_medloc.batch_of()
    schedule = test_medloc.SCHEDULE
    step = Step(
        group=4,
        decoding=decoding(temperature=1.0),
        advantages=Advantages(scale="group"),
        reward_weights={"accuracy": 1.0, "format": 0.5},
        teaching=Teaching(test_medloc.LOSS),
        audit=True,
    )
    rewards = medloc.Rewards("curriculum", schedule, 10)
    system = medloc.build(
        table_model(),
        test_medloc.TABLES,
        optax.sgd(0.1),
        lambda *_: None,
        rewards=rewards,
        step=step,
    )
    state = system.init(jax.random.key(0))
    _, metrics = jax.jit(system.update)(state, batch, jax.random.key(1))
    trace = jax.device_get(metrics["trace"])
    fields = {k: x for k, x in batch._asdict().items() if k not in PADDING}
    assert trace.batch.keys() == fields.keys() == {"boxes", "valid", "sample_id"}
    for name, value in fields.items():
        np.testing.assert_array_equal(trace.batch[name], value)
    np.testing.assert_array_equal(trace.question, batch.prompt.question.tokens)
    accuracy, right_format = trace.rewards["accuracy"], trace.rewards["format"]
    np.testing.assert_array_equal(trace.total, accuracy + 0.5 * right_format)
    np.testing.assert_allclose(metrics["reward"], trace.total.mean(), rtol=1e-6)
    assert trace.counted.all()
    assert 0 < accuracy.mean() < 1
    tau = np.float32(schedule.start)
    np.testing.assert_array_equal(accuracy, trace.read["iou"] >= tau)
    # what had equal rewards in its group teaches nothing, and the rest sums to 0
    tied = np.ptp(trace.total, axis=1) == 0
    assert not trace.advantages[tied].any()
    np.testing.assert_allclose(trace.advantages.sum(axis=1), 0, atol=1e-5)
