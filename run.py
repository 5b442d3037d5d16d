"""Train or evaluate one of medjax's systems.

    python run.py --config=configs/medloc.py                     train, then evaluate
    python run.py --config=configs/medloc.py:reward=fixed        a variant
    python run.py --config=configs/medloc.py --config.seed=1     one number
    python run.py --config=configs/medloc.py --mode=eval --checkpoint=FOLDER

A config's first lines list its variants. The same command resumes a stopped run.
"""

import os
import pathlib
import sys

if __name__ == "__main__" and sys.platform == "linux":
    if "GLIBC_TUNABLES" not in os.environ:  # read at the start only, so start again:
        # huge pages halve the time of a step on a CPU
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from medjax.recipes import medloc, puq, vrft_aug
from medjax.recipes.policy import load_params
from medjax.runtime.checkpoint import CheckpointError
from medjax.runtime.loop import NonFiniteStep
from medjax.runtime.stages import evaluate_checkpoint, run_stages
from medjax.sharding import make_mesh

RECIPES = {"medloc": medloc.stages, "puq": puq.stages, "vrft_aug": vrft_aug.stages}
LOOP = ("system", "seed", "mesh", "rules", "checkpoint")  # the rest is the recipe's
CONFIG = config_flags.DEFINE_config_file("config", None, "FILE or FILE:ARGUMENTS.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run [workdir/SYSTEM].")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "To evaluate: a workdir [this], stage or Hugging Face folder."
)
CACHE = flags.DEFINE_string(
    "compilation_cache", "~/.cache/medjax/jax", "Compiled programs; empty: none kept."
)


def main(argv: list[str]) -> None:
    """Build what the config says and run it."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.ERROR)  # orbax tells a story at each checkpoint
    if CACHE.value:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(CACHE.value))
    if {"JAX_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES"} & set(os.environ):
        jax.distributed.initialize()
    config = CONFIG.value.to_dict()
    workdir = pathlib.Path(WORKDIR.value or pathlib.Path("workdir", config["system"]))
    where = {"seed": config["seed"], "workdir": workdir}
    sections = {name: value for name, value in config.items() if name not in LOOP}
    stages = RECIPES[config["system"]](**where, **sections)
    where |= {"mesh": make_mesh(config["mesh"]), "rules": config["rules"]}
    if MODE.value == "eval":
        path = CHECKPOINT.value or workdir
        evaluate_checkpoint(stages[-1], path, load=load_params, **where)
        return
    saving = {**config["checkpoint"], "facts": {"config": config}}
    run_stages(stages, checkpoint_every=saving.pop("every"), **saving, **where)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    try:
        app.run(main)
    except (ValueError, OSError, TypeError, CheckpointError, NonFiniteStep) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except (AttributeError, KeyError) as error:
        if flags.FLAGS.is_parsed():
            raise
        while isinstance(error, Exception):  # the innermost ends in a suggestion
            error = error.args[0]
        sys.exit(f"--config: no option {error}")
