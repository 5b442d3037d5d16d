"""VRFT-Aug's recitation reward on the device: BLEU of reasoning against knowledge.

`recitation_text.py` says what is computed. `word_reader.py` gives each word its index
among the references'. An n-gram gets the index of the pair (its first n - 1 words'
index, last word) in a sorted table. Sorting a row's indices then shows which of them
exceed the reference's count. Memory is a few arrays of [rows, words] whatever the
references.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.checks import check_arrays, check_flags, check_integers
from medjax.indexing import look_up
from medjax.rl.text.boxes import ParseTables
from medjax.rl.text.reference_tables import RecitationTables
from medjax.rl.text.word_reader import Words, count_different, read_words


def recitation_reward(
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    think: Int[Array, "*N 2"],
    tables: ParseTables,
    references: RecitationTables,
    *,
    target: Int[Array, "*N"] | None = None,
    leak_label: bool = False,
    max_words: int | None = None,
    min_different: int = 1,
    without_words: float = 0.0,
) -> Float[Array, "*N"]:
    """Smoothed sentence BLEU-4, in [0, 1], of each reasoning against the descriptions.

    The formula is that of `bleu`, words those of `split_words`: runs of letters and
    digits, lower-cased. Every description of every class is a reference of its own,
    unless `leak_label` is set. No gradient flows.

    The weight that it enters the sum with says whether reciting is encouraged or
    discouraged; VRFT-Aug's reviews report that a negative one generalises better.

    Args:
        tokens: Token ids from 0 to V - 1, with any leading axes, or none; an id outside
            writes nothing. T may be 0, and so may any leading axis.
        mask: True at the tokens of the completion, wherever they stand; the others are
            not read. The stop token may be among them, as special tokens write nothing.
            A row without a token is an empty text.
        think: (first byte, byte after the last) of the reasoning, as `parse_labels`
            finds it; (0, 0) for a text without reasoning. An empty or inverted span has
            no words; what lies outside of the text adds none.
        tables: Those of the vocabulary, made by `build_tables`.
        references: Those of the descriptions, made by `recitation_tables`.
        target: The right class of each completion, 0 to C - 1; read with `leak_label`
            only, which needs it. Another number is not refused: the score of its row
            means nothing.
        leak_label: A Python bool (static). True holds the reasoning against the right
            class's references alone. This LEAKS THE LABEL into the reward: reciting the
            right class pays more than another, a second accuracy reward in disguise.
            For ablations.
        max_words: Only so many words are read, a Python integer (static) of 1 or more.
            None stands for T, which no text exceeds whose tokens hold a word each.
        min_different: The fewest different words of a reasoning, a Python integer
            (static) of 1 or more. Under a negative weight a policy learns to repeat one
            word, which is close to no description.
        without_words: What a reasoning of fewer different words gets, or a missing one.
            0 is the BLEU of silence. With a negative weight that is the best there is:
            1 makes silence cost as much as reciting all. A number or a scalar, which
            may be traced; any value, NaN too, is handed on as it is.

    Returns:
        A number from 0 to 1 a row (or `without_words`), float32.

    Raises:
        ValueError: shapes that do not fit, a limit that is below 1, traced or no
            integer, a `leak_label` that is not True or False, or one without target.
    """
    check_arrays(
        "recitation_reward",
        tokens=(tokens, "*N T", int),
        mask=(mask, "*N T", bool),
        think=(think, "*N 2", int),
        target=(target, "*N", int),
    )
    check_flags("recitation_reward", leak_label=leak_label)
    if leak_label and target is None:
        raise ValueError("leak_label needs the target classes")
    words = read_words(tokens, mask, think, tables, references, max_words=max_words)
    leaked = target if leak_label else None
    return score_words(words, references, leaked, min_different, without_words)


def score_words(
    words: Words,
    references: RecitationTables,
    target: Int[Array, "*N"] | None,
    min_different: int,
    without_words: float,
) -> Float[Array, "*N"]:
    """`recitation_reward` of words that were read already: their `bleu`, or less.

    Args:
        words: What `read_words` found in each reasoning.
        references: The tables that the words were read with.
        target: None holds the reasoning against all references. The right class of
            each row, from 0 to C - 1, holds it against that class's alone, and so leaks
            the label. Another number is not refused: the row's score means nothing.
        min_different: The fewest different words that earn a BLEU, a Python integer
            (static) of 1 or more.
        without_words: What a reasoning of fewer different words gets: any number or
            scalar, also a traced one.

    Returns:
        A number from 0 to 1 a row (or `without_words`), float32.

    Raises:
        ValueError: a `min_different` that is traced, below 1 or no integer, words or
            target of shapes or dtypes that do not fit each other.
    """
    check_integers("score_words", min_different=(min_different, 1, None))
    check_arrays("score_words", without_words=(without_words, "", (float, int)))
    said = count_different(words) >= min_different
    otherwise = jnp.asarray(without_words).astype(jnp.float32)
    return jnp.where(said, bleu(words, references, target), otherwise)


def bleu(
    words: Words, references: RecitationTables, target: Int[Array, "*N"] | None = None
) -> Float[Array, "*N"]:
    """BLEU-4 of rows of words, from 0 to 1: that of `sentence_bleu`.

        exp(min(0, 1 - r / c)) (p_1 p_2 p_3 p_4)^(1/4)

    of c words, r those of the reference nearest in length (the shorter of two). p_n is
    the share of n-grams that are in a reference, each counted at most as often as in
    the one reference that has it most often; for n > 1 one is added to both counts, so
    that only a row without a common word scores 0.

    Args:
        words: What `read_words` found with the same references; a row without a word,
            or without one of a reference, scores 0.
        references: Those of C classes.
        target: A class from 0 to C - 1 for each row, whose references alone are held
            against it; None holds all against it. Another number is not refused: the
            score of its row means nothing.

    Returns:
        A number from 0 to 1 a row, float32.

    Raises:
        ValueError: shapes or dtypes that do not fit.

    Source: Papineni et al. 2002; the smoothing is that of Lin and Och (2004), as
    sacrebleu's add-k with k = 1.
    """
    check_arrays(
        "bleu",
        index=(words.index, "*N W", int),
        count=(words.count, "*N", int),
        target=(target, "*N", int),
    )
    row = jnp.zeros_like(words.count) if target is None else target + 1
    length = words.count
    product = jnp.ones(length.shape, jnp.float32)
    grams = words.index
    num_words = references.limits[0].shape[1]
    for n, limits in enumerate(references.limits):
        if n:
            last = jnp.roll(words.index, -n, axis=-1).at[..., -n:].set(-1)
            pair = jnp.where((grams >= 0) & (last >= 0), grams * num_words + last, -1)
            grams = _find(pair, jnp.asarray(references.pairs[n - 1]))
        smooth = jnp.float32(n > 0)
        matches = _count_matches(grams, jnp.asarray(limits), row).astype(jnp.float32)
        total = jnp.maximum(length - n, 0).astype(jnp.float32)
        product *= (matches + smooth) / jnp.maximum(total + smooth, 1)
    nearest = _nearest_length(length, references, target).astype(jnp.float32)
    ratio = nearest / jnp.maximum(length, 1).astype(jnp.float32)
    penalty = jnp.exp(jnp.minimum(1 - ratio, 0))
    # p_1 is a factor: 0 without a common word. Two roots keep the digits of a power.
    return penalty * jnp.sqrt(jnp.sqrt(product))


def _find(keys: Int[Array, "*N W"], table: Int[Array, "M"]) -> Int[Array, "*N W"]:
    """Place of each key in a sorted table, -1 = not there."""
    if not table.shape[0]:
        return jnp.full_like(keys, -1)
    at = _first_not_below(table, keys)
    at = jnp.minimum(at, table.shape[0] - 1)
    return jnp.where(look_up(table, at) == keys, at, -1)


def _first_not_below(
    table: Int[Array, "M"], keys: Int[Array, "*N W"]
) -> Int[Array, "*N W"]:
    """`jnp.searchsorted`, whose own loop knows no sharded keys: a bisection."""
    low, high = jnp.zeros_like(keys), jnp.full_like(keys, table.shape[0])

    def halve(
        _: Array, bounds: tuple[Array, Array]
    ) -> tuple[Int[Array, "*N W"], Int[Array, "*N W"]]:
        low, high = bounds
        middle = (low + high) // 2
        below = (low < high) & (look_up(table, middle) < keys)
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    steps = table.shape[0].bit_length()
    return jax.lax.fori_loop(0, steps, halve, (low, high))[0]


def _count_matches(
    grams: Int[Array, "*N W"], limits: Int[Array, "rows M"], row: Int[Array, "*N"]
) -> Int[Array, "*N"]:
    """How many n-grams are in the reference, each at most as often as there.

    In sorted order the k-th of equal ones (from 0) is over its limit L if k >= L, that
    is if the one L places before it is equal too.
    """
    if not limits.shape[1]:
        return jnp.zeros_like(row)
    ordered = jnp.sort(grams, axis=-1)
    place = jax.lax.broadcasted_iota(jnp.int32, ordered.shape, ordered.ndim - 1)
    wide = jnp.broadcast_to(row[..., None], ordered.shape)
    earlier = place - look_up(limits, wide, jnp.maximum(ordered, 0))
    equal = jnp.take_along_axis(ordered, jnp.maximum(earlier, 0), axis=-1) == ordered
    counts = (ordered >= 0) & ~(equal & (earlier >= 0))
    return jnp.sum(counts, axis=-1, dtype=jnp.int32)


def _nearest_length(
    length: Int[Array, "*N"],
    references: RecitationTables,
    target: Int[Array, "*N"] | None,
) -> Int[Array, "*N"]:
    """The references' length closest to each row's, the shorter of two."""
    lengths = jnp.asarray(references.lengths)
    wide = jnp.broadcast_to(lengths, (*length.shape, lengths.shape[0]))
    far = jnp.abs(wide - length[..., None])
    if target is not None:
        owners = jnp.broadcast_to(jnp.asarray(references.owners), far.shape)
        far = jnp.where(owners == target[..., None], far, 2**30)
    nearest = far == jnp.min(far, axis=-1, keepdims=True)
    return jnp.min(jnp.where(nearest, wide, 2**30), axis=-1)
