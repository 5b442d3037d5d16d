"""Log-probabilities of completions, as a learner needs them."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_arrays, check_integers
from medjax.indexing import devices_along, repeat_rows
from medjax.models.qwen25vl.config import Qwen25VLConfig
from medjax.models.qwen25vl.policy import (
    Prefill,
    embed_tokens,
    extend,
    head_kernel,
    logits,
)
from medjax.models.qwen25vl.text import head_scores
from medjax.sharding import constrain, parts_along
from medjax.types import Params


def completion_logps(
    config: Qwen25VLConfig,
    params: Params,
    prefilled: Prefill,
    tokens: Int[Array, "B G T"],
    mask: Bool[Array, "B G T"],
    *,
    chunk: int | None = None,
) -> tuple[Float[Array, "B G T"], Float[Array, "B G T"]]:
    """Log-probability of each completion token, and the entropy there, in nats.

    log pi(o_t | q, o_<t) over the whole vocabulary at temperature 1, as the learner
    needs it; scores are made at completion positions only.

    Args:
        config: Decides the sizes and the dtype of what is computed.
        params: The whole tree; its `text` half is used.
        prefilled: What `prefill` made of the B prompts under the same parameters;
            gradients flow through it.
        tokens: Ids from 0 to V - 1 of G completions of each prompt, T tokens each. Each
            size may be 0. Where the mask is False any number may stand; where it is
            True an id of V or more or below -V gives NaN there and at every token of
            its row but the first, also before it (a last token: there alone); one from
            -V to -1 counts from the end of the vocabulary.
        mask: True up to and including a completion's last token, which is the stop
            token where there is one, and False after it. No token attends to a place
            of False; scores there are finite but mean nothing.
        chunk: Scores are made for so many positions at a time, a Python integer
            (static) of 1 or more, and once more in the backward pass, so that memory
            holds B G chunk V of them instead of B G T V. Where it does not divide T,
            the last piece is filled up with padding. None makes them all at once.

    Returns:
        Log-probabilities (0 or less) and entropies (0 to log V), float32, or float64
        for a `config.dtype` of float64.

    Raises:
        ValueError: shapes or dtypes that do not fit, a `chunk` that is traced, below 1
            or no integer, or completions of one prompt that an Explicit mesh divides.
    """
    check_arrays(
        "completion_logps",
        next_position=(prefilled.next_position, "B", int),
        tokens=(tokens, "B G T", int),
        mask=(mask, "B G T", bool),
    )
    if chunk is not None:
        check_integers("completion_logps", chunk=(chunk, 1, None))
    if (devices := max(devices_along(x, 1) for x in (tokens, mask))) > 1:
        raise ValueError(
            "completion_logps: tokens, mask: expected all G completions of a prompt on "
            f"one device, found them divided over {devices} (mesh axes are Explicit); "
            "divide the prompts, axis B"
        )
    rows, group, length = tokens.shape
    flat_mask = mask.reshape(rows * group, length)
    # whatever stands behind a completion, -100 say, is no id
    flat = jnp.where(flat_mask, tokens.reshape(rows * group, length), 0)
    hidden = repeat_rows(prefilled.last, group)[:, None]
    if length > 1:
        steps = jnp.arange(length - 1, dtype=jnp.int32)
        start = repeat_rows(prefilled.next_position, group)
        positions = (start[:, None] + steps[None])[..., None]
        further, _ = extend(
            config,
            params,
            embed_tokens(config, params, flat[:, :-1]),
            flat_mask[:, :-1],
            jnp.broadcast_to(positions, (*positions.shape[:2], 3)),
            (prefilled.context, prefilled.question),
        )
        hidden = jnp.concatenate([hidden, further], axis=1)
    hidden = constrain(hidden[:, :length], config.rules, "batch", None, None)

    parts = 1 if chunk is None else parts_along(hidden, config.rules, "batch")
    head = partial(logits, config, params)
    if parts > 1:
        head = _copied_head(config, params, parts)

    def score(
        hidden: Float[Array, "R c D"], tokens: Int[Array, "R c"]
    ) -> tuple[Float[Array, "R c"], Float[Array, "R c"]]:
        log_probs = jax.nn.log_softmax(head(hidden))
        picked = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
        return picked, -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    if chunk is None or not flat.size:
        scores = score(hidden, flat)
    else:
        if short := -length % chunk:
            hidden = jnp.pad(hidden, ((0, 0), (0, short), (0, 0)))
            flat = jnp.pad(flat, ((0, 0), (0, short)))
        pieces = (rows * group, -1, chunk)
        hidden = jnp.moveaxis(hidden.reshape(*pieces, hidden.shape[-1]), 1, 0)
        chunked = (
            constrain(hidden, config.rules, None, "batch", None, None),
            jnp.moveaxis(flat.reshape(pieces), 1, 0),
        )
        scores = jax.lax.map(lambda xs: jax.checkpoint(score)(*xs), chunked)
        scores = jax.tree.map(
            lambda s: jnp.moveaxis(s, 0, 1).reshape(rows * group, -1)[:, :length],
            scores,
        )
    logp, entropy = (s.reshape(rows, group, length) for s in scores)
    return logp, entropy


def _copied_head(
    config: Qwen25VLConfig, params: Params, parts: int
) -> Callable[[Float[Array, "R c D"]], Float[Array, "R c V"]]:
    """`logits` by a copy of the output layer for each device that has rows.

    A loop over pieces then sums the layer's gradient on each device, and the sums are
    added over the devices once, after the loop: the gradient of one layer in common
    would be added over them in every turn.
    """
    kernel = head_kernel(config, params)
    kernels = jnp.broadcast_to(kernel[None], (parts, *kernel.shape))
    kernels = constrain(kernels, config.rules, "batch", None, "vocab")

    def head(hidden: Float[Array, "R c D"]) -> Float[Array, "R c V"]:
        split = (parts, hidden.shape[0] // parts, *hidden.shape[1:])
        scores = jax.vmap(head_scores)(kernels, hidden.reshape(split))
        scores = scores.reshape(*hidden.shape[:2], scores.shape[-1])
        return constrain(scores, config.rules, "batch", None, "vocab")

    return head
