"""Adapters that are trained: what they add, how they start, what their gradient is."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.models.qwen25vl import (
    completion_logps,
    encode_images,
    flatten_params,
    param_axes,
    prefill,
)
from medjax.models.qwen25vl.config import Lora
from medjax.models.qwen25vl.lora import (
    find_targets,
    init_lora,
    join_lora,
    lora_axes,
    merge_lora,
    split_lora,
)
from tests.tiny import tiny_batch, tiny_config, tiny_params

TARGETS = ("q_proj", "o_proj", "mlp.down_proj", "visual.qkv", "visual.mlp.0")
LORA = Lora(rank=3, alpha=7.5, targets=TARGETS)
CONFIG = tiny_config(dtype="float64", param_dtype="float64", lora=LORA)
PATHS = {  # ours of TARGETS, and how many layers are stacked
    "text/layers/attention/q": 2,
    "text/layers/attention/o": 2,
    "text/layers/mlp/down": 2,
    "vision/blocks/attention/qkv": 2,
    "vision/merger/fc1": 0,
}


@pytest.fixture(scope="module")
def base():
    return jax.tree.map(jnp.asarray, tiny_params(CONFIG))


@pytest.fixture(scope="module")
def adapter():
    """One whose B is not zero."""
    rng = np.random.default_rng(1)
    fresh = init_lora(CONFIG, jax.random.key(1))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / 4), fresh)


def by_hand(base, adapter, scale):
    """W + s A B of every kernel, in float64 NumPy, layer by layer."""
    flat, low = flatten_params(base), flatten_params(adapter)
    out = {name: np.array(x, np.float64) for name, x in flat.items()}
    for path, layers in PATHS.items():
        down, up = (np.asarray(low[f"{path}/lora_{x}"], np.float64) for x in "ab")
        kernel = out[f"{path}/kernel"]
        for layer in range(layers):
            kernel[layer] += scale * np.einsum("ir,ro->io", down[layer], up[layer])
        if not layers:
            kernel += scale * np.einsum("ir,ro->io", down, up)
    return out


def rebuilt(like, flat):
    leaves = [jnp.asarray(flat[name]) for name in flatten_params(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


@pytest.fixture(scope="module")
def lesson():
    batch = jax.tree.map(jnp.asarray, tiny_batch(contexts=1, questions=2))
    tokens = jnp.asarray(np.random.default_rng(2).integers(0, 60, (2, 2, 3)))
    mask = jnp.asarray([[[1, 1, 1], [1, 1, 0]], [[1, 0, 0], [1, 1, 1]]], bool)
    return batch.prompt, tokens, mask


@partial(jax.jit, static_argnums=0)
def logps(config, params, lesson):
    prompt, tokens, mask = lesson
    prompt = prompt._replace(
        images=prompt.images._replace(patches=prompt.images.patches.astype(float))
    )
    features = encode_images(config, params, prompt.images)
    prefilled = prefill(config, params, prompt, features)
    found, _ = completion_logps(config, params, prefilled, tokens, mask)
    return jnp.where(mask, found, 0)


def test_it_computes_with_the_dense_update(base, adapter, lesson):
    dense = rebuilt(base, by_hand(base, adapter, 7.5 / 3))
    expected = logps(replace(CONFIG, lora=None), dense, lesson)
    found = logps(CONFIG, join_lora(base, adapter), lesson)
    # float64; the order of sums differs
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    plain = logps(CONFIG, base, lesson)
    assert np.abs(plain - expected).max() > 1e-2  # the adapter does something


def test_merging_gives_the_dense_update(base, adapter):
    merged = merge_lora(CONFIG, join_lora(base, adapter))
    found = flatten_params(merged)
    expected = by_hand(base, adapter, 7.5 / 3)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-14)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), base)
    rounded = flatten_params(merge_lora(CONFIG, join_lora(half, adapter)))
    wide = by_hand(half, adapter, 7.5 / 3)
    for name, values in rounded.items():
        assert values.dtype == jnp.bfloat16
        # half a unit of 8 bits, after a sum of float32
        np.testing.assert_allclose(
            np.asarray(values, np.float64), wide[name], rtol=2.0**-8, atol=1e-6
        )


def test_a_fresh_one_adds_nothing_and_is_drawn_as_by_peft(base, lesson):
    fresh = init_lora(CONFIG, jax.random.key(1))
    flat = flatten_params(fresh)
    assert {name.rsplit("/", 1)[0] for name in flat} == PATHS.keys()
    kernels = flatten_params(base)
    for name, values in flat.items():
        path, leaf = name.rsplit("/", 1)
        *stack, into, out = kernels[f"{path}/kernel"].shape
        if leaf == "lora_b":
            assert values.shape == (*stack, 3, out)
            assert not np.any(values)
            continue
        assert values.shape == (*stack, into, 3)
        bound = 1 / np.sqrt(into)  # of torch's kaiming_uniform with a = sqrt(5)
        assert np.abs(values).max() <= bound
        # sd of a uniform draw; 5 standard errors, of at least 96 numbers
        count = values.size
        assert abs(np.std(values) - bound / np.sqrt(3)) < 5 * bound / np.sqrt(count)
    np.testing.assert_array_equal(
        logps(CONFIG, join_lora(base, fresh), lesson), logps(CONFIG, base, lesson)
    )
    fewer = replace(CONFIG, lora=LORA._replace(targets=("o_proj",)))
    alone = flatten_params(init_lora(fewer, jax.random.key(1)))
    for name, values in alone.items():  # other targets bear on no draw
        np.testing.assert_array_equal(values, flat[name])
    other = flatten_params(init_lora(CONFIG, jax.random.key(2)))
    assert not np.array_equal(
        other["text/layers/attention/q/lora_a"], flat["text/layers/attention/q/lora_a"]
    )


def test_the_gradient_is_the_dense_ones_projection(base, adapter, lesson):
    weights = jnp.asarray(np.random.default_rng(3).normal(size=(2, 2, 3)))

    def value(config, params):
        return jnp.sum(weights * logps(config, params, lesson))

    found = jax.grad(lambda x: value(CONFIG, join_lora(base, x)))(adapter)
    dense = merge_lora(CONFIG, join_lora(base, adapter))
    kernels = flatten_params(
        jax.grad(partial(value, replace(CONFIG, lora=None)))(dense)
    )
    low, flat = flatten_params(adapter), flatten_params(found)
    for path in PATHS:
        grad = np.asarray(kernels[f"{path}/kernel"])
        down, up = (np.asarray(low[f"{path}/lora_{x}"]) for x in "ab")
        # d/dA of W + s A B is s G B', d/dB is s A' G
        expected = 2.5 * grad @ np.swapaxes(up, -1, -2)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            flat[f"{path}/lora_a"], expected, rtol=0, atol=1e-10 * scale
        )
        expected = 2.5 * np.swapaxes(down, -1, -2) @ grad
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            flat[f"{path}/lora_b"], expected, rtol=0, atol=1e-10 * scale
        )


def test_the_gradient_is_the_slope(base, adapter, lesson):
    rng = np.random.default_rng(4)
    direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), adapter)

    @jax.jit
    def along(step):
        moved = jax.tree.map(lambda x, d: x + step * d, adapter, direction)
        return jnp.sum(logps(CONFIG, join_lora(base, moved), lesson))

    wide, near = ((along(h) - along(-h)) / (2 * h) for h in (1e-3, 5e-4))
    slope = (4 * near - wide) / 3  # Richardson: the error is of the order h^4
    # queries and keys are rotated in float32, which leaves 2e-6 / h of 170
    np.testing.assert_allclose(jax.grad(along)(0.0), slope, rtol=1e-4)


def test_half_precision_has_adapters_that_learn():
    half = replace(CONFIG, param_dtype="bfloat16", dtype="bfloat16")
    leaves = jax.tree.leaves(init_lora(half, jax.random.key(0)))
    assert {x.dtype for x in leaves} == {jnp.dtype("float32")}


def test_split_and_join_are_inverse(base, adapter):
    whole = join_lora(base, adapter)
    found, rest = split_lora(whole)
    assert jax.tree.structure(found) == jax.tree.structure(adapter)
    assert jax.tree.structure(rest) == jax.tree.structure(base)
    assert all(
        one is two
        for one, two in zip(
            jax.tree.leaves((found, rest)),
            jax.tree.leaves((adapter, base)),
            strict=True,
        )
    )


def test_every_leaf_names_its_axes():
    axes, shapes = lora_axes(CONFIG), jax.eval_shape(partial(init_lora, CONFIG), KEY)
    named = flatten_params(axes)
    kernels = flatten_params(param_axes(CONFIG))
    assert named.keys() == flatten_params(shapes).keys()
    for name, spec in named.items():
        path, leaf = name.rsplit("/", 1)
        *stack, into, out = kernels[f"{path}/kernel"]
        assert tuple(spec) == (
            (*stack, into, None) if leaf == "lora_a" else (*stack, None, out)
        )
        assert len(spec) == flatten_params(shapes)[name].ndim


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "lora.rank is 0: expected a whole number of 1 or more"),
        ({"rank": 2.5}, "lora.rank is 2.5"),
        ({"alpha": 0.0}, "lora.alpha is 0.0: expected a number above 0"),
        ({"alpha": float("nan")}, "lora.alpha is nan"),
        (
            {"targets": ("q_proj", "g_proj")},
            r"1 of 2 name no matrix.*\n  'g_proj': did you mean .*q_proj",
        ),
        ({"targets": ()}, "0 of 0 name no matrix of the policy, which has down_proj"),
        ({"targets": ("qkv",)}, "'qkv': did you mean visual.attn.qkv"),
        ({"targets": ("lm_head",)}, "'lm_head'"),
        ({"targets": ("embed_tokens",)}, "'embed_tokens'"),
        ({"targets": ("visual.patch_embed.proj",)}, "'visual.patch_embed.proj'"),
    ],
)
def test_what_makes_no_adapter_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        find_targets(replace(CONFIG, lora=LORA._replace(**changes)))


def test_a_name_of_both_halves_means_the_text():
    paths = [x.path for x in find_targets(replace(CONFIG, lora=UP))]
    assert paths == ["text/layers/mlp/up"]


UP = LORA._replace(targets=("up_proj",))
