"""How the command line of `run.py` is read: help, the config's file, clear refusals."""

import ast
import atexit
import gc
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from absl import flags, logging

Function = TypeVar("Function")
WELL, ERROR, DOUBTFUL, STOPPED = 0, 1, 3, 130  # exit codes, see `run.py`'s usage
# Modes of policies beside these, by system.
POLICIES = (
    *(("check", name) for name in ("medloc", "vrft_aug")),
    *(("export", name) for name in ("medloc", "vrft_aug", "pretrain")),
)
AUDITED = ("medloc", "vrft_aug")  # systems with --mode=replay
ANSWERED = ("medloc", "vrft_aug")  # systems that score somebody else's answers
ASKED = ("medloc", "vrft_aug")  # policies with --mode=predict
MAPS = ("predict", "check", "calibrate")  # modes of maps, beside training
USES = (  # mode, system and recipe of what is neither training nor evaluation
    *((mode, system, system) for mode, system in POLICIES),
    *(("replay", system, f"replay_{system}") for system in AUDITED),
    *(("predict", system, f"predict.{system}") for system in ASKED),
    *((mode, "puq", f"qmri.{mode}") for mode in MAPS),
)
PLANNED = ("medloc", "vrft_aug")  # systems with --mode=plan
ENTRY = ("system", "seed", "mesh", "rules", "checkpoint")  # the rest is the recipe's
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
PROCESSES = flags.DEFINE_integer("num_processes", None, "How many run; 1: alone.")
INDEX = flags.DEFINE_integer("process_id", None, "The number of this one, from 0.")
TOPOLOGY = flags.DEFINE_string("topology", "", "Chips to plan for: v5e:8x8, gpu:8.")
PRICE = flags.DEFINE_float("price", 0.0, "Of one such chip and hour; 0: not known.")
PROFILE = flags.DEFINE_string("profile", "", "A:B, trace steps A to B of each stage.")
FOLDER = pathlib.Path(__file__).parent


class Run(NamedTuple):
    """What a config says, and where it is done."""

    config: Mapping[str, Any]
    place: Mapping[str, Any]  # seed and workdir
    options: Mapping[str, Any]  # for the recipe: these and the config's sections
    devices: Mapping[str, Any]  # mesh and rules


def begin(environment: MutableMapping[str, str]) -> None:
    """Start anew with large pages, which halve a CPU's step, and look for garbage less.

    What imports make stays: looking through it took a fifth of a start, and at the end
    half a second.

    Args:
        environment: `os.environ`, which keeps what is set.
    """
    environment.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # "no PyTorch"
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in environment:
        environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)


def parse(usage: str, modes: Iterable[tuple[str, str]], argv: list[str]) -> list[str]:
    """Set absl's flags, or end the program: --help with 0, a mistake with 1.

    Args:
        usage: What the help begins with.
        modes: Pairs of mode and system, for the help.
        argv: The program's name and its arguments.

    Returns:
        What is left: the program's name.
    """
    early = flags.FlagValues()
    flags.DEFINE_string("config", "", "", flag_values=early)
    flags.DEFINE_bool("help", False, "", flag_values=early)
    try:
        early(argv, known_only=True)
        if early.help:
            sys.stdout.write(help_text(usage, modes))
            sys.exit(WELL)
        check_file(early.config.partition(":")[0])
        left = flags.FLAGS(argv)
    except flags.Error as error:
        refuse(_one_line(str(error)))
    except (AttributeError, KeyError) as error:
        refuse(f"--config: no option {_innermost(error)}")
    if left[1:]:
        refuse(f"unexpected arguments: {' '.join(left[1:])}")
    given = flags.FLAGS
    if given.answers:
        check_answers(given.mode, given.config.system, given.checkpoint)
    logging.set_verbosity(logging.ERROR)  # orbax tells a story at each checkpoint
    return left


def check_answers(mode: str, system: str, checkpoint: str | None) -> None:
    """End the program where --answers stands beside what it does not go with."""
    if mode != "eval" or system not in ANSWERED:
        refuse(f"--answers: expected --mode=eval of {', '.join(ANSWERED)}")
    if checkpoint:
        refuse(
            "--answers and --checkpoint: expected one of them; answers need no policy"
        )


def place() -> dict[str, Any]:
    """Where this process stands among others, as far as flags and launchers say it."""
    return {
        "environ": os.environ,
        "coordinator": COORDINATOR.value,
        "processes": PROCESSES.value,
        "index": INDEX.value,
    }


def topology(mode: str) -> str:
    """The name of the chips to plan for, "" in other modes.

    Raises:
        ValueError: --mode=plan without a topology, or a topology without it.
    """
    if mode == "plan" and not TOPOLOGY.value:
        raise ValueError(
            "--mode=plan: expected --topology, the chips to plan for, such as v5e:8x8, "
            "v5p:4x4x4 or gpu:8"
        )
    if mode != "plan" and TOPOLOGY.value:
        raise ValueError(f"--topology={TOPOLOGY.value}: expected --mode=plan")
    return TOPOLOGY.value


def profile() -> tuple[int, int] | None:
    """The steps to trace, None where none are asked for.

    Raises:
        ValueError: They are not written as A:B.
    """
    if not PROFILE.value:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", PROFILE.value)
    if found is None:
        raise ValueError(
            f"--profile={PROFILE.value}: expected the first and the last step to "
            "trace, such as 3:5"
        )
    return int(found.group(1)), int(found.group(2))


def planned() -> dict[str, Any]:
    """What --mode=plan is asked for."""
    return {"topology": TOPOLOGY.value, "price": PRICE.value}


def finish(doubts: Sequence[str]) -> int:
    """Print what makes a result doubtful, and give the program's exit code."""
    sys.stderr.writelines(f"warning: {line}\n" for line in doubts)
    return DOUBTFUL if doubts else WELL


def refuse_error(error: BaseException, *, show_cause: bool) -> NoReturn:
    """End the program with an error; a cause in a user's code shows its traceback."""
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write("\nctrl-C: stopped before it was done\n")
        sys.exit(STOPPED)
    message = f"{type(error).__name__}: {error}"
    if show_cause and error.__cause__ is not None:
        shown = traceback.TracebackException.from_exception(error.__cause__)
        inside = [x for x in shown.stack if not x.filename.startswith("<frozen")]
        shown.stack = traceback.StackSummary.from_list(inside)
        message = f"{''.join(shown.format(chain=False))}\n{message}"
    refuse(message)


def refuse(message: str) -> NoReturn:
    """End the program with a message and the code of an error."""
    sys.stderr.write(f"{message}\n")
    if "MEDJAX_WATCHED" in os.environ:  # jax would wait for the other processes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ERROR)
    sys.exit(ERROR)


def check_file(path: str) -> None:
    """End the program where a config is not a file."""
    if not pathlib.Path(path).is_file():
        found = f"no such file: {path}" if path else "expected FILE or FILE:VARIANTS"
        names = ", ".join(f"configs/{name}.py" for name in variants())
        refuse(f"--config: {found}; there are {names}")


def choose_mode(
    modes: Mapping[tuple[str, str], Function], mode: str, system: str
) -> Function:
    """The function of a mode and a system, or a refusal that names this system's."""
    if (mode, system) in modes:
        return modes[mode, system]
    known = [m for m, s in modes if s == system]
    if not known:
        systems = ", ".join(dict.fromkeys(s for _, s in modes))
        raise ValueError(f"config.system {system!r}: expected one of {systems}")
    raise ValueError(f"--mode={mode}: {system} has the modes {', '.join(known)}")


def sections(mode: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a config that a recipe's function for a mode is given.

    A policy is told the run's rules: it holds its activations to them. For a plan its
    weights need not be there.
    """
    asked = mode == "predict" or config["system"] not in ASKED
    own = ENTRY if asked else (*ENTRY, "predict")
    given = {name: value for name, value in config.items() if name not in own}
    if "policy" in given:
        given["policy"] = {**given["policy"], "rules": config["rules"]}
        given["policy"] |= {"weights": False} if mode == "plan" else {}
    return given


def asked(
    name: str, mode: str, given: str | None, question: str | None
) -> dict[str, str | None]:
    """What --ask gives to a function of a recipe, where --input is there if it must.

    A question is refused where nothing is asked.
    """
    check_input(mode, given)
    if name.startswith("predict."):
        return {"ask": question}
    if question is not None:
        raise ValueError("--ask: only policies are asked, by --mode=predict")
    return {}


def check_input(mode: str, given: str | None) -> None:
    """Refuse a mode that works on what --input names without it; one makes its own."""
    if not given and mode != "calibrate":
        raise ValueError(f"--mode={mode}: expected --input, what to work on")


def help_text(usage: str, modes: Iterable[tuple[str, str]]) -> str:
    """Usage, modes by system, exit codes, configs with their variants, flags."""
    systems: dict[str, list[str]] = {}
    for mode, system in modes:
        systems.setdefault(mode, []).append(system)
    lines = [f"    {mode:<10} {', '.join(names)}" for mode, names in systems.items()]
    configs = [f"configs/{name}.py - {text}" for name, text in variants().items()]
    head, codes, rest = usage.partition("Exit codes:")
    parts = [
        f"{head}Modes, and the systems that have them:\n\n" + "\n".join(lines),
        f"{codes}{rest}".strip(),
        "Configs, and their variants (after a colon, joined by commas):",
        *configs,
        "Flags:" + flags.FLAGS.main_module_help(),
        "Flags of --mode=plan, of profiles, of several processes (which launchers tell "
        "too):" + flags.FLAGS.module_help(__name__),
    ]
    return "\n\n".join(parts) + "\n"


def variants() -> dict[str, str]:
    """By config: its first line, and what its docstring says of its variants."""
    texts = {}
    for path in sorted(FOLDER.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        title, *parts = text.split("\n\n")
        tables = [part for part in parts if re.match(r"    \w+=", part)]
        if tables:
            texts[path.stem] = "\n\n".join([title, *tables])
    return texts


def _one_line(message: str) -> str:
    """A message of absl; of an error in a config it holds the whole traceback."""
    if "Traceback" not in message:
        return message
    last = message.strip().splitlines()[-1]
    flag = message.partition(": Error whilst")[0]
    return f"{flag}: {last.partition(': ')[2] or last}"


def _innermost(error: object) -> object:
    """The innermost of errors that hold errors ends in a suggestion."""
    while isinstance(error, Exception):
        error = error.args[0]
    return error
