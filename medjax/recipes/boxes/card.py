"""The card of an exported policy, as Markdown, from the records of its run."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from medjax.data.volumes.packs import Pack
from medjax.recipes.boxes.domains import METRICS, DomainRow


class CardFacts(NamedTuple):
    """What a card tells beside scores."""

    command: str
    commits: tuple[str, ...]  # of the starts of the run, the first first
    versions: Mapping[str, str]
    seed: int
    steps: tuple[int, int]  # done, and of the whole training
    examples: int  # answers in the steps that were done
    parameters: int
    packs: Sequence[Pack]
    shares: Mapping[str, float]
    held_out: Mapping[str, str]  # what -> in words
    size: tuple[int, int]  # of the pictures, pixels
    bounds: tuple[int, int]  # pixels of an image as it is shown
    ramps: bool
    level: float  # of the intervals


def card_text(facts: CardFacts, rows: Sequence[DomainRow]) -> str:
    """The card.

    Args:
        facts: Of the run.
        rows: The policy's first, then those of what it is compared with.
    """
    done, whole = facts.steps
    unfinished = "" if done >= whole else f" of {whole}: **training is not finished**"
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
        "| | |",
        "| --- | --- |",
        f"| command | `{facts.command}` |",
        f"| commits | {', '.join(facts.commits)} |",
        f"| versions | {', '.join(f'{k} {v}' for k, v in facts.versions.items())} |",
        f"| seed | {facts.seed} |",
        f"| steps | {done}{unfinished} |",
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
        *(
            f"- {pack.package} {pack.version} ({pack.licence}). {pack.credit}."
            for pack in facts.packs
        ),
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
