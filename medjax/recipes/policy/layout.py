"""Where a policy's arrays lie: the mesh, and rules that cut nothing of it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from medjax.planning.auto import (
    Estimate,
    Load,
    ParameterBytes,
    choice_line,
    choose_sizes,
    estimate_bytes,
    undivided,
)
from medjax.planning.chips import chip_of, parse_topology
from medjax.planning.layout import cut, divided, fit_rules
from medjax.recipes.policy.opened import Outline
from medjax.recipes.policy.opening import open_arrays, open_outline
from medjax.recipes.policy.qwen25vl_folder import say
from medjax.runtime.processes import from_first
from medjax.sharding import make_mesh

WORDS = 128  # tokens of a question, where only pictures are known of
UNBOUNDED = 256  # tokens of an answer, where the longest right one is not known yet
# Bytes of a parameter that an optimiser keeps, by `moments`; see `make_optimizer`.
MOMENTS: Mapping[str, int] = {"full": 8, "bfloat16": 6, "factored": 0}


def suited(
    config: Mapping[str, Any], devices: Sequence[Any] | None, topology: str
) -> tuple[Mapping[str, Any], Mesh]:
    """A config whose rules suit its policy, and the mesh; see `recipes.layout.lay_out`.

    Args:
        config: As there, with a section `policy`.
        devices: As there.
        topology: As there.

    Raises:
        FileNotFoundError: The policy's folder has no config.json.
        ValueError: As there.
    """
    policy, shape = config["policy"], config["mesh"]
    if list(shape.values()).count(-1) > 1:
        shape = _chosen(config, devices, topology)
    mesh = make_mesh(shape, devices)
    if not _divides(config["rules"], mesh.shape):
        return config, mesh
    units = open_outline(policy).units
    rules, told = fit_rules(config["rules"], mesh.shape, units)
    rollout, more = policy.get("rollout_rules"), []
    if rollout is not None:
        rollout, more = fit_rules(rollout, mesh.shape, units)
    for line in dict.fromkeys([*told, *more]):
        say(line)
    policy = {**policy, "rollout_rules": rollout}
    return {**config, "rules": rules, "policy": policy}, mesh


def _divides(rules: Mapping[str, Sequence[str]], sizes: Mapping[str, int]) -> bool:
    """Whether anything but the batch and the width may be divided by such rules."""
    return any(
        sizes.get(axis, 1) > 1
        for name, axes in rules.items()
        if name not in ("batch", "embed")
        for axis in axes
    )


def _chosen(
    config: Mapping[str, Any], devices: Sequence[Any] | None, topology: str
) -> dict[str, int]:
    """The sizes of the mesh, and a line about why."""
    devices = jax.devices() if devices is None else devices
    policy, given = config["policy"], config["rules"]
    rollout = policy.get("rollout_rules") or given
    outline, arrays = open_outline(policy), open_arrays(policy)
    stage = _last_stage(config)
    load, kinds = _load(stage, policy, outline), _kinds(stage, policy)
    batches = sorted(set(_batches(config)))

    def refuse(sizes: Mapping[str, int]) -> str | None:
        fault = cut(outline.units, given, sizes)
        if fault is not None:
            return fault
        parts = divided("batch", given, sizes)
        for batch in batches:
            if batch % parts:
                return f"a batch of {batch} is not divisible by {parts} devices"
        fitted, _ = fit_rules(given, sizes, outline.units)
        fault = undivided(arrays, fitted, sizes)
        if fault is not None:
            return f"{fault} is not divisible"
        try:
            make_mesh(sizes, devices)
        except ValueError:
            return "the devices are not linked so"
        return None

    def estimate(sizes: Mapping[str, int]) -> Estimate:
        fit = partial(fit_rules, mesh=sizes, units=outline.units)
        rules = {"rules": fit(given)[0], "rollout_rules": fit(rollout)[0]}
        return estimate_bytes(arrays, outline.widths, load, kinds, sizes=sizes, **rules)

    # of process 0: another number on another process would be another mesh
    told = from_first(lambda: str(device_memory(jax.local_devices()[0]) or ""))
    memory = float(told) if told else None
    if topology:
        memory = parse_topology(topology).chip.hbm
    choice = choose_sizes(
        config["mesh"], len(devices), refuse=refuse, estimate=estimate, memory=memory
    )
    say(choice_line(choice, memory))
    return choice.sizes


def device_memory(device: Any) -> float | None:
    """Bytes that a program can have on a device; None where nobody says, as of CPUs.

    Args:
        device: A jax device of this process. What its allocator may take counts before
            what the data sheet says.
    """
    if device.platform == "cpu":
        return None
    limit = (device.memory_stats() or {}).get("bytes_limit")
    chip = chip_of(device.device_kind)
    return limit or (chip.hbm if chip else None)


def _last_stage(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section of the stage that a run is for: it needs the most memory."""
    train = config["train"]
    return train if "batch" in train else train[train["method"]]


def _batches(config: Mapping[str, Any]) -> Iterator[int]:
    """The pictures that are worked on together, in every stage and evaluation."""
    stage = _last_stage(config)
    yield stage["batch"] // stage.get("accumulate", 1)
    yield config["evaluation"]["batch"]
    if config["warm_start"]["steps"]:
        yield config["warm_start"]["batch"]
    before = config.get("localisation", {})
    if before.get("use"):
        yield from _batches(before)


def _load(
    stage: Mapping[str, Any], policy: Mapping[str, Any], outline: Outline
) -> Load:
    """What a step works on; pictures as large as they may be."""
    patches = policy["max_pixels"] // outline.patch**2
    answer = stage.get("max_tokens") or UNBOUNDED
    return Load(
        contexts=stage["batch"],
        accumulate=stage.get("accumulate", 1),
        answers=stage["questions"] * stage.get("group", 1),
        prompt=patches // outline.merge**2 + WORDS,
        answer=answer,
        patches=patches,
        scored=policy["logit_chunk"] or answer,
        drawn="group" in stage,
        recomputed=policy["remat"] != "none",
    )


def _kinds(stage: Mapping[str, Any], policy: Mapping[str, Any]) -> ParameterBytes:
    kept = jnp.dtype(policy["param_dtype"]).itemsize
    optim = stage["optim"]
    master = 4 if optim["half"] == "master" else 0
    computed = jnp.dtype(policy["dtype"]).itemsize
    if policy["lora"]["rank"] is not None:
        return ParameterBytes(kept, 0, 0, computed, trained=False)
    return ParameterBytes(
        kept=kept,
        optimizer=MOMENTS[optim["moments"]] + master,
        reference=kept if stage.get("loss", {}).get("beta") else 0,
        computed=computed,
    )
