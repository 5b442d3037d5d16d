"""Parameters in half precision: what nearest rounding loses, and what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from medjax.sharding import optimizer_axes
from medjax.systems.low_precision import (
    apply_updates,
    round_by_chance,
    with_master,
    with_stochastic_rounding,
)
from medjax.systems.optimizer import make_optimizer

SIZE, STEPS, RATE = 20_000, 20, 1e-6


def weights(dtype=jnp.bfloat16):
    drawn = 0.02 * jax.random.normal(jax.random.key(0), (SIZE,), jnp.float32)
    return {"kernel": drawn.astype(jnp.bfloat16).astype(dtype)}


def trained(optimizer, params, steps=STEPS):
    """After gradients of one sign a weight: each step of Adam moves it by the rate."""
    signs = jnp.where(jnp.arange(SIZE) % 2 == 0, 1, -1)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        grads = {"kernel": signs.astype(params["kernel"].dtype)}
        updates, state = optimizer.update(grads, state, params)
        return apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params["kernel"], state


def test_rounded_to_nearest_hardly_a_weight_moves():
    """What the options are for; see the refusal."""
    plain = optax.adamw(RATE, weight_decay=0.0)
    signs = jnp.where(jnp.arange(SIZE) % 2 == 0, 1, -1).astype(jnp.bfloat16)
    params, state = weights(), plain.init(weights())
    for _ in range(STEPS):
        updates, state = plain.update({"kernel": signs}, state, params)
        params = optax.apply_updates(params, updates)
    moved = float(jnp.mean(params["kernel"] != weights()["kernel"]))
    assert moved < 0.05  # and by 20 times the rate all should


def test_a_master_copy_is_the_float32_run_and_the_parameters_its_rounding():
    options = {"lr": RATE, "steps": STEPS, "clip_norm": None}
    expected, _ = trained(make_optimizer(**options), weights(jnp.float32))
    found, state = trained(make_optimizer(**options, half="master"), weights())
    master = state.master["kernel"]
    assert found.dtype == jnp.bfloat16 and master.dtype == jnp.float32
    np.testing.assert_array_equal(master, expected)
    np.testing.assert_array_equal(found, expected.astype(jnp.bfloat16))


def test_rounding_by_chance_moves_the_mean_as_far_as_float32_does():
    options = {"lr": RATE, "steps": STEPS, "clip_norm": None}
    before = weights()["kernel"].astype(jnp.float32)
    found, _ = trained(
        make_optimizer(**options, half="stochastic", key=jax.random.key(0)), weights()
    )
    signs = np.where(np.arange(SIZE) % 2 == 0, 1, -1)
    moves = -signs * np.asarray(found.astype(jnp.float32) - before)
    error = moves.std() / np.sqrt(SIZE)
    assert moves.mean() == pytest.approx(STEPS * RATE, abs=4 * error)
    assert 4 * error < 0.2 * STEPS * RATE  # so that the line above says something


@pytest.mark.parametrize("value", [1.003, -1.003, 1e-30, -2.7e38, 0.1])
def test_neighbours_are_drawn_by_their_distance(value):
    x = jnp.full((100_000,), value, jnp.float32)
    found = np.asarray(round_by_chance(jax.random.key(1), x), np.float64)
    nearest = np.unique(found)
    assert len(nearest) == 2
    assert nearest[0] <= np.float64(np.float32(value)) <= nearest[1]
    np.testing.assert_array_equal(nearest.astype(jnp.bfloat16), nearest)
    error = found.std() / np.sqrt(len(found))
    assert found.mean() == pytest.approx(np.float64(np.float32(value)), abs=5 * error)


def test_what_bfloat16_has_and_what_is_not_finite_stays():
    x = jnp.array([1.0, -0.5, 0.0, jnp.inf, -jnp.inf, jnp.nan], jnp.float32)
    for seed in range(5):
        np.testing.assert_array_equal(round_by_chance(jax.random.key(seed), x), x)


def test_noise_differs_by_step_and_place():
    tx = with_stochastic_rounding(optax.sgd(1.0), jax.random.key(0))
    params = {"a": jnp.ones((500,), jnp.bfloat16), "b": jnp.ones((500,), jnp.bfloat16)}
    grads = jax.tree.map(lambda x: jnp.full_like(x, 1 / 512), params)
    first, state = tx.update(grads, tx.init(params), params)
    second, _ = tx.update(grads, state, params)
    same, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_array_equal(first["a"], same["a"])
    for other in (first["b"], second["a"]):
        assert 0.3 < float(jnp.mean(first["a"] == other)) < 0.7


def test_parameters_in_half_precision_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"are bfloat16.*half=master.*stochastic"):
        trained(make_optimizer(lr=1e-6, steps=1), weights())
    params = {"vision": weights(), "text": weights(jnp.float32)}
    tx = make_optimizer(lr=1e-6, steps=1, freeze=("vision",))  # none is trained
    updates, _ = tx.update(params, tx.init(params), params)
    assert not jnp.any(updates["vision"]["kernel"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"half": "nearest"}, "half 'nearest': expected one of refuse, master"),
        ({"half": "stochastic"}, "half='stochastic': expected `key`"),
        ({"moments": "int8"}, "moments 'int8': expected one of full, bfloat16"),
        ({"moments": "factored", "muon_lr": 1e-2}, "muon_lr=None"),
    ],
)
def test_what_is_unknown_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(lr=1e-6, steps=1, **options)


def test_float16_is_not_rounded_by_chance():
    with pytest.raises(ValueError, match="float16; only bfloat16"):
        make_optimizer(lr=1e-6, steps=1, half="stochastic", key=jax.random.key(0)).init(
            weights(jnp.float16)
        )
    found, _ = trained(with_master(optax.adam(1e-4)), weights(jnp.float16))
    assert found.dtype == jnp.float16


def quadratic(moments):
    """The way to the minimum of |x - target|^2 / 2, and the bytes of the state."""
    target = jax.random.normal(jax.random.key(3), (256, 128), jnp.float32)
    tx = make_optimizer(
        lr=0.05, steps=300, decay="cosine", clip_norm=None, moments=moments
    )
    params = {"kernel": jnp.zeros_like(target)}
    state = tx.init(params)
    held = sum(x.nbytes for x in jax.tree.leaves(state)) / target.size

    @jax.jit
    def step(params, state):
        grads = jax.tree.map(lambda x: x - target, params)
        updates, state = tx.update(grads, state, params)
        return apply_updates(params, updates), state

    for _ in range(300):
        params, state = step(params, state)
    return float(jnp.max(jnp.abs(params["kernel"] - target))), held


def test_smaller_moments_go_where_the_full_ones_do():
    (full, eight), (half, six), (factored, none) = map(
        quadratic, ("full", "bfloat16", "factored")
    )
    assert max(full, half, factored) < 0.1  # targets are up to 4, steps up to 0.05
    assert half < 1.2 * full
    assert eight == pytest.approx(8, abs=0.01) and six == pytest.approx(6, abs=0.01)
    assert none < 0.1


@pytest.mark.parametrize("freeze", [(), ("vision",)])
def test_a_master_copy_lies_on_the_mesh_as_its_parameters_do(freeze):
    params = {"text": weights(), "vision": weights()}
    axes = {"text": {"kernel": P("embed")}, "vision": {"kernel": P("mlp")}}
    for half in ("master", "stochastic"):
        key = jax.random.key(0)
        tx = make_optimizer(lr=1e-6, steps=1, half=half, freeze=freeze, key=key)
        found = optimizer_axes(tx, params, axes)
        leaves = jax.tree.leaves(found, is_leaf=lambda x: isinstance(x, P))
        copies = 3 if half == "master" else 2  # the two moments, and the copy
        assert leaves.count(P("embed")) == copies
        assert leaves.count(P("mlp")) == (0 if freeze else copies)
