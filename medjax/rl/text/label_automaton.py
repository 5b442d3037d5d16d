r"""The two byte automata behind `parse_labels`, built on the host with NumPy.

The *frame* follows the tags of a text: the format's stages as the boxes' automaton
does, the first think block, and whether an answer block is open. The *reader* accepts
the answers of `label_forms` with white space round them: the subset construction of a
graph in which each character of a folded text stands beside all characters, or
sequences of them, that fold to the same. It is restarted at each `<answer>`, and judged
by where it stood before the `<` of the closing tag.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from medjax.rl.text import box_automaton
from medjax.rl.text.label_text import CLOSERS, SPACE, LabelForms

# Flags of a frame's state.
IN_THINK, IN_ANSWER, WELL_FORMED = 1, 2, 4

_BEFORE, _INSIDE, _AFTER = range(3)  # the first think block
_CASED = 0x20000  # no character above has another case


class Reader(NamedTuple):
    """Row 0 is the starting state, row 1 that of texts which no answer begins with."""

    columns: UInt8[np.ndarray, "256"]  # bytes that no answer tells apart share one
    transitions: Int[np.ndarray, "S columns"]  # int32
    labels: Int[np.ndarray, "S"]  # int32, class of a text that ends here, -1 = none


class _Frame(NamedTuple):
    tag: bytes
    stage: int
    think: int
    answer: bool


class _Graph(NamedTuple):
    edges: list[dict[int, set[int]]]  # of a node: byte -> next nodes
    labels: dict[int, int]  # classes of accepting nodes


def build_frame(*, think: bool = True) -> box_automaton.Automaton:
    """Number the reachable frames and tabulate them; `outputs` holds their flags.

    Args:
        think: Whether what is well formed begins with thinking, or is the answer alone.
    """
    start = _Frame(b"", box_automaton.first_stage(think=think), _BEFORE, False)
    index, queue, rows = {start: 0}, [start], []
    for frame in queue:
        row = np.empty(256, np.int16)
        for byte in range(256):
            following = _follow(frame, bytes([byte]))
            if following not in index:
                index[following] = len(queue)
                queue.append(following)
            row[byte] = index[following]
        rows.append(row)
    flags = [
        IN_THINK * (frame.think == _INSIDE)
        + IN_ANSWER * frame.answer
        + WELL_FORMED * (frame.stage == box_automaton.CLOSING and not frame.tag)
        for frame in queue
    ]
    return box_automaton.Automaton(np.stack(rows), np.array(flags, np.int32))


def build_reader(forms: LabelForms) -> Reader:
    """Tabulate what leads to an answer; a class takes a few dozen states."""
    graph = _answer_graph(forms)
    columns = np.zeros(256, np.uint8)
    used = sorted({byte for edges in graph.edges for byte in edges})
    columns[used] = np.arange(1, len(used) + 1, dtype=np.uint8)
    start, dead = frozenset({0}), frozenset()
    index, queue, rows = {start: 0, dead: 1}, [start, dead], []
    for nodes in queue:
        row = np.ones(len(used) + 1, np.int32)
        moves = defaultdict(set)
        for node in nodes:
            for byte, following in graph.edges[node].items():
                moves[byte] |= following
        for byte, following in sorted(moves.items()):
            key = frozenset(following)
            if key not in index:
                index[key] = len(queue)
                queue.append(key)
            row[columns[byte]] = index[key]
        rows.append(row)
    labels = [max((graph.labels.get(n, -1) for n in ns), default=-1) for ns in queue]
    return Reader(columns, np.stack(rows), np.array(labels, np.int32))


def _follow(frame: _Frame, byte: bytes) -> _Frame:
    tag, closed = box_automaton.read_tag(frame.tag, byte)
    think, answer = frame.think, frame.answer
    if (think, closed) == (_BEFORE, b"<think>"):
        think = _INSIDE
    elif (think, closed) == (_INSIDE, b"</think>"):
        think = _AFTER
    elif closed in (b"<answer>", b"</answer>"):
        answer = closed == b"<answer>"
    stage = box_automaton.follow_format(frame.stage, frame.tag, byte, tag, closed)
    return _Frame(tag, stage, think, answer)


def _answer_graph(forms: LabelForms) -> _Graph:
    graph = _Graph([], {})
    variants = defaultdict(list)
    for character in map(chr, range(_CASED)):
        if (folded := character.casefold()) != character:
            variants[folded].append(character)

    def add_text(start: int, text: str, end: int) -> None:
        inner = [_add_node(graph) for _ in text[1:]]
        nodes = [start, *inner, end]
        for at, character in enumerate(text):
            _add_path(graph, nodes[at], character, nodes[at + 1])
            for width in range(1, 4):  # no character folds to more than three
                if at + width <= len(text):
                    for other in variants[text[at : at + width]]:
                        _add_path(graph, nodes[at], other, nodes[at + width])

    start = _add_node(graph, loop=True)
    for label, texts in enumerate(forms.texts):
        end = _add_node(graph, loop=True)
        graph.labels[end] = label
        for text in texts:
            add_text(start, text, end)
        if label < len(forms.letters):  # "none" of a set of labels has no letter
            letter = forms.letters[label]
            option = _add_node(graph, loop=True)
            graph.labels[option] = label
            add_text(start, letter, end)
            for text in (f"({letter})", *(letter + closer for closer in CLOSERS)):
                add_text(start, text, option)
            for text in texts:
                add_text(option, text, end)
    return graph


def _add_node(graph: _Graph, *, loop: bool = False) -> int:
    node = len(graph.edges)
    graph.edges.append({byte: {node} for byte in SPACE.encode()} if loop else {})
    return node


def _add_path(graph: _Graph, start: int, character: str, end: int) -> None:
    """A way from node to node that reads the character's bytes."""
    *first, last = character.encode()
    for byte in first:
        inner = _add_node(graph)
        graph.edges[start].setdefault(byte, set()).add(inner)
        start = inner
    graph.edges[start].setdefault(last, set()).add(end)
