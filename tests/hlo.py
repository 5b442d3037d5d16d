"""What a compiled program says of itself: its collectives, and the arrays it makes.

`Compiled.as_text` is the program of one device. `cost_analysis` counts a loop's body
once; here it counts as often as the loop runs.
"""

import math
import re
from typing import NamedTuple

BYTES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1}
KINDS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
ARRAY = re.compile(rf"\b({'|'.join(BYTES)})\[([\d,]*)\]")
LINE = re.compile(r"\s*(?:ROOT )?%?[\w.\-]+ = (\(.*?\)|\S+) ([\w\-]+)\(")


class Collective(NamedTuple):
    kind: str
    wire: float  # bytes that a device sends in a ring, all turns of its loops together
    place: str  # op_name: which line of the model it comes of


def sizes(text):
    """(dtype, dimensions) of each array in a type."""
    found = ARRAY.findall(text)
    return [(kind, [int(x) for x in dims.split(",") if x]) for kind, dims in found]


def nbytes(text):
    total = 0
    for kind, dims in sizes(text):
        count = BYTES[kind]
        for size in dims:
            count *= size
        total += count
    return total


def computations(text):
    """Lines of each computation by name, and the name of the one that is entered."""
    found, name, entry = {}, None, None
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if head and not line.startswith(" "):
            name = head[2]
            found[name] = []
            entry = name if head[1] else entry
        elif name is not None:
            found[name].append(line)
    return found, entry


def turns(text, *, unknown):
    """How often each computation runs; a loop without a known end runs `unknown`."""
    found, entry = computations(text)
    counts = dict.fromkeys(found, 0)

    def walk(name, count):
        counts[name] += count
        for line in found[name]:
            times = count
            if " while(" in line:
                known = re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', line)
                times *= int(known[1]) if known else unknown
            called = re.findall(
                r"(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)",
                line,
            )
            for branches in re.findall(r"branch_computations=\{([^}]*)\}", line):
                called += [x.strip().lstrip("%") for x in branches.split(",")]
            for other in called:
                walk(other, times)

    walk(entry, 1)
    return found, counts


def group_size(line):
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed[1].split(","))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(iota[1])
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line):
        axes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(axes[x]) for x in re.findall(r"'(\w+)'", named[2]))
    assert "collective-permute" in line, line
    return 2


def collectives(text, *, unknown):
    """Every collective of a program, loops multiplied."""
    found, counts = turns(text, unknown=unknown)
    result = []
    for name, lines in found.items():
        for line in lines:
            match = re.match(rf".*? = (.*?) ({KINDS})(?:-start)?\(", line)
            if not match:
                continue
            kind, size, among = match[2], nbytes(match[1]), group_size(line)
            share = (among - 1) / among
            ring = {
                "all-reduce": 2 * size * share,
                "reduce-scatter": size * (among - 1),
                "collective-permute": size,
            }.get(kind, size * share)
            place = re.search(r'op_name="([^"]*)"', line)
            wire = ring * counts[name]
            result.append(Collective(kind, wire, place[1] if place else ""))
    return result


def results(text):
    """(dimensions, instruction, op_name) of every array of floats that is made."""
    for line in text.splitlines():
        match = LINE.match(line)
        if match and match[2] not in ("parameter", "get-tuple-element", "tuple"):
            place = re.search(r'op_name="([^"]*)"', line)
            for kind, dims in sizes(match[1]):
                if kind in ("f32", "f64", "bf16"):
                    yield tuple(dims), match[2], place[1] if place else ""
