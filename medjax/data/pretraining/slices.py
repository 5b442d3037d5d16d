"""Slices of a labelled volume as pretraining shows and describes them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from medjax.data.boxes.queries import phrasings
from medjax.data.boxes.slices import Look, atlas_views
from medjax.data.boxes.views import View, Views
from medjax.data.pretraining.attributes import all_reasons, measured_reason
from medjax.data.pretraining.looks import (
    Changes,
    changed_greys,
    turned_box,
    turned_image,
)
from medjax.data.volumes.anatomy import other_side
from medjax.data.volumes.atlas import PLANES, Atlas, piece_mask, slice_centre
from medjax.data.volumes.frames import frame_image, mirror_boxes, moved_frame
from medjax.data.volumes.splits import part_index, split_slices

_DRAWS = 8  # tries for a picture that shows a structure whole
_MOST = 8  # structures that a picture offers, to be drawn from


class Shown(NamedTuple):
    """A volume as pretraining asks about it."""

    domain: str  # what tables call it: "MR"
    atlas: Atlas
    names: tuple[str, ...]  # what may be asked for
    modality: str  # what questions call the pictures
    # (plane, position, generator) -> the slice in greys, in radiological view
    picture: Callable[[str, int, np.random.Generator], UInt8[np.ndarray, "a b"]]
    mirror: bool  # half of the training pictures are mirrored, sides exchanged
    still: tuple[str, ...]  # planes whose greys are never inverted


def training_views(shown: Shown, look: Look, changes: Changes) -> Views:
    """Slices that training may see: changed at every draw, told in the reasoning.

    Args:
        shown: The volume.
        look: How slices are shown; its shift, scale and mirror are not read, those of
            `changes` and `shown` being used, and `tested` must be "val": the blocks of
            both the test and the validation part are left out.
        changes: How far pictures are moved, turned and changed in contrast.

    Raises:
        ValueError: `tested` is another part, or no slice shows a structure.
    """
    if look.tested != "val":
        raise ValueError(
            f"tested={look.tested!r}: expected 'val', which keeps the test's blocks too"
        )
    atlas = shown.atlas
    kept = split_slices(atlas.position, tested=look.tested) == part_index("train")
    wanted = np.isin(np.array(atlas.names), shown.names)[atlas.structure]
    pairs = np.flatnonzero(wanted & kept[atlas.slice_of])
    slices = np.unique(atlas.slice_of[pairs])
    if not len(slices):
        raise ValueError(f"{shown.domain}: no slice shows any of {shown.names}")

    def view(index: int, rng: np.random.Generator) -> View:
        # Some slice of the part is shown whole: others are drawn where this one is not.
        for tried in range(_DRAWS * len(slices)):
            at = int(slices[(index + tried // _DRAWS) % len(slices)])
            drawn = _draw(
                shown, at, pairs[atlas.slice_of[pairs] == at], look, changes, rng
            )
            if drawn is not None:
                return drawn
        raise ValueError(
            f"{shown.domain}: no picture of {look.size} shows a structure whole with "
            f"sides of {look.min_side} pixels; lower min_side"
        )

    return Views(
        count=len(slices),
        view=view,
        names=shown.names,
        texts=_texts(shown, look),
        sizes=(look.size,),
        reasons=all_reasons(shown.names, planes=PLANES, modality=shown.modality),
    )


def validation_views(shown: Shown, look: Look) -> Views:
    """The `moved` split's validation blocks, with what pretraining would say of them.

    Args:
        shown: The volume; pictures are those of its atlas, upright and not changed.
        look: How slices are shown, moved and scaled; its `tested` must be "val".
    """
    views = atlas_views(
        shown.atlas,
        names=shown.names,
        modality=shown.modality,
        split="moved",
        part="test",
        look=look._replace(mirror=False),
        seed=0,
    )

    return described_views(views, shown.domain, shown.modality)


def described_views(views: Views, domain: str, modality: str) -> Views:
    """Views of slices with what pretraining would say of each structure.

    Args:
        views: Of slices of a volume.
        domain: What tables call the source, the first word of each view's plane.
        modality: What the pictures are called.
    """

    def view(index: int, rng: np.random.Generator) -> View:
        return described(views.view(index, rng), domain, modality)

    return views._replace(
        view=view,
        reasons=all_reasons(views.names, planes=PLANES, modality=modality),
    )


def described(view: View, domain: str, modality: str) -> View:
    """The view with reasons, its plane and origin beginning with the domain's name.

    Args:
        view: Its last image is grey; each of its structures has one box.
        domain: What tables call the source.
        modality: What the picture is called.
    """
    grey = view.images[-1][..., 0]
    return view._replace(
        reasons=tuple(
            measured_reason(grey, box, name, plane=view.plane, modality=modality)
            for name, box in zip(view.names, view.boxes, strict=True)
        ),
        plane=f"{domain} {view.plane}",
        origin=f"{domain} {view.origin}",
    )


def _draw(
    shown: Shown,
    at: int,
    pairs: Int[np.ndarray, "n"],
    look: Look,
    changes: Changes,
    rng: np.random.Generator,
) -> View | None:
    """A picture of one slice; None where it shows no structure whole."""
    atlas = shown.atlas
    plane, position = PLANES[atlas.plane[at]], int(atlas.position[at])
    frame = moved_frame(
        slice_centre(atlas.volume.shape, atlas.centre, plane),
        field=look.field / atlas.spacing,
        size=look.size,
        shift=changes.shift,
        scale=changes.scale,
        rng=rng,
    )
    middle = (
        frame.left + frame.step * frame.width / 2,
        frame.top + frame.step * frame.height / 2,
    )
    degrees = float(rng.uniform(-changes.turn, changes.turn))
    found: list[tuple[str, tuple[int, int, int, int]]] = []
    for pair in rng.permutation(pairs).tolist():
        x1, y1, _, _ = atlas.boxes[pair].tolist()
        mask = piece_mask(atlas, pair)
        box = turned_box((x1, y1), mask, middle, degrees, frame)
        if box and min(box[2] - box[0], box[3] - box[1]) >= look.min_side:
            found.append((atlas.names[atlas.structure[pair]], box))
        if len(found) == _MOST:
            break
    if not found:
        return None
    grey = frame_image(
        turned_image(shown.picture(plane, position, rng), middle, degrees), frame
    )
    grey = changed_greys(grey, changes, rng, invertible=plane not in shown.still)
    names = tuple(name for name, _ in found)
    boxes = np.array([box for _, box in found], np.float32)
    if shown.mirror and rng.random() < 0.5:
        names = tuple(other_side(name) for name in names)
        if plane != "sagittal":
            grey, boxes = grey[:, ::-1], mirror_boxes(boxes, grey.shape[1])
    view = View(
        images=(np.repeat(grey[..., None], 3, axis=-1),),
        names=names,
        boxes=boxes,
        questions=tuple(
            phrasings(x, plane=plane, modality=shown.modality, count=look.phrasings)
            for x in names
        ),
        origin=f"{plane} {position}",
        plane=plane,
        position=position,
    )
    return described(view, shown.domain, shown.modality)


def _texts(shown: Shown, look: Look) -> tuple[str, ...]:
    """Every question that may be asked."""
    return tuple(
        text
        for name in shown.names
        for plane in PLANES
        for text in phrasings(
            name, plane=plane, modality=shown.modality, count=look.phrasings
        )
    )
