"""The policy against itself: what must not change its numbers."""

from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from medjax.models.qwen25vl import parameters, policy, scoring
from medjax.types import Segment
from tests.oracles.plain_policy import plain_log_probs
from tests.tiny import tiny_batch, tiny_config, tiny_params

CONFIG = tiny_config()
GROUP, LENGTH = 3, 4


@pytest.fixture(scope="module")
def params():
    return tiny_params(CONFIG)


@pytest.fixture(scope="module")
def completions():
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 60, (8, GROUP, LENGTH)).astype(np.int32)
    lengths = rng.integers(1, LENGTH + 1, (8, GROUP, 1))
    return jnp.asarray(tokens), jnp.asarray(np.arange(LENGTH) < lengths)


@partial(jax.jit, static_argnames=("config", "chunk"))
def shared_logps(params, prompt, tokens, mask, config=CONFIG, chunk=None):
    features = policy.encode_images(config, params, prompt.images)
    prefilled = policy.prefill(config, params, prompt, features)
    return scoring.completion_logps(
        config, params, prefilled, tokens, mask, chunk=chunk
    )[0]


@jax.jit
def plain_logps(params, prompt, tokens, mask):
    log_probs = plain_log_probs(CONFIG, params, prompt, tokens, mask)
    return jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]


@pytest.fixture(scope="module")
def prompt():
    return tiny_batch(slots=2).prompt


@pytest.fixture(scope="module")
def value_and_grads(params, prompt, completions):
    """Gradients of a weighted sum of log-probabilities, and the log-probabilities."""
    tokens, mask = completions
    weights = jnp.asarray(np.random.default_rng(6).normal(size=tokens.shape))

    def compute(logps_fn):
        @jax.jit
        @partial(jax.grad, has_aux=True)
        def total(params):
            kept = jnp.where(mask, logps_fn(params, prompt, tokens, mask), 0)
            return jnp.sum(kept * weights.astype(kept.dtype)), kept

        return total(params)

    return compute


@pytest.fixture(scope="module")
def shared(value_and_grads):
    return value_and_grads(shared_logps)


def test_shared_prompt_gives_the_plain_logps_and_gradients(value_and_grads, shared):
    found_grads, found = shared
    plain_grads, plain = value_and_grads(plain_logps)
    np.testing.assert_allclose(found, plain, atol=1e-5)
    for grad, expected in zip(
        jax.tree.leaves(found_grads), jax.tree.leaves(plain_grads), strict=True
    ):
        scale = float(jnp.abs(expected).max())
        np.testing.assert_allclose(grad, expected, atol=1e-5 * max(scale, 1))


@pytest.mark.parametrize(
    ("config", "chunk"),
    [
        (replace(CONFIG, remat="full"), 2),
        (CONFIG, LENGTH - 1),  # the last piece is short
        (replace(CONFIG, remat="dots_saveable", scan_unroll=2), LENGTH),
    ],
    ids=["full", "short", "policy"],
)
def test_chunked_scores_and_remat_and_unroll_change_nothing(
    value_and_grads, shared, config, chunk
):
    found = value_and_grads(partial(shared_logps, config=config, chunk=chunk))
    chex.assert_trees_all_close(found, shared, rtol=2e-4, atol=2e-4)


def test_cached_decoding_equals_one_pass(params, completions):
    prompt = tiny_batch().prompt
    tokens = completions[0]
    mask = jnp.ones(tokens.shape, bool)

    @jax.jit
    def prefill(params):
        features = policy.encode_images(CONFIG, params, prompt.images)
        return policy.prefill(CONFIG, params, prompt, features)

    @jax.jit
    def step(params, tokens, position, past):
        x = policy.embed_tokens(CONFIG, params, tokens)
        ones = jnp.ones((len(tokens), 1), bool)
        return policy.extend(CONFIG, params, x, ones, position, past)

    @jax.jit
    def log_probs_of(params, hidden):
        return jax.nn.log_softmax(policy.logits(CONFIG, params, hidden))

    prefilled = prefill(params)
    expected = shared_logps(params, prompt, tokens, mask)
    flat = tokens.reshape(-1, LENGTH)
    start = jnp.repeat(prefilled.next_position, GROUP)
    hidden = jnp.repeat(prefilled.last, GROUP, axis=0)
    past = [prefilled.context, prefilled.question]
    for t in range(LENGTH):
        log_probs = log_probs_of(params, hidden)
        picked = jnp.take_along_axis(log_probs, flat[:, t : t + 1], axis=1)[:, 0]
        np.testing.assert_allclose(
            picked, expected.reshape(-1, LENGTH)[:, t], atol=1e-5
        )
        position = jnp.broadcast_to((start + t)[:, None, None], (len(flat), 1, 3))
        hidden, cache = step(params, flat[:, t : t + 1], position, past)
        hidden, past = hidden[:, 0], [*past, cache]


def test_padding_of_rows_and_images_changes_nothing(params, completions):
    batch = tiny_batch()
    tokens, mask = completions

    def pad(segment, amount):
        widths = ((0, 0), (amount, 0))
        fill = lambda x, value: np.pad(  # noqa: E731
            x, widths + ((0, 0),) * (x.ndim - 2), constant_values=value
        )
        return Segment(
            fill(segment.tokens, 3),
            fill(segment.mask, False),
            fill(segment.positions, 9),
            fill(segment.features, -1),
        )

    images = batch.prompt.images
    more = type(images)(
        *(
            np.pad(x, ((0, 0), (0, 0), (0, 16)) + ((0, 0),) * (x.ndim - 3))
            for x in images
        )
    )
    padded = batch.prompt._replace(
        images=more,
        context=pad(batch.prompt.context, 3),
        question=pad(batch.prompt.question, 2),
    )
    found = shared_logps(params, padded, tokens, mask)
    expected = shared_logps(params, batch.prompt, tokens, mask)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_masked_patches_do_not_reach_the_answer(params, completions):
    batch = tiny_batch()
    images = batch.prompt.images
    # features of padding are never indexed by a real prompt: read the others only
    features = np.where(images.mask[:, 0, ::4], np.arange(8)[None], -1)
    context = batch.prompt.context
    index = np.full_like(context.features, -1)
    index[:, 2:10] = features
    prompt = batch.prompt._replace(context=context._replace(features=index))
    noise = np.random.default_rng(0).normal(size=images.patches.shape)
    spoilt = np.where(images.mask[..., None], images.patches, 50 * noise)
    other = prompt._replace(images=images._replace(patches=spoilt.astype(np.float32)))
    tokens, mask = completions
    found = shared_logps(params, other, tokens, mask)
    expected = shared_logps(params, prompt, tokens, mask)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_names_its_axes(tied):
    config = tiny_config(tied=tied)
    axes = parameters.param_axes(config)
    shapes = jax.eval_shape(partial(parameters.init_params, config), jax.random.key(0))
    assert ("head" in shapes["text"]) is not tied
    pairs = zip(
        jax.tree.leaves_with_path(shapes),
        jax.tree.leaves_with_path(axes, is_leaf=lambda x: isinstance(x, PartitionSpec)),
        strict=True,
    )
    for (path, shape), (axes_path, spec) in pairs:
        assert path == axes_path
        assert len(spec) == shape.ndim
        assert None not in spec


def test_unknown_remat_is_named():
    config = tiny_config(remat="sometimes")
    with pytest.raises(ValueError, match="remat='sometimes'.*dots_saveable"):
        parameters.init_params(config, jax.random.key(0))


def test_bfloat16_stays_near_float32(params, completions):
    prompt = tiny_batch().prompt
    tokens, mask = completions
    config = tiny_config(dtype="bfloat16")
    found = shared_logps(params, prompt, tokens, mask, config)
    assert found.dtype == jnp.float32
    expected = shared_logps(params, prompt, tokens, mask)
    # a few roundings of 2^-8 on logits of order 10
    assert float(jnp.abs(found - expected).max()) < 0.3
    assert float(jnp.abs(found - expected).mean()) < 0.05


def test_features_of_other_rows_or_widths_are_refused(params):
    places = jnp.array([[0, -7]])
    segment = Segment(places * 0 + 1, places < 9, jnp.zeros((1, 2, 3), int), places)
    embed = partial(policy.embed_segment, CONFIG, params, segment)
    for shape in ((2, 3, CONFIG.width), (1, 3, 1)):
        with pytest.raises(ValueError, match="embed_segment: features: expected float"):
            embed(jnp.ones(shape, jnp.float32))
    own = policy.embed_tokens(CONFIG, params, segment.tokens)
    mixed = embed(jnp.ones((1, 3, CONFIG.width), jnp.float32))
    np.testing.assert_array_equal(
        mixed[0], jnp.stack([jnp.ones_like(own[0, 1]), own[0, 1]])
    )
