"""A policy whose adapter alone is trained: its gradient, its state, its reference."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs.common import get_rules
from medjax.models.qwen25vl import flatten_params
from medjax.models.qwen25vl.config import Lora
from medjax.models.qwen25vl.lora import init_lora, join_lora, merge_lora, split_lora
from medjax.rl.schedules import piecewise_schedule
from medjax.sharding import batch_sharding, make_mesh, to_named_sharding
from medjax.systems import medloc
from medjax.systems.optimizer import make_optimizer
from medjax.systems.policy import supervised
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.boxes import make_evaluate
from medjax.systems.policy.exploration import Step
from medjax.systems.policy.learner import Loss, Teaching, policy_step
from medjax.systems.policy.qwen25vl import make_model
from medjax.types import Rollout
from tests.tiny import decoding, tiny_batch, tiny_config, tiny_params, tiny_tables

GROUP, LENGTH = 2, 3
LORA = Lora(rank=4, alpha=6.0, targets=("q_proj", "o_proj", "up_proj", "visual.qkv"))
CONFIG, PLAIN = tiny_config(lora=LORA), tiny_config()
LOSS = Loss(beta=0.1, clip_low=0.05, clip_high=0.1, reduction="grpo")
RULES = get_rules().to_dict()
# An optimiser that moves nothing and keeps the gradient as its state.
KEEP = optax.GradientTransformation(
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda grads, state, params=None: (jax.tree.map(jnp.zeros_like, grads), grads),
)


def drawn(seed):
    """An adapter whose B is not zero."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(partial(init_lora, CONFIG), jax.random.key(0))
    return jax.tree.map(
        lambda x: (rng.normal(size=x.shape) / 4).astype(x.dtype), shapes
    )


@pytest.fixture(scope="module")
def base():
    return tiny_params(PLAIN)


@pytest.fixture(scope="module")
def rollout():
    rng = np.random.default_rng(5)
    shape = (8, GROUP, LENGTH)
    mask = np.arange(LENGTH) < rng.integers(1, LENGTH + 1, (8, GROUP, 1))
    tokens = rng.integers(0, 60, shape).astype(np.int32)
    return Rollout(tokens, mask, *np.zeros((2, *shape), np.float32))


@partial(jax.jit, static_argnums=0, static_argnames=("accumulate", "iterations"))
def step(config, params, trained, reference, rollout, accumulate=1, iterations=1):
    advantages = np.random.default_rng(6).normal(size=(8, GROUP)).astype(np.float32)
    optimizer = KEEP if iterations == 1 else optax.sgd(0.1)
    return policy_step(
        make_model(config),
        optimizer,
        params,
        optimizer.init(trained),
        reference,
        tiny_batch().prompt,
        rollout,
        advantages,
        teaching=Teaching(LOSS, iterations, accumulate),
    )


def test_the_step_is_that_of_the_merged_policy(base, rollout):
    """Loss and KL of dense matrices; the gradient is theirs, projected."""
    adapter, other = drawn(1), drawn(2)
    whole = join_lora(base, adapter)
    params, found, metrics = step(CONFIG, whole, adapter, other, rollout)
    dense = merge_lora(CONFIG, whole)
    far = merge_lora(CONFIG, join_lora(base, other))
    _, grads, expected = step(PLAIN, dense, dense, far, rollout)
    for name in ("loss", "kl", "entropy", "ratio_max"):
        # float32 sums of other matrices
        assert float(metrics[name]) == pytest.approx(float(expected[name]), rel=2e-4)
    assert jax.tree.structure(found) == jax.tree.structure(adapter)
    assert jax.tree.structure(params) == jax.tree.structure(whole)
    low, flat, kernels = map(flatten_params, (adapter, found, grads))
    for name, values in flat.items():
        path, leaf = name.rsplit("/", 1)
        grad = np.asarray(kernels[f"{path}/kernel"], np.float64)
        down, up = (np.asarray(low[f"{path}/lora_{x}"], np.float64) for x in "ab")
        if leaf == "lora_a":
            wanted = 1.5 * grad @ np.swapaxes(up, -1, -2)
        else:
            wanted = 1.5 * np.swapaxes(down, -1, -2) @ grad
        size = np.abs(wanted).max()
        np.testing.assert_allclose(values, wanted, rtol=0, atol=2e-4 * size)
    norm = np.sqrt(sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(found)))
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)


def test_parts_and_several_iterations_move_the_adapter_alone(base, rollout):
    adapter = drawn(1)
    whole = join_lora(base, adapter)
    _, one, _ = step(CONFIG, whole, adapter, adapter, rollout)
    _, two, _ = step(CONFIG, whole, adapter, adapter, rollout, accumulate=2)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        # the same sum in another order
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max())
    after, _, _ = step(CONFIG, whole, adapter, adapter, rollout, iterations=2)
    moved, rest = split_lora(after)
    assert_same(rest, base)
    assert all(
        np.any(np.asarray(a) != b)
        for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(adapter), strict=True)
    )


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def medloc_of(optimizer, beta=0.1):
    model = make_model(CONFIG)
    return medloc.build(
        model,
        tiny_tables(),
        optimizer,
        make_evaluate(model, tiny_tables(), decoding=decoding()),
        rewards=medloc.Rewards("raw_iou", piecewise_schedule(), 10),
        step=Step(
            group=4,
            decoding=decoding(temperature=1.0),
            advantages=Advantages(scale="group"),
            reward_weights={"accuracy": 1.0, "format": 1.0},
            teaching=Teaching(LOSS._replace(beta=beta)),
        ),
    )


def placed(shape, system, params):
    devices = jax.devices()[: int(np.prod(shape))]
    mesh = make_mesh(dict(zip(("data", "fsdp", "model"), shape, strict=True)), devices)
    state = jax.eval_shape(system.init, jax.random.key(0), params)
    shardings = to_named_sharding(system.axes, mesh, RULES, state)
    state = jax.jit(system.init, out_shardings=shardings)(jax.random.key(0), params)
    batch = tiny_batch(contexts=4, questions=2)
    batch = jax.device_put(batch, batch_sharding(batch, mesh, RULES))
    whole = NamedSharding(mesh, PartitionSpec())
    key = jax.device_put(jax.random.key(1), whole)
    update = jax.jit(system.update, out_shardings=(shardings, whole))
    return state, update(state, batch, key)


@pytest.fixture(scope="module")
def stepped(base):
    """Before and after a step of AdamW that decays weights, on one device."""
    tx = make_optimizer(lr=1e-2, steps=4, weight_decay=0.1)
    params = join_lora(base, init_lora(CONFIG, jax.random.key(2)))
    return params, *placed((1, 1, 1), medloc_of(tx), params)


def test_one_step_changes_no_leaf_of_the_base(base, stepped):
    params, _, (after, metrics) = stepped
    moved, rest = split_lora(jax.device_get(after.params))
    assert_same(rest, base)
    fresh, _ = split_lora(params)
    for name, values in flatten_params(moved).items():
        changed = np.any(np.asarray(values) != np.asarray(flatten_params(fresh)[name]))
        # B is zero, so A's gradient is; the decay of its weights moves it
        assert changed, name
    # the reference is the policy itself: of |difference|^2 / 2 rounding is left
    assert abs(float(metrics["kl"])) < 1e-10
    assert float(metrics["grad_norm"]) > 0
    # two products or one, of the same numbers: sampler and learner agree to rounding
    assert float(metrics["sampler_gap_max"]) < 2e-5


def test_optimiser_and_reference_hold_the_adapter_alone(stepped):
    params, state, _ = stepped
    adapter, _ = split_lora(params)
    numbers = sum(x.size for x in jax.tree.leaves(adapter))
    wide = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
    assert sum(x.nbytes for x in wide) == 2 * 4 * numbers  # mean and mean square
    assert sum(x.nbytes for x in jax.tree.leaves(state.opt_state)) < 8 * numbers + 64
    reference = jax.tree.leaves(state.aux.reference)
    assert sum(x.size for x in reference) == numbers
    everything = sum(x.size for x in jax.tree.leaves(params))
    assert numbers < everything / 8


def test_it_is_the_same_on_a_mesh(base, stepped):
    tx = make_optimizer(lr=1e-2, steps=4, weight_decay=0.1)
    params, _, (after, metrics) = stepped
    state, (found, other) = placed((2, 2, 2), medloc_of(tx), params)
    down = state.params["text"]["layers"]["mlp"]["up"]
    assert down["lora_a"].sharding.spec[1] == "fsdp"
    assert down["lora_b"].sharding.spec[2] == "model"
    for name in ("loss", "entropy", "reward", "grad_norm"):
        # sums over rows and kernels in another order
        assert float(other[name]) == pytest.approx(float(metrics[name]), rel=1e-4)
    rest = split_lora(jax.device_get(found.params))[1]
    assert_same(rest, base)
    assert jax.tree.structure(found) == jax.tree.structure(after)


def test_supervised_learning_moves_the_adapter_alone(base):
    tx = make_optimizer(lr=1e-2, steps=4, weight_decay=0.1, muon_lr=1e-2)
    model = make_model(CONFIG)
    system = supervised.build(
        model, tx, make_evaluate(model, tiny_tables(), decoding=decoding())
    )
    adapter = drawn(1)
    state = system.init(jax.random.key(0), join_lora(base, adapter))
    assert system.adapter is not None
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim > 1]
    assert sum(x.size for x in moments) == sum(x.size for x in jax.tree.leaves(adapter))
    update = jax.jit(system.update)
    losses = []
    for _ in range(4):
        state, metrics = update(state, tiny_batch(), jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert_same(split_lora(state.params)[1], base)
    assert losses[-1] < losses[0] - 0.1  # four steps of one batch, learnt by heart


def test_a_base_in_half_precision_is_trained_without_a_copy(base):
    """Its adapter is float32, so nothing is lost in rounding and nothing refused."""
    config = tiny_config(lora=LORA, param_dtype="bfloat16")
    model = make_model(config)
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), base)
    params = join_lora(half, init_lora(config, jax.random.key(0)))
    tx = make_optimizer(lr=1e-6, steps=4)
    evaluate = make_evaluate(model, tiny_tables(), decoding=decoding())
    system = supervised.build(model, tx, evaluate)
    state = system.init(jax.random.key(0), params)
    after, _ = jax.jit(system.update)(state, tiny_batch(), jax.random.key(1))
    moved, rest = split_lora(after.params)
    assert_same(rest, half)
    ups = {k: x for k, x in flatten_params(moved).items() if k.endswith("lora_b")}
    # at a rate of 1e-6 each number with a gradient moves by it
    share = np.mean(np.concatenate([np.ravel(x) != 0 for x in ups.values()]))
    assert share > 0.9
