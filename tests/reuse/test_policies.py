"""Own policies, trained by grpo_loss in four ways of writing JAX: one gradient step.

Weights, batch and answer are NumPy in float64: the loss is a loop over tokens, its
gradient central differences over every weight.
"""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from medjax import group_advantages, grpo_loss

pytestmark = pytest.mark.usefixtures("plain_jax")

V, D, PROMPTS, G, T = 5, 3, 2, 4, 4
N = PROMPTS * G
RATE, BETA, LOW, HIGH = 0.5, 0.04, 0.2, 0.28

RNG = np.random.default_rng(0)
WEIGHTS = {"embed": RNG.normal(size=(V, D)), "out": RNG.normal(size=(D, V))}
TOKENS = RNG.integers(0, V, (N, T)).astype(np.int32)
MASK = np.arange(T) < RNG.integers(1, T + 1, (N, 1))
REWARDS = RNG.uniform(size=(PROMPTS, G))
DRIFT = RNG.uniform(-0.4, 0.4, (N, T))  # of the policy that sampled; passes both clips
REFERENCE = RNG.uniform(-0.3, 0.3, (N, T))


def scores_in_numpy(weights):
    """log pi(token t | token t - 1), token 0 stands before the first."""
    before = np.concatenate([np.zeros((N, 1), int), TOKENS[:, :-1]], axis=1)
    logits = np.tanh(weights["embed"][before]) @ weights["out"]
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.take_along_axis(logp, TOKENS[..., None], -1)[..., 0]


START = scores_in_numpy(WEIGHTS)
OLD, REF = START + DRIFT, START + REFERENCE


def loss_in_numpy(weights):
    """PPO's clip and k3, a mean over all tokens of the batch (dapo)."""
    logp = scores_in_numpy(weights)
    total = 0.0
    for prompt in range(PROMPTS):
        rewards = REWARDS[prompt]
        for place in range(G):
            row = prompt * G + place
            deviation = rewards.std(ddof=1) + 1e-4
            advantage = (rewards[place] - rewards.mean()) / deviation
            for t in range(T):
                if MASK[row, t]:
                    ratio = np.exp(logp[row, t] - OLD[row, t])
                    clipped = min(max(ratio, 1 - LOW), 1 + HIGH)
                    delta = REF[row, t] - logp[row, t]
                    total -= min(ratio * advantage, clipped * advantage)
                    total += BETA * (np.exp(delta) - delta - 1)
    return total / MASK.sum()


def step_in_numpy():
    after = {}
    for name, weight in WEIGHTS.items():
        gradient = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            move = np.zeros_like(weight)
            move[index] = 1e-6
            up, down = (
                loss_in_numpy(WEIGHTS | {name: weight + sign * move})
                for sign in (1, -1)
            )
            gradient[index] = (up - down) / 2e-6
        after[name] = weight - RATE * gradient
    return after


def previous(tokens):
    return jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)))


def loss_of(logits):
    """The part that no framework touches."""
    logp = jax.nn.log_softmax(logits)
    logp = jnp.take_along_axis(logp, jnp.array(TOKENS)[..., None], axis=-1)[..., 0]
    advantages = group_advantages(jnp.array(REWARDS, jnp.float32), scale="group")
    return grpo_loss(
        logp,
        jnp.array(OLD, jnp.float32),
        advantages.reshape(-1),
        jnp.array(MASK),
        logp_ref=jnp.array(REF, jnp.float32),
        beta=BETA,
        clip_low=LOW,
        clip_high=HIGH,
        reduction="dapo",
    )


def step_of_pytrees(weights):
    @jax.jit
    def step(weights):
        def loss_fn(weights):
            hidden = jnp.tanh(weights["embed"][previous(jnp.array(TOKENS))])
            return loss_of(hidden @ weights["out"])

        (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(weights)
        weights = jax.tree.map(lambda w, g: w - RATE * g, weights, gradient)
        return weights, loss, metrics

    return step(weights)


def step_of_linen(weights):
    class Policy(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            hidden = jnp.tanh(nn.Embed(V, D, name="embed")(previous(tokens)))
            return nn.Dense(V, use_bias=False, name="out")(hidden)

    policy, optimizer = Policy(), optax.sgd(RATE)
    params = {
        "embed": {"embedding": weights["embed"]},
        "out": {"kernel": weights["out"]},
    }

    @jax.jit
    def step(params, state):
        def loss_fn(params):
            return loss_of(policy.apply({"params": params}, jnp.array(TOKENS)))

        (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), loss, metrics

    params, loss, metrics = step(params, optimizer.init(params))
    named = {"embed": params["embed"]["embedding"], "out": params["out"]["kernel"]}
    return named, loss, metrics


def step_of_nnx(weights):
    class Policy(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(V, D, rngs=rngs)
            self.out = nnx.Linear(D, V, use_bias=False, rngs=rngs)

        def __call__(self, tokens):
            return self.out(jnp.tanh(self.embed(previous(tokens))))

    policy = Policy(nnx.Rngs(0))
    policy.embed.embedding[...] = weights["embed"]
    policy.out.kernel[...] = weights["out"]
    optimizer = nnx.Optimizer(policy, optax.sgd(RATE), wrt=nnx.Param)

    @nnx.jit
    def step(policy, optimizer):
        def loss_fn(policy):
            return loss_of(policy(jnp.array(TOKENS)))

        found, gradient = nnx.value_and_grad(loss_fn, has_aux=True)(policy)
        optimizer.update(policy, gradient)
        return found

    loss, metrics = step(policy, optimizer)
    after = {"embed": policy.embed.embedding[...], "out": policy.out.kernel[...]}
    return after, loss, metrics


def step_of_equinox(weights):
    class Policy(eqx.Module):
        embed: jax.Array
        out: jax.Array

        def __call__(self, tokens):
            return jnp.tanh(self.embed[previous(tokens)]) @ self.out

    @eqx.filter_jit
    def step(policy):
        def loss_fn(policy):
            return loss_of(policy(jnp.array(TOKENS)))

        found, gradient = eqx.filter_value_and_grad(loss_fn, has_aux=True)(policy)
        updates = jax.tree.map(lambda g: -RATE * g, gradient)
        return eqx.apply_updates(policy, updates), found

    policy, (loss, metrics) = step(Policy(**weights))
    return {"embed": policy.embed, "out": policy.out}, loss, metrics


@pytest.fixture(scope="module")
def expected():
    return step_in_numpy()


@pytest.mark.parametrize(
    "step", [step_of_pytrees, step_of_linen, step_of_nnx, step_of_equinox]
)
def test_one_step_is_that_of_the_loop(step, expected):
    weights = {name: jnp.array(w, jnp.float32) for name, w in WEIGHTS.items()}
    after, loss, metrics = step(weights)
    # float32 scores and central differences, both near 1e-7
    np.testing.assert_allclose(loss, loss_in_numpy(WEIGHTS), rtol=1e-5)
    for name, weight in expected.items():
        np.testing.assert_allclose(after[name], weight, rtol=1e-5, atol=2e-6)
    assert metrics["tokens"] == MASK.sum()
    assert metrics["rows"] == N


def test_constants_of_the_loss_have_no_gradient():
    """One array as policy, as the one that sampled and as reference: ratio 1, KL 0."""
    logp = jnp.array(START, jnp.float32)
    advantages = group_advantages(jnp.array(REWARDS, jnp.float32), scale="group")

    def loss_fn(logp):
        return grpo_loss(
            logp,
            logp,
            advantages.reshape(-1),
            jnp.array(MASK),
            logp_ref=logp,
            beta=BETA,
            clip_low=LOW,
            clip_high=HIGH,
            reduction="dapo",
        )[0]

    found = jax.grad(loss_fn)(logp)
    expected = -np.asarray(advantages).reshape(-1, 1) * MASK / MASK.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
