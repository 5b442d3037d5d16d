"""Train or evaluate one of medjax's systems, or use it on your data.

    python run.py --config=configs/medloc.py:reward=fixed     train, then evaluate
    python run.py --config=configs/medloc.py --mode=eval --checkpoint=FOLDER
    python run.py --config=configs/puq.py --mode=predict --input=SCAN

A config's first lines list its variants. The same command resumes a stopped run.
"""

import os
import pathlib
import sys

if __name__ == "__main__" and sys.platform == "linux":
    if "GLIBC_TUNABLES" not in os.environ:  # huge pages halve a step on a CPU
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from medjax.recipes import medloc, puq, vrft_aug
from medjax.recipes.policy.opening import load_params
from medjax.recipes.qmri import predict as puq_predict
from medjax.runtime.checkpoint import CheckpointError
from medjax.runtime.loop import NonFiniteStep
from medjax.runtime.stages import evaluate_checkpoint, run_stages
from medjax.sharding import make_mesh

RECIPES = {"medloc": medloc.stages, "puq": puq.stages, "vrft_aug": vrft_aug.stages}
PREDICT = {"puq": puq_predict.predict}
LOOP = ("system", "seed", "mesh", "rules", "checkpoint")  # the rest is the recipe's
CONFIG = config_flags.DEFINE_config_file("config", None, "FILE or FILE:ARGUMENTS.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run [workdir/SYSTEM].")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "predict"], "What to do.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir, stage, policy's folder.")
INPUT = flags.DEFINE_string("input", None, "To predict from: file, folder or a,b,c.")
CACHE = flags.DEFINE_string("compilation_cache", "~/.cache/medjax/jax", "'': none.")


def main(argv: list[str]) -> None:
    """Build what the config says and run it."""
    if argv[1:]:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.ERROR)  # orbax tells a story at each checkpoint
    if CACHE.value:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(CACHE.value))
    if {"JAX_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES"} & set(os.environ):
        jax.distributed.initialize()
    config = CONFIG.value.to_dict()
    name, path = config["system"], CHECKPOINT.value
    workdir = pathlib.Path(WORKDIR.value or pathlib.Path("workdir", name))
    where = {"seed": config["seed"], "workdir": workdir}
    sections = {name: value for name, value in config.items() if name not in LOOP}
    mesh = {"mesh": make_mesh(config["mesh"]), "rules": config["rules"]}
    if MODE.value == "predict":
        if not (name in PREDICT and INPUT.value):
            raise ValueError(f"predict: expected --input, and {', '.join(PREDICT)}")
        PREDICT[name](INPUT.value, checkpoint=path, **where, **mesh, **sections)
    elif MODE.value == "eval":
        last, how = RECIPES[name](**where, **sections)[-1], {**where, **mesh}
        evaluate_checkpoint(last, path or workdir, load=load_params, **how)
    else:
        stages, how = RECIPES[name](**where, **sections), {**config["checkpoint"]}
        how |= {**where, **mesh, "facts": {"config": config}}
        run_stages(stages, checkpoint_every=how.pop("every"), **how)


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
