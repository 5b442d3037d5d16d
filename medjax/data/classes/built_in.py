"""Built-in classification and grading tasks on real pixels, and on drawn shapes.

==================  ==========================================================
ct_organ            which of 11 organs a chest CT crop shows, in three planes
mr_structure        which of 8 brain structures an MR crop shows, in three planes
mr_plane            the plane of a whole MR slice
mr_structure_plane  the structure and the plane of one crop: two questions
mr_ventricle        grade 0-4 of the lateral ventricles' share of an MR slice
mr_level            grade 0-4 of an axial MR slice's level, base to vertex
ct_lung             grade 0-4 of the lungs' share of a CT slice
nuclei_size         grade 0-3 of a nucleus's area, in a fluorescence crop
shapes              drawn shapes, without network: 8 classes
shape_size          drawn shapes: grade 0-4 of the size
==================  ==========================================================

Grades are measured from labels; their thresholds are quantiles of the training part.
There is one CT and one brain: a test is made of other slices of the same subject, and
that of nuclei of another strip of the same image. The four readers' ratings of a lung
nodule that come with the CT are not a task: it is one nodule, so every picture would
have the same rating.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from medjax.data.classes.nuclei import SIZES as NUCLEUS_SIZES
from medjax.data.classes.nuclei import nuclei_task
from medjax.data.classes.pictures import PictureLook
from medjax.data.classes.shapes import SIZES, shape_task
from medjax.data.classes.tasks import ClassQuestion, ClassTask, TaskParts
from medjax.data.classes.volume_tasks import (
    crop_task,
    grade_task,
    level_task,
    plane_task,
)
from medjax.data.volumes.atlas import PLANES
from medjax.data.volumes.ct import ORGANS
from medjax.data.volumes.shapes import NAMES
from medjax.data.volumes.shares import load_lung_shares, load_ventricle_shares
from medjax.data.volumes.table import VOLUMES

_VERSION = 1  # of what a task shows under its name
_SHARES = ("none", "small", "medium", "large", "very large")
_LEVELS = ("base", "low", "middle", "high", "vertex")


class BuiltIn(NamedTuple):
    """A task in words, and what makes its pictures."""

    task: ClassTask
    make: Callable[[ClassTask, PictureLook], TaskParts]  # fetches packs where needed


def _ask(
    name: str, phrasings: tuple[str, ...], options: int, *, first: int = 0
) -> ClassQuestion:
    return ClassQuestion(name, phrasings, tuple(range(first, first + options)))


ORGAN_NAMES = tuple(organ.name for organ in ORGANS)
STRUCTURE_NAMES = (
    "thalamus",
    "hippocampus",
    "caudate nucleus",
    "lentiform nucleus",
    "insula",
    "cingulate cortex",
    "cerebellar hemisphere",
    "calcarine cortex",
)
_STRUCTURE = (
    "Which brain structure is in the middle?",
    "Name the structure at the centre of this {plane} MR crop.",
    "This {plane} T1-weighted MR crop is centred on one structure. Which one?",
)
# Where the plane is asked for too, a question must not tell it.
_STRUCTURE_ALONE = tuple(text.replace("{plane} ", "") for text in _STRUCTURE)
_PLANE = (
    "Which plane is this?",
    "In which plane was this MR slice taken?",
    "Is this T1-weighted MR picture axial, coronal or sagittal?",
)
_ORGAN = (
    "Which organ is in the middle?",
    "Name the organ at the centre of this {plane} CT crop.",
    "This {plane} CT crop is centred on one organ. Which one is it?",
)
_VENTRICLE = (
    "How large are the lateral ventricles?",
    "Grade the lateral ventricles' share of this {plane} MR slice.",
    "How much of the brain do the lateral ventricles fill here?",
)
_LEVEL = (
    "At which level is this slice?",
    "Grade the level of this axial MR slice from base to vertex.",
    "How high in the head was this axial MR slice taken?",
)
_LUNG = (
    "How much lung is in this slice?",
    "Grade the lungs' share of this {plane} CT slice.",
    "How much of the body do the lungs fill in this {plane} CT slice?",
)
_NUCLEUS = (
    "How large is the nucleus in the middle?",
    "Grade the size of the nucleus at the centre.",
    "This fluorescence crop is centred on a nucleus. Grade its area.",
)
_SHAPE = ("Which shape is this?", "Name the shape in the picture.")
_SIZE = ("How large is the shape?", "Grade the size of the shape.")


def _task(
    name: str,
    classes: tuple[str, ...],
    question: str,
    phrasings: tuple[str, ...],
    *,
    ordinal: bool = False,
) -> ClassTask:
    """One question whose options are all classes."""
    return ClassTask(name, classes, (_ask(question, phrasings, len(classes)),), ordinal)


_ROWS = (
    BuiltIn(
        _task("ct_organ", ORGAN_NAMES, "organ", _ORGAN),
        partial(crop_task, volume=VOLUMES["ct_organs"]),
    ),
    BuiltIn(
        _task("mr_structure", STRUCTURE_NAMES, "structure", _STRUCTURE),
        partial(crop_task, volume=VOLUMES["mr_aal"]),
    ),
    BuiltIn(
        _task("mr_plane", PLANES, "plane", _PLANE),
        partial(plane_task, volume=VOLUMES["mr_aal"], shares=load_ventricle_shares),
    ),
    BuiltIn(
        ClassTask(
            "mr_structure_plane",
            STRUCTURE_NAMES + PLANES,
            (
                _ask("structure", _STRUCTURE_ALONE, len(STRUCTURE_NAMES)),
                _ask("plane", _PLANE, len(PLANES), first=len(STRUCTURE_NAMES)),
            ),
        ),
        partial(crop_task, volume=VOLUMES["mr_aal"]),
    ),
    BuiltIn(
        _task("mr_ventricle", _SHARES, "ventricle", _VENTRICLE, ordinal=True),
        partial(grade_task, volume=VOLUMES["mr_aal"], shares=load_ventricle_shares),
    ),
    BuiltIn(
        _task("mr_level", _LEVELS, "level", _LEVEL, ordinal=True),
        partial(level_task, volume=VOLUMES["mr_aal"], shares=load_ventricle_shares),
    ),
    BuiltIn(
        _task("ct_lung", _SHARES, "lung", _LUNG, ordinal=True),
        partial(grade_task, volume=VOLUMES["ct_organs"], shares=load_lung_shares),
    ),
    BuiltIn(
        _task("nuclei_size", NUCLEUS_SIZES, "size", _NUCLEUS, ordinal=True),
        nuclei_task,
    ),
    BuiltIn(
        _task("shapes", NAMES, "shape", _SHAPE), partial(shape_task, ask_size=False)
    ),
    BuiltIn(
        _task("shape_size", SIZES, "size", _SIZE, ordinal=True),
        partial(shape_task, ask_size=True),
    ),
)
BUILT_IN = {row.task.name: row for row in _ROWS}
"""The built-in tasks by name; those about a volume take it from `VOLUMES`."""

TASKS = {name: row.task for name, row in BUILT_IN.items()}
"""Their words by name."""


def built_in_task(name: str, look: PictureLook) -> TaskParts:
    """A built-in task with its pictures; fetches the data packs it needs.

    Args:
        name: One of `TASKS`, which the module explains.
        look: How pictures are shown; its `field` is in mm, of nuclei in pixels. What a
            task does not show, such as the margin of a whole slice, is not used.

    Raises:
        ValueError: The name is unknown, or `mirror` is set where classes have sides.
    """
    if name not in TASKS:
        raise ValueError(f"task {name!r}: expected one of {', '.join(TASKS)}")
    task, make = BUILT_IN[name]
    if look.mirror and any(c.startswith(("left ", "right ")) for c in task.classes):
        raise ValueError(
            f"mirror=True shows a left organ of {name} as a right one: set mirror=False"
        )
    parts = make(task, look)
    identity = {"task": name, "version": _VERSION, "look": look._asdict()}
    return parts._replace(identity=identity | dict(parts.identity))
