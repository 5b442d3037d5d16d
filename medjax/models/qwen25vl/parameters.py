"""Parameters of the policy: random ones, and the logical axes of each."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from medjax.checks import check_key
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.text import TextDecoder
from medjax.models.qwen25vl.vision import VisionTower
from medjax.types import Key, Params


def init_params(config: Qwen25VLConfig, key: Key) -> Params:
    """Random parameters of a policy that has learnt nothing.

    Kernels are normal, cut at two sd, with variance 1 / fan-in; the embedding is normal
    with sd 0.02; norms are 1 and biases 0.

    Args:
        config: Decides the sizes and, by `param_dtype`, the dtype of all parameters;
            `vision` and `text` are the two halves of the tree.
        key: A typed key, which is consumed; one of `jax.random.PRNGKey` is refused.

    Returns:
        A tree of dictionaries, {"vision": ..., "text": ...}, of arrays in
        `config.param_dtype`. Layers of one kind are stacked along the first axis, and
        kernels are [in, out].

    Raises:
        ValueError: a key of `jax.random.PRNGKey`, or several keys.
    """
    check_key("init_params", key=key)
    # flax counts the draws of a scan's body, which disable_jit would run layer by layer
    with jax.disable_jit(False):
        return _init_params(config, key)


@partial(jax.jit, static_argnums=0)  # op by op it takes 3 times as long to compile
def _init_params(config: Qwen25VLConfig, key: Key) -> Params:
    return nn.unbox(_boxed_params(config, key))


def param_axes(config: Qwen25VLConfig) -> Params:
    """The tree of `init_params` with a PartitionSpec of logical names for each array.

    The names are embed, mlp, heads, kv_heads, vision_mlp, vision_heads, vocab, norm,
    patch and, for the axis that stacks layers, layers. No number is computed.
    `medjax.sharding.to_named_sharding` turns the tree into shardings by rules that say
    which mesh axes a name falls on.

    Args:
        config: Decides which arrays there are; no size or dtype is in the result.

    Returns:
        {"vision": ..., "text": ...}: for each array a spec with a name for every one of
        its axes.
    """
    boxed = jax.eval_shape(partial(_boxed_params, config), jax.random.key(0))
    return nn.get_partition_spec(boxed)


def _boxed_params(config: Qwen25VLConfig, key: Key) -> Params:
    vision_key, text_key = jax.random.split(key)
    vision = config.vision
    patch_dim = vision.channels * vision.temporal * vision.patch**2
    length = (vision.window // vision.patch) ** 2
    tower = VisionTower(config).init(
        vision_key,
        jnp.zeros((1, length, patch_dim), jnp.float32),
        jnp.zeros((1, length, 2), jnp.int32),
        jnp.ones((1, length), bool),
    )

    def whole(decoder: TextDecoder) -> Array:
        x = decoder.embed(jnp.zeros((1, 1), jnp.int32))
        mask, positions = jnp.ones((1, 1), bool), jnp.zeros((1, 1, 3), jnp.int32)
        hidden, _ = decoder(x, mask, positions, ())
        return hidden if config.tied else decoder.head(hidden)

    decoder = nn.init(whole, TextDecoder(config))(text_key)
    return {"vision": tower["params"], "text": decoder["params"]}
