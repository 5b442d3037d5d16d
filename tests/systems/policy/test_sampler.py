"""A rollout in its own dtype and layout, beside the policy that learns from it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from configs.common import get_rules
from medjax.rl.schedules import piecewise_schedule
from medjax.sharding import make_mesh
from medjax.systems import medloc
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.boxes import make_evaluate
from medjax.systems.policy.exploration import Step
from medjax.systems.policy.learner import Loss, Teaching
from medjax.systems.policy.qwen25vl import make_model, make_sampler
from tests.tiny import decoding, tiny_batch, tiny_config, tiny_params, tiny_tables

LOSS = Loss(beta=0.0, clip_low=0.2, clip_high=0.2, reduction="grpo")


def build(config, sampler, loss=LOSS):
    model = make_model(config)
    step = Step(
        group=4,
        decoding=decoding(4, 1.0),
        advantages=Advantages(scale="group"),
        reward_weights={"accuracy": 1.0, "format": 1.0},
        teaching=Teaching(loss),
        sampler=sampler,
    )
    return medloc.build(
        *(model, tiny_tables(), optax.sgd(0.5)),
        make_evaluate(model, tiny_tables(), decoding=decoding()),
        rewards=medloc.Rewards("raw_iou", piecewise_schedule(), 10),
        step=step,
    )


def stepped(config, sampler, loss=LOSS):
    system, params = build(config, sampler, loss), tiny_params(config)
    state = jax.jit(system.init)(jax.random.key(0), params)
    return jax.jit(system.update)(state, tiny_batch(), jax.random.key(1))


def test_in_one_dtype_on_one_device_the_sampler_is_the_policy():
    """No array is touched, so the program is the same one."""
    config = tiny_config()
    sampler, params = make_sampler(config), tiny_params(config)
    assert sampler.exact
    same = jax.tree.map(lambda a, b: a is b, sampler.lay_out(params), params)
    assert all(jax.tree.leaves(same))
    _, expected = stepped(config, None)
    _, found = stepped(config, sampler, LOSS._replace(importance_cap=2.0))
    for name, value in expected.items():
        # weights of 1 to rounding: 1e-5 of nats apart is 1e-5 of a weight
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6)
    # decode sums the same products in another order than the learner does
    assert float(found["sampler_gap_max"]) < 1e-5
    assert float(found["sampler_gap"]) <= float(found["sampler_gap_max"])


def test_on_a_mesh_of_one_device_rules_change_nothing_in_the_program():
    """Of prompt, completions and scores in pieces, with gradient: the same text."""
    mesh = make_mesh({"data": 1, "fsdp": 1, "model": 1}, jax.devices()[:1])
    whole, config = NamedSharding(mesh, PartitionSpec()), tiny_config(remat="full")

    def program(rules):
        model = make_model(config, logit_chunk=2, rules=rules)
        sampler = make_sampler(config, rules=rules)

        def both(params, batch, key):
            laid = sampler.lay_out(params)
            prefilled = sampler.model.prefill(laid, batch.prompt)
            rollout = sampler.model.sample(
                *(laid, prefilled, batch.sample_id, key),
                **{"group": 2, "decoding": decoding(4, 1.0)},
            )

            def mean(params):
                prefilled = model.prefill(params, batch.prompt)
                return model.score(params, prefilled, *rollout[:2])[0].mean()

            return jax.grad(mean)(params)

        given = (tiny_params(config), tiny_batch(), jax.random.key(0))
        placed = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), given
        )
        return jax.jit(both).lower(*placed).as_text()

    assert program(get_rules().to_dict()) == program(None)


def test_parameters_are_cast_once_and_the_gap_is_told():
    config = tiny_config(dtype="bfloat16")
    sampler, params = make_sampler(config), tiny_params(config)
    assert not sampler.exact
    laid = sampler.lay_out(params)
    assert {x.dtype for x in jax.tree.leaves(laid)} == {jnp.dtype("bfloat16")}
    _, metrics = stepped(config, sampler, LOSS._replace(importance_cap=2.0))
    # bfloat16 has 8 bits: 0.004 of a logit of 1; sums of 32 terms and two layers on top
    assert 0 < float(metrics["sampler_gap"]) < 0.05
    assert float(metrics["sampler_gap_max"]) < 0.5
    assert np.isfinite([float(x) for x in metrics.values()]).all()
