"""Train or evaluate one of medjax's systems.

    python run.py --config=configs/medloc.py                     train, then evaluate
    python run.py --config=configs/medloc.py:reward=fixed        a variant
    python run.py --config=configs/medloc.py --config.seed=1     one number changed
    python run.py --config=configs/medloc.py --mode=eval --checkpoint=FOLDER

Each config says in its first lines what it does, how long it takes and what can follow
the colon. A run that was stopped, or killed, goes on with the same command.

This file is short on purpose: it joins a config, a recipe and the loop.
"""

import os
import pathlib
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from medjax.recipes import medloc
from medjax.recipes.policy import load_params
from medjax.runtime.stages import evaluate_checkpoint, run_stages
from medjax.sharding import make_mesh

RECIPES = {"medloc": medloc.stages}
LOOP = ("system", "seed", "mesh", "rules", "checkpoint")  # the rest is the recipe's

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run; by default named after the config, below workdir/.",
)
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "With --mode=eval: a workdir, a stage's folder in one, or a Hugging Face folder.",
)
CACHE = flags.DEFINE_string(
    "compilation_cache",
    "~/.cache/medjax/jax",
    "Where compiled programs are kept between runs; empty for nowhere.",
)


def main(argv: list[str]) -> None:
    """Build what the config says and run it."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.ERROR)  # orbax tells its story at each checkpoint
    if CACHE.value:
        cache = str(pathlib.Path(CACHE.value).expanduser())
        jax.config.update("jax_compilation_cache_dir", cache)
    if "JAX_COORDINATOR_ADDRESS" in os.environ or "TPU_WORKER_HOSTNAMES" in os.environ:
        jax.distributed.initialize()
    config = CONFIG.value.to_dict()
    workdir = pathlib.Path(WORKDIR.value or pathlib.Path("workdir", config["system"]))
    sections = {name: value for name, value in config.items() if name not in LOOP}
    stages = RECIPES[config["system"]](seed=config["seed"], workdir=workdir, **sections)
    where = {
        "mesh": make_mesh(config["mesh"]),
        "rules": config["rules"],
        "seed": config["seed"],
        "workdir": workdir,
    }
    if MODE.value == "eval":
        if not CHECKPOINT.value:
            raise app.UsageError("--mode=eval needs --checkpoint")
        evaluate_checkpoint(stages[-1], CHECKPOINT.value, load=load_params, **where)
        return
    checkpoint = config["checkpoint"]
    run_stages(
        stages,
        checkpoint_every=checkpoint["every"],
        keep=checkpoint["keep"],
        on_nonfinite=checkpoint["on_nonfinite"],
        facts={"config": config},
        **where,
    )


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    try:
        app.run(main)
    except (ValueError, OSError, TypeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
