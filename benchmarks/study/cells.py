"""Cells of the study: a run of `configs/vrft_aug.py` each, kept in a folder of its own.

A cell's folder has one folder a stage, as `run.py` leaves them, and cell.json: the
whole config from the start on, and what was measured once it is finished. Its
"commit" is that of the last start only; `commits_of` has all.
"""

import json
import shutil
import time

from configs.vrft_aug import TASKS as BUILT_IN
from configs.vrft_aug import get_config
from medjax.data.classes.built_in import TASKS
from medjax.recipes.vrft_aug import stages
from medjax.runtime.naming import differences
from medjax.runtime.stages import run_stages
from medjax.runtime.writer import last_row, write_atomic
from medjax.sharding import make_mesh

PLAIN = "V-RFT"
LOCATED = "+ localisation"
METHODS = {  # row: (argument of the config, for graded tasks only)
    "SFT, equal updates": ("parts=none,method=sft", False),
    PLAIN: ("parts=none", False),
    "+ prompt": ("parts=none,prompt=on", False),
    LOCATED: ("parts=none,policy=on", False),
    "+ recite -": ("parts=none,recite=negative", False),
    "+ recite +": ("parts=none,recite=positive", False),
    "+ fuzzy, 0.25": ("parts=none,grade=fuzzy,mfrs=sixteenth", True),
    "+ fuzzy, 0.5": ("parts=none,grade=fuzzy,mfrs=gaussian", True),
    "all parts": ("parts=all,policy=on", False),
}
SIZES = {
    "warm_start.steps": 120,
    "warm_start.noise": 0.3,
    "train.grpo.steps": 200,
    "train.grpo.batch": 8,
    "train.sft.steps": 200,
    "train.sft.batch": 8,
    "localisation.warm_start.steps": 200,
    "localisation.train.grpo.steps": 40,
    "localisation.evaluation.limit": 64,
    "localisation.evaluation.bootstrap": 50,
    "evaluation.bootstrap": 50,
    "data.test_draws": 2,
}
EARLY = ("boxes_warm_start", "boxes_grpo", "warm_start")  # stages that may be shared
# sections that `stages` lacks
_LOOP = ("system", "seed", "mesh", "rules", "checkpoint", "predict")


class StaleCellError(ValueError):
    """A folder holds a cell that was made with another config."""


def methods_of(task):
    """The methods that a task can have.

    Without a volume there is nothing to localise in: boxes of another one would bring
    words into the tokenizer that the task's other cells do not have.
    """
    return [
        name
        for name, (_, graded) in METHODS.items()
        if (TASKS[task].ordinal or not graded)
        and (BUILT_IN[task].boxes or name != LOCATED)
    ]


def cell_config(task, method, seed, *, smoke=False):
    """The config of a cell as JSON has it; `smoke`: as small as the config allows.

    "all parts" of a task without a volume has no localisation, see `methods_of`.
    """
    argument = f"task={task},model=fresh,{METHODS[method][0]},seed={seed}"
    if not BUILT_IN[task].boxes:
        argument = argument.replace("policy=on", "policy=off")
    config = get_config(argument + (",smoke" if smoke else ""))
    if not smoke:
        with config.ignore_type():
            config.update_from_flattened_dict(SIZES)
    return json.loads(json.dumps(config.to_dict()))


def cell_name(task, method, seed):
    """A cell's folder."""
    words = method.replace("-", "minus" if method.endswith("-") else "")
    words = words.replace("+ ", "with ").replace("+", "plus")
    return f"{task}-{'_'.join(words.replace(',', '').split())}-{seed}"


def read_cell(folder, config):
    """The record of a finished cell; None where it is not finished, or not begun.

    Raises:
        StaleCellError: it was made with another config.
    """
    record = _record(folder)
    if record is None:
        return None
    changed = differences(record.get("config", {}), config)
    if changed:
        lines = [line.replace("the checkpoint", "the cell") for line in changed]
        raise StaleCellError(
            f"{folder} was made with another config:\n  "
            + "\n  ".join(lines)
            + "\nchoose another folder with --out, or remove this one"
        )
    return record if "scores" in record else None


def run_cell(folder, config, siblings):
    """Train and evaluate a cell, or what is left of it; its record.

    Args:
        folder: of the cell.
        config: from `cell_config`.
        siblings: folders of other cells, whose first stages may be copied.
    """
    record = read_cell(folder, config)
    if record is not None:
        return record
    started = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "cell.json", {"config": config})
    share_stages(folder, siblings, config)
    where = {"seed": config["seed"], "workdir": folder}
    sections = {name: x for name, x in config.items() if name not in _LOOP}
    chain = stages(**where, **sections)
    run_stages(
        chain,
        mesh=make_mesh(config["mesh"]),
        rules=config["rules"],
        checkpoint_every=50,
        keep=1,
        on_nonfinite="stop",
        facts={"config": config},
        **where,
    )
    record = measured(folder, chain[-1].name, config)
    record["seconds"] = round(time.time() - started, 1)
    write_json(folder / "cell.json", record)
    return record


def measured(folder, last, config):
    """The record of a cell whose last stage is finished: folders of answers, scores."""
    answers = {"end": f"{last}/eval", "warm start": "warm_start/eval"}
    if config["localisation"]["use"]:
        answers["zero-shot"] = "warm_start/eval/0"
    starts = json.loads((folder / last / "manifest.json").read_text("utf-8"))
    return {
        "config": config,
        "answers": answers,
        "scores": last_row(folder / last / "eval.jsonl"),
        "commit": starts[-1]["git"],
    }


def commits_of(folder):
    """Commits of the code of a cell: of every start of every stage, sorted.

    Stages that were copied, or finished before a stop, can be of another commit.
    """
    files = folder.glob("*/manifest.json")
    starts = [x for file in files for x in json.loads(file.read_text("utf-8"))]
    return sorted({str(start["git"]) for start in starts})


def share_stages(folder, siblings, config):
    """Copy first stages that finished siblings have and that would be the same here.

    A copy gets its name when it is complete; what a kill left of one is removed.
    """
    wanted = stage_configs(config)
    for stage in EARLY:
        partial = folder / f"{stage}.partial"
        if partial.exists():
            shutil.rmtree(partial)
        if stage not in wanted or (folder / stage).exists():
            continue
        for sibling in siblings:
            record = _record(sibling) or {}
            if sibling == folder or "scores" not in record:
                continue
            same = stage_configs(record["config"]).get(stage) == wanted[stage]
            if same and (sibling / stage).is_dir():
                shutil.copytree(sibling / stage, partial)
                partial.rename(folder / stage)
                break


def stage_configs(config):
    """First stage -> the part of the config that it depends on.

    All but what comes later: stages about boxes see nothing of the questions about
    classes, but that their words and those of the descriptions are in the tokenizer,
    whatever the prompt tells.
    """
    data = {k: x for k, x in config["data"].items() if k != "recite"}
    own = {k: x for k, x in config.items() if k != "train"} | {"data": data}
    found = {"warm_start": own}
    if config["localisation"]["use"]:
        data = {k: x for k, x in data.items() if k != "prompt_knowledge"}
        later = ("warm_start", "evaluation")
        boxes = {k: x for k, x in own.items() if k not in later} | {"data": data}
        found |= {"boxes_warm_start": boxes, "boxes_grpo": boxes}
    return found


def write_json(path, document):
    """Write it whole or not at all; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(document, indent=1))


def _record(folder):
    marker = folder / "cell.json"
    return json.loads(marker.read_text("utf-8")) if marker.exists() else None
