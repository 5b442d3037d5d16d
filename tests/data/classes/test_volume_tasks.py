"""Tasks about the toy head: crops of structures, grades, levels and planes."""

import numpy as np
import pytest

from medjax.data.classes.pictures import PictureLook
from medjax.data.classes.tasks import ClassQuestion, ClassTask
from medjax.data.classes.volume_tasks import (
    crop_task,
    grade_task,
    level_task,
    plane_task,
)
from medjax.data.volumes.anatomy import select_structures
from medjax.data.volumes.atlas import PLANES, TEMPLATE
from medjax.data.volumes.packs import pack_sums
from medjax.data.volumes.shares import Shares
from medjax.data.volumes.table import Volume

LOOK = PictureLook((40, 40), 20.0, 1.5, 0.0, 0.0, (1.0, 1.0))


@pytest.fixture
def volume(atlas):
    return Volume(lambda: atlas, (TEMPLATE,), "MR", select_structures, mirror=True)


def make_task(*classes, second=(), ordinal=False):
    first = ClassQuestion("first", ("Which?",), tuple(range(len(classes))))
    rest = tuple(range(len(classes), len(classes) + len(second)))
    questions = (first, ClassQuestion("second", ("Plane?",), rest))[: 1 + bool(second)]
    return ClassTask("toy", classes + second, questions, ordinal)


def make_shares():
    """Sixty slices of each plane; the share rises with the position, from none."""
    position = np.tile(np.arange(60, dtype=np.int32), 3)
    plane = np.repeat(np.arange(3, dtype=np.int32), 60)
    return Shares(plane, position, np.maximum(position - 9, 0) / 50)


def test_a_structure_is_shown_from_both_sides(volume, atlas):
    task = make_task("thalamus", "insula")
    parts = crop_task(task, LOOK, volume=volume)
    assert parts.identity == {"packs": pack_sums([TEMPLATE])}
    assert parts.train.labels.shape == (parts.train.count, 1)
    left, right = (
        crop_task(make_task(f"{side} thalamus", f"{side} insula"), LOOK, volume=volume)
        for side in ("left", "right")
    )
    assert parts.train.count == left.train.count + right.train.count
    assert set(parts.train.labels[:, 0]) == set(parts.test.labels[:, 0]) == {0, 1}


def test_a_second_question_asks_for_the_plane(volume):
    parts = crop_task(
        make_task("thalamus", "insula", second=PLANES), LOOK, volume=volume
    )
    for n in range(0, parts.train.count, 7):
        picture = parts.train.picture(n, np.random.default_rng(0))
        assert PLANES[parts.train.labels[n, 1] - 2] == picture.plane


def test_grades_begin_with_none_and_split_the_rest_evenly(volume):
    task = make_task("none", "less", "more", ordinal=True)
    parts = grade_task(task, LOOK, volume=volume, shares=make_shares)
    labels = parts.train.labels[:, 0]
    positions = [
        int(parts.train.picture(n, np.random.default_rng(0)).origin.split()[1])
        for n in range(parts.train.count)
    ]
    assert [label == 0 for label in labels] == [at <= 9 for at in positions]
    assert abs((labels == 1).sum() - (labels == 2).sum()) <= 3
    assert len(parts.identity["thresholds"]) == 2


def test_levels_are_of_axial_slices(volume, atlas):
    task = make_task("low", "middle", "high", ordinal=True)
    parts = level_task(task, LOOK, volume=volume, shares=make_shares)
    low, high = parts.identity["thresholds"]
    for n in range(parts.test.count):
        plane, at = parts.test.picture(n, np.random.default_rng(0)).origin.split()
        height = int(at) / atlas.volume.shape[2]
        assert plane == "axial"
        assert parts.test.labels[n, 0] == (height >= low) + (height >= high)


def test_planes_have_no_thresholds(volume):
    parts = plane_task(make_task(*PLANES), LOOK, volume=volume, shares=make_shares)
    assert parts.identity["thresholds"] == []
    for n in range(0, parts.train.count, 9):
        picture = parts.train.picture(n, np.random.default_rng(0))
        assert PLANES[parts.train.labels[n, 0]] == picture.plane
