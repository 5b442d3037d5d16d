r"""The byte automaton behind `parse_box_sets`, built on the host with NumPy.

As `box_automaton.py`, whose tags, stages and regions these are, with two machines in
the place of its last one, both reading the first answer alone:

- boxes: the set of states the boxes' pattern is in. A match may start at any byte, and
  after a match the next one is looked for. Matches cannot overlap: inside a box stands
  no bracket that could start another.
- none: the set of states of the words for an empty set, the closing tag included, or
  after the answer whether they were read.
"""

from collections.abc import Hashable
from typing import NamedTuple

from medjax.rl.text.box_automaton import (
    BEFORE,
    CLOSING,
    FIRST,
    FOUND,
    INSIDE,
    LATER,
    REGION_AFTER_TAG,
    RESET,
    SLOT,
    SPACE,
    Automaton,
    first_stage,
    follow_format,
    number_edges,
    read_tag,
    tabulate,
)
from medjax.rl.text.box_text import TAGS

# outputs[state] is ACTION + SLOT * slot + flags; two actions more than of one box.
OPEN, STORE = 5, 6  # a bracket starts four numbers; their bracket is closed
NONE, ANSWERED, RIGHT_TAGS = 64, 128, 256  # beside box_automaton's INSIDE

Edge = tuple[Hashable, Hashable, bytes]

_START, _READY, _KEYED, _OPENED = "start", "ready", "keyed", "opened"


class _State(NamedTuple):
    tag: bytes
    stage: int
    region: int
    box: frozenset[Hashable]
    none: frozenset[Hashable]


def build_box_set_automaton(*, think: bool = True) -> Automaton:
    """Number the reachable states and tabulate them.

    Args:
        think: Whether the right format begins with thinking, or is the answer alone.
    """
    boxes, none = _box_edges(), _none_edges()
    moves = _by_byte(boxes), _by_byte(none)
    start = _State(b"", first_stage(think=think), BEFORE, frozenset(), frozenset())

    def step(state: _State, byte: int) -> _State:
        return _step(state, byte, *moves)

    named = {byte for *_, accepted in boxes + none for byte in accepted}
    return tabulate(start, step, _output, named)


def _box_edges() -> list[Edge]:
    r"""Of `(?:\A|"bbox_2d"\s*:|[\[,])\s*\[...\]`; _READY is where a box may start."""
    key = b'"bbox_2d"'
    chain = [_START, *range(1, len(key)), _KEYED]
    edges: list[Edge] = [
        (at, to, key[n : n + 1])
        for n, (at, to) in enumerate(zip(chain, chain[1:], strict=False))
    ]
    first = (RESET, 0)
    return [
        *edges,
        (_KEYED, _KEYED, SPACE),
        (_KEYED, _READY, b":"),
        (_START, _READY, b"[,"),
        (_READY, _READY, SPACE),
        (_READY, _OPENED, b"["),
        *number_edges(FOUND),
        *((_OPENED, to, ok) for at, to, ok in number_edges(FOUND) if at == first),
    ]


def _none_edges() -> list[Edge]:
    """Of the words for an empty set and the closing tag, letters of any case."""
    edges: list[Edge] = []

    def spell(at: Hashable, text: bytes, to: Hashable) -> None:
        inner = [(at, text, to, n) for n in range(1, len(text))]
        for n, (a, b) in enumerate(zip([at, *inner], [*inner, to], strict=True)):
            one = text[n : n + 1]
            edges.append((a, b, one if text in TAGS else one.lower() + one.upper()))

    for at in ("start", "fence", "inside", "list", "said", "closed"):
        edges.append((at, at, SPACE))
    for opening in (b"```", b"```json"):
        spell("start", opening, "inside")
    for at in ("start", "inside"):
        spell(at, b"[", "list")
        for words in (b"no finding", b"no findings", b"no finding.", b"no findings."):
            spell(at, words, "said")
    spell("list", b"]", "said")
    spell("said", b"```", "closed")
    for at in ("said", "closed"):
        spell(at, TAGS[3], FOUND)
    return edges


def _by_byte(edges: list[Edge]) -> dict[tuple[Hashable, int], frozenset[Hashable]]:
    """The next states of a state at a byte."""
    found: dict[tuple[Hashable, int], frozenset[Hashable]] = {}
    for at, to, accepted in edges:
        for byte in set(accepted):
            found[at, byte] = found.get((at, byte), frozenset()) | {to}
    return found


def _step(
    state: _State,
    byte: int,
    boxes: dict[tuple[Hashable, int], frozenset[Hashable]],
    none: dict[tuple[Hashable, int], frozenset[Hashable]],
) -> _State:
    letter = bytes([byte])
    tag, closed = read_tag(state.tag, letter)
    stage = follow_format(state.stage, state.tag, letter, tag, closed)
    region = REGION_AFTER_TAG.get((state.region, closed), state.region)
    nothing: frozenset[Hashable] = frozenset()
    if state.region != FIRST:
        opened = region == FIRST
        box = frozenset({_START, _READY}) if opened else nothing
        said = frozenset({"start"}) if opened else state.none
        return _State(tag, stage, region, box, said)
    said = nothing.union(*(none.get((at, byte), nothing) for at in state.none))
    if region != FIRST:
        return _State(tag, stage, region, nothing, said & {FOUND})
    moved = nothing.union(*(boxes.get((at, byte), nothing) for at in state.box))
    return _State(tag, stage, region, moved | {_START}, said)


def _output(state: _State) -> int:
    numbers = [at for at in state.box if isinstance(at, tuple)]
    if len(numbers) + (_OPENED in state.box) + (FOUND in state.box) > 1:
        raise ValueError(f"two boxes are read at once: {state.box}")
    action, slot = numbers[0] if numbers else (0, 0)
    output = 0 if isinstance(action, str) else action + SLOT * slot
    output += OPEN * (_OPENED in state.box) + STORE * (FOUND in state.box)
    output += INSIDE * (state.region in (FIRST, LATER))
    output += NONE * (FOUND in state.none)
    output += ANSWERED * (state.region > FIRST)
    return output + RIGHT_TAGS * (state.stage == CLOSING and not state.tag)
