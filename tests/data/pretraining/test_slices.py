"""Slices of pretraining: which are shown, what is asked, and that boxes fit."""

import numpy as np
import pytest

from medjax.data.pretraining.looks import Changes
from medjax.data.pretraining.slices import Shown, training_views, validation_views
from medjax.data.volumes.atlas import PLANES, slice_image
from medjax.data.volumes.splits import part_index, split_slices
from tests.data.toy_atlas import LOOK, make_atlas, make_volumes

ATLAS = make_atlas()
LABELS, LABEL_NAMES = make_volumes()[1:]
NAMES = ("left thalamus", "right thalamus", "left insula", "right putamen")
STILL = Changes(0.1, (0.9, 1.1), 0.0, 0.0, 0.0, 0.0, 0.0)
VALIDATED = LOOK._replace(tested="val", shift=0.1, scale=(0.9, 1.1))


def shown(**changes):
    def picture(plane, position, rng):
        del rng
        return slice_image(ATLAS.volume, plane, position)

    values = {
        **{"domain": "MR", "atlas": ATLAS, "names": NAMES, "modality": "MR head"},
        **{"picture": picture, "mirror": False, "still": ()},
    }
    return Shown(**(values | changes))


def draws(views, times=3):
    return [
        views.view(index, np.random.default_rng((0, index, time)))
        for index in range(views.count)
        for time in range(times)
    ]


def part_of(view):
    plane, position = view.plane.split()[-1], view.position
    # The pictures' positions count within their plane.
    assert plane in PLANES
    return int(split_slices(np.array([position]), tested="val")[0])


def test_training_shows_training_blocks_alone():
    train = draws(training_views(shown(), VALIDATED, STILL))
    assert {part_of(view) for view in train} == {part_index("train")}
    validated = draws(validation_views(shown(), VALIDATED), times=1)
    assert {part_of(view) for view in validated} == {part_index("test")}
    for view in train + validated:
        assert set(view.names) <= set(NAMES)
        assert view.origin.startswith("MR ") and view.plane.startswith("MR ")
        plane = view.plane.removeprefix("MR ")
        assert all(
            reason.startswith(f"{plane} MR head; {name}: ")
            for name, reason in zip(view.names, view.reasons, strict=True)
        )


@pytest.mark.parametrize("turn", [0.0, 20.0])
@pytest.mark.parametrize("name", ["Thalamus_L", "Insula_R"])
def test_boxes_hold_what_the_picture_shows(name, turn):
    """One structure is white in black: its box is that of the white pixels."""
    (value,) = (value for value, label in LABEL_NAMES.items() if label == name)
    white = np.where(value == LABELS, 255, 0).astype(np.uint8)

    def picture(plane, position, rng):
        del rng
        return slice_image(white, plane, position)

    base, letter = name.lower().split("_")
    named = f"{'left' if letter == 'l' else 'right'} {base}"
    alone = shown(picture=picture, names=(named,))
    views = draws(training_views(alone, VALIDATED, STILL._replace(turn=turn)))
    for view in views:
        assert view.names == (named,)
        rows, columns = np.nonzero(view.images[0][..., 0] > 110)
        tight = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert np.abs(view.boxes[0] - tight).max() <= 1
    assert len(views) > 20


def test_planes_that_are_held_out_are_never_inverted():
    changes = STILL._replace(invert=1.0)
    views = draws(training_views(shown(still=("coronal",)), VALIDATED, changes), 1)
    corner = {
        plane: {int(v.images[0][0, 0, 0]) for v in views if v.plane == f"MR {plane}"}
        for plane in PLANES
    }
    assert corner == {"axial": {255}, "coronal": {0}, "sagittal": {255}}


def test_mirrored_pictures_exchange_sides():
    plain = draws(training_views(shown(), VALIDATED, STILL), 1)
    mirrored = draws(training_views(shown(mirror=True), VALIDATED, STILL), 1)
    changed = [a.names != b.names for a, b in zip(plain, mirrored, strict=True)]
    assert 0.2 < np.mean(changed) < 0.8


def test_other_parts_and_empty_choices_are_refused():
    with pytest.raises(ValueError, match="tested='test': expected 'val'"):
        training_views(shown(), LOOK, STILL)
    with pytest.raises(ValueError, match="MR: no slice shows"):
        training_views(shown(names=("left cuneus",)), VALIDATED, STILL)
    huge = VALIDATED._replace(min_side=69)
    with pytest.raises(ValueError, match="sides of 69 pixels; lower min_side"):
        training_views(shown(), huge, STILL).view(0, np.random.default_rng(0))
