"""A policy, a vocabulary and batches small enough to check every system on.

Every token below ANSWERS writes a whole answer with a box of its own, so that a random
policy earns rewards that differ.
"""

from functools import partial

import jax
import numpy as np

from medjax.models.qwen25vl.config import Qwen25VLConfig, VisionConfig
from medjax.models.qwen25vl.parameters import init_params
from medjax.rl.text.boxes import build_tables
from medjax.systems.policy.qwen25vl import make_model
from medjax.types import Decoding, Ends, GroundingBatch, Images, Prompt, Segment

ANSWERS, STOP, PAD, VOCAB = 48, 60, 61, 64
IMAGE_SIDE = 56  # pixels; boxes of answers lie inside


def box_of(token):
    rng = np.random.default_rng(token)
    x1, y1 = rng.integers(0, 30, 2)
    x2, y2 = x1 + rng.integers(8, 26), y1 + rng.integers(8, 26)
    return [int(x1), int(y1), int(x2), int(y2)]


def token_texts():
    texts = [
        f'<think>here</think><answer>{{"bbox_2d": {box_of(n)}}}</answer>'
        for n in range(ANSWERS)
    ]
    texts += ["word"] * (STOP - ANSWERS)
    return texts + [""] * (VOCAB - STOP)  # special tokens write nothing


def tiny_tables():
    return build_tables([text.encode() for text in token_texts()])


def tiny_config(**changes):
    sizes = {
        "vocab": VOCAB,
        "width": 32,
        "mlp": 48,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "mrope_section": (2, 1, 1),
        "tied": False,
        "vision": VisionConfig(
            depth=2, width=16, mlp=24, heads=2, full_blocks=(1,), patch=4, window=16
        ),
    }
    return Qwen25VLConfig(**(sizes | changes))


def tiny_model(*, freeze_vision=False, logit_chunk=None, **changes):
    """The tiny policy as systems take it."""
    return make_model(
        tiny_config(**changes), freeze_vision=freeze_vision, logit_chunk=logit_chunk
    )


def decoding(max_tokens=3, temperature=0.0, **options):
    return Decoding(Ends((STOP,), PAD), max_tokens, temperature, **options)


def tiny_params(config, seed=0):
    """Random parameters without a compilation; no norm is 1 and no bias 0."""
    shapes = jax.eval_shape(partial(init_params, config), jax.random.key(0))
    rng = np.random.default_rng(seed)

    def draw(path, x):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return (centre + 0.2 * rng.normal(size=x.shape)).astype(x.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def tiny_batch(*, contexts=4, questions=2, seed=0, slots=1, patches=32):
    """Random arrays of the right kinds: ragged rows, padded images, several slots."""
    rng = np.random.default_rng(seed)
    rows, features = contexts * questions, patches // 4
    length, asked = slots * features + 4, 5
    mask = np.ones((contexts, slots, patches), bool)
    mask[:, :, patches - 8 :] = rng.random((contexts, slots, 1)) < 0.5
    index = np.full((contexts, length), -1, np.int32)
    index[:, 2 : 2 + slots * features] = np.arange(slots * features)
    shift = np.arange(length, dtype=np.int32)
    context_mask = shift >= rng.integers(0, 2, (contexts, 1))
    question_mask = np.arange(asked) >= rng.integers(0, 3, (rows, 1))
    start = np.repeat(context_mask.sum(1), questions)[:, None]
    position = start + np.maximum(np.cumsum(question_mask, 1) - 1, 0)

    def segment(tokens, mask, position, features):
        positions = np.repeat(position[..., None], 3, axis=-1).astype(np.int32)
        return Segment(tokens.astype(np.int32), mask, positions, features)

    prompt = Prompt(
        images=Images(
            rng.normal(size=(contexts, slots, patches, 96)).astype(np.float32),
            rng.integers(0, 8, (contexts, slots, patches, 2)).astype(np.int32),
            mask,
        ),
        context=segment(
            rng.integers(0, VOCAB, (contexts, length)),
            context_mask,
            np.maximum(np.cumsum(context_mask, 1) - 1, 0),
            index,
        ),
        question=segment(
            rng.integers(0, VOCAB, (rows, asked)),
            question_mask,
            position,
            np.full((rows, asked), -1, np.int32),
        ),
        next_position=(start[:, 0] + question_mask.sum(1)).astype(np.int32),
    )
    targets = rng.integers(0, ANSWERS, rows)
    answer = np.stack([targets, np.full(rows, STOP), np.full(rows, PAD)], axis=1)
    return GroundingBatch(
        prompt=prompt,
        boxes=np.array([box_of(t) for t in targets], np.float32),
        valid=np.ones(rows, bool),
        sample_id=np.arange(rows, dtype=np.int32) + 7,
        answer=answer.astype(np.int32),
        answer_mask=answer != PAD,
    )


def pick_contexts(batch, order, questions=2):
    """The batch with its contexts in another order, their questions along with them."""
    order = np.asarray(order)
    contexts = len(batch.prompt.context.tokens)
    rows = (order[:, None] * questions + np.arange(questions)).reshape(-1)
    return jax.tree.map(lambda x: x[order if len(x) == contexts else rows], batch)
