"""The decoder against a plain float64 forward, and segment by segment."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.models.qwen25vl.text import TextDecoder
from tests.tiny import tiny_config

DOUBLE = tiny_config(dtype="float64", param_dtype="float64")
ROWS, LENGTH = 2, 9


def inputs(width, seed=0):
    """Embedded tokens, a mask with padding in front, positions that jump."""
    rng = np.random.default_rng(seed)
    mask = np.arange(LENGTH) >= np.array([[0], [2]])
    positions = np.cumsum(rng.integers(0, 3, (ROWS, LENGTH, 3)), axis=1)
    x = rng.normal(size=(ROWS, LENGTH, width))
    return jnp.asarray(x), jnp.asarray(mask), jnp.asarray(positions, jnp.int32)


@pytest.fixture(scope="module")
def params():
    """Of both kinds of decoder; norms and biases away from 1 and 0."""
    layers, width = DOUBLE.layers, DOUBLE.width
    heads, keys = 4 * 8, 2 * 8
    rng = np.random.default_rng(1)

    def dense(rows, columns, bias=False):
        kernel = rng.normal(size=(layers, rows, columns)) / np.sqrt(rows)
        more = {"bias": 0.3 * rng.normal(size=(layers, columns))} if bias else {}
        return {"kernel": kernel, **more}

    def scale(*shape):
        return {"scale": 1 + 0.3 * rng.normal(size=shape)}

    return {
        "embed": {"embedding": rng.normal(size=(DOUBLE.vocab, width))},
        "layers": {
            "input_norm": scale(layers, width),
            "post_norm": scale(layers, width),
            "attention": {
                "q": dense(width, heads, bias=True),
                "k": dense(width, keys, bias=True),
                "v": dense(width, keys, bias=True),
                "o": dense(heads, width),
            },
            "mlp": {
                "gate": dense(width, DOUBLE.mlp),
                "up": dense(width, DOUBLE.mlp),
                "down": dense(DOUBLE.mlp, width),
            },
        },
        "norm": scale(width),
        "head": {"kernel": rng.normal(size=(width, DOUBLE.vocab))},
    }


@partial(jax.jit, static_argnames="config")
def decode(params, x, mask, positions, past=(), config=DOUBLE):
    variables = {"params": params}
    return TextDecoder(config).apply(variables, x, mask, positions, past)


@partial(jax.jit, static_argnames="config")
def scores(params, hidden, config=DOUBLE):
    variables = {"params": params}
    return TextDecoder(config).apply(variables, hidden, method="logits")


def norm(x, scale, eps=1e-6):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + eps) * scale


def rope(x, position):
    """mrope_section (2, 1, 1) of four frequencies, theta 1e6."""
    out = np.zeros_like(x)
    for i, axis in enumerate((0, 0, 1, 2)):
        angle = position[axis] * 1e6 ** (-i / 4)
        cos, sin = np.cos(angle), np.sin(angle)
        out[..., i] = x[..., i] * cos - x[..., i + 4] * sin
        out[..., i + 4] = x[..., i + 4] * cos + x[..., i] * sin
    return out


def plain_forward(params, x, mask, positions):
    """One row at a time, one query at a time, head h over key head h // 2."""
    layers = params["layers"]
    out = np.array(x, np.float64)
    for row in range(len(x)):
        tokens = np.flatnonzero(mask[row])
        for n in range(DOUBLE.layers):
            weights = jax.tree.map(lambda w, n=n: w[n], layers)
            attention = weights["attention"]
            h = norm(out[row], weights["input_norm"]["scale"])
            q, k, v = (
                h @ attention[name]["kernel"] + attention[name]["bias"]
                for name in ("q", "k", "v")
            )
            q, k, v = (y.reshape(LENGTH, -1, 8) for y in (q, k, v))
            q, k = (
                np.stack([rope(y[t], positions[row, t]) for t in range(LENGTH)])
                for y in (q, k)
            )
            mixed = np.zeros((LENGTH, 4, 8))
            for t in tokens:
                seen = tokens[tokens <= t]
                for head in range(4):
                    scores = k[seen, head // 2] @ q[t, head] / np.sqrt(8)
                    share = np.exp(scores - scores.max())
                    mixed[t, head] = share @ v[seen, head // 2] / share.sum()
            out[row] += mixed.reshape(LENGTH, -1) @ attention["o"]["kernel"]
            h = norm(out[row], weights["post_norm"]["scale"])
            gate, up = (h @ weights["mlp"][name]["kernel"] for name in ("gate", "up"))
            out[row] += (
                gate / (1 + np.exp(-gate)) * up @ weights["mlp"]["down"]["kernel"]
            )
    return norm(out, params["norm"]["scale"])


def test_equals_a_plain_forward(params):
    x, mask, positions = inputs(DOUBLE.width)
    hidden, cache = decode(params, x, mask, positions)
    expected = plain_forward(params, *(np.asarray(a) for a in (x, mask, positions)))
    kept = np.asarray(mask)
    # angles are float32: up to 18 rad with an error of 1e-6
    np.testing.assert_allclose(np.asarray(hidden)[kept], expected[kept], atol=1e-5)
    assert cache.keys.shape == cache.values.shape == (2, ROWS, LENGTH, 2, 8)
    np.testing.assert_array_equal(cache.mask, mask)


@pytest.mark.parametrize("cuts", [(4,), (1, 6), (3, 5, 8)])
def test_segments_one_by_one_equal_all_at_once(params, cuts):
    x, mask, positions = inputs(DOUBLE.width)
    expected, whole = decode(params, x, mask, positions)
    past, found = (), []
    edges = (0, *cuts, LENGTH)
    for start, end in zip(edges, edges[1:], strict=False):
        part = (a[:, start:end] for a in (x, mask, positions))
        hidden, cache = decode(params, *part, past)
        past, found = (*past, cache), [*found, hidden]
    kept = np.asarray(mask)
    # float64: softmax joined from parts by their log-sum-exp
    np.testing.assert_allclose(
        np.concatenate(found, 1)[kept], np.asarray(expected)[kept], atol=1e-12
    )
    for name in ("keys", "values"):
        joined = np.concatenate([getattr(cache, name) for cache in past], axis=2)
        np.testing.assert_allclose(
            joined[:, kept], np.asarray(getattr(whole, name))[:, kept], atol=1e-12
        )


def test_a_shared_segment_serves_consecutive_rows(params):
    x, mask, positions = inputs(DOUBLE.width)
    _, past = decode(params, x[:, :4], mask[:, :4], positions[:, :4])
    group = 3
    repeat = lambda a: jnp.repeat(a[:, 4:], group, axis=0)  # noqa: E731
    more = repeat(x) + 0.1 * np.random.default_rng(2).normal(
        size=(ROWS * group, LENGTH - 4, DOUBLE.width)
    )
    shared, _ = decode(params, more, repeat(mask), repeat(positions), (past,))
    own = jax.tree.map(
        lambda a: jnp.repeat(a, group, axis=0 if a.ndim == 2 else 1), past
    )
    alone, _ = decode(params, more, repeat(mask), repeat(positions), (own,))
    np.testing.assert_allclose(shared, alone, atol=1e-12)


def test_query_heads_share_key_heads_in_blocks(params):
    """Values of key head 1 reach query heads 2 and 3 and no other."""
    one = replace(DOUBLE, layers=1)
    params = {**params, "layers": jax.tree.map(lambda w: w[:1], params["layers"])}
    x, mask, positions = inputs(DOUBLE.width)
    attention = params["layers"]["attention"]
    bias, out = attention["v"]["bias"].copy(), attention["o"]["kernel"]
    bias[:, 8:] += np.random.default_rng(5).normal(size=8)
    other = {**attention, "v": {**attention["v"], "bias": bias}}
    for head in range(4):
        only = np.zeros_like(out)  # the output of this query head alone
        only[:, 8 * head : 8 * head + 8] = out[:, 8 * head : 8 * head + 8]
        found = []
        for part in (attention, other):
            layers = params["layers"] | {"attention": {**part, "o": {"kernel": only}}}
            tree = {**params, "layers": layers}
            found.append(decode(tree, x, mask, positions, config=one)[0])
        moved = bool(jnp.any(jnp.abs(found[0] - found[1]) > 1e-9))
        assert moved is (head >= 2)


def test_attention_is_causal_by_index_not_by_position(params):
    x, mask, positions = inputs(DOUBLE.width)
    same = jnp.zeros_like(positions)  # as inside an image's row
    before, _ = decode(params, x, mask, same)
    after, _ = decode(params, x.at[:, 5].add(1.0), mask, same)
    kept = np.asarray(mask)[:, :5]
    np.testing.assert_array_equal(
        np.asarray(after)[:, :5][kept], np.asarray(before)[:, :5][kept]
    )
    assert float(jnp.abs(after - before)[:, 5:].min()) > 0


def test_scores_come_from_the_head_or_the_embedding(params):
    hidden = jnp.asarray(np.random.default_rng(3).normal(size=(2, 3, DOUBLE.width)))
    head, table = params["head"]["kernel"], params["embed"]["embedding"]
    np.testing.assert_allclose(scores(params, hidden), hidden @ head, atol=1e-12)
    tied = {name: part for name, part in params.items() if name != "head"}
    found = scores(tied, hidden, config=replace(DOUBLE, tied=True))
    np.testing.assert_allclose(found, hidden @ table.T, atol=1e-12)


def test_scores_of_bfloat16_are_summed_in_float32(params):
    short = jax.tree.map(lambda w: jnp.asarray(w, jnp.bfloat16), params)
    hidden = jnp.asarray(
        np.random.default_rng(4).normal(size=(3, DOUBLE.width)), jnp.bfloat16
    )
    config = tiny_config(dtype="bfloat16", param_dtype="bfloat16")
    found = scores(short, hidden, config=config)
    assert found.dtype == jnp.float32
    expected = np.asarray(hidden, np.float64) @ np.asarray(
        short["head"]["kernel"], np.float64
    )
    # products of bfloat16 are exact in float32; a sum of 32 of them
    np.testing.assert_allclose(found, expected, atol=1e-4)
