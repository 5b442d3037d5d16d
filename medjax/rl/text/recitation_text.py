"""Sentence BLEU on the host: the definition `recitation.py` is tested against.

BLEU-4 of a hypothesis h against references r, all lists of words (`words.py`):

    BLEU = min(1, exp(1 - |r*| / |h|)) * (p_1 p_2 p_3 p_4)^(1/4)
    p_1 = m_1 / |h|,   p_n = (m_n + 1) / (t_n + 1) for n > 1

t_n = max(0, |h| - n + 1) is the number of n-grams of h, m_n how many of them are found
in a reference, each counted at most as often as in the reference that has most of it,
and r* the reference whose length is closest to |h|, the shorter of two. It is 0 for an
h without words or without a word of a reference.

Smoothing is Lin and Och's (2004), sacrebleu's "add-k" with k = 1. An h of fewer than
four words has p_n = 1 for the orders that it lacks, as sacrebleu has it with effective
order or without: so a reference recited in full scores 1 whatever its length, and the
brevity penalty is what keeps short texts low. nltk's method2 takes 1/2 there, and would
score a recited reference of three words at 0.84.
"""

import math
from collections import Counter
from collections.abc import Sequence

from medjax.checks import check_integers
from medjax.rl.text.words import split_words

ORDER = 4


def sentence_bleu(
    words: Sequence[bytes], references: Sequence[Sequence[bytes]]
) -> float:
    """BLEU-4 of a list of words, from 0 to 1, smoothed for orders above 1.

        min(1, exp(1 - r / c)) (p_1 p_2 p_3 p_4)^(1/4)
        p_1 = m_1 / c,   p_n = (m_n + 1) / (t_n + 1) for n > 1

    of c words, r those of the reference nearest in length (the shorter of two), t_n the
    n-grams of the text. m_n counts those of them that any reference has, an n-gram at
    most as often as it stands in the one reference that has it most often: several
    references are not added up.

    A text without a common word scores 0, one without a common pair of words does not:
    orders 2 to 4 count a match more than there is, and an order that the text is too
    short for is 1.

    Args:
        words: Those of the text, as `split_words` gives them; words are equal if their
            bytes are. An empty list scores 0.
        references: One or more lists of words, each with a word in it.

    Returns:
        A Python float; 1 for a text that is a reference.

    Raises:
        ValueError: no reference, one without a word, or a text in place of a list.

    Source: Papineni et al. 2002; smoothing of Lin and Och (2004).
    """
    if isinstance(words, str | bytes) or any(
        isinstance(reference, str | bytes) for reference in references
    ):
        raise ValueError(
            "sentence_bleu: expected lists of words, found a text: split_words makes "
            "one of it"
        )
    if not references or not all(references):
        raise ValueError("expected one or more references, each with a word in it")
    nearest = min((abs(len(r) - len(words)), len(r)) for r in references)[1]
    product, matched = 1.0, 0
    for n in range(1, ORDER + 1):
        limits = Counter()
        for reference in references:
            limits |= Counter(grams(reference, n))
        found = sum((Counter(grams(words, n)) & limits).values())
        total = max(0, len(words) - n + 1)
        smooth = int(n > 1)
        product *= (found + smooth) / max(total + smooth, 1)
        matched += found
    if not matched:
        return 0.0
    return min(1.0, math.exp(1 - nearest / len(words))) * product ** (1 / ORDER)


def recitation_score(
    reasoning: str | bytes,
    references: Sequence[str],
    *,
    max_words: int | None = None,
    min_different: int = 1,
    without_words: float = 0.0,
) -> float:
    """How much of the references the first `max_words` words of a reasoning recite.

    Args:
        reasoning: The text between the think tags; bytes need not be UTF-8.
        references: One or more descriptions, each one reference of `sentence_bleu` and
            with a word in it.
        max_words: Only the first so many words are read, 1 or more; None reads all.
        min_different: With fewer different words among those read, the text gets
            `without_words` and not its BLEU; 1 or more, as `recitation_reward` has it.
        without_words: What a text of too few different words gets; any number.

    Returns:
        `without_words`, or the BLEU-4 of `sentence_bleu`, from 0 to 1.

    Raises:
        ValueError: a limit that is below 1 or no integer, no reference, one without a
            word, or a text in place of their list.
    """
    check_integers("recitation_score", min_different=(min_different, 1, None))
    if max_words is not None:
        check_integers("recitation_score", max_words=(max_words, 1, None))
    if isinstance(references, str | bytes):
        raise ValueError(
            "recitation_score: references: expected a list of texts; found "
            f"{references!r}"
        )
    words = split_words(reasoning)[:max_words]
    if len(set(words)) < min_different:
        return without_words
    return sentence_bleu(words, [split_words(text) for text in references])


def grams(words: Sequence[bytes], n: int) -> list[tuple[bytes, ...]]:
    """The n-grams of a list of words, in order."""
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
