"""Read the text of a compiled program: its computations, and how often each runs.

`cost_analysis` of XLA counts the body of a loop once, whatever its trips. A policy is
loops over layers and tokens, so its costs have to be counted from the text, each
computation as often as it runs.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

BITS = {
    **{"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16},
    **{"s32": 32, "u32": 32, "s64": 64, "u64": 64, "f16": 16, "bf16": 16, "f32": 32},
    **{"f64": 64, "c64": 64, "c128": 128, "token": 0, "opaque": 0},
    **{"f8e4m3fn": 8, "f8e5m2": 8, "f8e4m3": 8, "f8e4m3b11fnuz": 8},
}
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\](\{[^{}]*\})?")
_HEAD = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(
    r"(?:calls|to_apply|true_computation|false_computation|body)=%?([\w.\-]+)"
)


class ArrayType(NamedTuple):
    """One array of an instruction's result."""

    dtype: str
    shape: tuple[int, ...]
    layout: str  # with the memory that it lies in, such as {1,0:T(8,128)S(1)}

    @property
    def size(self) -> int:
        """Bytes, without padding."""
        if self.dtype not in BITS:
            raise ValueError(f"an array of {self.dtype}: expected {', '.join(BITS)}")
        return -(-int(np.prod(self.shape, dtype=np.int64)) * BITS[self.dtype] // 8)

    @property
    def in_hbm(self) -> bool:
        """Whether it lies in the main memory of the chip, and not in one on it."""
        return "S(" not in self.layout or "S(0)" in self.layout


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    opcode: str
    arrays: tuple[ArrayType, ...]  # of its result; several of a tuple
    operands: tuple[str, ...]
    literal: str  # what stands between the parentheses, such as a constant's value
    attributes: str

    @property
    def op_name(self) -> str:
        """Where it came from in the Python program, "" where nothing says so."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found.group(1) if found else ""


class Program(NamedTuple):
    """Computations by name, each an ordered mapping of its instructions."""

    computations: Mapping[str, Mapping[str, Instruction]]
    entry: str
    partitions: int  # devices that run it together


class Visit(NamedTuple):
    """A computation as it is reached from the entry."""

    computation: str
    times: float  # that it runs in one call of the program
    loops: tuple[str, ...]  # op_name of each loop around it, the outermost first
    uncounted: tuple[str, ...]  # those of them whose trips the text does not give
    caller: str  # op_name of the fusion or call that it is reached by
    fused: bool  # inside a fusion: what it makes never reaches memory


def parse_program(text: str) -> Program:
    """The computations of a compiled program.

    Args:
        text: As `jax.stages.Compiled.as_text` gives it.

    Raises:
        ValueError: There is no entry in it.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line[:1] in ("%", "E") and line.endswith("{") and "->" in line:
            name = line.removeprefix("ENTRY ").lstrip("%").split(" ", 1)[0]
            current = computations.setdefault(name, {})
            entry = name if line.startswith("ENTRY ") else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (head := _HEAD.match(line)):
            found = _instruction(head.group(1), line[head.end() :])
            current[found.name] = found
    if not entry:
        raise ValueError("no ENTRY: expected the text of a compiled program")
    sizes = re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", text.split("\n")[0])
    return Program(computations, entry, int(np.prod([int(n) for n in sizes] or [1])))


def _instruction(name: str, rest: str) -> Instruction:
    at = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:at], rest[at:].lstrip()
    opcode, _, _ = rest.partition("(")
    end = _closing(rest, len(opcode))
    literal = rest[len(opcode) + 1 : end]
    return Instruction(
        name,
        opcode,
        array_types(kind),
        tuple(re.findall(r"%([\w.\-]+)", literal)),
        literal,
        rest[end + 1 :],
    )


def array_types(text: str) -> tuple[ArrayType, ...]:
    """The arrays of a type, in order, those of a tuple flat.

    Args:
        text: Such as `(f32[2,3]{1,0}, s32[])`.
    """
    return tuple(
        ArrayType(dtype, tuple(int(n) for n in dims.split(",") if n), layout or "")
        for dtype, dims, layout in _ARRAY.findall(text)
    )


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` is closed."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at
    raise ValueError(f"a parenthesis is not closed: {text[:80]}")


def always(name: str) -> float:
    """The share of trips that a branch is taken in, where nothing is known of it.

    Args:
        name: See `visits`.
    """
    del name
    return 1.0


def visits(
    program: Program, share_of: Callable[[str], float] = always
) -> Iterator[Visit]:
    """Every computation as often as it runs, but for what reductions apply.

    A loop whose trips the text does not give is taken to run once; the visits inside it
    name it as `uncounted`.

    Args:
        program: From `parse_program`.
        share_of: How often a branch of a conditional is taken when it is reached, 0 to
            1, by the op_name of something in it, which ends in such as
            "blocks/cond/branch_1_fun/add". By default all branches are taken.
    """
    waiting = [Visit(program.entry, 1, (), (), "", False)]
    while waiting:
        visit = waiting.pop()
        yield visit
        for one in program.computations[visit.computation].values():
            if one.opcode == "while":
                trips = count_trips(program, visit.computation, one)
                missing = () if trips is not None else (one.op_name or one.name,)
                inner = visit._replace(
                    times=visit.times * (1 if trips is None else trips),
                    loops=(*visit.loops, one.op_name),
                    uncounted=visit.uncounted + missing,
                    caller="",
                )
                waiting += [inner._replace(computation=c) for c in called_by(one)]
            elif one.opcode == "fusion" or one.opcode.endswith("-start"):
                fused = visit.fused or one.opcode == "fusion"
                caller = one.op_name or visit.caller
                inner = visit._replace(fused=fused, caller=caller)
                waiting += [inner._replace(computation=c) for c in called_by(one)]
            elif one.opcode in ("call", "conditional", "custom-call"):
                inner = visit._replace(caller=one.op_name or visit.caller)
                for called in called_by(one):
                    share = 1.0
                    if one.opcode == "conditional":
                        share = share_of(_branch_name(program, called))
                    times = visit.times * share
                    waiting.append(inner._replace(computation=called, times=times))


def _branch_name(program: Program, branch: str) -> str:
    """The op_name of something in a branch, "" where nothing there says where it is."""
    names = (one.op_name for one in program.computations[branch].values())
    return next((name for name in names if re.search(r"/branch_\d+_fun", name)), "")


def root_of(inside: Mapping[str, Instruction]) -> Instruction:
    """What a computation gives: its last instruction.

    Args:
        inside: A computation.
    """
    return list(inside.values())[-1]


def called_by(one: Instruction) -> list[str]:
    """The computations that an instruction names, a loop's condition aside.

    Args:
        one: Of any opcode.
    """
    found = _CALLED.findall(one.attributes)
    for group in re.findall(r"branch_computations=\{([^}]*)\}", one.attributes):
        found += [name.strip().lstrip("%") for name in group.split(",")]
    return found


def count_trips(program: Program, where: str, loop: Instruction) -> int | None:
    """How often the body of a loop runs, at most where it may end early.

    That is what XLA notes where it knows it, or else the bound that the condition
    compares the counter with, less where the counter starts, over its step. None where
    neither is there: the loop ends by what it computes.

    Args:
        program: That holds the loop.
        where: The computation of the loop.
        loop: An instruction `while`.
    """
    known = re.search(r'known_trip_count"?[:=]\{"?n"?:"?(\d+)', loop.attributes)
    if known:
        return int(known.group(1))
    condition = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
    body = re.search(r"body=%?([\w.\-]+)", loop.attributes)
    bounds = []
    if condition and body:
        scope = _Loop(program, where, loop, body.group(1))
        for left, right in _compared(program, condition.group(1), {}):
            bound = _value(scope, right)
            if bound is not None and isinstance(left, int):
                start, step = _start(scope, left), _step(scope, left)
                bounds.append(max(0, -(-(bound - start) // step)))
    return min(bounds) if bounds else None


class _Loop(NamedTuple):
    program: Program
    where: str
    loop: Instruction
    body: str


Source = int | str | None  # a place in the loop's state, a constant's text, or neither


def _compared(
    program: Program, name: str, given: Mapping[int, Source]
) -> Iterator[tuple[Source, Source]]:
    """(counter, bound) of each comparison counter < bound of a condition."""
    inside = program.computations[name]

    def source(of: str) -> Source:
        one = inside[of]
        if one.opcode == "constant":
            return one.literal
        if one.opcode == "parameter" and given:
            return given.get(int(one.literal))
        if one.opcode == "get-tuple-element":
            return _index(one)
        if one.opcode in ("copy", "bitcast", "convert", "reshape"):
            return source(one.operands[0])
        return None

    for one in inside.values():
        if one.opcode == "compare":
            pair = source(one.operands[0]), source(one.operands[1])
            if "direction=LT" in one.attributes:
                yield pair
            elif "direction=GT" in one.attributes:
                yield pair[1], pair[0]
        elif one.opcode in ("fusion", "call"):
            passed = {i: source(x) for i, x in enumerate(one.operands)}
            for called in called_by(one):
                yield from _compared(program, called, passed)


def _index(one: Instruction) -> int | None:
    """Which part of a tuple `get-tuple-element` takes."""
    found = re.search(r"\bindex=(\d+)", one.attributes)
    return int(found.group(1)) if found else None


def _value(scope: _Loop, of: Source) -> int | None:
    """A constant's value; of a place in the state, if the body leaves it as it is."""
    if isinstance(of, str):
        return int(of) if re.fullmatch(r"-?\d+", of) else None
    if of is None:
        return None
    inside = scope.program.computations[scope.body]
    root = root_of(inside)
    kept = inside[root.operands[of]] if root.opcode == "tuple" else root
    if kept.opcode != "get-tuple-element" or _index(kept) != of:
        return None
    return _initial(scope, of)


def _initial(scope: _Loop, place: int) -> int | None:
    """The constant that a place of the loop's state starts with, if it is one."""
    inside = scope.program.computations[scope.where]
    state = inside[scope.loop.operands[0]]
    if state.opcode != "tuple":
        return None
    one = inside[state.operands[place]]
    while one.opcode in ("copy", "bitcast"):
        one = inside[one.operands[0]]
    if one.opcode != "constant" or not re.fullmatch(r"-?\d+", one.literal):
        return None
    return int(one.literal)


def _start(scope: _Loop, place: int) -> int:
    return _initial(scope, place) or 0


def _step(scope: _Loop, place: int) -> int:
    """What the body adds to the counter; 1 where the text does not show it."""
    inside = scope.program.computations[scope.body]
    root = root_of(inside)
    one = inside.get(root.operands[place]) if root.opcode == "tuple" else None
    if one is None or one.opcode != "add":
        return 1
    for name in one.operands:
        literal = inside[name].literal if inside[name].opcode == "constant" else ""
        if re.fullmatch(r"\d+", literal) and int(literal) > 0:
            return int(literal)
    return 1
