"""The policy without sharing: every completion with a whole prompt of its own."""

import jax
import jax.numpy as jnp

from medjax.models.qwen25vl.policy import prompt_logits
from medjax.types import Prompt, Segment


def plain_log_probs(config, params, prompt, tokens, mask):
    """Log-probabilities of all tokens [N, G, T, V] at each place of a completion.

    Context and images are repeated for each completion, which is appended to its
    question: one context a row, nothing cached, nothing shared.
    """
    rows, group, length = tokens.shape
    questions = rows // prompt.context.tokens.shape[0]

    def repeat(tree, times):
        return jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), times, axis=0), tree)

    question, start = repeat((prompt.question, prompt.next_position), group)
    steps = start[:, None] + jnp.arange(length, dtype=jnp.int32)[None]
    flat = rows * group
    whole = Segment(
        jnp.concatenate([question.tokens, tokens.reshape(flat, length)], 1),
        jnp.concatenate([question.mask, mask.reshape(flat, length)], 1),
        jnp.concatenate([question.positions, jnp.stack([steps] * 3, -1)], 1),
        jnp.full((flat, question.tokens.shape[1] + length), -1, jnp.int32),
    )
    images, context = repeat((prompt.images, prompt.context), questions * group)
    _, scores = prompt_logits(config, params, Prompt(images, context, whole, start))
    log_probs = jax.nn.log_softmax(scores[:, -length - 1 : -1])
    return log_probs.reshape(rows, group, length, -1)
