"""The cards of exported policies about boxes, as Markdown, from records of runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from medjax.data.batches import Parts
from medjax.data.prompting.chat import Style, asks_for_sets
from medjax.data.volumes.packs import Pack
from medjax.data.volumes.table import VOLUMES
from medjax.recipes.boxes.data import BoxData
from medjax.recipes.boxes.domains import METRICS, DomainRow
from medjax.recipes.policy.card import (
    DataFacts,
    Exported,
    RunFacts,
    pack_rows,
    run_rows,
)


class CardFacts(NamedTuple):
    """What a card tells beside scores."""

    run: RunFacts
    plain: int  # steps of the stage before, on plain pictures
    examples: int  # answers in the steps that were done
    parameters: int
    packs: Sequence[Pack]
    shares: Mapping[str, float]
    held_out: Mapping[str, str]  # what -> in words
    size: tuple[int, int]  # of the pictures, pixels
    bounds: tuple[int, int]  # pixels of an image as it is shown
    ramps: bool
    level: float  # of the intervals


def box_card(
    data: BoxData, parts: Parts, style: Style, *, system: str, base: str
) -> Exported:
    """What the card of a policy about boxes says of it.

    Args:
        data: The section of the config.
        parts: What was loaded of it.
        style: The words around a question.
        system: Whose run it is, "medloc" or "vrft_aug".
        base: The folder that training began from; "": random weights.
    """
    what = "the boxes, or none," if asks_for_sets(style) else "one box"
    return Exported(
        title="A policy that puts boxes round what it is asked for",
        system=system,
        base=base,
        about=[
            f"Asked for one thing in a picture, it writes {what} as (x1, y1, x2, y2) "
            "in pixels of the picture as it is shown.",
            "",
        ],
        data=DataFacts(
            data.source,
            parts,
            tuple(dict.fromkeys(x for row in VOLUMES.values() for x in row.packs)),
        ),
    )


def pretrained_card(facts: CardFacts, rows: Sequence[DomainRow]) -> str:
    """The card.

    Args:
        facts: Of the run.
        rows: The policy's first, then those of what it is compared with.
    """
    height, width = facts.size
    lines = [
        "# A tiny policy that points at structures",
        "",
        f"{facts.parameters / 1e6:.2f} M parameters in the architecture of Qwen2.5-VL, "
        f"float16, for grey pictures of {height} x {width} pixels. Asked for a "
        "structure it tells what it sees, then a box. It is made to be taught further. "
        "It saw one averaged brain, one CT and one microscope image, no other patient, "
        "and is of no clinical use.",
        "",
        "Made by medjax; docs/pretrained.md of its repository says how, and why these "
        "data.",
        "",
        *run_rows(facts.run),
        *(
            [f"| steps before, on plain pictures | {facts.plain} |"]
            if facts.plain
            else []
        ),
        f"| written answers | {facts.examples} |",
        "| coordinate ramps | "
        + ("used: `data.ramps=True` is needed |" if facts.ramps else "not used |"),
        "",
        "## Scores",
        "",
        "On validation slices that training never showed, shifted and scaled at "
        "random, for structures that training asked for. The weights are those of this "
        f"folder, read from it. {facts.level:.0%} intervals over blocks of 8 "
        "neighbouring slices (over pictures of nuclei and shapes).",
        "",
        f"| | questions | structures | blocks | {' | '.join(METRICS)} |",
        f"| --- | --- | --- | --- |{' --- |' * len(METRICS)}",
        *(_row(row) for row in rows),
        "",
        "## Data and terms",
        "",
        "Shares of the training pictures: "
        + ", ".join(
            f"{name} {share / sum(facts.shares.values()):.0%}"
            for name, share in facts.shares.items()
        )
        + ".",
        "",
        *pack_rows(facts.packs),
        "",
        "Sources whose terms do not clearly allow weights made from them to be given "
        "away, AAL among them, were not used.",
        "",
        "## Held out",
        "",
        *(f"- {what}: {words}" for what, words in facts.held_out.items()),
        "",
        "## Use",
        "",
        "```bash",
        "python run.py --config=configs/medloc.py:model=FOLDER \\",
        f"    --config.data.size={height},{width} --config.data.ramps={facts.ramps} \\",
        f"    --config.policy.min_pixels={facts.bounds[0]} "
        f"--config.policy.max_pixels={facts.bounds[1]} \\",
        "    --config.policy.dtype=float32 --config.prompt.system='' \\",
        "    --config.prompt.suffix='' --config.prompt.answer=object",
        "```",
        "",
    ]
    return "\n".join(lines)


def _row(row: DomainRow) -> str:
    scores = (row.scores[name] for name in METRICS)
    cells = (f"{x.value:.3f} [{x.low:.3f}, {x.high:.3f}]" for x in scores)
    numbers = f"{row.questions} | {row.structures} | {row.blocks}"
    return f"| {row.domain}, {row.contender} | {numbers} | {' | '.join(cells)} |"
