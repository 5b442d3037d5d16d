"""Read sets of labels from sampled tokens on the device, as `label_set_text.py` says.

`parse_labels` finds the blocks; a second reading of the bytes drives the automaton of
single labels over the last answer, started anew at each comma.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from medjax.indexing import look_up
from medjax.rl.text.boxes import ParseTables, fold_bytes
from medjax.rl.text.label_set_text import COMMA, ParsedLabelSets, check_set_forms
from medjax.rl.text.label_text import LabelForms
from medjax.rl.text.labels import LabelTables, label_tables, parse_labels


class LabelSetTables(NamedTuple):
    """The automata of single labels, and what a piece that ends in a state names."""

    single: LabelTables
    names: Bool[Array | np.ndarray, "S C+1"]  # the last column is "none"


class _List(NamedTuple):
    """Where a row stands in its list."""

    state: Array  # of the automaton, since the last comma
    named: Array  # [*N C+1] by the pieces before; the last is "none"
    commas: Array
    right: Array  # each of those pieces was a label


def label_set_tables(forms: LabelForms, *, think: bool = True) -> LabelSetTables:
    """Tables for `parse_label_sets`, NumPy; the same whatever the vocabulary of tokens.

    Args:
        forms: What counts as a label, made by `label_set_forms` for one class or more,
            whose last form is the word "none"; forms of `label_forms` lack it and are
            refused.
        think: True counts `<think>..</think><answer>..</answer>` as well formed, False
            the answer alone, without a think tag; static. Sets are read alike.

    Returns:
        The automaton of single labels, and the label in which each of its S states
        ends: one of C classes or "none". S is a few dozens a class.

    Raises:
        ValueError: forms without "none", or a `think` that is not True or False.
    """
    check_set_forms("label_set_tables", forms)
    single = label_tables(forms, think=think)
    labels = np.arange(len(forms.texts), dtype=np.int32)
    return LabelSetTables(single, np.asarray(single.labels)[:, None] == labels)


def parse_label_sets(
    tokens: Int[Array, "*N T"],
    mask: Bool[Array, "*N T"],
    tables: ParseTables,
    labels: LabelSetTables,
) -> ParsedLabelSets:
    """Parse completions as `parse_label_set_text` does the bytes of their tokens.

    The last `<answer>..</answer>` is a set if each of its pieces between commas is a
    label; their order does not matter, and a repeated one counts once. "none", alone,
    is the empty set. Any other word, or nothing between two commas, makes it no set.

    Args:
        tokens: Token ids from 0 to V - 1, with any leading axes, or none; an id outside
            writes nothing. T may be 0, and so may any leading axis.
        mask: True at the tokens of the completion, wherever they stand; the others are
            not read. A row without a token is an empty text.
        tables: Those of the vocabulary, made by `build_tables`.
        labels: Those of the classes, made by `label_set_tables`.

    Returns:
        Of each row `shown` [*N C], False throughout where nothing was read, and
        `parsed`, whether there is a set; `well_formed`, `num_answers`, `think`,
        `think_words` and `answer` are those of `parse_labels`.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    read = parse_labels(tokens, mask, tables, labels.single)
    transitions = jnp.asarray(labels.single.transitions)
    columns, names = jnp.asarray(labels.single.columns), jnp.asarray(labels.names)

    def finish(found: _List) -> tuple[Array, Array]:
        """What is named with the piece that ends here, and whether all were labels."""
        this = look_up(names, found.state)
        return found.named | this, found.right & this.any(axis=-1)

    def step(old: _List, byte: Array, at: Array, reading: Array) -> _List:
        inside = reading & (at >= read.answer[..., 0]) & (at < read.answer[..., 1])
        comma = inside & (byte == ord(COMMA))
        column = look_up(columns, byte).astype(jnp.int32)
        state = look_up(transitions, old.state, column)
        named, right = finish(old)
        return _List(
            jnp.where(comma, 0, jnp.where(inside, state, old.state)),
            jnp.where(comma[..., None], named, old.named),
            old.commas + comma.astype(jnp.int32),
            jnp.where(comma, right, old.right),
        )

    zero = jnp.zeros_like(read.num_answers)
    start = _List(zero, look_up(names, zero) & False, zero, zero == 0)
    last = fold_bytes(step, start, tokens, mask, tables, limit=read.answer[..., 1])
    named, right = finish(last)
    none, shown = named[..., -1], named[..., :-1]
    parsed = (read.num_answers > 0) & right & (~none | (last.commas == 0))
    rest = {name: getattr(read, name) for name in ParsedLabelSets._fields[2:]}
    return ParsedLabelSets(shown=shown & parsed[..., None], parsed=parsed, **rest)
