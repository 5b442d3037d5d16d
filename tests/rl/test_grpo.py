"""The loss and its gradient: TRL's numbers, plain loops, and what must not matter."""

import functools
import json
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.rl.advantages import group_advantages
from medjax.rl.grpo import grpo_loss
from medjax.rl.reductions import loss_denominator
from tests.oracles import grpo_loops

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "trl_oracle.json"
ORACLE = json.loads(GOLDEN.read_text())
PLAIN = {"beta": 0.0, "clip_low": 0.2, "clip_high": 0.2, "reduction": "grpo"}
REDUCTIONS = ("grpo", "bnpo", "dapo", "dr_grpo", "luspo")
SURROGATES = ("clip", "cispo", "sapo", "vespo")


STATIC = (
    "beta clip_low clip_high dual_clip kl kl_clamp kl_ratio ratio surrogate reduction "
    "max_length off_policy_threshold"
)


@functools.partial(jax.jit, static_argnames=STATIC.split())
def value_and_grad(logp, *args, **options):
    """(loss, metrics, gradient); one program for all numbers of a shape and option."""

    def fn(x):
        return grpo_loss(x, *args, **options)

    (loss, metrics), gradient = jax.value_and_grad(fn, has_aux=True)(logp)
    return loss, metrics, gradient


def data(seed=0, rows=6, tokens=5):
    """Ragged completions whose ratios leave both sides of the clip range."""
    rng = np.random.default_rng(seed)
    old = -1.5 + 0.3 * rng.standard_normal((rows, tokens))
    new = old + 0.35 * rng.standard_normal((rows, tokens))
    ref = new + 0.25 * rng.standard_normal((rows, tokens))
    lengths = rng.integers(1, tokens + 1, rows)
    mask = np.arange(tokens) < lengths[:, None]
    advantages = rng.standard_normal(rows)
    return new, old, advantages, mask, ref


# ---- TRL


def trl_options(case):
    kind = case["loss_type"]
    high = case.get("eps_high", case.get("eps", 0.2))
    options = {
        "beta": case.get("beta", 0.0),
        "clip_low": case.get("eps", 0.2),
        "clip_high": high - 1 if kind == "cispo" else high,  # TRL: the bound itself
        "dual_clip": case.get("delta"),
        "ratio": case.get("level", "token"),
        "kl_ratio": case.get("bias_kl", False),
        "off_policy_threshold": case.get("off_policy"),
        "surrogate": kind if kind in SURROGATES else "clip",
        "reduction": {"cispo": "dapo", "vespo": "dapo", "sapo": "grpo"}.get(kind, kind),
        "max_length": ORACLE["max_completion_length"],
    }
    old, ref = (jnp.asarray(ORACLE[k]) for k in ("old_logp", "ref_logp"))
    if options["beta"]:
        options["logp_ref"] = ref
    if case.get("is_ratio"):
        options["weights"] = jnp.minimum(jnp.exp(0.2 * (ref - old)), 2.0)
    return options


@pytest.mark.parametrize(
    "entry", ORACLE["cases"], ids=lambda e: "-".join(str(v) for v in e["case"].values())
)
def test_loss_gradient_and_metrics_equal_trl(entry):
    loss, metrics, gradient = value_and_grad(
        jnp.asarray(ORACLE["new_logp"]),
        jnp.asarray(ORACLE["old_logp"]),
        jnp.asarray(ORACLE["loss_advantages"]),
        jnp.asarray(ORACLE["mask"]) > 0,
        **trl_options(entry["case"]),
    )
    # float64 on both sides; TRL rounds SAPO's temperature 1.05 to float32.
    atol = 1e-7 if entry["case"]["loss_type"] == "sapo" else 1e-14
    np.testing.assert_allclose(loss, entry["loss"], atol=atol, rtol=0)
    np.testing.assert_allclose(gradient, entry["grad"], atol=atol, rtol=0)
    names = {
        "kl": "kl",
        "clip_ratio/low_mean": "clipped_low",
        "clip_ratio/high_mean": "clipped_high",
        "cispo_clip_ratio": "clipped_high",
        "vespo/phi_seq_mean": "phi",
    }
    for theirs, ours in names.items():
        if theirs in entry["metrics"]:
            expected = entry["metrics"][theirs]
            np.testing.assert_allclose(metrics[ours], expected, atol=1e-7)


def test_the_advantages_of_a_group_reach_the_loss_in_row_order():
    rewards = jnp.asarray(ORACLE["rewards"]).reshape(2, 3)
    flat = group_advantages(rewards, scale="group").reshape(-1)
    np.testing.assert_allclose(flat, ORACLE["advantages"]["group"], atol=1e-14)


# ---- plain loops

VARIANTS = [
    {"surrogate": surrogate, "ratio": ratio, "reduction": reduction}
    for surrogate, reduction in zip(
        SURROGATES, ("dr_grpo", "dapo", "grpo", "bnpo"), strict=True
    )
    for ratio in ("token", "sequence")
] + [
    {"clip_low": 0.1, "clip_high": 0.28, "dual_clip": 1.4},
    {"ratio": "sequence", "reduction": "luspo", "clip_low": 0.05, "clip_high": 0.05},
    {"beta": 0.3, "kl": "k1"},
    {"beta": 0.3, "kl": "k2", "kl_ratio": True, "ratio": "sequence"},
    {"beta": 0.3, "kl": "k3", "kl_clamp": (0.2, 0.01)},
    {"beta": 0.3, "kl": "abs", "reduction": "dapo"},
    {"off_policy_threshold": 0.02, "logp_sampling": True, "beta": 0.1},
    {"weights": True, "off_policy_threshold": 0.0},
    {"weights": True, "surrogate": "vespo", "reduction": "dapo"},
    {"weights": True, "surrogate": "cispo", "denominator": 17.0},
]


@pytest.mark.parametrize(
    "variant", VARIANTS, ids=lambda v: "-".join(f"{k}={x}" for k, x in v.items())
)
def test_loss_and_gradient_equal_the_loops(variant):
    for seed in (1, 2):
        new, old, advantages, mask, ref = data(seed)
        options = PLAIN | {"max_length": 7, "logp_ref": ref} | variant
        rng = np.random.default_rng(seed)
        if options.get("weights"):
            options["weights"] = np.exp(0.2 * rng.standard_normal(new.shape))
        if options.get("logp_sampling"):
            options["logp_sampling"] = old + 0.1 * rng.standard_normal(new.shape)
        loops = {("kl_kind" if k == "kl" else k): v for k, v in options.items()}
        arrays = {
            k: jnp.asarray(v) if isinstance(v, np.ndarray) else v
            for k, v in options.items()
        }
        args = (old, advantages, mask)
        loss, _, gradient = value_and_grad(
            jnp.asarray(new), *map(jnp.asarray, args), **arrays
        )
        expected = grpo_loops.loss(new, *args, **loops)
        np.testing.assert_allclose(loss, expected, rtol=1e-11, atol=1e-13)
        # Central differences with step 1e-6: error 1e-9, and no kink that close.
        slopes = grpo_loops.gradient(new, *args, **loops)
        np.testing.assert_allclose(gradient, slopes, atol=2e-8)


# ---- defects of peers


def one_token(log_ratio, advantage, **options):
    """(loss, d loss / d logp) of single tokens, without the mean."""
    ratio = jnp.asarray(log_ratio)[:, None]
    n = len(log_ratio)
    loss, _, gradient = value_and_grad(
        ratio - 1.0,
        jnp.full((n, 1), -1.0),
        jnp.full((n,), advantage),
        jnp.ones((n, 1), bool),
        **(PLAIN | {"denominator": jnp.asarray(1.0)} | options),
    )
    return float(loss), gradient[:, 0]


def test_d01_negative_advantage_is_clipped_below_and_only_there():
    """EasyDeL clips r > 1 + e, not r < 1 - e, when A < 0; PPO does the reverse."""
    high, low = np.log([1.25, 1.6, 4.0]), np.log([0.75, 0.5, 0.1])
    assert not jnp.any(one_token(low, -1.0)[1])
    np.testing.assert_allclose(one_token(high, -1.0)[1], np.exp(high), rtol=1e-14)
    assert not jnp.any(one_token(high, 1.0)[1])
    np.testing.assert_allclose(one_token(low, 1.0)[1], -np.exp(low), rtol=1e-14)
    assert one_token(low, -1.0)[0] == pytest.approx(3 * 0.8)
    assert one_token(high, -1.0)[0] == pytest.approx(1.25 + 1.6 + 4.0)


def test_d02_the_weight_of_cispo_carries_no_gradient():
    """The gradient is that of w A log pi with w a number: -min(r, 1 + e) A."""
    log_ratio = np.log([0.3, 1.0, 1.2, 5.0])
    for advantage in (2.0, -2.0):
        options = {"surrogate": "cispo", "clip_high": 0.3}
        _, gradient = one_token(log_ratio, advantage, **options)
        expected = -np.minimum(np.exp(log_ratio), 1.3) * advantage
        np.testing.assert_allclose(gradient, expected, rtol=1e-14)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_d13_an_empty_row_is_no_nan(reduction, ratio):
    new, old, advantages, mask, ref = map(jnp.asarray, data(3))
    mask = mask.at[jnp.asarray([0, 4])].set(False)
    options = PLAIN | {"reduction": reduction, "ratio": ratio, "max_length": 5}
    options |= {"beta": 0.1}
    loss, metrics, gradient = value_and_grad(
        new, old, advantages, mask, logp_ref=ref, **options
    )
    assert jnp.all(jnp.isfinite(gradient)) and not jnp.any(
        gradient[jnp.asarray([0, 4])]
    )
    keep = jnp.asarray([1, 2, 3, 5])
    alone, _, _ = value_and_grad(
        new[keep],
        old[keep],
        advantages[keep],
        mask[keep],
        logp_ref=ref[keep],
        **options,
    )
    np.testing.assert_allclose(loss, alone, rtol=1e-13)
    assert float(metrics["rows"]) == 4
    loss, metrics, gradient = value_and_grad(
        new, old, advantages, jnp.zeros_like(mask), logp_ref=ref, **options
    )
    assert float(loss) == 0 and not jnp.any(gradient)
    assert all(float(v) == 0 for v in metrics.values())


# ---- properties


def test_on_policy_it_is_the_policy_gradient():
    new, _, advantages, mask, _ = map(jnp.asarray, data(4))
    options = PLAIN | {"reduction": "dapo"}
    loss, metrics, gradient = value_and_grad(new, None, advantages, mask, **options)
    given, _, same = value_and_grad(new, new, advantages, mask, **options)
    expected = -jnp.where(mask, advantages[:, None], 0) / float(mask.sum())
    np.testing.assert_allclose(gradient, expected, atol=1e-16)
    np.testing.assert_allclose(gradient, same, atol=1e-16)
    np.testing.assert_allclose(loss, given, atol=1e-16)
    np.testing.assert_allclose(loss, jnp.sum(expected), atol=1e-15)
    assert float(metrics["ratio_mean"]) == 1 and float(metrics["clipped_low"]) == 0


@pytest.mark.parametrize("kl", ["k2", "k3"])
def test_a_group_without_signal_leaves_the_kl_term_only(kl):
    new, old, _, mask, ref = map(jnp.asarray, data(5))
    zero = group_advantages(jnp.ones((2, 3)), scale="group").reshape(-1)
    options = PLAIN | {"beta": 0.4, "kl": kl}
    loss, metrics, gradient = value_and_grad(
        new, old, zero, mask, logp_ref=ref, **options
    )
    assert float(loss) > 0 and jnp.any(gradient)
    assert float(metrics["kl"]) > 0
    at_reference = value_and_grad(new, old, zero, mask, logp_ref=new, **options)
    assert float(at_reference[0]) == 0 and not jnp.any(at_reference[2])
    without = value_and_grad(new, old, zero, mask, **PLAIN)
    assert float(without[0]) == 0 and not jnp.any(without[2])


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_what_is_masked_is_not_read(surrogate, ratio):
    """Longer padding, rows that fill the batch, and any number standing there."""
    new, old, advantages, mask, ref = data(6)
    weights = np.exp(0.1 * np.random.default_rng(0).standard_normal(new.shape))
    options = PLAIN | {"beta": 0.1, "surrogate": surrogate, "ratio": ratio}
    options |= {"off_policy_threshold": 0.05}

    def run(new, old, advantages, mask, ref, weights):
        args = map(jnp.asarray, (new, old, advantages, mask))
        return value_and_grad(
            *args, logp_ref=jnp.asarray(ref), weights=jnp.asarray(weights), **options
        )

    def pad(x, value):
        x = np.pad(x, ((0, 2), (0, 3)), constant_values=value)
        return np.where(np.pad(mask, ((0, 2), (0, 3))), x, value)

    loss, metrics, gradient = run(new, old, advantages, mask, ref, weights)
    for garbage in (np.nan, np.inf, -np.inf, 1e30):
        padded = run(
            pad(new, garbage),
            pad(old, -garbage),
            np.pad(advantages, (0, 2), constant_values=garbage),
            np.pad(mask, ((0, 2), (0, 3))),
            pad(ref, garbage),
            pad(weights, garbage),
        )
        # Longer rows are summed in another order.
        np.testing.assert_allclose(padded[0], loss, rtol=1e-13)
        np.testing.assert_allclose(padded[2][:6, :5], gradient, rtol=1e-12, atol=1e-16)
        assert not np.any(padded[2][6:]) and not np.any(padded[2][:, 5:])
        for name, value in metrics.items():
            np.testing.assert_allclose(padded[1][name], value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_micro_batches_add_up_exactly(reduction):
    new, old, advantages, mask, ref = map(jnp.asarray, data(7, rows=8))
    options = PLAIN | {"reduction": reduction, "beta": 0.1, "max_length": 9}
    whole, _, gradient = value_and_grad(
        new, old, advantages, mask, logp_ref=ref, **options
    )
    denominator = loss_denominator(mask, reduction=reduction, max_length=9)
    parts = [
        value_and_grad(
            new[a:b],
            old[a:b],
            advantages[a:b],
            mask[a:b],
            logp_ref=ref[a:b],
            denominator=denominator,
            **options,
        )
        for a, b in ((0, 1), (1, 4), (4, 5), (5, 8))
    ]
    np.testing.assert_allclose(sum(p[0] for p in parts), whole, rtol=1e-13)
    joined = jnp.concatenate([p[2] for p in parts])
    np.testing.assert_allclose(joined, gradient, rtol=1e-13, atol=1e-17)


@pytest.mark.parametrize(("denominator", "factor"), [(0.0, 1), (-2.0, 1), (jnp.nan, 0)])
def test_a_denominator_that_divides_nothing(denominator, factor):
    new, old, advantages, mask, _ = map(jnp.asarray, data(7, rows=8))
    options = PLAIN | {"denominator": jnp.asarray(1.0)}
    plain, _, _ = value_and_grad(new, old, advantages, mask, **options)
    options["denominator"] = jnp.asarray(denominator)
    found, _, _ = value_and_grad(new, old, advantages, mask, **options)
    np.testing.assert_array_equal(found, plain if factor else jnp.nan)


def test_permutation_within_a_group():
    new, old, _, mask, _ = data(8)
    rewards = np.random.default_rng(8).random((2, 3))
    order = np.array([2, 0, 1])
    rows = np.concatenate([order, 3 + order])

    def run(rewards, new, old, mask):
        advantages = group_advantages(jnp.asarray(rewards), scale="group").reshape(-1)
        return value_and_grad(
            jnp.asarray(new), jnp.asarray(old), advantages, jnp.asarray(mask), **PLAIN
        )

    loss, _, gradient = run(rewards, new, old, mask)
    again, _, moved = run(rewards[:, order], new[rows], old[rows], mask[rows])
    np.testing.assert_allclose(again, loss, rtol=1e-13)
    np.testing.assert_allclose(moved, gradient[rows], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("name", ["new", "old", "advantages", "ref", "weights"])
def test_nan_at_a_token_that_counts_reaches_the_loss(surrogate, name):
    new, old, advantages, mask, ref = data(9)
    arrays = {"new": new, "old": old, "advantages": advantages, "ref": ref}
    arrays["weights"] = np.ones_like(new)
    arrays[name] = arrays[name].copy()
    arrays[name][(0,) * arrays[name].ndim] = np.nan
    a = {k: jnp.asarray(v) for k, v in arrays.items()}
    loss, _, _ = value_and_grad(
        a["new"],
        a["old"],
        a["advantages"],
        jnp.asarray(mask),
        logp_ref=a["ref"],
        weights=a["weights"],
        **(PLAIN | {"beta": 0.1, "surrogate": surrogate}),
    )
    assert jnp.isnan(loss)


def test_an_overflowing_ratio_does_not_look_healthy():
    """inf * 0 beside clip(inf) * 0: rlax' fmin would answer 0."""
    assert np.isnan(one_token([800.0], 0.0)[0])
    assert one_token([800.0], -1.0)[0] == np.inf


def test_vmap_over_seeds_and_betas_equals_the_loop():
    batches = [data(seed) for seed in range(3)]
    new, old, advantages, mask, ref = (
        jnp.asarray(np.stack(x)) for x in zip(*batches, strict=True)
    )
    betas = jnp.asarray([0.0, 0.04, 0.4])

    def loss_of(new, old, advantages, mask, ref, beta):
        options = PLAIN | {"beta": beta}
        return grpo_loss(new, old, advantages, mask, logp_ref=ref, **options)[0]

    one = jax.jit(loss_of)
    batch = (new, old, advantages, mask, ref, betas)
    loop = [one(*(x[i] for x in batch)) for i in range(3)]
    found = jax.jit(jax.vmap(loss_of))(*batch)
    np.testing.assert_allclose(found, jnp.stack(loop), rtol=1e-13)


def test_one_compilation_for_all_numbers():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(new, old, advantages, mask, beta):
        options = PLAIN | {"beta": beta}
        return grpo_loss(new, old, advantages, mask, logp_ref=old, **options)[0]

    for seed in range(4):
        new, old, advantages, mask, _ = map(jnp.asarray, data(seed))
        step(new, old, advantages, mask, jnp.asarray(0.1 * seed))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_narrow_input_is_computed_in_float32(dtype):
    new, old, advantages, mask, ref = data(10)
    args = [jnp.asarray(x, dtype) for x in (new, old, advantages)]
    mask = jnp.asarray(mask)
    options = PLAIN | {"beta": 0.1}
    loss, metrics, gradient = value_and_grad(
        *args, mask, logp_ref=jnp.asarray(ref, dtype), **options
    )
    assert loss.dtype == jnp.float32 and gradient.dtype == dtype
    assert {v.dtype for v in metrics.values()} == {jnp.dtype(jnp.float32)}
    wide = [x.astype(jnp.float64) for x in args]
    ref = jnp.asarray(ref, dtype).astype(jnp.float64)
    expected, _, _ = value_and_grad(*wide, mask, logp_ref=ref, **options)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_a_reference_with_beta_0_is_reported_only():
    new, old, advantages, mask, ref = map(jnp.asarray, data(11))
    args = (new, old, advantages, mask)
    with_ref, metrics, _ = value_and_grad(*args, logp_ref=ref, **PLAIN)
    without, bare, _ = value_and_grad(*args, **PLAIN)
    assert float(with_ref) == float(without)
    assert float(metrics["kl"]) > 0 and "kl" not in bare


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.1}, "logp_ref: expected an array, as beta is 0.1; found None"),
        ({"beta": jnp.float64(0.0)}, "logp_ref: .* pass the Python number beta=0"),
        ({"ratio": "group"}, "ratio 'group'"),
        ({"surrogate": "ppo"}, "surrogate 'ppo'"),
        ({"reduction": "mean"}, "reduction 'mean'"),
        ({"reduction": "dr_grpo"}, "max_length"),
        ({"dual_clip": 0.9}, "dual_clip: expected a number above 1.*0.9"),
        ({"kl": "k4", "logp_ref": True}, "kl 'k4'"),
        (
            {"surrogate": "vespo", "weights": jnp.ones((6, 1))},
            r"weights: .*shape \[N, T\]",
        ),
    ],
)
def test_bad_options(options, message):
    new, old, advantages, mask, ref = map(jnp.asarray, data(0))
    if options.get("logp_ref") is True:
        options = options | {"logp_ref": ref}
    with pytest.raises(ValueError, match=message):
        grpo_loss(new, old, advantages, mask, **(PLAIN | options))


def test_bad_shapes():
    new, old, advantages, mask, _ = map(jnp.asarray, data(0))
    with pytest.raises(ValueError, match=r"logp_old: .*T = 5 from logp; .*\(6, 4\)"):
        grpo_loss(new, old[:, :4], advantages, mask, **PLAIN)
    with pytest.raises(ValueError, match=r"mask: .*N = 6 from logp, .*\(5, 5\)"):
        grpo_loss(new, old, advantages, mask[:5], **PLAIN)
    with pytest.raises(
        ValueError, match=r"advantages: .*\[N\] with N = 6 from logp; .*\(2, 3\)"
    ):
        grpo_loss(new, old, advantages.reshape(2, 3), mask, **PLAIN)


CONSTANTS = ("logp_old", "advantages", "logp_ref", "weights", "logp_sampling")


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_the_gradient_flows_through_logp_alone(surrogate, ratio):
    new, old, advantages, mask, ref = data(12)
    options = {"beta": 0.2, "surrogate": surrogate, "ratio": ratio, "kl_ratio": True}
    options = PLAIN | options | {"off_policy_threshold": 0.1}
    arrays = {
        "logp_old": old,
        "advantages": advantages,
        "logp_ref": ref,
        "weights": np.exp(0.1 * ref),
        "logp_sampling": old + 0.05,
    }
    mask = jnp.asarray(mask)

    @jax.jit
    def gradients(logp, arrays):
        def fn(logp, arrays):
            return grpo_loss(logp, mask=mask, **arrays, **options)[0]

        return jax.grad(fn, argnums=(0, 1))(logp, arrays)

    own, others = gradients(*jax.tree.map(jnp.asarray, (new, arrays)))
    assert jnp.any(own)
    for name in CONSTANTS:
        assert not jnp.any(others[name]), name


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_one_array_for_both_policies_gives_the_policy_gradient(surrogate):
    """d loss / d logp at logp_old = logp, by the loops, where grad once gave 0."""
    new, _, advantages, mask, _ = data(13)
    options = PLAIN | {"surrogate": surrogate}
    args = (jnp.asarray(advantages), jnp.asarray(mask))
    found = jax.grad(lambda x: grpo_loss(x, x, *args, **options)[0])(jnp.asarray(new))
    slopes = grpo_loops.gradient(new, new, advantages, mask, surrogate=surrogate)
    # Central differences with step 1e-6.
    np.testing.assert_allclose(found, slopes, atol=2e-8)
    assert np.abs(found).max() > 0.01


def test_a_traced_beta_without_a_reference_says_so():
    new, old, advantages, mask, _ = map(jnp.asarray, data(0))

    def fn(beta):
        return grpo_loss(new, old, advantages, mask, **(PLAIN | {"beta": beta}))[0]

    with pytest.raises(ValueError, match="logp_ref: .*a traced beta may be anything"):
        jax.jit(fn)(0.0)
    for zero in (0, 0.0, np.float32(0), np.array(0.0)):
        assert np.isfinite(fn(zero))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_sizes_0_and_1(shape, surrogate, ratio):
    logp, advantages = jnp.full(shape, -1.0), jnp.ones(shape[:1])
    for reduction in REDUCTIONS:
        options = {"surrogate": surrogate, "ratio": ratio, "reduction": reduction}
        loss, metrics, gradient = value_and_grad(
            *(logp, logp, advantages, jnp.ones(shape, bool)),
            logp_ref=logp,
            **(PLAIN | options | {"beta": 0.1, "max_length": 1}),
        )
        on_ratio = -1.0 if surrogate == "clip" else -4.0 / 2
        policy = {"cispo": 1.0, "vespo": 1.0}.get(surrogate, on_ratio)
        assert float(loss) == pytest.approx(policy if np.prod(shape) else 0)
        assert gradient.shape == shape and float(metrics["tokens"]) == np.prod(shape)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_unknown_reduction_is_refused_beside_a_denominator_too(reduction):
    new, old, advantages, mask, _ = map(jnp.asarray, data(0))
    options = PLAIN | {"reduction": reduction, "denominator": jnp.asarray(2.0)}
    with pytest.raises(ValueError, match=f"reduction '{reduction}'"):
        grpo_loss(new, old, advantages, mask, **options)
