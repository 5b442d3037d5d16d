"""How much of a reasoning repeats itself, by its n-grams."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.checks import check_integers
from medjax.rl.text.word_reader import Words, check_words

_BASIS, _PRIME = 2166136261, 16777619  # of FNV-1a in 32 bits
_LAST = 0xFFFFFFFF  # sorts behind every n-gram, or is equal to one


def repeated_ngrams(words: Words, *, n: int) -> Float[Array, "*N"]:
    """Share of the n-grams of each row that stood there before: 1 - distinct-n.

        1 - (different n-grams) / (count - n + 1)

    0 where no n words follow each other twice, near 1 for a phrase said over and over.
    No gradient flows.

    Args:
        words: What `read_words` found; capitals and small letters are one. N-grams are
            told apart by a hash of 32 bits, so one in 4e9 pairs of different ones
            counts as a repetition.
        n: Words of an n-gram, a Python integer (static) of 1 or more.

    Returns:
        A number from 0 to below 1 a row, float32; 0 for a row of fewer than n words.

    Raises:
        ValueError: an `n` that is traced, below 1 or no integer, or words of shapes or
            dtypes that do not fit each other.

    Source: distinct-n of Li et al. 2016 (arXiv 1510.03055); as the scaling of the
    repetition penalty of Yeo et al. 2025 (arXiv 2502.03373), which open-r1 has.
    """
    check_words("repeated_ngrams", words)
    check_integers("repeated_ngrams", n=(n, 1, None))
    key, count = (jnp.asarray(x) for x in (words.key, words.count))
    key, count = key.astype(jnp.uint32), count.astype(jnp.int32)
    grams = jnp.full_like(key, _BASIS)
    for ahead in range(n):
        grams = (grams ^ jnp.roll(key, -ahead, axis=-1)) * jnp.uint32(_PRIME)
    total = jnp.maximum(count - (n - 1), 0)[..., None]
    place = jax.lax.broadcasted_iota(jnp.int32, key.shape, key.ndim - 1)
    ordered = jnp.sort(jnp.where(place < total, grams, jnp.uint32(_LAST)), axis=-1)
    new = (place == 0) | (ordered != jnp.roll(ordered, 1, axis=-1))
    different = jnp.sum(new & (place < total), axis=-1, dtype=jnp.int32)
    total = total[..., 0]
    repeated = (total - different).astype(jnp.float32)
    return repeated / jnp.maximum(total, 1).astype(jnp.float32)
