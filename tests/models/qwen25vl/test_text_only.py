"""A prompt without image slots is text alone."""

import jax
import jax.numpy as jnp
import numpy as np

from medjax.models.qwen25vl.parameters import init_params
from medjax.models.qwen25vl.policy import encode_images, prompt_logits
from tests.tiny import tiny_batch, tiny_config

CONFIG = tiny_config()


def test_no_slots_equals_slots_that_no_token_shows():
    prompt = tiny_batch(contexts=2).prompt
    hidden = prompt.context._replace(features=np.full_like(prompt.context.features, -1))
    shown = prompt._replace(context=hidden)
    bare = shown._replace(images=jax.tree.map(lambda x: x[:, :0], prompt.images))
    params = init_params(CONFIG, jax.random.key(0))
    assert encode_images(CONFIG, params, bare.images).shape == (2, 0, CONFIG.width)
    for with_slots, without in zip(
        prompt_logits(CONFIG, params, shown),
        prompt_logits(CONFIG, params, bare),
        strict=True,
    ):
        np.testing.assert_array_equal(without, with_slots)

    def loss(params):
        return sum(jnp.sum(x) for x in prompt_logits(CONFIG, params, bare))

    grads = jax.grad(loss)(params)
    assert all(not np.any(g) for g in jax.tree.leaves(grads["vision"]))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads["text"]))
