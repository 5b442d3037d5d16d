"""Scores in pieces on a mesh: the output layer's gradient, and what it costs to add."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs.common import get_rules
from medjax.models.qwen25vl import completion_logps, encode_images, param_axes, prefill
from medjax.planning.costs import count_costs
from medjax.planning.hlo import parse_program
from medjax.sharding import (
    batch_sharding,
    make_mesh,
    rule_table,
    to_named_sharding,
)
from tests.tiny import PAD, STOP, VOCAB, tiny_batch, tiny_config, tiny_params

CONTEXTS, GROUP, LENGTH = 8, 3, 6
RULES = get_rules().to_dict()


def config_of(tied, rules=None):
    return tiny_config(
        **{"dtype": "float64", "param_dtype": "float64", "tied": tied},
        rules=rule_table(rules),
    )


def completions():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, STOP, (CONTEXTS * 2, GROUP, LENGTH)).astype(np.int32)
    lengths = rng.integers(1, LENGTH + 1, (CONTEXTS * 2, GROUP, 1))
    mask = np.arange(LENGTH) < lengths
    weights = rng.normal(size=(2, *tokens.shape))
    return np.where(mask, tokens, PAD), mask, weights


@cache
def gradient(tied, chunk, shape=None):
    """Program and gradient of a weighted sum of both results; on a mesh, if one."""
    config = config_of(tied, RULES if shape else None)
    params = tiny_params(config)
    batch = tiny_batch(contexts=CONTEXTS, slots=0)

    def total(params, prompt, tokens, mask, weights):
        features = encode_images(config, params, prompt.images)
        prefilled = prefill(config, params, prompt, features)
        logp, entropy = completion_logps(
            config, params, prefilled, tokens, mask, chunk=chunk
        )
        both = jnp.stack([logp, entropy]) * jnp.moveaxis(weights, -1, 0)
        return jnp.sum(jnp.where(mask, both, 0))

    tokens, mask, weights = completions()
    given = (batch.prompt, tokens, mask, np.moveaxis(weights, 0, -1))
    out = None
    if shape:
        mesh = make_mesh(dict(zip(("data", "fsdp", "model"), shape, strict=True)))
        out = to_named_sharding(param_axes(config), mesh, RULES, params)
        params = jax.device_put(params, out)
        given = jax.device_put(given, batch_sharding(given, mesh, RULES))
        out = (NamedSharding(mesh, PartitionSpec()), out)
    step = jax.jit(jax.value_and_grad(total), out_shardings=out)
    program = step.lower(params, *given).compile()
    return program, jax.device_get(program(params, *given))


@pytest.mark.parametrize("tied", [False, True], ids=["own", "tied"])
def test_gradients_in_pieces_on_eight_devices_are_those_of_one(tied):
    """Of both results, by reverse mode of the scores all at once, in float64."""
    expected, found = gradient(tied, None)[1], gradient(tied, 4, (2, 2, 2))[1]
    # sums in another order; 1e-12 of the largest entry is 4,000 units in the last place
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=0, atol=1e-12 * np.abs(b).max() + 1e-14
        ),
        found,
        expected,
    )
    kernel = expected[1]["text"]["embed" if tied else "head"]
    assert np.abs(jax.tree.leaves(kernel)[0]).max() > 0


def test_the_output_layers_gradient_is_added_over_devices_once():
    """More pieces send no more: where each added it, one more cost 2 V D numbers."""

    def sent(chunk):
        text = gradient(False, chunk, (8, 1, 1))[0].as_text()
        work = count_costs(parse_program(text), lambda *_: "other")
        assert not work.uncounted
        return work.phases["other"].sent

    layer = config_of(False).width * VOCAB * 8  # bytes
    assert sent(1) - sent(3) < 0.1 * layer
    assert sent(3) > 2 * layer * 7 / 8  # it is added
