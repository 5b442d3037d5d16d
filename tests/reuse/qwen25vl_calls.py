"""Calls of `medjax.models.qwen25vl`, `medjax.types` and the sampler."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import medjax
from medjax import rl
from medjax.models import qwen25vl
from tests.reuse.calls import Call

HOST = {
    "config_from_hf": "reads a file",
    "config_to_hf": "makes a document",
    "flatten_params": "renames the leaves of a tree",
    "folder_config": "reads files",
    "hub_tensors": "a table of names",
    "load_qwen25vl": "reads files",
    "merge_adapter": "adds an adapter's files to arrays of NumPy",
    "param_axes": "a tree of names, without arrays",
    "save_qwen25vl": "writes files",
    "make_model": "a record of the functions that are called here",
    "pack_images": "makes NumPy arrays of pictures",
    "resize_image": "resizes a picture",
    "vocabulary_bytes": "reads a tokenizer",
}

CONFIG = qwen25vl.Qwen25VLConfig(
    vocab=24,
    width=8,
    mlp=12,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=4,
    mrope_section=(1, 1, 0),
    tied=True,
    vision=qwen25vl.VisionConfig(
        depth=2, width=8, mlp=8, heads=2, full_blocks=(1,), patch=2, window=8
    ),
)
ROWS, GROUP, CONTEXT, QUESTION, LENGTH, PATCHES = 8, 2, 7, 2, 3, 32
RNG = np.random.default_rng(0)


def random(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def params_by_hand():
    shapes = jax.eval_shape(
        functools.partial(qwen25vl.init_params, CONFIG), jax.random.key(0)
    )
    return jax.tree.map(lambda leaf: 0.3 * random(*leaf.shape), shapes)


def segment(length, features):
    shape = (ROWS, length)
    index = np.full(shape, -1, np.int32)
    index[:, :features] = np.arange(features, dtype=np.int32)
    place = np.broadcast_to(np.arange(length, dtype=np.int32), shape)
    return medjax.Segment(
        RNG.integers(0, CONFIG.vocab, shape).astype(np.int32),
        np.ones(shape, bool),
        np.repeat(place[..., None], 3, axis=-1),
        index,
    )


PARAMS = params_by_hand()
IMAGES = medjax.Images(
    random(ROWS, 1, PATCHES, 3 * 2 * 2 * 2),
    RNG.integers(0, 8, (ROWS, 1, PATCHES, 2)).astype(np.int32),
    np.arange(PATCHES) < RNG.integers(17, PATCHES, (ROWS, 1, 1)),
)
PROMPT = medjax.Prompt(
    IMAGES,
    segment(CONTEXT, 4),
    segment(QUESTION, 0),
    np.full(ROWS, CONTEXT + QUESTION, np.int32),
)
FEATURES = random(ROWS, PATCHES // 4, CONFIG.width)


def cache(length):
    """Of `length` tokens in every row; the layers' axis comes before the rows'."""
    shape = (CONFIG.layers, ROWS, length, CONFIG.kv_heads, CONFIG.head_dim)
    return qwen25vl.Cache(random(*shape), random(*shape), np.ones((ROWS, length), bool))


# prefix trees of axes: what of a record follows the rows
ROW_CACHE = qwen25vl.Cache(1, 1, 0)
ROW_PREFILL = qwen25vl.Prefill(ROW_CACHE, ROW_CACHE, 0, 0)
PREFILL = qwen25vl.Prefill(
    cache(CONTEXT), cache(QUESTION), random(ROWS, CONFIG.width), PROMPT.next_position
)
TOKENS = RNG.integers(0, CONFIG.vocab, (ROWS, GROUP, LENGTH)).astype(np.int32)
MASK = np.arange(LENGTH) < RNG.integers(1, LENGTH + 1, (ROWS, GROUP, 1))
IDS = np.arange(ROWS, dtype=np.int32)
TABLE = random(6, 6)
DECODING = medjax.Decoding(medjax.Ends((3,), 0), LENGTH, 0.9, top_k=5, top_p=0.8)


def extend(params, x, mask, positions, past):
    return qwen25vl.extend(CONFIG, params, x, mask, positions, (past,))


def sample(params, prefilled, ids):
    return medjax.sample(
        CONFIG,
        params,
        prefilled,
        ids,
        jax.random.key(0),
        group=GROUP,
        decoding=DECODING,
    )


def sample_words(first, ids):
    """A Markov chain: the next token's scores depend on the last token."""
    return rl.sample_loop(
        lambda carry, tokens, index: (
            jax.nn.one_hot(tokens, 6, dtype=jnp.float32) @ TABLE,
            carry + 1,
        ),
        jnp.zeros_like(ids),
        first,
        rl.rollout_keys(jax.random.key(1), ids, 1),
        max_tokens=4,
        stop_tokens=(2, 5),
        pad=0,
        top_k=4,
        temperature=0.7,
    )


def key_data(ids):
    return jax.random.key_data(rl.rollout_keys(jax.random.key(2), ids, 3))


def restrict(temperature, **options):
    return functools.partial(rl.restrict_logits, temperature=temperature, **options)


def of_config(function, **options):
    return functools.partial(function, CONFIG, **options)


CALLS = [
    Call("init_params", lambda: qwen25vl.init_params(CONFIG, jax.random.key(0)), ()),
    Call(
        "encode_images", of_config(qwen25vl.encode_images), (PARAMS, IMAGES), (None, 0)
    ),
    Call(
        "embed_tokens",
        of_config(qwen25vl.embed_tokens),
        (PARAMS, PROMPT.context.tokens),
        (None, 0),
    ),
    Call(
        "embed_segment",
        of_config(qwen25vl.embed_segment),
        (PARAMS, PROMPT.context, FEATURES),
        (None, 0, 0),
    ),
    Call(
        "extend",
        extend,
        (
            PARAMS,
            random(ROWS, 4, CONFIG.width),
            np.ones((ROWS, 4), bool),
            PROMPT.context.positions[:, :4],
            cache(CONTEXT),
        ),
        (None, 0, 0, 0, ROW_CACHE),
        (0, ROW_CACHE),
    ),
    Call(
        "logits",
        of_config(qwen25vl.logits),
        (PARAMS, random(ROWS, 3, CONFIG.width)),
        (None, 0),
    ),
    Call(
        "prefill",
        of_config(qwen25vl.prefill),
        (PARAMS, PROMPT, FEATURES),
        (None, 0, 0),
        ROW_PREFILL,
    ),
    Call(
        "prompt_logits", of_config(qwen25vl.prompt_logits), (PARAMS, PROMPT), (None, 0)
    ),
    Call(
        "completion_logps",
        of_config(qwen25vl.completion_logps),
        (PARAMS, PREFILL, TOKENS, MASK),
        (None, ROW_PREFILL, 0, 0),
    ),
    Call(
        "completion_logps[chunk]",
        of_config(qwen25vl.completion_logps, chunk=2),
        (PARAMS, PREFILL, TOKENS, MASK),
        (None, ROW_PREFILL, 0, 0),
    ),
    Call("sample", sample, (PARAMS, PREFILL, IDS), (None, ROW_PREFILL, 0)),
    Call("sample_loop", sample_words, (random(ROWS, 6), IDS), (0, 0)),
    Call("rollout_keys", key_data, (IDS,), (0,)),
    Call("restrict_logits", restrict(0.8, top_k=3, top_p=0.7), (random(8, 9),), (0,)),
    Call("restrict_logits[greedy]", restrict(0.0), (random(8, 9),), (0,)),
]
