"""FLOPs, memory traffic and wire of a compiled program, by phase of the step."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from medjax.planning.hlo import (
    Instruction,
    Program,
    Visit,
    always,
    called_by,
    root_of,
    visits,
)

COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    *("collective-permute", "collective-broadcast", "ragged-all-to-all"),
)
PHASES = ("prefill", "decode", "learner", "other")
# What moves nothing by itself: names, parts of tuples, and what only starts or ends.
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while"),
    *("conditional", "call", "after-all", "partition-id", "replica-id", "iota"),
    *("opt-barrier", "domain"),
)


class Costs(NamedTuple):
    """What one chip does in one phase of a step."""

    flops: float  # of matrix products, a multiply-add counted as two
    hbm: float  # bytes that instructions read from and write to the chip's memory
    wire: Mapping[str, float]  # bytes that the chip sends, by kind of collective

    @property
    def sent(self) -> float:
        """Bytes that the chip sends, by all kinds."""
        return sum(self.wire.values())


class Work(NamedTuple):
    """What one chip does in one step."""

    phases: Mapping[str, Costs]
    # loops with products or collectives in them that count once, whatever their trips
    uncounted: tuple[str, ...]


def count_costs(
    program: Program,
    phase_of: Callable[[str, tuple[str, ...]], str],
    share_of: Callable[[str], float] = always,
) -> Work:
    """The costs of one call of a program, of one chip, by phase.

    Args:
        program: From `parse_program`.
        phase_of: The phase of an instruction, by its op_name and those of the loops
            and calls around it; see `step_phase`.
        share_of: How often a branch is taken, see `visits`.
    """
    flops: dict[str, float] = {}
    memory: dict[str, float] = {}
    wire: dict[str, dict[str, float]] = {}
    sent: dict[tuple[str, str], float] = {}  # how often a channel was counted
    uncounted: dict[str, None] = {}
    for visit in visits(program, share_of):
        inside = program.computations[visit.computation]
        for one in inside.values():
            phase = phase_of(one.op_name, (*visit.loops, visit.caller))
            work = product_flops(one, inside) * visit.times
            if work:
                flops[phase] = flops.get(phase, 0.0) + work
            if not visit.fused:
                moved = moved_bytes(one, visit, program) * visit.times
                memory[phase] = memory.get(phase, 0.0) + moved
            kind = one.opcode.removesuffix("-start")
            if work or kind in COLLECTIVES:
                uncounted |= dict.fromkeys(visit.uncounted)
            if kind in COLLECTIVES:
                # the two halves of an asynchronous one name the same channel
                channel = re.search(r"channel_id=(\d+)", one.attributes)
                key = (kind, channel.group(1) if channel else one.name)
                times = max(0.0, visit.times - sent.get(key, 0.0))
                sent[key] = sent.get(key, 0.0) + times
                kinds = wire.setdefault(phase, {})
                found = sent_bytes(one, inside, program.partitions) * times
                kinds[kind] = kinds.get(kind, 0.0) + found
    names = {*flops, *memory, *wire}
    phases = {
        name: Costs(flops.get(name, 0.0), memory.get(name, 0.0), wire.get(name, {}))
        for name in sorted(names, key=PHASES.index)
    }
    return Work(phases, tuple(uncounted))


def step_phase(op_name: str, around: tuple[str, ...]) -> str:
    """The phase of a training step by the names that its parts carry.

    Sampling is `rollout`, and its loop over tokens `decode` inside it; scores, losses
    and the update are `learner`. What has no name of its own has that of the fusion or
    the loop around it.

    Args:
        op_name: Of an instruction.
        around: Of the loops and the fusion around it, the outermost first.
    """
    for name in (op_name, *reversed(around)):
        parts = re.split(r"[/()]", name)
        if "decode" in parts:
            return "decode"
        if "rollout" in parts:
            return "decode" if any("decode" in x for x in around) else "prefill"
        if "learner" in parts:
            return "learner"
    return "other"


def product_flops(one: Instruction, inside: Mapping[str, Instruction]) -> float:
    """FLOPs of one matrix product or convolution; 0 of anything else.

    Args:
        one: An instruction.
        inside: The computation that it stands in, for the shapes of its operands.

    Raises:
        ValueError: A convolution without the labels of its dimensions.
    """
    if one.opcode == "dot":
        left = inside[one.operands[0]].arrays[0].shape
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.attributes)
        axes = [int(n) for n in found.group(1).split(",") if n] if found else []
        return 2.0 * _count(one.arrays[0].shape) * _count([left[a] for a in axes])
    return _convolution_flops(one, inside) if one.opcode == "convolution" else 0.0


def _count(shape) -> float:
    return float(np.prod(shape, dtype=np.float64))


def _convolution_flops(one: Instruction, inside: Mapping[str, Instruction]) -> float:
    """Two for each pair of an input and a weight that meet; padding meets nothing."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    if labels is None:
        raise ValueError(f"{one.name}: a convolution without dim_labels")
    left, right, _ = labels.groups()
    image, weights = (inside[name].arrays[0].shape for name in one.operands[:2])
    output = one.arrays[0].shape
    window = re.search(r"window=\{([^}]*)\}", one.attributes)
    fields = dict(re.findall(r"(\w+)=(\S+)", window.group(1) if window else ""))
    sizes = [int(n) for n in fields.get("size", "").split("x") if n]

    def each(name: str, default: str) -> list[str]:
        return fields[name].split("x") if name in fields else [default] * len(sizes)

    places = labels.group(3)
    pairs = 1.0
    for axis, size in enumerate(sizes):
        low = int(each("pad", "0_0")[axis].split("_")[0])
        stride = int(each("stride", "1")[axis])
        spread, gap = (
            int(each("lhs_dilate", "1")[axis]),
            int(each("rhs_dilate", "1")[axis]),
        )
        length = (image[left.index(str(axis))] - 1) * spread + 1
        at = np.arange(output[places.index(str(axis))])[:, None] * stride - low
        at = at + np.arange(size)[None] * gap
        pairs *= float(np.sum((at >= 0) & (at < length) & (at % spread == 0)))
    groups = re.search(r"batch_group_count=(\d+)", one.attributes)
    batch = image[left.index("b")] // (int(groups.group(1)) if groups else 1)
    return 2.0 * pairs * batch * weights[right.index("i")] * weights[right.index("o")]


def sent_bytes(
    one: Instruction, inside: Mapping[str, Instruction], partitions: int
) -> float:
    """Bytes that each chip sends for one collective, if rings carry it.

    Of n chips that hold s bytes each before it: an all-reduce sends 2 s (n - 1) / n, an
    all-gather s (n - 1), a reduce-scatter and an all-to-all s (n - 1) / n, and a
    permutation s.

    Args:
        one: A collective, or the start of one.
        inside: The computation that it stands in.
        partitions: n where no groups are named.

    Raises:
        ValueError: Groups that cannot be read.
    """
    kind = one.opcode.removesuffix("-start")
    held = sum(a.size for name in one.operands for a in inside[name].arrays)
    if kind in ("collective-permute", "collective-broadcast"):
        return float(held)
    n = group_size(one, partitions)
    share = {"all-reduce": 2 * (n - 1) / n, "all-gather": n - 1}
    return held * share.get(kind, (n - 1) / n)


def group_size(one: Instruction, partitions: int) -> int:
    """How many chips take part in a collective together.

    Args:
        one: A collective with groups.
        partitions: That number where no groups are named.

    Raises:
        ValueError: Groups that cannot be read.
    """
    text = one.attributes
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", text):
        return int(found.group(1))
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return len(found.group(1).split(","))
    # axes of a mesh, whole or a part of one: mesh['a'=2,'b'=4] {'a','b':(1)2}
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", text)
    if mesh:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh.group(1)))
        named = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh.group(2))
        if named and all(axis in sizes for axis, _ in named):
            return int(np.prod([int(part or sizes[axis]) for axis, part in named]))
    if "replica_groups={}" in text or "replica_groups" not in text:
        return partitions
    raise ValueError(f"{one.name}: replica_groups cannot be read: {text[:200]}")


def moved_bytes(one: Instruction, visit: Visit, program: Program) -> float:
    """Bytes that an instruction reads from and writes to the chip's main memory.

    A slice reads what it takes, and an update in place writes what is new; of a fusion
    that does so with an operand likewise. What lies in memory on the chip is free.

    Args:
        one: An instruction that stands in no fusion.
        visit: Where it stands.
        program: That holds it.
    """
    inside = program.computations[visit.computation]
    if one.opcode in _FREE or one.opcode.endswith(("-done", "-update")):
        return 0.0
    operands = [inside[name] for name in one.operands]
    if one.opcode == "fusion":
        (called,) = called_by(one)
        body = program.computations[called]
        read = sum(
            min(_used(program, called, i), _hbm(x)) for i, x in enumerate(operands)
        )
        root = root_of(body)
        return read + min(_written(body, root), _hbm(one))
    if one.opcode in ("dynamic-slice", "slice", "gather"):
        return _hbm(one) + min(_hbm(one), _hbm(operands[0]))
    if one.opcode == "dynamic-update-slice":
        return 2.0 * min(_bytes(operands[1]), _hbm(one))
    if one.opcode == "async-start":
        return 0.0  # what it calls is counted
    if one.opcode == "copy-start":  # its result: what is written, what is read, a flag
        return sum(float(a.size) for a in one.arrays[:2] if a.in_hbm)
    if one.opcode == "slice-start":  # what is sliced, the slice, a flag
        source, part = one.arrays[:2]
        return float(part.size) * (source.in_hbm + part.in_hbm)
    if one.opcode.endswith("-start"):  # a collective: its result holds operands again
        return 2.0 * sum(_hbm(x) for x in operands)
    return _hbm(one) + sum(_hbm(x) for x in operands)


def _hbm(one: Instruction) -> float:
    return float(sum(a.size for a in one.arrays if a.in_hbm))


def _bytes(one: Instruction) -> float:
    return float(sum(a.size for a in one.arrays))


def _used(program: Program, name: str, place: int) -> float:
    """Bytes of a parameter of a fusion that are read: slices of it, or all of it."""
    body = program.computations[name]
    own = next(
        (
            x
            for x in body.values()
            if x.opcode == "parameter" and x.literal == str(place)
        ),
        None,
    )
    if own is None:
        return 0.0
    read = 0.0
    for one in body.values():
        if own.name not in one.operands:
            continue
        if one.opcode in ("dynamic-slice", "slice", "gather"):
            read += _bytes(one)
        elif one.opcode == "dynamic-update-slice" and one.operands[0] == own.name:
            continue
        elif one.opcode == "fusion":
            (called,) = called_by(one)
            for i, operand in enumerate(one.operands):
                read += _used(program, called, i) if operand == own.name else 0.0
        else:
            return _bytes(own)
    return read


def _written(body: Mapping[str, Instruction], root: Instruction) -> float:
    """Bytes that a fusion writes: an update in place writes what is new."""
    if root.opcode == "tuple":
        return sum(_written(body, body[name]) for name in root.operands)
    if root.opcode == "dynamic-update-slice":
        return _bytes(body[root.operands[1]])
    if root.opcode in ("bitcast", "copy") and root.operands:
        inner = body[root.operands[0]]
        if inner.opcode == "dynamic-update-slice":
            return _written(body, inner)
    return _bytes(root)
