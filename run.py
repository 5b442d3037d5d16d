"""Train, evaluate or use one of medjax's systems.

    python run.py --config=configs/medloc.py   train, or --mode=check, replay, export
    python run.py --config=configs/medloc.py --mode=eval --checkpoint=FOLDER
    python run.py --config=configs/medloc.py --mode=eval --answers=FILE
    python run.py --config=configs/medloc.py --mode=predict --input=PICTURES --ask=TEXT
    python run.py --config=configs/puq.py --mode=predict --input=SCAN   or --mode=check
    python run.py --config=configs/medloc.py:model=FOLDER --mode=plan --topology=v5e:4x4

What stands behind the colon chooses variants; every option of a config can be set on
its own too: --config.train.grpo.group=16. The same command resumes a stopped run.

Exit codes:
    0      well
    1      an error: a message says what was expected, what was found and the way out
    3      finished with warnings that make the result doubtful; they are printed last
    128+N  stopped by signal N (130: ctrl-C, 143: SIGTERM); training saved first
"""

import os
import pathlib
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module  # recipes are slow to import

if __name__ == "__main__":
    import_module("configs.command_line").begin(os.environ)

import jax
from absl import app, flags
from ml_collections import config_flags

from configs import command_line
from configs.command_line import Run
from medjax.runtime.errors import STOPS, RewardError
from medjax.runtime.stand_ins import stand_in
from medjax.runtime.start import start

SYSTEMS = ("medloc", "vrft_aug", "puq", "pretrain")  # each a recipe's name
CONFIG = config_flags.DEFINE_config_file("config", None, "FILE or FILE:VARIANTS.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run [workdir/SYSTEM].")
MODE = flags.DEFINE_string("mode", "train", "What to do, see above.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir, stage, policy's folder.")
ANSWERS = flags.DEFINE_string("answers", None, "FILE.jsonl that eval scores instead.")
INPUT = flags.DEFINE_string("input", None, "To predict from: file, folder or a,b,c.")
ASK = flags.DEFINE_string("ask", None, "A question, or a file with one a line.")
CACHE = flags.DEFINE_string("compilation_cache", "~/.cache/medjax/jax", "'': none.")


def train(name: str, run: Run) -> list[str]:
    """Train what is not trained yet, and evaluate it."""
    from medjax.runtime.stages import doubts, run_stages

    chain = import_module(f"medjax.recipes.{name}").stages(**run.options)
    saving = {**run.config["checkpoint"], "profile": command_line.profile()}
    saving |= {"checkpoint_every": saving.pop("every"), "facts": {"config": run.config}}
    run_stages(chain, **saving, **run.place, **run.devices)
    return doubts(chain, **run.place)


def plan(name: str, run: Run) -> list[str]:
    """Compile what would be trained, for chips that need not be there."""
    from medjax.recipes.planning import plan_stages

    chain = import_module(f"medjax.recipes.{name}").stages(**run.options)
    about = {"config": run.config, "workdir": run.place["workdir"]}
    return plan_stages(chain, **command_line.planned(), **about, **run.devices)


def evaluate(name: str, run: Run) -> list[str]:
    """Evaluate a checkpoint as the last stage does, or somebody else's answers."""
    from medjax.recipes.policy.opening import evaluate_chain

    if ANSWERS.value:
        score = getattr(import_module("medjax.recipes.answers"), name)
        return score(ANSWERS.value, **run.options)
    chain = import_module(f"medjax.recipes.{name}").stages(**run.options)
    return evaluate_chain(chain, CHECKPOINT.value, **run.place, **run.devices)


def use(name: str, run: Run) -> list[str]:
    """Hand a recipe's function of the mode's name the data: the config's or --input."""
    function = getattr(import_module(f"medjax.recipes.{name}"), MODE.value)
    where = {"checkpoint": CHECKPOINT.value, **run.devices}
    if name in SYSTEMS or MODE.value == "replay":
        return function(**run.options, **(where if MODE.value == "export" else {}))
    where |= command_line.asked(name, MODE.value, INPUT.value, ASK.value)
    return function(INPUT.value, **where, **run.options)


MODES: Mapping[tuple[str, str], Callable[[Run], list[str]]] = {  # -> what is doubtful
    **{("train", name): partial(train, name) for name in SYSTEMS},
    **{("eval", name): partial(evaluate, name) for name in SYSTEMS},
    **{("plan", name): partial(plan, name) for name in command_line.PLANNED},
    **{(m, system): partial(use, name) for m, system, name in command_line.USES},
}


def main(_: list[str]) -> int:
    """Do what the flags say; the exit code says how it went."""
    if CACHE.value:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(CACHE.value))
    chips = stand_in(command_line.topology(MODE.value), os.environ)
    config = CONFIG.value.to_dict()
    folder = pathlib.Path(WORKDIR.value or f"workdir/{config['system']}")
    if chips is None:
        start(command_line.place(), folder, __file__, config=config, mode=MODE.value)
    function = command_line.choose_mode(MODES, MODE.value, config["system"])
    given = (config, chips, command_line.TOPOLOGY.value)
    laid_out, devices = import_module("medjax.recipes.layout").lay_out(*given)
    options = command_line.sections(MODE.value, laid_out)
    place = {"seed": config["seed"], "workdir": folder}
    return command_line.finish(function(Run(config, place, options | place, devices)))


if __name__ == "__main__":
    try:
        app.run(main, flags_parser=partial(command_line.parse, __doc__ or "", MODES))
    except (ValueError, OSError, TypeError, ImportError, *STOPS) as error:
        command_line.refuse_error(error, show_cause=isinstance(error, RewardError))
