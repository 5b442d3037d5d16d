r"""The byte automaton behind `parse_completions`, built on the host with NumPy.

It is the reachable product of four small machines, walked together byte by byte:

- tag: how much of a tag has been read, `b"<ans"`. No tag holds a second `<`, so a
  mismatch restarts at the byte itself.
- stage: how much of the right format has been read, or WRONG.
- region: before, in, after the first answer block, or in a later one.
- box: the set of states the box's pattern is in (it may start at any byte), or FOUND.
  The set has one state at most past the opening bracket, as only a quote starts a
  match and none follows the bracket: so one set of number registers is enough.

What to do with a byte depends only on the state it leads to, `outputs[state]`.
"""

from collections.abc import Callable, Collection, Hashable
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int

from medjax.rl.text.box_text import TAGS

# outputs[state] is ACTION + SLOT * slot + flags.
IDLE, RESET, SIGN, WHOLE, FRACTION = range(5)  # what a byte does to number `slot`
SLOT = 8
INSIDE, HAS_BOX, IN_FORMAT = 32, 64, 128

SPACE, _DIGITS = b" \t\n\v\f\r", b"0123456789"
OPENING, _THINK, BETWEEN, _ANSWER, CLOSING, WRONG = range(6)  # stages
BEFORE, FIRST, AFTER, LATER = range(4)  # regions
_POINT, _SPACED = "point", "spaced"
_START, FOUND = 0, "found"

_STAGE_AFTER_TAG = {
    (OPENING, TAGS[0]): _THINK,
    (_THINK, TAGS[1]): BETWEEN,
    (BETWEEN, TAGS[2]): _ANSWER,
    (_ANSWER, TAGS[3]): CLOSING,
}
REGION_AFTER_TAG = {
    (BEFORE, TAGS[2]): FIRST,
    (FIRST, TAGS[3]): AFTER,
    (AFTER, TAGS[2]): LATER,
    (LATER, TAGS[3]): AFTER,
}
_PREFIXES = {tag[:end] for tag in TAGS for end in range(1, len(tag))}


State = TypeVar("State", bound=Hashable)


class Automaton(NamedTuple):
    """Row 0 is the starting state."""

    transitions: Int[np.ndarray, "S 256"]  # int16, next state by byte
    outputs: Int[np.ndarray, "S"]  # int32, see the constants above


class _State(NamedTuple):
    tag: bytes
    stage: int
    region: int
    box: frozenset[Hashable]


def first_stage(*, think: bool) -> int:
    """Where the right format begins: before the thinking, or where it would be over."""
    return OPENING if think else BETWEEN


def build_automaton(*, think: bool = True) -> Automaton:
    """Number the reachable states (420) and tabulate them, in a tenth of a second.

    Args:
        think: Whether the right format begins with thinking, or is the answer alone.
    """
    edges = _box_edges()
    start = _State(b"", first_stage(think=think), BEFORE, frozenset())

    def step(state: _State, byte: int) -> _State:
        return _step(state, bytes([byte]), edges)

    return tabulate(start, step, _output, {b for *_, ok in edges for b in ok})


def tabulate(
    start: State,
    step: Callable[[State, int], State],
    output: Callable[[State], int],
    named: Collection[int],
) -> Automaton:
    """The states that are reached from the first one, numbered as they are found.

    Args:
        start: The first state, which gets row 0.
        step: (state, byte) -> the next state.
        output: What stands for a state in `outputs`.
        named: Bytes that some machine tells apart from the rest, those of tags aside.
    """
    known = sorted(set(named) | set(b"".join(TAGS)))
    # Bytes that no machine tells apart share a column.
    other = min(set(range(256)) - set(known))
    index, queue, rows = {start: 0}, [start], []
    for state in queue:
        row = np.empty(256, np.int16)
        for byte in [other, *known]:
            following = step(state, byte)
            if following not in index:
                index[following] = len(queue)
                queue.append(following)
            row[byte if byte != other else slice(None)] = index[following]
        rows.append(row)
    return Automaton(np.stack(rows), np.array([output(s) for s in queue], np.int32))


def _box_edges() -> list[tuple[Hashable, Hashable, bytes]]:
    r"""(state, next state, bytes) of the pattern `"bbox_2d"\s*:\s*\[...\]`."""
    key = b'"bbox_2d"'
    edges: list[tuple[Hashable, Hashable, bytes]] = [
        (at, at + 1, key[at : at + 1]) for at in range(len(key))
    ]
    edges += [
        (len(key), len(key), SPACE),
        (len(key), "colon", b":"),
        ("colon", "colon", SPACE),
        ("colon", (RESET, 0), b"["),
    ]
    return edges + number_edges(FOUND)


def number_edges(found: Hashable) -> list[tuple[Hashable, Hashable, bytes]]:
    """Edges of four numbers and the closing bracket, from `(RESET, 0)` to `found`."""
    edges: list[tuple[Hashable, Hashable, bytes]] = []
    for slot in range(4):
        edges += [
            ((RESET, slot), (RESET, slot), SPACE),
            ((RESET, slot), (SIGN, slot), b"-"),
            ((RESET, slot), (WHOLE, slot), _DIGITS),
            ((SIGN, slot), (WHOLE, slot), _DIGITS),
            ((WHOLE, slot), (WHOLE, slot), _DIGITS),
            ((WHOLE, slot), (_POINT, slot), b"."),
            ((_POINT, slot), (FRACTION, slot), _DIGITS),
            ((FRACTION, slot), (FRACTION, slot), _DIGITS),
        ]
        end = ((RESET, slot + 1), b",") if slot < 3 else (found, b"]")
        for last in (WHOLE, FRACTION, _SPACED):
            edges += [((last, slot), (_SPACED, slot), SPACE), ((last, slot), *end)]
    return edges


def read_tag(tag: bytes, byte: bytes) -> tuple[bytes, bytes]:
    """(what of a tag has been read after `byte`, the tag that `byte` closes or b"")."""
    read = tag + byte
    if read in TAGS:
        return b"", read
    return read if read in _PREFIXES else byte if byte == b"<" else b"", b""


def follow_format(
    stage: int, before: bytes, byte: bytes, tag: bytes, closed: bytes
) -> int:
    """The stage after `byte`, which moved the tag from `before` to `tag` or closed it.

    The whole text has the format if it ends in CLOSING and inside no tag.
    """
    if closed:
        return _STAGE_AFTER_TAG.get((stage, closed), WRONG)
    if stage in (_THINK, _ANSWER, WRONG):
        return stage
    # Only white space and the next tag may stand here.
    blank = not before and byte in SPACE
    return stage if blank or tag == before + byte else WRONG


def _step(
    state: _State, byte: bytes, edges: list[tuple[Hashable, Hashable, bytes]]
) -> _State:
    tag, closed = read_tag(state.tag, byte)
    stage = follow_format(state.stage, state.tag, byte, tag, closed)
    region = REGION_AFTER_TAG.get((state.region, closed), state.region)
    if region != FIRST:
        box = state.box & {FOUND}
    elif state.region != FIRST:
        box = frozenset({_START})
    elif FOUND in state.box:
        box = state.box
    else:
        moved = {to for at, to, ok in edges if at in state.box and byte in ok}
        box = frozenset({FOUND} if FOUND in moved else moved | {_START})
    return _State(tag, stage, region, box)


def _output(state: _State) -> int:
    numbers = [at for at in state.box if isinstance(at, tuple)]
    if len(numbers) > 1:
        raise ValueError(f"two numbers are read at once: {numbers}")
    action, slot = numbers[0] if numbers else (IDLE, 0)
    output = 0 if isinstance(action, str) else action + SLOT * slot
    output += INSIDE * (state.region in (FIRST, LATER))
    has_box = state.region > FIRST and FOUND in state.box
    output += HAS_BOX * has_box
    ends_well = state.stage == CLOSING and not state.tag
    return output + IN_FORMAT * (has_box and ends_well)
