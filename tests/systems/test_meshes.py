"""The step on eight devices: rows stay where they lie, and no number changes.

Read off the compiled program of one device: the arrays it makes, its memory, and what
its collectives send.
"""

import math
from functools import cache

import jax
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs.common import get_rules
from medjax.models.qwen25vl import Qwen25VLConfig, VisionConfig
from medjax.planning.costs import count_costs, step_phase
from medjax.planning.hlo import parse_program
from medjax.rl.schedules import piecewise_schedule
from medjax.sharding import (
    batch_sharding,
    make_mesh,
    optimizer_axes,
    to_named_sharding,
)
from medjax.systems import medloc
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.boxes import make_evaluate
from medjax.systems.policy.exploration import Step
from medjax.systems.policy.learner import Loss, Teaching
from medjax.systems.policy.qwen25vl import make_model, make_sampler
from tests.tiny import decoding, tiny_batch, tiny_config, tiny_params, tiny_tables

# Only completions' rows come in multiples of 49; a row and its 6 tokens or 5 (all but
# the last, or a piece of those that are scored at a time) may stand in one axis.
CONTEXTS, QUESTIONS, GROUP, TOKENS, CHUNK = 8, 2, 49, 6, 5
ROWS = CONTEXTS * QUESTIONS * GROUP
RULES = get_rules().to_dict()
ROLLOUT_RULES = get_rules(embed=()).to_dict()
CONFIG = tiny_config(
    **{"width": 64, "mlp": 128, "layers": 3, "heads": 8, "kv_heads": 8},
    **{"remat": "full", "scan_unroll": 1},
    vision=VisionConfig(
        **{"depth": 2, "width": 32, "mlp": 48, "heads": 8, "full_blocks": (1,)},
        **{"patch": 4, "window": 16},
    ),
)
MESHES = [(8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2), (1, 2, 4)]
QUICK = [(2, 2, 2)]


def build(rules):
    model = make_model(CONFIG, logit_chunk=CHUNK, rules=rules)
    loss = Loss(beta=0.1, clip_low=0.2, clip_high=0.2, reduction="grpo")
    return medloc.build(
        model,
        tiny_tables(),
        optax.sgd(0.5),
        make_evaluate(model, tiny_tables(), decoding=decoding()),
        rewards=medloc.Rewards("raw_iou", piecewise_schedule(), 10),
        step=Step(
            group=GROUP,
            decoding=decoding(TOKENS, 1.0),
            advantages=Advantages(scale="group"),
            reward_weights={"accuracy": 1.0, "format": 1.0},
            teaching=Teaching(loss),
            sampler=make_sampler(CONFIG, rules=ROLLOUT_RULES) if rules else None,
            audit=True,
        ),
    )


@cache
def compiled(shape, rules):
    """The step's program on (data, fsdp, model) devices, and what it computes."""
    mesh = make_mesh(
        dict(zip(("data", "fsdp", "model"), shape, strict=True)),
        jax.devices()[: math.prod(shape)],
    )
    system, params = build(RULES if rules else None), tiny_params(CONFIG)
    state = jax.eval_shape(system.init, jax.random.key(0), params)
    shardings = to_named_sharding(system.axes, mesh, RULES, state)
    state = jax.jit(system.init, out_shardings=shardings)(jax.random.key(0), params)
    batch = tiny_batch(contexts=CONTEXTS, questions=QUESTIONS)
    batch = jax.device_put(batch, batch_sharding(batch, mesh, RULES))
    whole = NamedSharding(mesh, PartitionSpec())
    key = jax.device_put(jax.random.key(1), whole)
    step = jax.jit(system.update, out_shardings=(shardings, whole))
    program = step.lower(state, batch, key).compile()
    return program, jax.device_get(program(state, batch, key))


def slowly(shapes):
    mark = pytest.mark.slow
    return [x if x in QUICK else pytest.param(x, marks=mark) for x in shapes]


each_mesh = pytest.mark.parametrize("shape", slowly(MESHES), ids=str)


@each_mesh
def test_tokens_and_losses_are_those_of_one_device(shape):
    (_, expected), (_, found) = compiled((1, 1, 1), True)[1], compiled(shape, True)[1]
    expected, found = dict(expected), dict(found)
    # the sampler's layout is another than the learner's, its dtype is not
    assert 0 < found.pop("sampler_gap") <= found["sampler_gap_max"]
    assert max(x.pop("sampler_gap_max") for x in (expected, found)) < 2e-5
    del expected["sampler_gap"]
    np.testing.assert_array_equal(
        found.pop("trace").tokens, expected.pop("trace").tokens
    )
    for name, value in expected.items():
        # sums over rows and kernels in another order: a few units in the last place
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-6)


@cache
def program_of(shape, rules):
    return parse_program(compiled(shape, rules)[0].as_text())


def results(shape, rules):
    """Dimensions and op_name of every array of floats that a device makes."""
    for computation in program_of(shape, rules).computations.values():
        for one in computation.values():
            if one.opcode not in ("parameter", "get-tuple-element", "tuple"):
                for array in one.arrays:
                    if array.dtype in ("f64", "f32", "bf16"):
                        yield array.shape, one.op_name


def whole_rows(shape, rules=True):
    """Arrays that hold more of the rows of other devices than their share of a width.

    The table of tokens is looked up with the width divided, and its rows then change
    places: all rows of a part of the width are as much as own rows of all of it.
    """
    devices = shape[0] * shape[1]
    own, tokens = ROWS // devices, (1, TOKENS, TOKENS - 1)
    others = {
        ROWS // n * t: ROWS // n for n in (1, 2, 4) if n < devices for t in tokens
    }
    others = {
        dim: n for dim, n in others.items() if dim not in {own * t for t in tokens}
    }
    found = set()
    for dims, place in results(shape, rules):
        for dim in others.keys() & set(dims):
            numbers = math.prod(x for x in dims if x not in tokens) // dim
            if others[dim] * numbers > own * CONFIG.width:
                found.add((dims, place))
    return found


@each_mesh
def test_no_activation_holds_the_rows_of_other_devices(shape):
    assert not whole_rows(shape)


def largest(shape):
    return max(math.prod(dims) for dims, _ in results(shape, True))


@each_mesh
def test_memory_falls_with_the_devices_that_share_the_rows(shape):
    one, program = compiled((1, 1, 1), True)[0], compiled(shape, True)[0]
    devices = shape[0] * shape[1]
    assert largest(shape) <= largest((1, 1, 1)) / devices
    # the buffers are the compiler's choice: a quarter more; gathered kernels and the
    # gradient come on top
    temporary = one.memory_analysis().temp_size_in_bytes / devices
    spare = 1.25 * temporary + 2 * PARAM_BYTES
    assert program.memory_analysis().temp_size_in_bytes <= spare


def wire(shape, rules=True):
    """What a device sends in each phase, as a multiple of the parameters' bytes."""
    work = count_costs(program_of(shape, rules), step_phase)
    assert not work.uncounted
    return {phase: cost.sent / PARAM_BYTES for phase, cost in work.phases.items()}


# Measured, and a tenth more. Kernels divided by fsdp are gathered once for the rollout,
# and in the learner for each of three segments forward, again backward, and for the
# reference; model sums hidden states.
WIRE = {
    (8, 1, 1): {"prefill": 0.01, "decode": 0.01, "learner": 4.7, "other": 0.08},
    (1, 8, 1): {"prefill": 0.96, "decode": 0.01, "learner": 11.6, "other": 0.08},
    (1, 1, 8): {"prefill": 1.5, "decode": 23.2, "learner": 99.3, "other": 0.01},
    (2, 2, 2): {"prefill": 0.49, "decode": 3.4, "learner": 19.4, "other": 0.07},
    (1, 2, 4): {"prefill": 0.81, "decode": 10.0, "learner": 45.7, "other": 0.05},
}


@each_mesh
def test_collectives_send_no_more_than_was_measured(shape):
    sent = wire(shape)
    assert all(most <= WIRE[shape][phase] for phase, most in sent.items()), sent


@pytest.mark.slow
def test_without_rules_rows_are_gathered():
    """What the checks above would say of activations that lie where XLA likes."""
    shape = (1, 8, 1)
    assert whole_rows(shape, rules=False)
    sent = wire(shape, rules=False)
    assert sent["learner"] > 3 * WIRE[shape]["learner"], sent
    assert sent["decode"] > 10 * WIRE[shape]["decode"], sent


def real_config():
    """The sizes of Qwen2.5-VL 3B."""
    return Qwen25VLConfig(
        **{"vocab": 151936, "width": 2048, "mlp": 11008, "layers": 36, "heads": 16},
        **{"kv_heads": 2, "head_dim": 128, "mrope_section": (16, 24, 24)},
        tied=True,
        vision=VisionConfig(
            depth=32, width=1280, mlp=3420, heads=16, full_blocks=(7, 15, 23, 31)
        ),
    )


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (1, 4, 2), (1, 2, 4)], ids=str)
def test_state_of_a_real_policy_falls_with_fsdp_and_model(shape):
    """Shapes alone: parameters, Adam's two moments and the reference of the 3B."""
    model = make_model(real_config())
    params = jax.eval_shape(model.init, jax.random.key(0))
    optimizer = optax.adamw(1e-6)
    state = (params, jax.eval_shape(optimizer.init, params), params)
    axes = (model.axes, optimizer_axes(optimizer, params, model.axes), model.axes)
    mesh = make_mesh(dict(zip(("data", "fsdp", "model"), shape, strict=True)))
    rules = RULES | ({"kv_heads": ()} if shape[2] > 2 else {})
    shardings = to_named_sharding(axes, mesh, rules, state)

    def held(x, sharding):
        return math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize

    one = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    share = sum(jax.tree.leaves(jax.tree.map(held, state, shardings))) / one
    assert share == pytest.approx(1 / (shape[1] * shape[2]), rel=0.05)


PARAM_BYTES = sum(x.nbytes for x in jax.tree.leaves(tiny_params(CONFIG)))
