"""A plan of one training step: memory, work and time of each chip, and the price."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medjax.planning.chips import GIB, Chip, Topology
from medjax.planning.costs import Costs

STEPS = 1000  # that the price is told for


class Memory(NamedTuple):
    """Bytes of one chip while a step runs; None where the compiler does not say."""

    params: int
    optimizer: int
    reference: int  # the policy that a KL term is measured to
    carry: int  # what else the state holds
    batch: int
    temporaries: int | None  # activations, gradients, caches, copies of parameters
    peak: float | None  # all of them at the worst moment, with the program itself
    cache: float | None = None  # keys and values of a rollout, a part of temporaries


class Times(NamedTuple):
    """Seconds that a phase takes at the chip's peaks, each for itself."""

    arithmetic: float
    memory: float
    wire: float

    @property
    def least(self) -> float:
        """No phase ends before its slowest part has."""
        return max(self)


class Plan(NamedTuple):
    """What one stage needs of a topology."""

    stage: str
    topology: Topology
    mesh: Mapping[str, int]
    shapes: str  # of the batch, for a person
    programs: int  # shapes of batches that a run compiles the step for
    contexts: float  # pictures a chip
    tokens: int  # that a step draws, or learns from, at most
    memory: Memory
    needed: float  # bytes of a chip at the worst moment
    costs: Mapping[str, Costs]  # by phase; empty where the step could not be compiled
    price: float  # of a chip and hour; 0 where none was given
    lower_seconds: float
    compile_seconds: float
    uncounted: tuple[str, ...]  # see `Work`
    knobs: tuple[str, ...] = ()  # options that need less memory

    @property
    def fits(self) -> bool:
        """Whether a chip has as much memory."""
        return self.needed <= self.topology.chip.hbm


def phase_times(costs: Costs, chip: Chip) -> Times:
    """How long a phase takes at a chip's peaks.

    Args:
        costs: Of the phase, of one chip.
        chip: Its peaks.
    """
    return Times(
        costs.flops / chip.flops, costs.hbm / chip.hbm_rate, costs.sent / chip.link_rate
    )


def step_seconds(plan: Plan) -> float:
    """Seconds that a step takes at least: phases follow each other.

    Args:
        plan: One that was compiled.
    """
    times = (phase_times(c, plan.topology.chip) for c in plan.costs.values())
    return sum(x.least for x in times)


def plan_row(plan: Plan) -> dict[str, Any]:
    """A plan as a row of JSON; times and prices are None where nothing was compiled.

    Args:
        plan: Of one stage.
    """
    chip, chips = plan.topology.chip, plan.topology.count
    seconds = step_seconds(plan) if plan.costs else None
    phases = {}
    for name, costs in plan.costs.items():
        times = phase_times(costs, chip)
        phases[name] = {
            "flops": costs.flops,
            "hbm_bytes": costs.hbm,
            "wire_bytes": dict(costs.wire),
            "seconds": {**times._asdict(), "least": times.least},
        }
    return {
        "stage": plan.stage,
        "topology": plan.topology.name,
        "chip": chip._asdict(),
        "chips": chips,
        "mesh": dict(plan.mesh),
        "batch": plan.shapes,
        "programs": plan.programs,
        "contexts_a_chip": plan.contexts,
        "tokens_a_step_most": plan.tokens,
        "fits": plan.fits,
        "needed_bytes": plan.needed,
        "memory_bytes": plan.memory._asdict(),
        "phases": phases,
        "loops_counted_once": list(plan.uncounted),
        "step_seconds_least": seconds,
        "tokens_a_second_and_chip_most": plan.tokens / seconds / chips
        if seconds
        else None,
        "price_a_chip_hour": plan.price or None,
        f"price_of_{STEPS}_steps_least": _cost(plan, seconds),
        "lower_seconds": round(plan.lower_seconds, 1),
        "compile_seconds": round(plan.compile_seconds, 1),
        "knobs": list(plan.knobs),
    }


def _cost(plan: Plan, seconds: float | None) -> float | None:
    if seconds is None or not plan.price:
        return None
    return seconds * STEPS / 3600 * plan.topology.count * plan.price


def _short(number: float) -> str:
    """Three digits, or all before the point where there are more."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def plan_lines(plan: Plan) -> Iterator[str]:
    """A plan for a person.

    Args:
        plan: Of one stage.
    """
    chip, memory = plan.topology.chip, plan.memory
    mesh = ", ".join(f"{name} {size}" for name, size in plan.mesh.items())
    yield (
        f"{plan.stage} on {plan.topology.name}: {plan.topology.count} {chip.name} "
        f"chips ({mesh}), {plan.contexts:g} pictures a chip"
    )
    yield f"  batch {plan.shapes}; {_programs(plan.programs)}"
    parts = [
        ("parameters", memory.params),
        ("optimiser", memory.optimizer),
        ("reference", memory.reference),
        ("batch and the rest", memory.batch + memory.carry),
        ("temporaries", memory.temporaries),
        ("caches among them", memory.cache),
    ]
    told = [f"{name} {_short(size / GIB)}" for name, size in parts if size is not None]
    yield f"  GiB a chip: {', '.join(told)}"
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    yield f"  peak {_short(plan.needed / GIB)} of {chip.hbm / GIB:.4g} GiB: {verdict}"
    for knob in plan.knobs:
        yield f"    {knob}"
    if plan.costs:
        yield from _cost_lines(plan)
    yield (
        f"  traced in {plan.lower_seconds:.0f} s, compiled in "
        f"{plan.compile_seconds:.0f} s on this machine"
    )


def _programs(count: int) -> str:
    return "one program to compile" if count == 1 else f"{count} programs to compile"


def _cost_lines(plan: Plan) -> Iterator[str]:
    chip, chips = plan.topology.chip, plan.topology.count
    yield (
        f"  {'a chip and step':<16}{'TFLOP':>10}{'HBM GB':>10}{'wire GB':>10}"
        f"    s: {'arithmetic':>10}{'HBM':>10}{'wire':>10}"
    )
    for name, costs in plan.costs.items():
        times = phase_times(costs, chip)
        sizes = (costs.flops / 1e12, costs.hbm / 1e9, costs.sent / 1e9)
        yield (
            f"    {name:<14}{''.join(f'{_short(x):>10}' for x in sizes)}"
            f"       {''.join(f'{_short(x):>10}' for x in times)}"
        )
        if costs.wire:
            kinds = sorted(costs.wire.items(), key=lambda item: -item[1])
            told = ", ".join(f"{kind} {_short(sent / 1e9)}" for kind, sent in kinds)
            yield f"      wire GB: {told}"
    seconds = step_seconds(plan)
    rate = _short(plan.tokens / seconds / chips)
    yield (
        f"  a step takes at least {_short(seconds)} s (the data sheet's peaks), "
        f"at most {rate} tokens/s/chip"
    )
    for loop in plan.uncounted:
        yield f"  counted once, since its length is not known: {loop}"
    cost = _cost(plan, seconds)
    if cost is not None:
        hours = _short(seconds * STEPS / 3600)
        yield (
            f"  {STEPS} steps take at least {hours} h and cost at least "
            f"{_short(cost)} at {plan.price:g} a chip and hour"
        )


def refuse_plans(plans: Sequence[Plan]) -> None:
    """Raise where some stage does not fit.

    Args:
        plans: Of all stages.

    Raises:
        ValueError: It names the stages, what they need and what there is.
    """
    short = [plan for plan in plans if not plan.fits]
    if short:
        lines = (
            f"{plan.stage} needs {plan.needed / GIB:.4g} GiB a chip, "
            f"{plan.topology.chip.name} has {plan.topology.chip.hbm / GIB:.4g}"
            + "".join(f"; {knob}" for knob in plan.knobs)
            for plan in short
        )
        raise ValueError("does not fit: " + "\n".join(lines))
