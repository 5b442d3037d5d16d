"""The mode `plan`: what a run's stages need of chips that are not there yet."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from medjax.planning.auto import cache_bytes
from medjax.planning.chips import GIB, Topology, parse_topology
from medjax.planning.costs import Work, count_costs, step_phase
from medjax.planning.layout import fit_rules
from medjax.planning.plan import Plan, plan_lines, plan_row, refuse_plans
from medjax.recipes.policy.opening import open_outline
from medjax.runtime.adapted import trained_part
from medjax.runtime.ahead import Ahead, bytes_a_chip, compile_ahead
from medjax.runtime.program import abstract_state, describe, shapes_of
from medjax.runtime.progress import progress
from medjax.runtime.stages import Stage
from medjax.runtime.writer import write_atomic
from medjax.sharding import Rules, make_mesh
from medjax.types import Prompt, TrainState


class Knobs(NamedTuple):
    """What a config has set that decides how much memory a step needs."""

    remat: str
    logit_chunk: int | None
    param_dtype: str
    freeze_vision: bool


def plan_stages(
    stages: Sequence[Stage],
    *,
    topology: str,
    price: float,
    config: Mapping[str, Any],
    workdir: Path,
    mesh: Mesh,
    rules: Rules,
) -> list[str]:
    """Compile each stage's step for a topology, tell what it needs, write plan.json.

    Nothing is trained and no weights are read. Of the data the first batch is made, for
    its shapes.

    Args:
        stages: Those of the run.
        topology: The name of the chips, see `parse_topology`.
        price: Of one chip and hour, in any currency; 0 where it is not known.
        config: Of the run; its sections `policy` and `checkpoint` are read.
        workdir: Gets plan.json.
        mesh: Of these chips, from `stand_in`.
        rules: The mesh axes that each logical axis falls on.

    Returns:
        What makes the data doubtful.

    Raises:
        ImportError: libtpu is missing.
        ValueError: Some stage does not fit, or mesh and batch do not go together.
    """
    if price < 0:
        raise ValueError(f"--price={price:g}: expected the price of a chip and hour")
    chips = parse_topology(topology)
    skip = config["checkpoint"]["on_nonfinite"] == "skip"
    policy = config["policy"]
    knobs = Knobs(**{name: policy[name] for name in Knobs._fields})
    plans = []
    for stage in stages:
        batch = next(iter(stage.source))
        plan = _plan(stage, batch, chips, mesh, rules, knobs, price=price, skip=skip)
        if "decode" in plan.costs:  # the stage draws answers
            where = {"mesh": mesh, "rules": rules}
            cache = rollout_cache(policy, batch.prompt, stage.tokens, **where)
            plan = plan._replace(memory=plan.memory._replace(cache=cache))
        for line in plan_lines(plan):
            print(line, flush=True)  # noqa: T201
        plans.append(plan)
        workdir.mkdir(parents=True, exist_ok=True)
        content = {"versions": _versions(), "stages": [plan_row(p) for p in plans]}
        write_atomic(workdir / "plan.json", json.dumps(content, indent=1) + "\n")
    refuse_plans(plans)
    return [line for stage in stages for line in stage.doubts]


def _versions() -> dict[str, str | None]:
    found = {}
    for name in ("jax", "jaxlib", "libtpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _plan(
    stage: Stage,
    batch: Any,
    topology: Topology,
    mesh: Mesh,
    rules: Rules,
    knobs: Knobs,
    *,
    price: float,
    skip: bool,
) -> Plan:
    with progress(stage.name, first=0, total=0, show=()) as report:
        with report.busy(f"compiling for {topology.name}"):
            ahead = compile_ahead(
                stage.system, batch, mesh=mesh, rules=rules, skip=skip
            )
    work = Work({}, ())
    if ahead.program is not None:
        share = partial(branch_share, stage.identity)
        work = count_costs(ahead.program, step_phase, share)
    needed = ahead.needed if ahead.memory.peak is None else ahead.memory.peak
    if needed is None:
        raise ValueError(f"{stage.name}: the compiler tells no memory")
    plan = Plan(
        stage=stage.name,
        topology=topology,
        mesh=dict(mesh.shape),
        shapes=describe(shapes_of(batch)),
        programs=1,
        contexts=_rows(batch) / topology.count,
        tokens=stage.tokens,
        memory=ahead.memory,
        needed=needed,
        costs=work.phases,
        uncounted=work.uncounted,
        price=price,
        lower_seconds=ahead.lower_seconds,
        compile_seconds=ahead.compile_seconds,
    )
    if plan.fits:
        return plan
    found = _knobs(stage, plan, ahead, mesh, rules, knobs)
    return plan._replace(knobs=tuple(found))


def rollout_cache(
    policy: Mapping[str, Any], prompt: Prompt, answers: int, *, mesh: Mesh, rules: Rules
) -> float:
    """Bytes of the caches of a rollout on one chip: prompts once, and all answers.

    Args:
        policy: The section of the config.
        prompt: Of all chips.
        answers: Tokens of all answers that are drawn.
        mesh: Of the chips.
        rules: The mesh axes that each logical axis falls on, where the policy has none
            of its own for rollouts.
    """
    tokens = prompt.context.tokens.size + prompt.question.tokens.size + answers
    outline = open_outline(policy)
    given = policy["rollout_rules"] or rules
    fitted, _ = fit_rules(given, mesh.shape, outline.units)
    computed = jnp.dtype(policy["dtype"]).itemsize
    return cache_bytes(outline.widths, tokens, computed, rules=fitted, sizes=mesh.shape)


def branch_share(identity: Mapping[str, Any], name: str) -> float:
    """How often a branch of a step is taken: of the vision tower's two kinds of blocks.

    A block attends to the whole image or to windows, by a table of blocks. Every other
    branch is taken to run whenever it is reached, as that of the next token does until
    all answers have ended.

    Args:
        identity: Of a stage, see `policy.identity`.
        name: The op_name of something in the branch.
    """
    found = re.search(r"VisionTower.*/blocks/cond/branch_([01])_fun", name)
    if found is None or "vision" not in identity.get("policy", {}):
        return 1.0
    vision = identity["policy"]["vision"]
    whole = len(vision["full_blocks"]) / vision["depth"]
    return whole if found.group(1) == "1" else 1.0 - whole


def _rows(batch: Any) -> int:
    """Pictures of a batch: its smallest first axis."""
    return min(x.shape[0] for x in jax.tree.leaves(batch) if x.ndim)


def _parts(mesh: Mesh, rules: Rules) -> int:
    axes = rules["batch"]
    names = (axes,) if isinstance(axes, str) else tuple(axes or ())
    parts = 1
    for name in names:
        parts *= mesh.shape[name]
    return parts


def _wider(
    stage: Stage, mesh: Mesh, rules: Rules
) -> tuple[Mapping[str, int], int] | None:
    """The mesh with the most of `data` moved to `fsdp` that divides every array.

    With it comes what the state and the gradients then take on a chip, in bytes.
    """
    axes = dict(mesh.shape)
    if not {"data", "fsdp"} <= axes.keys():
        return None
    for parts in range(axes["data"], 1, -1):
        if axes["data"] % parts:
            continue
        data, fsdp = axes["data"] // parts, axes["fsdp"] * parts
        sizes = {**axes, "data": data, "fsdp": fsdp}
        other = make_mesh(sizes, list(mesh.devices.flat))
        try:
            placed, _ = abstract_state(stage.system, mesh=other, rules=rules)
        except ValueError:  # it does not divide an array
            continue
        return sizes, _state_bytes(stage, placed)
    return None


def _state_bytes(stage: Stage, placed: TrainState) -> int:
    """Of a state with the gradients, which are as large as what is trained."""
    reference = getattr(placed.aux, "reference", ())
    trained = trained_part(stage.system.adapter, placed.params)
    return bytes_a_chip(
        (placed.params, trained, placed.opt_state, reference),
    )


def _knobs(
    stage: Stage,
    plan: Plan,
    ahead: Ahead,
    mesh: Mesh,
    rules: Rules,
    knobs: Knobs,
) -> Iterator[str]:
    """What needs less memory: first what is counted exactly, then what is not."""
    memory, short = ahead.memory, plan.needed - plan.topology.chip.hbm
    placed, _ = abstract_state(stage.system, mesh=mesh, rules=rules)
    state, adapter = _state_bytes(stage, placed), stage.system.adapter

    def saved(words: str, size: float) -> str:
        enough = "enough by itself" if size >= short else "not enough alone"
        return f"{words} saves {size / GIB:.2f} GiB a chip: {enough}"

    wider = _wider(stage, mesh, rules)
    if wider is not None:
        sizes, size = wider
        words = " ".join(f"--config.mesh.{k}={sizes[k]}" for k in ("data", "fsdp"))
        yield saved(words, state - size)
    if memory.reference:
        yield saved("--config.train.grpo.loss.beta=0.0", memory.reference)
    if knobs.param_dtype == "float32":
        words = "--config.policy.param_dtype=bfloat16"
        if adapter is None:
            yield saved(f"{words} (coarser updates)", state / 2)
        else:
            base = bytes_a_chip(adapter.split(placed.params)[1])
            yield saved(f"{words} (of the base)", base / 2)
    if knobs.remat == "none":
        yield "--config.policy.remat=full computes activations of each layer again"
    if knobs.logit_chunk is None:
        yield "--config.policy.logit_chunk=32 scores an answer in parts"
    if not knobs.freeze_vision:
        yield "--config.policy.freeze_vision=True keeps no activations of the vision"
    together = round(plan.contexts * plan.topology.count / _parts(mesh, rules))
    if together > 1:
        yield (
            f"a smaller train.grpo.batch, or train.grpo.accumulate={together}: a part "
            f"of the mesh holds {together} pictures at a time"
        )
    yield f"more than {plan.topology.count} chips, or chips with more memory"
