"""Data about boxes as a config names it: its sections, its parts and its words."""

from collections.abc import Sequence
from typing import NamedTuple

from medjax.data.batches import Parts
from medjax.data.boxes.formats.asking import Asking
from medjax.data.boxes.slices import Look
from medjax.data.boxes.sources import load_parts
from medjax.data.boxes.views import labelled_views
from medjax.data.lists.parts import HeldOut
from medjax.data.lists.reading import split_reading
from medjax.data.pretraining.domains import NEW_DOMAINS
from medjax.data.pretraining.slices import described_views
from medjax.data.prompting.chat import (
    ANSWERS,
    SET_ANSWERS,
    Style,
    named_style,
    sample_answers,
    written,
)
from medjax.data.prompting.layout import Geometry
from medjax.data.volumes.table import VOLUMES
from medjax.recipes.policy.checking import make_decode


class BoxData(NamedTuple):
    """The section `data` of a config: fields of the records of `load_parts`."""

    source: str
    size: tuple[int, int]
    split: str
    structures: str | tuple[str, ...]
    field: float
    min_side: int
    shift: float
    scale: tuple[float, float]
    phrasings: int
    mirror: bool
    test: str
    test_share: float
    ramps: bool  # draw where a pixel lies into the picture, see `add_ramps`
    labelled: int = 0  # training pictures, drawn by the seed; 0: all there are
    group: str | tuple[str, ...] = ()  # this and what follows, to `pixels`: `Reading`
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
    query: str = ""  # this and what follows: see `Asking`
    negatives: str = ""
    mask: str = "whole"
    min_area: int = 1
    names: str = ""
    plane: str = "axial"
    longest: int = 2000
    check: str = "on"  # see `make_decode`
    identify: bool = False  # patients and folders are named in files, see `privacy`


class BoxPrompt(NamedTuple):
    """The section `prompt` of a config: the options of `named_style`."""

    system: str
    suffix: str
    answer: str
    think: bool = True


def box_style(prompt: BoxPrompt, *, answers: str) -> Style:
    """The words around a question, as `named_style` gives them.

    Args:
        prompt: The section of the config.
        answers: "one" box a question, or a "set": `data.answers` of the config.

    Raises:
        ValueError: `prompt.answer` is no form of such an answer.
    """
    known, before = (SET_ANSWERS, "set-") if answers == "set" else (ANSWERS, "")
    form = before + prompt.answer
    if form not in known:
        raise ValueError(
            f"prompt.answer={prompt.answer!r} with data.answers={answers}: expected "
            f"one of {', '.join(name.removeprefix('set-') for name in known)}"
        )
    return named_style(**prompt._replace(answer=form)._asdict())


def load_box_parts(data: BoxData, geometry: Geometry, *, seed: int) -> Parts:
    """The training and the test part of a config's source.

    Args:
        data: The section of the config; its options are those of the records that
            `load_parts` takes.
        geometry: How images are cut, which a user's boxes may be measured in.
        seed: Decides what a split tests on.

    Raises:
        FileNotFoundError: The source is neither a name nor a path.
        ValueError: What `load_parts` refuses.
    """
    reading, options = split_reading(data._asdict())
    decode = make_decode(data.source, data.check)
    parts = load_parts(
        data.source,
        look=Look(
            size=data.size,
            field=data.field,
            min_side=data.min_side,
            phrasings=data.phrasings,
            mirror=data.mirror,
            shift=data.shift,
            scale=data.scale,
        ),
        split=data.split,
        held=HeldOut(data.test_share, seed, data.test),
        geometry=geometry,
        reading=reading,
        decode=decode,
        asking=Asking(**{name: options[name] for name in Asking._fields}),
        volumes=VOLUMES | NEW_DOMAINS,
    )
    if data.labelled:
        train = labelled_views(parts.train, data.labelled, seed=seed)
        identity = {**parts.identity, "labelled": [data.labelled, seed]}
        parts = parts._replace(train=train, identity=identity)
    if data.source in NEW_DOMAINS:
        modality = NEW_DOMAINS[data.source].modality
        train, test = (
            described_views(views, data.source, modality)
            for views in (parts.train, parts.test)
        )
        parts = parts._replace(train=train, test=test)
        note = (
            f"{data.source}: {len(parts.train.names)} structures that pretraining did "
            f"not ask for; {parts.train.count} labelled slices, {parts.test.count} to "
            f"test on ({data.test})"
        )
        parts = parts._replace(notes=(*parts.notes, note))
    return parts


def box_words(parts: Parts, style: Style) -> tuple[Sequence[str], Sequence[str]]:
    """Every question of the training part, and an answer about each of its structures.

    A tiny policy's tokenizer learns its words from them.

    Args:
        parts: Both parts; the test's words are not used.
        style: The form of the answers.
    """
    said = parts.train.reasons or parts.train.names
    answers = sample_answers(said, style=style.answer)
    return parts.train.texts, written(answers, style)
