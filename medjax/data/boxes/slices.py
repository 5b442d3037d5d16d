"""Splits of an atlas's slices, and the views they give.

==========  ==============================================================
slices      blocks of neighbouring slices; near copies never cross over
moved       the same blocks, each picture shifted and scaled at random, so
            that no box can be answered from memory; the headline
side        half of the paired structures are trained on one side only and
            tested on the other: is the word "left" used?
structure   a tenth of the structures is never trained
==========  ==============================================================
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from medjax.data.boxes.queries import phrasings
from medjax.data.boxes.views import View, Views
from medjax.data.volumes.anatomy import UNIONS, other_side
from medjax.data.volumes.atlas import (
    PLANES,
    Atlas,
    piece_mask,
    slice_centre,
    slice_image,
)
from medjax.data.volumes.frames import (
    Frame,
    centred_frame,
    frame_box,
    frame_image,
    mirror_boxes,
    moved_frame,
)
from medjax.data.volumes.splits import PARTS, part_index, split_slices

SPLITS = ("slices", "moved", "side", "structure")
_DRAWS = 8  # tries for a moved picture that still shows a structure whole


class Look(NamedTuple):
    """How slices are shown."""

    size: tuple[int, int]  # (height, width) in pixels
    field: float  # mm along the shorter side
    min_side: int  # pixels of the shown picture; smaller boxes are not asked for
    phrasings: int  # how many ways of asking are in use
    mirror: bool = False  # training pictures flipped half of the time
    shift: float = 0.12  # of the `moved` split: at most so much of a side, both ways
    scale: tuple[float, float] = (0.8, 1.25)  # of the `moved` split: how much larger
    tested: str = "test"  # see `split_slices`


def held_out(names: tuple[str, ...], split: str, seed: int) -> Bool[np.ndarray, "S"]:
    """Which structures `split` keeps from training.

    `side`: one side of every pair, half of them left. `structure`: a tenth, one at
    least, with both sides; a union, which would show its members, is not among them,
    and `atlas_views` asks for none. Of `slices` and `moved` it is none.

    Args:
        names: The S structures that may be asked for.
        split: "slices", "moved", "side" or "structure".
        seed: Decides which structures these are, 0 or more.

    Returns:
        True at the structures that are kept for the test, in the order of `names`.
    """
    held = np.zeros(len(names), bool)
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    bases = sorted({min(name, other_side(name)) for name in names})
    if split == "side":
        pairs = [name for name in bases if other_side(name) != name]
        flip = rng.permutation(len(pairs)) < len(pairs) // 2
        tested = {other_side(n) if f else n for n, f in zip(pairs, flip, strict=True)}
        held = np.array([name in tested for name in names])
    elif split == "structure":
        unions = {s.name for s in UNIONS}
        single = [name for name in bases if name not in unions]
        chosen = rng.permutation(len(single))[: max(1, len(single) // 10)]
        tested = {single[i] for i in chosen} | {other_side(single[i]) for i in chosen}
        held = np.array([name in tested for name in names])
    return held


def atlas_views(
    atlas: Atlas,
    *,
    names: tuple[str, ...],
    modality: str,
    split: str,
    part: str,
    look: Look,
    seed: int,
) -> Views:
    """The views of one part of one split, asking for the structures `names`.

    A `moved` view of the test part is drawn from the generator it is given, as in
    training; evaluation gives each index a generator of its own, so the test is fixed.

    Args:
        atlas: Slices and structures; those not in `names` are not asked for.
        names: Structures by the atlas's names. The split may hold some of them back.
        modality: What questions call the pictures, such as "CT".
        split: What the test holds back: "slices", blocks of neighbouring slices;
            "moved", the same blocks, every picture moved and scaled at random; "side",
            one side of half of the pairs; "structure", a tenth of the structures.
        part: "train" or "test"; only training pictures are ever mirrored.
        look: How slices are shown. Structures are asked for where they are shown whole,
            and their boxes have sides of `min_side` pixels or more.
        seed: Decides which structures `side` and `structure` hold back, 0 or more.

    Raises:
        ValueError: The split or part is unknown, or nothing is left to ask for;
            `mirror` comes with the `side` split, which it would give away; or a
            validation part is wanted of `side` or `structure`, which would ask for what
            the test holds back.
    """
    _check(split, part, look)
    if split == "structure":
        unions = {s.name for s in UNIONS}
        names = tuple(name for name in names if name not in unions)
    held, test = held_out(names, split, seed), part == "test"
    kept = held if test and held.any() else ~held
    kept_names = tuple(n for n, ok in zip(names, kept, strict=True) if ok)
    pairs_of = _pairs(atlas, kept_names, split, part, look)
    field = look.field / atlas.spacing
    still = {}
    for m, pairs in pairs_of.items():
        frame = centred_frame(_centre(atlas, m), field=field, size=look.size)
        still[m] = _shown(atlas, pairs, frame, look)
    slices = [m for m, shown in still.items() if shown.pairs]
    if not slices:
        raise ValueError(
            f"split {split!r}, {part}: no structure of {names} has sides of "
            f"{look.min_side} pixels at {look.size}; lower min_side or enlarge size"
        )

    def moved(index: int, rng: np.random.Generator) -> _Shown:
        for _ in range(_DRAWS):
            frame = moved_frame(
                _centre(atlas, index),
                field=field,
                size=look.size,
                shift=look.shift,
                scale=look.scale,
                rng=rng,
            )
            shown = _shown(atlas, pairs_of[index], frame, look)
            if shown.pairs:
                return shown
        return still[index]

    def view(index: int, rng: np.random.Generator) -> View:
        chosen = slices[index]
        shown = moved(chosen, rng) if split == "moved" else still[chosen]
        flip = look.mirror and not test and bool(rng.random() < 0.5)
        return _view(atlas, chosen, shown, look, flip, modality)

    return Views(
        count=len(slices),
        view=view,
        names=kept_names,
        texts=tuple(
            text
            for name in kept_names
            for plane in PLANES
            for text in phrasings(
                name, plane=plane, modality=modality, count=look.phrasings
            )
        ),
        sizes=(look.size,),
    )


def _check(split: str, part: str, look: Look) -> None:
    if split not in SPLITS or part not in PARTS:
        raise ValueError(
            f"split={split!r}, part={part!r}: expected one of {SPLITS} and of {PARTS}"
        )
    if look.mirror and split == "side":
        raise ValueError(
            "mirror=True shows a left structure as a right one, which the `side` split "
            "holds back: set mirror=False"
        )
    if look.tested != "test" and split in ("side", "structure"):
        raise ValueError(
            f"test={look.tested!r} and split={split!r}: settings would be chosen by "
            "the very structures that the test holds back; choose by split='moved'"
        )


def _pairs(
    atlas: Atlas, names: tuple[str, ...], split: str, part: str, look: Look
) -> dict[int, list[int]]:
    """The (slice, structure) pairs to ask for, by slice of the part."""
    wanted = np.isin(np.array(atlas.names), names)[atlas.structure]
    kept = split_slices(atlas.position, tested=look.tested) == part_index(part)
    if split == "side" and part == "test":
        kept &= atlas.plane != PLANES.index("sagittal")  # it shows one side only
    pairs_of: dict[int, list[int]] = {}
    for pair in np.flatnonzero(wanted & kept[atlas.slice_of]).tolist():
        pairs_of.setdefault(int(atlas.slice_of[pair]), []).append(pair)
    return pairs_of


def _centre(atlas: Atlas, index: int) -> tuple[float, float]:
    """Where the middle of the brain, or of the body, is in a slice."""
    plane = PLANES[atlas.plane[index]]
    return slice_centre(atlas.volume.shape, atlas.centre, plane)


class _Shown(NamedTuple):
    """A frame, and (structure, box in it) of what can be asked for."""

    frame: Frame
    pairs: list[tuple[int, tuple[int, int, int, int]]]


def _shown(atlas: Atlas, pairs: list[int], frame: Frame, look: Look) -> _Shown:
    """The pairs that are wholly inside the frame and large enough."""
    shown = []
    for pair in pairs:
        x1, y1, x2, y2 = atlas.boxes[pair].tolist()
        box = frame_box((x1, y1, x2, y2), piece_mask(atlas, pair), frame)
        if box and min(box[2] - box[0], box[3] - box[1]) >= look.min_side:
            shown.append((int(atlas.structure[pair]), box))
    return _Shown(frame, shown)


def _view(
    atlas: Atlas, index: int, shown: _Shown, look: Look, flip: bool, modality: str
) -> View:
    plane, position = PLANES[atlas.plane[index]], int(atlas.position[index])
    grey = frame_image(slice_image(atlas.volume, plane, position), shown.frame)
    names = tuple(atlas.names[s] for s, _ in shown.pairs)
    boxes = np.array([box for _, box in shown.pairs], np.float32)
    if flip:
        # The mirrored brain. In a sagittal slice its picture is the same one, and only
        # the names change sides.
        names = tuple(other_side(name) for name in names)
        if plane != "sagittal":
            grey, boxes = grey[:, ::-1], mirror_boxes(boxes, grey.shape[1])
    return View(
        images=(np.repeat(grey[..., None], 3, axis=-1),),
        names=names,
        boxes=boxes,
        questions=tuple(
            phrasings(name, plane=plane, modality=modality, count=look.phrasings)
            for name in names
        ),
        origin=f"{plane} {position}" + (" mirrored" if flip else ""),
        plane=plane,
        position=position,
    )
