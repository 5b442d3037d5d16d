"""Data about classes as a config names it: its sections, its parts and its words."""

from typing import NamedTuple

from medjax.data.classes.medmnist import EVERY, Slices
from medjax.data.classes.pictures import PictureLook
from medjax.data.classes.sources import (
    LabelParts,
    Naming,
    Telling,
    load_label_parts,
)
from medjax.data.classes.tasks import label_instruction
from medjax.data.lists.parts import HeldOut
from medjax.data.lists.reading import split_reading
from medjax.data.prompting.chat import Style, named_style
from medjax.recipes.classes.score import Probe
from medjax.recipes.policy.checking import make_decode


class LabelData(NamedTuple):
    """The section `data`: fields of the records of `load_label_parts`, and others."""

    source: str
    size: tuple[int, int]
    field: float
    margin: float
    least: float
    shift: float
    scale: tuple[float, float]
    mirror: bool
    test_draws: int
    balance: bool
    classes: str
    ordinal: bool | None
    question: str
    test: str
    test_share: float
    descriptions: str
    prompt_knowledge: bool
    recite: bool
    reason_words: int
    phrasings: int
    ramps: bool  # draw where a pixel lies into the picture, see `add_ramps`
    probe: Probe
    labelled: int = 0  # training pictures, drawn by the seed; 0: all there are
    slices: Slices = EVERY
    group: str | tuple[str, ...] = ()  # this and what follows: see `Reading`
    readers: str = ""
    on_bad: str = "stop"
    near: str = "report"
    coords: str = ""
    answers: str = "one"
    format: str = ""
    official: bool = True
    fold: int = 0
    window: tuple[float, ...] = ()
    pixels: str = ""
    check: str = "on"  # see `make_decode`
    identify: bool = False  # patients and folders are named in files, see `privacy`


class LabelPrompt(NamedTuple):
    """The section `prompt` of a config: the words around a question."""

    system: str  # see `named_style`
    answer: str  # letter, name or grade; empty: grade where ordinal, or letter
    instruct: bool  # say how to answer
    room: int  # tokens that a question may have, knowledge included
    think: bool = True  # an answer begins with its reasoning


def load_labels(data: LabelData, *, seed: int) -> LabelParts:
    """Pictures and words of a config's source.

    Args:
        data: The section of the config; its options are those of the records that
            `load_label_parts` takes.
        seed: Another one splits a CSV file without splits otherwise.
    """
    reading, options = split_reading(data._asdict())
    decode = make_decode(data.source, data.check)
    return load_label_parts(
        data.source,
        look=PictureLook(
            size=data.size,
            field=data.field,
            margin=data.margin,
            least=data.least,
            shift=data.shift,
            scale=data.scale,
            mirror=data.mirror,
            test_draws=data.test_draws,
        ),
        naming=Naming(data.classes, data.ordinal, data.question),
        telling=Telling(**{name: options[name] for name in Telling._fields}),
        held=HeldOut(data.test_share, seed, data.test),
        balance=data.balance,
        labelled=data.labelled,
        slices=data.slices,
        reading=reading,
        decode=decode,
    )


def label_style(prompt: LabelPrompt, source: LabelParts) -> Style:
    """The words around a question, and the form of its answer.

    Where the prompt names no form, it is a grade for ordinal classes and else a letter.

    Args:
        prompt: The section of the config.
        source: Says whether the classes are grades.
    """
    task = source.wording.task
    answer = prompt.answer or ("grade" if task.ordinal else "letter")
    told = {"multi": task.multi, "think": prompt.think}
    suffix = label_instruction(answer, **told) if prompt.instruct else ""
    return named_style(
        system=prompt.system, suffix=suffix, answer=answer, think=prompt.think
    )
