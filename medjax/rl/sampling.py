"""Sampling of completions as one compiled loop over tokens."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_arrays, check_integers, check_key, check_static
from medjax.indexing import vary_with
from medjax.types import Key

EXCLUDED = -1e30


class Samples(NamedTuple):
    """R sampled rows."""

    tokens: Int[Array, "R T"]  # `pad` after the first stop token
    mask: Bool[Array, "R T"]  # up to and including the first stop token
    logp: Float[Array, "R T"]  # temperature 1, whole vocabulary
    logp_sampling: Float[Array, "R T"]  # what was sampled from


class _Loop(NamedTuple):
    index: Int[Array, ""]
    logits: Float[Array, "R V"]
    done: Bool[Array, "R"]
    samples: Samples
    carry: Any


def restrict_logits(
    logits: Float[Array, "R V"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Array, "R V"]:
    """Normalised log-probabilities of the sampling distribution.

    They are log softmax of logits / temperature over the tokens that are kept: the
    `top_k` most likely (all ties with the last of them stay), then of these the
    smallest set whose probability reaches `top_p` (Holtzman et al. 2020), again with
    all ties of its last token. Excluded tokens get -1e30, in float16 -65504.

    Args:
        logits: Unnormalised scores over the vocabulary, one row a completion; V is 1 or
            more, R may be 0. -inf excludes a token. A row with a NaN or +inf, or of
            -inf alone, has no distribution and is NaN throughout, at temperature 0 too;
            no other row is.
        temperature: A finite Python number (static), 0 or more, which divides the
            logits: below 1 sharpens, above 1 flattens. 0 keeps the most likely token
            alone (the first of equals), whatever the other two say.
        top_k: How many tokens to keep, a Python integer (static) from 1 to V. None
            keeps all.
        top_p: Share of the probability to keep, a Python number (static) above 0 and up
            to 1. None keeps all.

    Returns:
        Log-probabilities in nats, of the logits' shape and dtype.

    Raises:
        ValueError: an option that is traced or outside its range, a vocabulary without
            a token, or logits of another rank.
    """
    check_arrays("restrict_logits", logits=(logits, "R V", float))
    check_static("restrict_logits", temperature=temperature, top_k=top_k, top_p=top_p)
    if logits.shape[-1] < 1:
        raise ValueError("restrict_logits: logits: expected V >= 1 tokens, found 0")
    _check_options("restrict_logits", logits.shape[-1], temperature, top_k, top_p)
    # The largest of a row with a NaN is NaN; the k largest of float16 have none.
    known = jnp.isfinite(jnp.max(logits, axis=-1, keepdims=True))
    # finite, so that 0 * log-probability stays a number
    excluded = max(EXCLUDED, float(jnp.finfo(logits.dtype).min))
    if temperature == 0:
        best = jnp.argmax(logits, axis=-1, keepdims=True)
        index = jnp.arange(logits.shape[-1], dtype=best.dtype)[None]
        chosen = jnp.where(index == best, jnp.zeros_like(logits), excluded)
        return jnp.where(known, chosen, jnp.nan)
    # Only logits are compared with each other, which are what they are: a probability
    # may be computed twice, with another last bit, and the last token kept miss itself.
    kept = logits
    if top_k is not None:
        # The last of the k in order would make XLA sort the whole vocabulary.
        last = jnp.min(jax.lax.top_k(kept, top_k)[0], axis=-1, keepdims=True)
        kept = jnp.where(kept >= last, kept, -jnp.inf)
    if top_p is not None and top_p < 1:
        wide = kept.astype(jnp.float32) if kept.dtype.itemsize < 4 else kept
        share = jax.nn.softmax(wide / temperature)  # many small ones are summed
        kept = jnp.where(_in_nucleus(kept, share, top_p), kept, -jnp.inf)
    log_probs = jax.nn.log_softmax(kept / temperature)
    return jnp.where(known, jnp.maximum(log_probs, excluded), jnp.nan)


def _in_nucleus(
    logits: Float[Array, "R V"], share: Float[Array, "R V"], top_p: float
) -> Bool[Array, "R V"]:
    """Which tokens have less than `top_p` of the probability before them.

    Those are the ones from some logit on: the share of all tokens above a logit falls
    as it rises, in floating point too, where a sum whose terms fall does not rise. The
    logit is found bit by bit among the integers that order as floats do, in as many
    passes over the vocabulary as a float has bits, which is a fraction of a sort.
    """
    order = _as_ordered(jax.lax.stop_gradient(logits))
    share = jax.lax.stop_gradient(share)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without overflow
        above = jnp.sum(
            jnp.where(order > middle, share, 0),
            axis=-1,
            keepdims=True,
            dtype=share.dtype,
        )
        enough = above < top_p
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    ends = tuple(f(order, axis=-1, keepdims=True) for f in (jnp.min, jnp.max))
    _, first = jax.lax.fori_loop(0, 8 * logits.dtype.itemsize, halve, ends)
    return order >= first


def _as_ordered(x: Float[Array, "R V"]) -> Int[Array, "R V"]:
    """Integers of the same width that compare as the floats do."""
    kind = jnp.dtype(f"int{8 * x.dtype.itemsize}")
    # -0 equals 0
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, jnp.zeros_like(x), x), kind)
    return jnp.where(bits < 0, bits ^ jnp.iinfo(kind).max, bits)


def _check_options(
    function: str,
    vocabulary: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"{function}: temperature must be finite and not negative, found "
            f"{temperature}"
        )
    if temperature == 0:  # nothing is drawn, and the other two are not read
        return
    if top_k is not None and not 1 <= top_k <= vocabulary:
        raise ValueError(
            f"{function}: top_k must lie in 1..{vocabulary} (the vocabulary), found "
            f"{top_k}; leave it out to keep every token"
        )
    if top_k is not None:
        check_integers(function, top_k=(top_k, 1, vocabulary))
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"{function}: top_p must lie in (0, 1], found {top_p}")


def sample_loop(
    step_fn: Callable[[Any, Int[Array, "R"], Int[Array, ""]], tuple[Array, Any]],
    carry: Any,  # noqa: ANN401
    logits: Float[Array, "R V"],
    row_keys: Key,
    *,
    max_tokens: int,
    stop_tokens: Sequence[int],
    pad: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Samples:
    """Sample up to `max_tokens` tokens a row; stops early once every row has ended.

    Token t = 0, 1, .. of row r is drawn by Gumbel-max with the key
    fold_in(row_keys[r], t): what is drawn for a row does not depend on the rows beside
    it.

    On a mesh and in `shard_map` the rows may be divided over devices; each then stops
    when its own rows have ended (`shard_map`), or all together.

    Args:
        step_fn: (carry, tokens, index) -> (logits of the next token, carry). It extends
            each row by its token, the index-th of the completion, from 0. Rows that
            have ended go on with `pad`, and what comes of it is not read.
        carry: What `step_fn` remembers, a tree of arrays: the cache of a model.
        logits: Unnormalised scores of the first token of each row; R may be 0.
        row_keys: One typed PRNG key a row, as `rollout_keys` makes them; consumed.
        max_tokens: The length T of the arrays that come back, a Python integer (static)
            of 0 or more. A row without a stop token ends there, and its mask is then
            True to the end.
        stop_tokens: Python integers (static). A row ends with the first of these ids,
            which counts as its last token. Without any, every row has `max_tokens`; one
            that is no id from 0 to V - 1 is never drawn.
        pad: The integer that stands after the end, and that `step_fn` gets there; it
            may be a stop token. That it is an id from 0 to V - 1 is not checked.
        temperature: A finite Python number (static), 0 or more, that divides the logits
            before the softmax; 0 takes the most likely token (the first of equals).
        top_k: How many of the most likely tokens to draw from, a Python integer
            (static) from 1 to V; None: from all.
        top_p: Draw from the fewest tokens whose share of the probability reaches this,
            a Python number (static) above 0 and up to 1; None: from all.

    Returns:
        What was drawn, int32 ids from 0 to V - 1, and its log-probabilities in nats, in
        the dtype of the logits. After a row's end stand `pad`, False and 0. Where the
        logits have no distribution (a NaN or +inf, or -inf alone) the log-probabilities
        are NaN, and the token means nothing.

    Raises:
        ValueError: a static argument that is traced or outside its range, keys of
            `jax.random.PRNGKey` or another number of them, or shapes that do not fit.
    """
    check_key("sample_loop", batch=True, row_keys=row_keys)
    check_arrays(
        "sample_loop", logits=(logits, "R V", float), row_keys=(row_keys, "R", None)
    )
    check_static("sample_loop", temperature=temperature, top_k=top_k, top_p=top_p)
    check_integers("sample_loop", max_tokens=(max_tokens, 0, None))
    if logits.shape[-1] < 1:
        raise ValueError("sample_loop: logits: expected V >= 1 tokens, found 0")
    _check_options("sample_loop", logits.shape[-1], temperature, top_k, top_p)
    rows = logits.shape[0]
    stops = jnp.array(list(stop_tokens), jnp.int32)
    # made of the logits, so that they lie on a mesh as the rows do
    zeros = jnp.broadcast_to(jnp.zeros_like(logits[:, :1]), (rows, max_tokens))
    tokens, unmasked = jnp.full_like(zeros, pad, jnp.int32), jnp.zeros_like(zeros, bool)
    done = jnp.zeros_like(logits[:, 0], bool)
    samples = Samples(tokens, unmasked, zeros, zeros)
    if max_tokens == 0:
        return samples
    start = _Loop(
        jnp.zeros((), jnp.int32),
        *vary_with(
            (logits, done, samples, carry), logits, jax.random.key_data(row_keys)
        ),
    )

    def draw(loop: _Loop) -> tuple[Array, Array, Array]:
        restricted = restrict_logits(
            loop.logits, temperature=temperature, top_k=top_k, top_p=top_p
        )
        keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, loop.index)
        tokens = jnp.where(loop.done, pad, _draw_tokens(restricted, keys))
        full = jax.nn.log_softmax(loop.logits)

        def pick(table: Float[Array, "R V"]) -> Float[Array, "R"]:
            return jnp.take_along_axis(table, tokens[:, None], axis=1)[:, 0]

        return tokens, pick(full), pick(restricted)

    def body(loop: _Loop) -> _Loop:
        tokens, logp, logp_sampling = draw(loop)
        alive = ~loop.done
        columns = (
            tokens,
            alive,
            jnp.where(alive, logp, 0.0),
            jnp.where(alive, logp_sampling, 0.0),
        )
        samples = Samples(
            *(
                jax.lax.dynamic_update_slice_in_dim(
                    buffer, column[:, None], loop.index, axis=1
                )
                for buffer, column in zip(loop.samples, columns, strict=True)
            )
        )
        done = loop.done | jnp.any(tokens[:, None] == stops[None], axis=1)
        index = loop.index + 1
        # the last token needs no successor
        logits, carry = jax.lax.cond(
            (index < max_tokens) & ~jnp.all(done),
            lambda: step_fn(loop.carry, tokens, loop.index),
            lambda: (loop.logits, loop.carry),
        )
        return _Loop(index, logits, done, samples, carry)

    def unfinished(loop: _Loop) -> Bool[Array, ""]:
        return (loop.index < max_tokens) & ~jnp.all(loop.done)

    with jax.named_scope("decode"):  # what profiles and plans call it
        return jax.lax.while_loop(unfinished, body, start).samples


def _draw_tokens(log_probs: Float[Array, "R V"], keys: Key) -> Int[Array, "R"]:
    """What `jax.random.categorical` draws for each row with its key.

    The largest value and then its first place: `argmax` reduces both at once, in a loop
    that XLA's CPU backend does not vectorise, and the noise goes with it (4 times as
    slow, at 32 rows of 512 a sixth of a rollout).
    """
    vocab = log_probs.shape[-1]
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (vocab,), log_probs.dtype))
    scores = noise(keys) + log_probs
    best = jnp.max(scores, axis=-1, keepdims=True)
    index = jnp.arange(vocab, dtype=jnp.int32)[None]
    return jnp.min(jnp.where(scores == best, index, vocab - 1), axis=-1)


def rollout_keys(key: Key, sample_id: Int[Array, "B"], group: int) -> Key:
    """One key per completion, [B * group], from (key, sample id, place in the group).

    With `key` folded from the step, the noise of a rollout is a function of (step,
    sample id, place, token) and of nothing else: not of the batch's layout, nor of the
    number of devices.

    Args:
        key: One typed PRNG key, folded from the step; consumed.
        sample_id: An integer that names each of B prompts, also a negative one; the
            lowest 32 bits of it are used. Two prompts of one id draw the same noise.
        group: Completions a prompt, G, a Python integer (static) of 0 or more; those of
            one prompt are consecutive.

    Returns:
        Typed keys, one a completion, of shape [B * G].

    Raises:
        ValueError: a key of `jax.random.PRNGKey`, several keys, a group that is traced,
            negative or no integer, or ids that are no integers.
    """
    check_arrays("rollout_keys", sample_id=(sample_id, "B", int))
    check_key("rollout_keys", key=key)
    check_integers("rollout_keys", group=(group, 0, None))
    by_sample = jax.vmap(jax.random.fold_in, (None, 0))(key, sample_id)
    place = jnp.arange(group, dtype=jnp.int32)
    by_place = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
    return by_place(by_sample, place).reshape(-1)
