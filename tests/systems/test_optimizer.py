"""The optimiser against its formulas, on a tree of a few numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.systems.optimizer import make_optimizer

RATES = [0, 0.05, *(0.1 * (1 - n / 8) for n in range(8))]  # 2 of 10 steps warm up


def tree(value=1.0):
    """A stack of kernels, a norm, a bias and an embedding."""
    full = lambda *shape: jnp.full(shape, value, jnp.float32)  # noqa: E731
    layer = {"kernel": full(2, 3, 4), "bias": full(2, 4)}
    return {
        "vision": {"blocks": layer, "norm": {"scale": full(2, 3)}},
        "text": {
            "embed": {"embedding": full(5, 3)},
            "layers": layer,
            "norm": {"scale": full(3)},
        },
    }


def run(optimizer, grads, steps):
    """The updates of each step, parameters moving along."""
    params = tree()
    update = jax.jit(optimizer.update)
    state, found = optimizer.init(params), []
    for _ in range(steps):
        updates, state = update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        found.append(updates)
    return found


def test_rates_follow_the_schedule_and_frozen_parts_stay():
    tx = make_optimizer(
        lr=0.1, steps=10, decay="linear", warmup=2, clip_norm=None, freeze=("vision",)
    )
    found = run(tx, tree(), 10)
    sizes = [float(-updates["text"]["norm"]["scale"][0]) for updates in found]
    np.testing.assert_allclose(sizes, RATES, atol=1e-6)  # Adam's step of equal grads: 1
    for updates in found:
        assert not any(bool(jnp.any(x)) for x in jax.tree.leaves(updates["vision"]))


@pytest.mark.parametrize(
    ("decay", "last"),
    [("constant", 0.1), ("cosine", 0.05 * (1 + np.cos(0.875 * np.pi)))],
)
def test_other_decays(decay, last):
    tx = make_optimizer(lr=0.1, steps=10, decay=decay, warmup=2, clip_norm=None)
    found = run(tx, tree(), 10)
    assert float(-found[1]["text"]["norm"]["scale"][0]) == pytest.approx(0.05, abs=1e-6)
    assert float(-found[-1]["text"]["norm"]["scale"][0]) == pytest.approx(
        last, abs=1e-6
    )


def test_decay_of_weights_leaves_norms_and_biases_alone():
    tx = make_optimizer(lr=0.1, steps=5, weight_decay=0.5)
    (updates,) = run(tx, tree(0.0), 1)
    for path, update in jax.tree.leaves_with_path(updates):
        decayed = path[-1].key in ("kernel", "embedding")
        np.testing.assert_allclose(update, -0.05 if decayed else 0, atol=1e-8)


def test_moments_follow_adam_and_the_norm_is_clipped():
    betas, eps, rng = (0.8, 0.95), 1e-8, np.random.default_rng(0)
    leaves, treedef = jax.tree.flatten(tree())
    draws = [rng.normal(size=x.shape).astype(np.float32) for x in leaves]
    tx = make_optimizer(lr=0.01, steps=5, betas=betas, eps=eps, clip_norm=0.5)
    found = run(tx, jax.tree.unflatten(treedef, draws), 3)
    norm = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in draws))
    assert norm > 0.5
    for draw, update in zip(draws, jax.tree.leaves(found[-1]), strict=True):
        grad, first, second = draw.astype(np.float64) * 0.5 / norm, 0.0, 0.0
        for _ in range(3):
            first = betas[0] * first + (1 - betas[0]) * grad
            second = betas[1] * second + (1 - betas[1]) * grad**2
        first, second = first / (1 - betas[0] ** 3), second / (1 - betas[1] ** 3)
        expected = -0.01 * first / (np.sqrt(second) + eps)
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-7)


def test_muon_moves_kernels_by_orthogonal_steps():
    rng = np.random.default_rng(1)
    grads = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), tree())
    tx = make_optimizer(lr=0.01, steps=5, muon_lr=0.1, clip_norm=None)
    (updates,) = run(tx, grads, 1)
    for part in ("vision", "text"):
        name = {"vision": "blocks", "text": "layers"}[part]
        for kernel in np.asarray(updates[part][name]["kernel"], np.float64):
            values = np.linalg.svd(kernel, compute_uv=False)
            # Newton-Schulz leaves singular values near 1, here within 0.3
            np.testing.assert_allclose(values / values.max(), 1, atol=0.45)
        assert_nesterov_adam(
            updates[part]["norm"]["scale"], grads[part]["norm"]["scale"]
        )
    embedding = updates["text"]["embed"]["embedding"]
    assert_nesterov_adam(embedding, grads["text"]["embed"]["embedding"])


def assert_nesterov_adam(update, grad):
    """Its first step: the gradient's sign, times 1 + 0.9 * 0.1 / (1 - 0.9^2)."""
    size = 0.01 * (1 + 0.9 * 0.1 / (1 - 0.9**2))
    np.testing.assert_allclose(update, -size * np.sign(grad), rtol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'exponential'.*cosine"):
        make_optimizer(lr=1.0, steps=5, decay="exponential")
    with pytest.raises(ValueError, match=r"0\.\.5"):
        make_optimizer(lr=1.0, steps=5, warmup=6)
