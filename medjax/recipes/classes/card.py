"""What the card of an exported policy about classes says of it."""

from medjax.data.classes.nuclei import FLUORESCENCE
from medjax.data.classes.tasks import answer_labels
from medjax.data.volumes.table import VOLUMES
from medjax.recipes.classes.data import LabelData
from medjax.recipes.classes.task import LabelRun
from medjax.recipes.policy.card import DataFacts, Exported


def label_card(data: LabelData, run: LabelRun, *, system: str, base: str) -> Exported:
    """What is told of the task, its classes and its pictures.

    Args:
        data: The section of the config.
        run: Data and policy.
        system: Whose run it is.
        base: The folder that training began from; "": random weights.
    """
    task, style = run.source.wording.task, run.setup.encoding.style
    said = answer_labels(task, style.answer)
    how = "those that it sees, or none" if task.multi else "one"
    classes = [
        f"- {name}" if name == word else f"- {word}: {name}"
        for word, name in zip(said, task.classes, strict=True)
    ]
    packs = [x for row in VOLUMES.values() for x in row.packs]
    return Exported(
        title="A policy that tells grades" if task.ordinal else "A policy that names",
        system=system,
        base=base,
        about=[
            f"Asked about a picture, it names {how} of",
            "",
            *classes,
            "",
            "How:",
            "",
        ],
        data=DataFacts(
            data.source,
            run.setup.parts,
            tuple(dict.fromkeys((*packs, FLUORESCENCE))),
        ),
    )
