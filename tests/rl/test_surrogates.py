"""The pieces of the losses, each against its definition."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl import off_policy, surrogates
from tests.oracles import grpo_loops

SIDES = ("positive", "negative")
KINDS = ("k1", "abs", "k2", "k3")


def logps(seed, shape=(4, 6), spread=0.4):
    rng = np.random.default_rng(seed)
    logp = -1 - rng.random(shape)
    return logp, logp + spread * rng.standard_normal(shape), rng.random(shape) < 0.7


@pytest.mark.parametrize("kl", KINDS)
@pytest.mark.parametrize("clamp", [None, (0.3, 0.04), (20.0, 10.0)])
def test_kl_estimates_equal_the_loop(kl, clamp):
    logp, ref, _ = logps(0)
    found = surrogates.kl_estimate(
        jnp.asarray(logp), jnp.asarray(ref), kl=kl, clamp=clamp
    )
    expected = np.vectorize(lambda a, b: grpo_loops.kl(a, b, kl, clamp))(logp, ref)
    # k3 in the loop loses the digits that expm1 keeps.
    np.testing.assert_allclose(found, expected, atol=1e-15, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_k3_is_not_negative_and_0_where_the_policies_agree(dtype):
    d = jnp.asarray(np.random.default_rng(0).standard_normal(10_000), dtype)
    d = jnp.concatenate([d, d * 1e-3, d * 1e-6])[None]
    found = surrogates.kl_estimate(jnp.zeros_like(d), d, kl="k3", clamp=None)
    # expm1(d) and d agree to one rounding of d at the worst.
    assert float(jnp.min(found + jnp.finfo(dtype).eps * jnp.abs(d))) >= 0
    for kl in KINDS:
        agree = surrogates.kl_estimate(d, d, kl=kl, clamp=None)
        np.testing.assert_array_equal(agree, np.zeros(d.shape))


def test_k3_keeps_its_digits_in_float32():
    d = jnp.asarray([[1e-3, -1e-3, 1e-2]], jnp.float32)
    found = surrogates.kl_estimate(jnp.zeros_like(d), d, kl="k3", clamp=None)
    exact = [math.expm1(v) - v for v in np.asarray(d, np.float64)[0]]
    # e^d - d - 1 as written would be off by 10 % at 1e-3.
    np.testing.assert_allclose(found[0], exact, rtol=1e-3)


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
def test_kl_estimates_are_right_on_average(kl):
    """Expectation over the policy, summed exactly over a vocabulary."""
    rng = np.random.default_rng(1)
    logits, other = rng.standard_normal(50), None
    other = logits + 0.05 * rng.standard_normal(50)
    logp, ref = (np.asarray(jax.nn.log_softmax(x)) for x in (logits, other))
    exact = np.sum(np.exp(logp) * (logp - ref))
    estimate = surrogates.kl_estimate(
        jnp.asarray(logp)[None], jnp.asarray(ref)[None], kl=kl, clamp=None
    )
    mean = np.sum(np.exp(logp) * estimate[0])
    # k2 is biased in third order of the difference.
    np.testing.assert_allclose(mean, exact, rtol=0.05 if kl == "k2" else 1e-10)


def test_clamped_kl_stops_a_runaway():
    logp, ref = jnp.asarray([[-90.0, -1.0]]), jnp.asarray([[-1.0, -90.0]])
    found = surrogates.kl_estimate(logp, ref, kl="k3", clamp=(20.0, 10.0))
    np.testing.assert_array_equal(found, [[10, 10]])
    gradient = jax.grad(
        lambda x: jnp.sum(surrogates.kl_estimate(x, ref, kl="k3", clamp=(20.0, 10.0)))
    )(logp)
    np.testing.assert_array_equal(gradient, [[0, 0]])


def test_dual_clip_bounds_bad_completions_only():
    ratio = jnp.asarray([[0.5, 1.0, 1.5, 9.0]])
    options = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0}
    bad = surrogates.clip_surrogate(ratio, jnp.asarray([[-1.0]]), **options)
    np.testing.assert_allclose(bad, [[0.8, 1.0, 1.5, 3.0]])
    good = surrogates.clip_surrogate(ratio, jnp.asarray([[1.0]]), **options)
    np.testing.assert_allclose(good, [[-0.5, -1.0, -1.2, -1.2]])


def test_sapo_has_slope_1_at_ratio_1_and_a_soft_gate():
    def slope(r, a):
        return jax.grad(
            lambda x: jnp.sum(
                surrogates.sapo_surrogate(
                    x,
                    jnp.asarray([[a]]),
                    temperature_positive=1.0,
                    temperature_negative=1.05,
                )
            )
        )(jnp.asarray([[r]]))[0, 0]

    assert slope(1.0, 2.0) == pytest.approx(-2.0)
    assert slope(1.0, -2.0) == pytest.approx(2.0)
    assert 0 < -slope(5.0, 1.0) < -slope(2.0, 1.0) < 1


def test_vespo_weight_is_1_at_ratio_1_and_dies_at_both_ends():
    mask = jnp.ones((6, 3), bool)
    log_ratio = jnp.asarray([0.0, 0.0, 2.0, -3.0, 50.0, -50.0])[:, None]
    log_ratio = jnp.broadcast_to(log_ratio, (6, 3))
    advantages = jnp.asarray([1.0, -1.0, 1.0, 1.0, 1.0, -1.0])[:, None]
    logp = jnp.full((6, 3), -2.0)
    loss, phi = surrogates.vespo_surrogate(
        log_ratio,
        advantages,
        logp,
        mask,
        weights=None,
        k_positive=2.0,
        lambda_positive=3.0,
        k_negative=3.0,
        lambda_negative=2.0,
    )
    np.testing.assert_allclose(phi[:2, 0], [1, 1])
    assert jnp.all(phi[2:] < 1e-4) and jnp.all(phi >= 0)
    np.testing.assert_allclose(loss, -phi * advantages * logp)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
@pytest.mark.parametrize("bounds", [(None, 1.2), (0.8, 1.3), (None, None)])
def test_importance_weights_equal_the_loop(level, mode, bounds):
    logp, sampling, mask = logps(2)
    mask[1] = False
    low, high = (-np.inf, np.inf)
    low, high = bounds[0] or low, bounds[1] or high
    found = off_policy.importance_weights(
        jnp.asarray(logp),
        jnp.asarray(sampling),
        jnp.asarray(mask),
        level=level,
        mode=mode,
        low=bounds[0],
        high=bounds[1],
    )
    ratio = np.exp(np.where(mask, logp - sampling, 0))
    if level == "sequence":
        ratio = np.prod(ratio, axis=1, keepdims=True)
    if mode == "truncate":
        expected = [[min(max(r, low), high) for r in row] for row in ratio]
    else:
        expected = [[r if low <= r <= high else 0.0 for r in row] for row in ratio]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_importance_weights_carry_no_gradient_and_read_no_padding():
    logp, sampling, mask = logps(3)
    sampling[~mask] = -np.inf
    options = {"level": "token", "mode": "truncate", "low": None, "high": 2.0}

    def total(x):
        weights = off_policy.importance_weights(
            x, jnp.asarray(sampling), jnp.asarray(mask), **options
        )
        return jnp.sum(weights)

    value, gradient = jax.value_and_grad(total)(jnp.asarray(logp))
    assert jnp.isfinite(value)
    np.testing.assert_array_equal(gradient, np.zeros_like(logp))


def test_what_is_constant_in_a_piece_has_no_gradient():
    logp, ref, mask = map(jnp.asarray, logps(5))
    ratio, advantages = jnp.exp(logp - ref), ref[:, :1]
    vespo = {f"{k}_{side}": 2.0 for k in ("k", "lambda") for side in SIDES}
    clip = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0}
    gates = {f"temperature_{side}": 1.0 for side in SIDES}
    pieces = [
        lambda a, w: surrogates.clip_surrogate(ratio, a, **clip),
        lambda a, w: surrogates.cispo_surrogate(ratio, a, logp, clip_high=0.2),
        lambda a, w: surrogates.sapo_surrogate(ratio, a, **gates),
        lambda a, w: surrogates.vespo_surrogate(
            logp - ref, a, logp, mask, weights=w, **vespo
        )[0],
        lambda a, w: surrogates.kl_estimate(logp, w, kl="k3", clamp=None),
    ]
    for piece in pieces:
        total = lambda *x, piece=piece: jnp.sum(piece(*x))  # noqa: E731
        for gradient in jax.grad(total, argnums=(0, 1))(advantages, jnp.exp(ref)):
            assert not jnp.any(gradient)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_sizes_0_and_1(shape):
    x, mask = jnp.zeros(shape), jnp.ones(shape, bool)
    options = {"mode": "truncate", "low": None, "high": None}
    for level, width in (("token", shape[1]), ("sequence", 1)):
        found = off_policy.importance_weights(x, x, mask, level=level, **options)
        np.testing.assert_array_equal(found, np.ones((shape[0], width)))
    a = jnp.zeros((shape[0], 1))
    keep = off_policy.off_policy_keep(x, x, a, mask, threshold=0.0)
    np.testing.assert_array_equal(keep, np.ones((shape[0], 1)))
    assert surrogates.kl_estimate(x, x, kl="k3", clamp=None).shape == shape
    assert off_policy.drop_truncated(mask, mask[:, :0].all(1)).shape == shape


def test_off_policy_rows():
    logp = jnp.zeros((4, 3))
    sampling = jnp.asarray([[0.2] * 3, [0.2] * 3, [0.05] * 3, [0.9, 0.9, -9.0]])
    advantages = jnp.asarray([[-1.0], [1.0], [-1.0], [-1.0]])
    mask = jnp.asarray([[True] * 3, [True] * 3, [True] * 3, [True, True, False]])
    keep = off_policy.off_policy_keep(logp, sampling, advantages, mask, threshold=0.1)
    np.testing.assert_array_equal(keep[:, 0], [0, 1, 1, 0])


def test_truncated_completions_are_masked():
    mask = jnp.asarray([[True, True, False], [True, True, True]])
    found = off_policy.drop_truncated(mask, jnp.asarray([True, False]))
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "group", "mode": "mask"}, "level 'group'"),
        ({"level": "token", "mode": "clip"}, "mode 'clip'"),
    ],
)
def test_bad_options(options, message):
    x = jnp.zeros((1, 1))
    with pytest.raises(ValueError, match=message):
        off_policy.importance_weights(x, x, x == 0, low=None, high=1.0, **options)


def test_what_is_not_finite_does_what_the_docstrings_say():
    ratio = jnp.array([[1.0, jnp.inf, 0.0]] * 3)
    advantages = jnp.array([[1.0], [-1.0], [jnp.nan]])
    loss = surrogates.sapo_surrogate(
        ratio, advantages, temperature_positive=1.0, temperature_negative=2.0
    )
    assert (loss[:2, 1] == jnp.array([-4.0, 2.0])).all()  # -(4 / tau) A
    assert jnp.isnan(loss[2]).all() and jnp.isfinite(loss[:2]).all()
    logp = jnp.array([[-1.0, -1.0, -1.0], [-1.0, -jnp.inf, -jnp.inf], [-1.0] * 3])
    loss = surrogates.cispo_surrogate(ratio, advantages, logp, clip_high=0.25)
    assert loss[0, 1] == 1.25  # an infinite ratio counts as 1 + clip_high
    assert loss[1, 1] == -jnp.inf and jnp.isnan(loss[1, 2])  # 0 times infinity
    assert jnp.isnan(loss[2]).all()
    mask = jnp.array([[True, True, False]] * 3)
    options = {
        f"{k}_{s}": 2.0 for k in ("k", "lambda") for s in ("positive", "negative")
    }
    log_ratio = jnp.array([[0.0, 0.0, jnp.nan], [jnp.nan, 0.0, 0.0], [0.0] * 3])
    weights = jnp.array([[1.0, 1.0, jnp.nan], [1.0] * 3, [1.0] * 3])
    advantages = jnp.ones((3, 1))
    logp = jnp.full((3, 3), -1.0).at[2, 2].set(jnp.nan)
    loss, _ = surrogates.vespo_surrogate(
        log_ratio, advantages, logp, mask, weights=weights, **options
    )
    finite = jnp.array([[True] * 3, [False] * 3, [True, True, False]])
    assert (jnp.isfinite(loss) == finite).all()
    loss, _ = surrogates.vespo_surrogate(
        jnp.zeros((2, 3)),
        advantages[:2],
        jnp.full((2, 3), -1.0),
        mask[:2],
        weights=jnp.array([[-1.0, 1.0, 1.0], [jnp.nan, 1.0, 1.0]]),
        **options,
    )
    assert jnp.isnan(loss).all()
