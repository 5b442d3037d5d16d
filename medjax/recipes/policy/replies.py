"""Answers without a truth to hold them against: read, located, with a confidence."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from medjax.rl.text.boxes import ParseTables
from medjax.systems.policy.answering import Answers
from medjax.types import Ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Read(NamedTuple):
    """What the bytes of one completion say."""

    parsed: bool  # there is an answer that can be used, the empty set included
    well_formed: bool  # in the form that the policy was trained to write
    why: str  # what is missing where nothing could be read, or odd about what was
    labels: tuple[str, ...]  # classes named, or what boxes are called; () for none
    boxes: Float[np.ndarray, "k 4"] | None  # as written; None: not asked for boxes
    # first byte and byte after the last of each box, or of the part that names classes
    spans: tuple[tuple[int, int], ...]


class Reply(NamedTuple):
    """What a policy answered to one question."""

    text: str
    parsed: bool
    well_formed: bool
    why: str  # see `Read`; "" where all is well
    labels: tuple[str, ...]
    # (x1, y1, x2, y2), pixels of the picture as it is shown; None: not asked for boxes
    boxes: Float[np.ndarray, "k 4"] | None
    confidence: tuple[float, ...]  # of each box, or of the named classes; 0 to 1
    length: int  # tokens


ReadFn = Callable[[bytes], Read]


def read_replies(
    read: ReadFn,
    answers: Answers,
    *,
    tables: ParseTables,
    tokenizer: "PreTrainedTokenizerBase",
    ends: Ends,
) -> list[Reply]:
    """What each of B answers says.

    The confidence of a box or of named classes is the mean, over the tokens that wrote
    it, of the probability that the policy gave to the token after all tokens before it
    (at temperature 1, over the whole vocabulary): `rl.text.box_set_reader` has the same
    for sets. A box's tokens are those with a byte from its `[` to its `]`, classes'
    those with a byte between the answer's tags. It ranks answers and is not calibrated.

    Args:
        read: Reads the bytes of a completion.
        answers: Arrays [B, T] on the host.
        tables: The vocabulary's bytes.
        tokenizer: Writes the texts down, special tokens left out.
        ends: An answer without one of its stop tokens was cut.

    Raises:
        ValueError: A log-probability is not finite; the row is named.
    """
    start, length = map(np.asarray, (tables.vocab_start, tables.vocab_length))
    vocabulary = np.asarray(tables.vocab_bytes)
    replies = []
    for row, (tokens, mask, logp) in enumerate(
        zip(*map(np.asarray, answers), strict=True)
    ):
        ids, logp = tokens[mask], logp[mask].astype(np.float64)
        if not np.isfinite(logp).all():
            raise ValueError(
                f"row {row}: the policy's log-probabilities are NaN or infinite; "
                "expected finite ones. Are its parameters finite, and is policy.dtype "
                "wide enough (float32, or bfloat16)?"
            )
        pieces = [vocabulary[start[i] : start[i] + length[i]].tobytes() for i in ids]
        found = read(b"".join(pieces))
        cut = not len(ids) or int(ids[-1]) not in ends.stop_tokens
        why = [f"cut after {len(ids)} tokens, before it ended"] * cut
        why += [found.why] * bool(found.why)
        replies.append(
            Reply(
                text=tokenizer.decode(ids, skip_special_tokens=True),
                parsed=found.parsed,
                well_formed=found.well_formed,
                why="; ".join(why),
                labels=found.labels,
                boxes=found.boxes,
                confidence=span_confidence(
                    logp, np.array([len(piece) for piece in pieces], int), found.spans
                ),
                length=len(ids),
            )
        )
    return replies


def span_confidence(
    logp: Float[np.ndarray, "T"],
    sizes: Int[np.ndarray, "T"],
    spans: Sequence[tuple[int, int]],
) -> tuple[float, ...]:
    """The mean of exp(logp) over the tokens with a byte in each span, 0 to 1.

    Args:
        logp: Of each token of a completion, in nats.
        sizes: How many bytes each token writes, 0 or more; one of none is in no span.
        spans: First byte and byte after the last of each; an empty one has 0.
    """
    end = np.cumsum(sizes)
    found = []
    for first, last in spans:
        inside = (sizes > 0) & (end > first) & (end - sizes < last) & (last > first)
        found.append(float(np.exp(logp[inside]).mean()) if inside.any() else 0.0)
    return tuple(found)
