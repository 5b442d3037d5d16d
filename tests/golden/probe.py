"""What a run starts from: batches, parameters and metrics of each of its stages.

    python -P tests/golden/probe.py --config=configs/medloc.py:smoke --out=FILE
    python -P tests/golden/probe.py --config=... --first_steps=WORKDIR --out=FILE

`runs.py` executes this file in two trees. It therefore knows of medjax only what both
have: the configs, `medjax.recipes.SYSTEM.stages`, the members of a `Stage`, and the
loop's own program for one step.
"""

import hashlib
import importlib
import itertools
import json
import pathlib
import zlib

import jax
import numpy as np

BATCHES = 2  # of each stage, for training and for evaluation
LOOP = (
    "system",
    "seed",
    "mesh",
    "rules",
    "checkpoint",
    "predict",
)  # no sections of a recipe
# Logical values that come from comparing floats: a rounding may flip one of them.
FROM_FLOATS = ("roi",)


def stages_of(config, workdir="nowhere"):
    """The stages that `run.py` would run for this config."""
    config = config.to_dict()
    recipe = importlib.import_module(f"medjax.recipes.{config['system']}")
    sections = {name: x for name, x in config.items() if name not in LOOP}
    return recipe.stages(seed=config["seed"], workdir=pathlib.Path(workdir), **sections)


def describe(stages, *, exact):
    """Names, shapes, dtypes and hashes of everything that a stage begins with.

    With `exact` only what is the same on every CPU: hashes of integers and logical
    values. How floats are rounded depends on the instructions that a CPU has.
    """
    return {stage.name: describe_stage(stage, exact=exact) for stage in stages}


def describe_stage(stage, *, exact):
    batches = list(itertools.islice(iter(stage.source), BATCHES))
    pairs = itertools.islice(stage.eval_batches(), BATCHES)
    state = jax.eval_shape(stage.system.init, jax.random.key(0))
    facts = {
        "batches": [named(batch, exact=exact) for batch in batches],
        "eval_batches": [named(batch, exact=exact) for batch, _ in pairs],
        "params": named(state.params),
        "aux": named(state.aux),
    }
    if stage.system.prepare is None:  # else `update` takes what Python returns
        key = jax.random.key(0)
        _, metrics = jax.eval_shape(stage.system.update, state, batches[0], key)
        facts["metrics"] = named(metrics)
    return facts


def named(tree, *, exact=False):
    """Dotted name -> `int32[16,12] HASH` of each array of a tree."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves
    ]
    return {
        name: describe_array(x, name, exact=exact)
        for name, (_, x) in zip(names, leaves, strict=True)
    }


def describe_array(array, name, *, exact):
    text = f"{array.dtype}[{','.join(map(str, array.shape))}]"
    sure = array.dtype.kind in "iub" and name not in FROM_FLOATS
    if isinstance(array, jax.ShapeDtypeStruct) or (exact and not sure):
        return text
    values = np.ascontiguousarray(array)
    return f"{text} {hashlib.sha256(values.tobytes()).hexdigest()[:16]}"


def root_of(stage, seed):
    """The key that the loop gives a stage."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(stage.name.encode()))


def initial_params(stage, seed):
    """Hashes of what the first stage begins with, drawn as the loop draws it."""
    return named(jax.jit(stage.system.init)(root_of(stage, seed)).params)


def first_steps(stages, seed, workdir):
    """Metrics of every stage's first step, begun from checkpoints in `workdir`.

    Each stage begins with the parameters that the stage before it had there, so that
    two trees begin with the same, whatever one of them rounds differently on the way.
    """
    from medjax.runtime.checkpoint import restore_params
    from medjax.runtime.program import judged

    here, rows, before = jax.sharding.SingleDeviceSharding(jax.devices()[0]), {}, None
    for stage in stages:
        system, root, given = stage.system, root_of(stage, seed), ()
        if before is not None:
            shapes = jax.eval_shape(system.init, root).params
            placed = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes
            )
            folder = pathlib.Path(workdir, before.name, "checkpoints")
            given = (restore_params(folder, placed),)
        state = jax.jit(system.init)(root, *given)
        batch = next(iter(stage.source))
        if system.prepare is not None:
            key = jax.random.fold_in(root, state.step)
            batch = system.prepare(state, batch, key)
        _, metrics = jax.jit(judged(system.update, skip=False))(state, batch, root)
        rows[stage.name] = {
            name: np.asarray(value).tolist() for name, value in metrics.items()
        }
        before = stage
    return rows


def main():
    from absl import app, flags
    from ml_collections import config_flags

    config = config_flags.DEFINE_config_file("config")
    out = flags.DEFINE_string("out", None, "File for the answer.", required=True)
    exact = flags.DEFINE_bool("exact", False, "Only what is the same on every CPU.")
    steps = flags.DEFINE_string("first_steps", None, "Workdir with checkpoints.")

    def write(argv):
        del argv
        stages, seed = stages_of(config.value), config.value.seed
        if steps.value:
            answer = first_steps(stages, seed, steps.value)
        else:
            answer = describe(stages, exact=exact.value)
            if not exact.value:
                answer["initial_params"] = initial_params(stages[0], seed)
        pathlib.Path(out.value).write_text(json.dumps(answer, indent=1) + "\n")

    app.run(write)


if __name__ == "__main__":
    main()
