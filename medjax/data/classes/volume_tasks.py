"""Tasks about the slices of a volume: crops round structures, measured grades, planes.

Each function takes a task, how its pictures are shown, and a volume; the `identity` of
what it gives holds the packs' checksums, and of whole slices the grades' thresholds.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from medjax.data.classes.pictures import PictureLook, crop_pictures, grade_pictures
from medjax.data.classes.tasks import ClassTask, TaskParts
from medjax.data.volumes.atlas import PLANES, Atlas
from medjax.data.volumes.packs import pack_sums
from medjax.data.volumes.shares import Shares, grade_values
from medjax.data.volumes.splits import PARTS, part_index, split_slices
from medjax.data.volumes.table import Volume


def crop_task(task: ClassTask, look: PictureLook, *, volume: Volume) -> TaskParts:
    """Crops round structures; a second question of the task asks for the plane.

    The options of the first question name the structures. One that the atlas knows by
    its sides only is shown from both.

    Args:
        task: The task in words.
        look: How crops are shown.
        volume: The labelled volume that they are cut from.
    """
    atlas = volume.load()
    members = {
        name: n
        for n in task.questions[0].options
        for name in _sides(task.classes[n], atlas.names)
    }
    kept = slice(len(task.questions))
    parts = (crop_pictures(atlas, members, part=part, look=look) for part in PARTS)
    train, test = (part._replace(labels=part.labels[:, kept]) for part in parts)
    return TaskParts(task, train, test, _packs(volume))


def grade_task(
    task: ClassTask, look: PictureLook, *, volume: Volume, shares: Callable[[], Shares]
) -> TaskParts:
    """Whole slices with grades of what `shares` measures, grade 0 being none of it.

    The thresholds of the other grades are quantiles of the training part.

    Args:
        task: The task in words.
        look: How slices are shown; `margin` and `least` are not used.
        volume: The labelled volume whose slices are shown.
        shares: Called once for the slices in use and what was measured in them.
    """
    return _grade(task, look, volume, volume.load(), shares(), 0.0)


def level_task(
    task: ClassTask, look: PictureLook, *, volume: Volume, shares: Callable[[], Shares]
) -> TaskParts:
    """Axial slices graded by how high they lie; `shares` says which are shown.

    Args:
        task: The task in words.
        look: How slices are shown; `margin` and `least` are not used.
        volume: The labelled volume whose slices are shown.
        shares: Called once for the slices in use and what was measured in them.
    """
    atlas, slices = volume.load(), shares()
    axial = slices.plane == PLANES.index("axial")
    slices = Shares(*(column[axial] for column in slices))
    levels = slices._replace(share=slices.position / atlas.volume.shape[2])
    return _grade(task, look, volume, atlas, levels, None)


def plane_task(
    task: ClassTask, look: PictureLook, *, volume: Volume, shares: Callable[[], Shares]
) -> TaskParts:
    """Whole slices whose class is their plane; `shares` says which are shown.

    Args:
        task: The task in words.
        look: How slices are shown; `margin` and `least` are not used.
        volume: The labelled volume whose slices are shown.
        shares: Called once for the slices in use and what was measured in them.
    """
    slices = shares()
    return _slices(task, look, volume, volume.load(), slices, slices.plane, [])


def _grade(
    task: ClassTask,
    look: PictureLook,
    volume: Volume,
    atlas: Atlas,
    slices: Shares,
    zero: float | None,
) -> TaskParts:
    train = split_slices(slices.position, tested=look.tested) == part_index("train")
    grades, cuts = grade_values(
        slices.share, train, grades=len(task.classes), zero=zero
    )
    thresholds = np.round(cuts, 6).tolist()
    return _slices(task, look, volume, atlas, slices, grades, thresholds)


def _slices(
    task: ClassTask,
    look: PictureLook,
    volume: Volume,
    atlas: Atlas,
    slices: Shares,
    labels: Int[np.ndarray, "n"],
    thresholds: list[float],
) -> TaskParts:
    train, test = (
        grade_pictures(
            atlas, labels, slices.plane, slices.position, part=part, look=look
        )
        for part in PARTS
    )
    identity = _packs(volume) | {"thresholds": thresholds}
    return TaskParts(task, train, test, identity)


def _sides(name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    return (name,) if name in known else (f"left {name}", f"right {name}")


def _packs(volume: Volume) -> dict[str, object]:
    return {"packs": pack_sums(volume.packs)}
