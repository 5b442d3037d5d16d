"""The card of an exported policy: what all have in common, as lines of Markdown."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from medjax.data.batches import Parts
from medjax.data.volumes.packs import Pack
from medjax.evals.tables import Table
from medjax.recipes.policy.setup import Setup
from medjax.types import Params

LEFT_OUT = "..."  # in place of folders
NOT_SERVED = (
    "transformers opens the folder, and its greedy answers are those of medjax. "
    "Whether a stock server such as vLLM serves it was not tested."
)
RAMPS = (
    "**Its pictures need coordinate ramps**: `medjax.data.batches.add_ramps` draws "
    "them into a picture that has the size at which it is shown, before the image "
    "processor sees it. Without them it answers, and wrongly. "
    "`benchmarks/peer_answers.py` of medjax is an example."
)
NO_DEVICE = (
    "**It is research software and no medical device.** It is not validated, cleared "
    "or approved for any clinical use; do not base decisions about patients on it."
)
# A path's folders in an argument; those of the repository's own files stay.
_FOLDERS = re.compile(r"(?<![^=,:'\"{ ])(?!configs/)[^=,:'\"{}]*[/\\](?=[^/\\])")


class RunFacts(NamedTuple):
    """What the manifest of a stage says of the run that made it."""

    command: str  # without folders
    commits: tuple[str, ...]  # of its starts, the first first
    versions: Mapping[str, str]  # of the last start
    seed: int
    steps: tuple[int, int]  # done, and of the whole stage


def run_facts(stage: Path, *, seed: int, steps: tuple[int, int]) -> RunFacts:
    """What is told of a run, from the manifest.json of one of its stages.

    Args:
        stage: The stage's folder.
        seed: Of the run.
        steps: Those that were done, and all of the stage.

    Raises:
        FileNotFoundError: There is no manifest: nobody could tell how the weights came
            about.
    """
    path = stage / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected the manifest that the run wrote there, "
            "which says how its weights were made: put it back beside the checkpoints"
        )
    starts = json.loads(path.read_text(encoding="utf-8"))
    words = [x for x in starts[0]["command"][2:] if not x.startswith("--workdir")]
    return RunFacts(
        command=" ".join(("python run.py", *map(bare_words, words))),
        commits=tuple(dict.fromkeys(str(start["git"]) for start in starts)),
        versions=starts[-1]["versions"],
        seed=seed,
        steps=steps,
    )


def bare_words(argument: str) -> str:
    """An argument of a command without the folders of its paths, which may name people.

    Args:
        argument: Such as "--config=configs/medloc.py:data=/home/x/boxes.jsonl".

    Returns:
        The same with ".../" before the names of files; "configs/" stays.
    """
    return _FOLDERS.sub(f"{LEFT_OUT}/", argument)


def run_rows(facts: RunFacts) -> list[str]:
    """A table of how the weights were made, which more rows may follow.

    Args:
        facts: Of the run.
    """
    done, whole = facts.steps
    unfinished = "" if done >= whole else f" of {whole}: **training is not finished**"
    return [
        "| | |",
        "| --- | --- |",
        f"| command | `{facts.command}` |",
        f"| commits | {', '.join(facts.commits)} |",
        f"| versions | {', '.join(f'{k} {v}' for k, v in facts.versions.items())} |",
        f"| seed | {facts.seed} |",
        f"| steps | {done}{unfinished} |",
    ]


def pack_rows(packs: Iterable[Pack]) -> list[str]:
    """Licence and credit of data packs, one an item.

    Args:
        packs: Those that pictures were taken from.
    """
    return [
        f"- {pack.package} {pack.version} ({pack.licence}). {pack.credit}."
        for pack in packs
    ]


class DataFacts(NamedTuple):
    """What is told of a policy's data."""

    source: str  # `data.source` of the config
    parts: Parts
    packs: Sequence[Pack]  # all that sources of this kind may be made of


def data_rows(data: DataFacts) -> list[str]:
    """Where pictures came from, under which terms; nothing that names a person.

    Args:
        data: A user's list is called by the name of its file or folder.
    """
    used = data.parts.identity.get("packs", {})
    if used:
        return pack_rows(pack for pack in data.packs if pack.package in used)
    name = Path(data.source).name
    if data.parts.samples:
        counts = [
            sum(sample.part == part for sample in data.parts.samples)
            for part in ("train", "test")
        ]
        return [
            f"A user's own list, `{name}`: {counts[0]} lines to train and {counts[1]} "
            "to test on. Its licence, and whether weights made from it may be given "
            "away, is known to its owner alone. Weights may hold what they were "
            "trained on."
        ]
    if name.endswith(".npz"):
        return [
            f"`{name}`, a file of MedMNIST (Yang et al., Scientific Data 2023; CC BY "
            "4.0, DermaMNIST CC BY-NC 4.0) or one in its layout, whose terms its owner "
            "knows."
        ]
    return [f"Pictures that medjax drew (`{name}`): nobody's, without terms."]


def score_rows(stage: Path, *, name: str, step: int) -> list[str]:
    """The tables of a stage's last evaluation that compare it with others.

    Args:
        stage: The stage's folder.
        name: What its row is called.
        step: That of the weights; where the evaluation was of another one it is said.
    """
    files = sorted(
        (x for x in stage.glob("eval/*/tables.json") if x.parent.name.isdecimal()),
        key=lambda x: int(x.parent.name),
    )
    known = [x for x in files if int(x.parent.name) <= step]
    if not known:
        return ["**Never evaluated.**"]
    last = known[-1]
    at = int(last.parent.name)
    lines = [
        "Of the stage's last evaluation, on the test part, with the intervals that "
        "each title names."
        + (
            ""
            if at == step
            else f" **It was at step {at}, the weights are of {step}.**"
        )
    ]
    for stored in json.loads(last.read_text(encoding="utf-8")):
        table = Table(**stored)
        if name in [row[0] for row in table.rows]:
            lines += ["", f"{table.title}:", "", *table_rows(table)]
    return lines


def table_rows(table: Table) -> list[str]:
    """A table as Markdown, without its title.

    Args:
        table: A bar in one of its cells is escaped.
    """

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = ["---"] * len(table.header)
    return [row(cells) for cells in (table.header, rule, *table.rows)]


def asked_rows(setup: Setup) -> list[str]:
    """The words around a question, and how pictures are shown.

    Args:
        setup: Of the stage.
    """
    style, geometry = setup.encoding.style, setup.policy.geometry
    system = "no system turn" if style.system is None else f"`{style.system}`"
    suffix = f"`{style.suffix}`" if style.suffix else "nothing"
    ramps = "used: `data.ramps=True` is needed" if setup.encoding.ramps else "not used"
    return [
        f"- system: {system}",
        f"- after every question: {suffix}",
        f"- answers: {'reasoning, then ' if style.think else ''}{style.answer}",
        f"- pictures: shown at {geometry.min_pixels} to {geometry.max_pixels} pixels, "
        f"sides multiples of {geometry.patch * geometry.merge}",
        f"- coordinate ramps: {ramps}",
    ]


class Exported(NamedTuple):
    """What the card of an exported stage is made of."""

    title: str
    system: str  # "medloc" or "vrft_aug"
    base: str  # the folder that training began from; "": random weights
    about: Sequence[str]  # lines on what it answers
    data: DataFacts


def card_text(
    told: Exported, setup: Setup, facts: RunFacts, params: Params, stage: Path
) -> str:
    """The card of an exported stage.

    Args:
        told: What it answers, and about which pictures.
        setup: Of the stage.
        facts: Of the run.
        params: The weights as they are exported.
        stage: The stage's folder, whose name is that of its row in the tables.
    """
    leaves = jax.tree.leaves(params)
    dtypes = ", ".join(dict.fromkeys(str(x.dtype) for x in leaves))
    count = sum(x.size for x in leaves) / 1e6
    base = "from random weights"
    if told.base:
        base = (
            f"from `{Path(told.base).name}`, whose terms hold for these weights as well"
        )
    lines = [
        f"# {told.title}",
        "",
        f"{count:.2f} M parameters in the architecture of Qwen2.5-VL, {dtypes}: the "
        f"stage `{stage.name}` of a `{told.system}` run of medjax, trained {base}.",
        "",
        NO_DEVICE,
        "",
        *run_rows(facts),
        "",
        f"Folders of files are left out as `{LEFT_OUT}`.",
        "",
        "## What it answers",
        "",
        *told.about,
        *asked_rows(setup),
        "",
        "## Scores",
        "",
        *score_rows(stage, name=stage.name, step=facts.steps[0]),
        "",
        "## Data and terms",
        "",
        *data_rows(told.data),
        "",
        "## What it is not for",
        "",
        "Patients, first of all. Nor pictures of another kind than those above "
        "(another scanner, modality or population), questions of another kind or in "
        "other words, or pictures that were prepared in another way: on none of these "
        "was anything scored. An answer's probability is not calibrated.",
        "",
        "## Use",
        "",
        "With the command above, `--mode=eval --checkpoint=FOLDER`, or "
        "`--config.policy.path=FOLDER` to teach it further. With transformers:",
        "",
        "```python",
        "from transformers import (",
        "    AutoImageProcessor,",
        "    AutoModelForImageTextToText,",
        "    AutoTokenizer,",
        ")",
        "",
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)",
        "processor = AutoImageProcessor.from_pretrained(FOLDER)",
        "model = AutoModelForImageTextToText.from_pretrained(FOLDER)",
        "```",
        "",
        *([RAMPS, ""] if setup.encoding.ramps else []),
        NOT_SERVED,
        "",
    ]
    return "\n".join(lines)
