"""Pictures with classes: crops round structures, whole slices with a measured grade.

Every source of classification data (a volume, a user's folder, a MedMNIST file) is a
`Pictures`: a count, what is known beforehand, and a pure function of (index,
generator). Slices are split by blocks, see `splits.split_slices`: neighbouring slices
are near copies. A volume is one subject, and its three planes cross: a test slice
shares a line of voxels with training slices of other planes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from medjax.data.orders import drawn_places
from medjax.data.volumes.atlas import PLANES, Atlas, slice_centre, slice_image
from medjax.data.volumes.frames import frame_image, moved_frame
from medjax.data.volumes.splits import BLOCK, part_index, split_slices


class Picture(NamedTuple):
    """One image, with what it is called and which group it belongs to."""

    image: UInt8[np.ndarray, "h w 3"]
    origin: str  # what an error or a report calls it: "axial 93", "a.csv, line 3"
    group: str  # pictures of one group (a patient, a block of slices) count as one
    plane: str = ""
    columns: Mapping[str, Any] = {}  # more about it, for Python rewards


class Pictures(NamedTuple):
    """A source of pictures, and what a run must know about all of them beforehand."""

    count: int
    picture: Callable[[int, np.random.Generator], Picture]  # index < count
    # The class of each of the task's Q questions; of a task of several labels
    # [count C], 1 where a picture shows the class.
    labels: Int[np.ndarray, "count Q"]
    sizes: tuple[tuple[int, int], ...]  # every (height, width) of an image
    planes: tuple[str, ...] = ("",)  # every plane that a question may name
    voted: str = ""  # what a group is whose pictures vote on one class: "volume"


class PictureLook(NamedTuple):
    """How parts of a volume are shown."""

    size: tuple[int, int]  # (height, width) in pixels
    field: float  # mm along the shorter side; of a crop at least
    margin: float  # of a crop, times the structure's longer side
    least: float  # of a structure's usual box in a plane: smaller ones are not shown
    shift: float  # pictures are moved by at most so much of a side, both ways
    scale: tuple[float, float]  # and made larger by a factor between these
    mirror: bool = False  # training pictures flipped half of the time
    test_draws: int = 1  # pictures of each test slice
    tested: str = "test"  # or "val", see `split_slices`


def crop_pictures(
    atlas: Atlas, members: Mapping[str, int], *, part: str, look: PictureLook
) -> Pictures:
    """Square crops round structures, one view a (slice, structure) pair.

    The class of the first question is the structure's, that of a second one the plane.
    A draw moves and scales the crop at random; evaluation gives each index a generator
    of its own, so the test is fixed.

    Args:
        atlas: Slices, and where structures are in them.
        members: The class index of each structure's name; others are not shown. Several
            may share a class, such as both sides of a pair.
        part: "train" or "test"; only a test is shown `look.test_draws` times.
        look: How crops are shown. `least` leaves out the last slices at a structure's
            ends, which show hardly anything of it; `mirror` is for classes without
            sides.

    Raises:
        ValueError: The part is unknown, or shows none of the structures.
    """
    label_of = np.array([members.get(name, -1) for name in atlas.names])
    label = label_of[atlas.structure]
    kept = label >= 0
    parts = split_slices(atlas.position, tested=look.tested)
    kept &= parts[atlas.slice_of] == part_index(part)
    kept &= _box_shares(atlas) >= look.least
    pairs = np.flatnonzero(kept)
    if not len(pairs):
        raise ValueError(
            f"{part}: none of the structures {sorted(members)} is seen in a slice of it"
        )

    def place(index: int) -> tuple[int, tuple[float, float], float]:
        x1, y1, x2, y2 = atlas.boxes[pairs[index]].tolist()
        side = look.margin * max(x2 - x1, y2 - y1)
        centre = ((x1 + x2) / 2, (y1 + y2) / 2)
        return (
            int(atlas.slice_of[pairs[index]]),
            centre,
            max(look.field / atlas.spacing, side),
        )

    plane = len(set(members.values())) + atlas.plane[atlas.slice_of[pairs]]
    return _drawn(
        atlas,
        place,
        np.stack([label[pairs], plane], axis=-1).astype(np.int32),
        part=part,
        look=look,
    )


def grade_pictures(
    atlas: Atlas,
    grades: Int[np.ndarray, "n"],
    plane: Int[np.ndarray, "n"],
    position: Int[np.ndarray, "n"],
    *,
    part: str,
    look: PictureLook,
) -> Pictures:
    """Whole slices with a grade of each, moved and scaled at random at every draw.

    Args:
        atlas: It gives the pictures; its own list of slices is not used.
        grades: The class index of each of n slices.
        plane: The plane of each slice: 0 axial, 1 coronal, 2 sagittal.
        position: The voxel index of each slice across its plane; blocks are cut by it.
        part: "train" or "test"; only a test is shown `look.test_draws` times.
        look: How slices are shown; `margin` and `least` are not used.

    Raises:
        ValueError: The part is unknown, or has no slices.
    """
    parts = split_slices(position, tested=look.tested)
    rows = np.flatnonzero(parts == part_index(part))
    if not len(rows):
        raise ValueError(f"{part}: no slice of {len(position)} is in it")

    def place(index: int) -> tuple[int, tuple[float, float], float]:
        row = rows[index]
        name = PLANES[plane[row]]
        centre = slice_centre(atlas.volume.shape, atlas.centre, name)
        return int(row), centre, look.field / atlas.spacing

    whole = atlas._replace(plane=plane, position=position)
    return _drawn(whole, place, grades[rows][:, None], part=part, look=look)


def labelled_pictures(pictures: Pictures, count: int, *, seed: int) -> Pictures:
    """Some of the pictures: what a run has that few are labelled for.

    They stay in their order, and are moved at every draw as before.

    Args:
        pictures: A training part.
        count: How many are taken, 1 or more.
        seed: Decides which.

    Raises:
        ValueError: There are fewer.
    """
    chosen = drawn_places(pictures.count, count, seed=seed)
    return pictures._replace(
        count=count,
        picture=lambda n, rng: pictures.picture(int(chosen[n]), rng),
        labels=pictures.labels[chosen],
    )


def balance_pictures(pictures: Pictures, question: int = 0) -> Pictures:
    """Each class as often as the largest one: the others' pictures are repeated.

    Only the first pictures of a class are repeated once more than others.

    Args:
        pictures: One or more; a class without any stays without.
        question: The number of the question whose classes are balanced, from 0.
    """
    return repeat_evenly(pictures, pictures.labels[:, question])


def repeat_evenly(pictures: Pictures, kinds: Int[np.ndarray, "count"]) -> Pictures:
    """Each kind of picture as often as the most frequent one.

    Args:
        pictures: One or more.
        kinds: The kind of each, a number of at least 0; only the first pictures of a
            kind are repeated once more than others.
    """
    counts = np.bincount(kinds)
    index = np.concatenate(
        [
            np.resize(np.flatnonzero(kinds == kind), counts.max())
            for kind in np.flatnonzero(counts)
        ]
    )
    return pictures._replace(
        count=len(index),
        picture=lambda n, rng: pictures.picture(int(index[n]), rng),
        labels=pictures.labels[index],
    )


def class_counts(
    pictures: Pictures, num_classes: int, question: int = 0
) -> Int[np.ndarray, "C"]:
    """How many pictures each class has.

    Args:
        pictures: None of a class gives 0.
        num_classes: C, above the highest class index.
        question: The number of the question that the classes answer, from 0.
    """
    return np.bincount(pictures.labels[:, question], minlength=num_classes)


def _box_shares(atlas: Atlas) -> Float[np.ndarray, "R"]:
    """Area of each pair's box, by the median of the structure's in that plane."""
    area = np.prod(atlas.boxes[:, 2:] - atlas.boxes[:, :2], axis=1)
    kind = atlas.structure * len(PLANES) + atlas.plane[atlas.slice_of]
    medians = np.ones(len(atlas.names) * len(PLANES), np.float64)
    for n in np.unique(kind):
        medians[n] = np.median(area[kind == n])
    return area / medians[kind]


def _drawn(
    atlas: Atlas,
    place: Callable[[int], tuple[int, tuple[float, float], float]],
    labels: Int[np.ndarray, "n Q"],
    *,
    part: str,
    look: PictureLook,
) -> Pictures:
    """Pictures of places (slice, centre, field in voxels), moved at every draw."""
    test = part == "test"
    draws = look.test_draws if test else 1

    def picture(index: int, rng: np.random.Generator) -> Picture:
        which, centre, field = place(index // draws)
        plane, position = PLANES[atlas.plane[which]], int(atlas.position[which])
        frame = moved_frame(
            centre,
            field=field,
            size=look.size,
            shift=look.shift,
            scale=look.scale,
            rng=rng,
        )
        grey = frame_image(slice_image(atlas.volume, plane, position), frame)
        flip = look.mirror and not test and plane != "sagittal"
        if flip and rng.random() < 0.5:
            grey = grey[:, ::-1]
        name = f"{plane} {position}"
        image = np.repeat(grey[..., None], 3, axis=-1)
        # Neighbours are near copies: a score's interval has to resample blocks.
        return Picture(image, name, f"{plane} block {position // BLOCK}", plane)

    labels = np.repeat(labels, draws, axis=0).astype(np.int32)
    return Pictures(len(labels), picture, labels, (look.size,), PLANES)
