"""What a mesh has to know of a Qwen2.5-VL: its sizes, without a number computed."""

import jax
from jax.sharding import PartitionSpec

from medjax.planning.auto import ArrayAxes, Widths
from medjax.planning.layout import Unit
from medjax.recipes.policy.opened import Outline
from medjax.systems.policy.qwen25vl import Qwen25VLConfig, make_model


def outline_of(config: Qwen25VLConfig) -> Outline:
    """The sizes that decide how a mesh may divide the policy, and what that saves.

    Args:
        config: Of the policy.
    """
    vision = config.vision
    merged = vision.merge**2 * vision.width  # hidden units of what joins the two towers
    hidden = (vision.mlp, merged)
    return Outline(
        units=(
            Unit("heads", "heads", (config.heads,), small=False),
            Unit("kv_heads", "key-value heads", (config.kv_heads,), small=True),
            Unit(
                *("vision_heads", "heads of the vision tower", (vision.heads,)),
                small=True,
            ),
            Unit("vision_mlp", "hidden units of the vision tower", hidden, small=True),
        ),
        widths=Widths(
            layers=config.layers,
            width=config.width,
            mlp=config.mlp,
            kv_width=config.kv_heads * config.head_dim,
            vocab=config.vocab,
            vision_layers=vision.depth,
            vision_width=vision.width,
        ),
        patch=vision.patch,
        merge=vision.merge,
    )


def array_axes(config: Qwen25VLConfig) -> list[ArrayAxes]:
    """The shape and the logical axes of every parameter.

    Args:
        config: Of the policy.
    """
    model = make_model(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    named = jax.tree.leaves(model.axes, is_leaf=lambda x: isinstance(x, PartitionSpec))
    return [
        ArrayAxes(x.shape, tuple(axes))
        for x, axes in zip(jax.tree.leaves(shapes), named, strict=True)
    ]
