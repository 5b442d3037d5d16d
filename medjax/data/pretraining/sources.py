"""The sources of pretraining, mixed: MR, CT, nuclei, drawn shapes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from medjax.data.batches import Parts
from medjax.data.boxes.slices import Look
from medjax.data.boxes.synthetic import MODALITY, PLANE, synthetic_views
from medjax.data.boxes.views import View, Views
from medjax.data.classes.nuclei import FLUORESCENCE
from medjax.data.pretraining.attributes import all_reasons
from medjax.data.pretraining.held_out import HELD_OUT, refuse_held_out, seen_structures
from medjax.data.pretraining.looks import Changes, random_window
from medjax.data.pretraining.nuclei import load_field, nuclei_views
from medjax.data.pretraining.slices import (
    Shown,
    described,
    training_views,
    validation_views,
)
from medjax.data.volumes.atlas import MR, slice_image
from medjax.data.volumes.chest import CHEST_STRUCTURES, load_chest
from medjax.data.volumes.ct import CHEST, CT
from medjax.data.volumes.desikan import (
    DESIKAN_PACKS,
    load_desikan,
    select_desikan,
)
from medjax.data.volumes.packs import Pack, pack_sums

_COUNTS = (512, 64)  # views an epoch of what is drawn anew, to train and to validate on


class Wanted(NamedTuple):
    """What is shown and asked for, and how."""

    structures: Mapping[str, str | Sequence[str]]  # by volume; "seen": all not held out
    look: Look  # its field is not read
    fields: Mapping[str, float]  # mm along the shorter side, by volume
    changes: Changes
    crop: float  # pixels of the image of nuclei along a side of a crop


class Source(NamedTuple):
    """Both parts of a source."""

    train: Views
    validation: Views


def load_sources(shares: Mapping[str, float], wanted: Wanted) -> Parts[Views]:
    """The training and the validation part of a mixture of sources.

    The validation part shows every validation view of every source once, upright and
    not changed in contrast.

    Args:
        shares: How much of the training pictures comes from each source: "mr_dk",
            "ct_organs", "nuclei" and "shapes"; above 0, in any unit.
        wanted: What is shown and asked for.

    Raises:
        ConnectionError: A pack is not there, and neither is a network.
        ValueError: A source is unknown, a share is not above 0, or a structure is held
            out.
    """
    if not shares:
        raise ValueError(f"no source: expected shares of some of {', '.join(SOURCES)}")
    for name, share in shares.items():
        if name not in SOURCES:
            raise ValueError(f"source {name!r}: expected one of {', '.join(SOURCES)}")
        if not 0 < share < np.inf:
            raise ValueError(f"shares.{name}={share}: expected a share above 0")
    sources = {name: SOURCES[name](wanted) for name in shares}
    train = [(source.train, shares[name]) for name, source in sources.items()]
    identity = {
        "source": "pretraining",
        "shares": dict(shares),
        "packs": pack_sums(source_packs(shares)),
        "names": {name: list(source.train.names) for name, source in sources.items()},
        "look": wanted.look._asdict() | {"field": dict(wanted.fields)},
        "changes": wanted.changes._asdict(),
        "crop": wanted.crop,
        "held_out": HELD_OUT._asdict(),
    }
    tested = [(source.validation, 0.0) for source in sources.values()]
    return Parts(mixed_views(train), mixed_views(tested), identity)


def source_packs(names: Iterable[str]) -> tuple[Pack, ...]:
    """The packs of some sources, each once: their licences, and whom to credit.

    Args:
        names: Names of `SOURCES`.
    """
    return tuple(dict.fromkeys(pack for name in names for pack in PACKS[name]))


def mixed_views(parts: Sequence[tuple[Views, float]]) -> Views:
    """Several sources as one, each view at least once an epoch.

    Args:
        parts: Sources and their shares of the whole. Views of a source are repeated as
            often as its share asks; shares of 0 repeat none.
    """
    whole = max((views.count / share for views, share in parts if share), default=0.0)
    counts = [max(views.count, round(share * whole)) for views, share in parts]
    ends = np.cumsum(counts)

    def view(index: int, rng: np.random.Generator) -> View:
        part = int(np.searchsorted(ends, index, side="right"))
        views = parts[part][0]
        return views.view((index - int(ends[part]) + counts[part]) % views.count, rng)

    def joined(read: Callable[[Views], tuple]) -> tuple:
        return tuple(dict.fromkeys(x for views, _ in parts for x in read(views)))

    return Views(
        count=sum(counts),
        view=view,
        names=joined(lambda views: views.names),
        texts=joined(lambda views: views.texts),
        sizes=joined(lambda views: views.sizes),
        reasons=joined(lambda views: views.reasons),
    )


def _chosen(source: str, known: Sequence[str], wanted: Wanted) -> tuple[str, ...]:
    """The structures of a volume that are asked for; none of them is held out."""
    asked = wanted.structures.get(source, "seen")
    seen = seen_structures(source, known)
    if asked == "seen":
        return seen
    names = (asked,) if isinstance(asked, str) else tuple(asked)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"structures.{source}: no {', '.join(unknown)}; expected 'seen', or some "
            f"of {', '.join(seen)}"
        )
    refuse_held_out(source, names)
    return names


def _volume(source: str, shown: Shown, wanted: Wanted) -> Source:
    if not wanted.fields.get(source, 0) > 0:
        raise ValueError(
            f"fields.{source}: expected mm above 0, found {wanted.fields.get(source)}"
        )
    look = wanted.look._replace(field=wanted.fields[source])
    train = training_views(shown, look, wanted.changes)
    return Source(train, validation_views(shown, look))


def _mr(wanted: Wanted) -> Source:
    names = _chosen("mr_dk", select_desikan("all"), wanted)
    atlas = load_desikan()

    def picture(
        plane: str, position: int, rng: np.random.Generator
    ) -> UInt8[np.ndarray, "a b"]:
        del rng
        return slice_image(atlas.volume, plane, position)

    still = HELD_OUT.inverted["mr_dk"]
    shown = Shown("MR", atlas, names, MR, picture, mirror=True, still=still)
    return _volume("mr_dk", shown, wanted)


def _ct(wanted: Wanted) -> Source:
    known = tuple(structure.name for structure in CHEST_STRUCTURES)
    names = _chosen("ct_organs", known, wanted)
    chest = load_chest()

    def picture(
        plane: str, position: int, rng: np.random.Generator
    ) -> UInt8[np.ndarray, "a b"]:
        values = slice_image(chest.hounsfield, plane, position)
        return random_window(
            values.astype(np.float32), rng, lowest_level=HELD_OUT.lowest_level
        )

    still = HELD_OUT.inverted["ct_organs"]
    shown = Shown("CT", chest.atlas, names, CT, picture, mirror=False, still=still)
    return _volume("ct_organs", shown, wanted)


def _nuclei(wanted: Wanted) -> Source:
    field = load_field()
    train, validation = (
        nuclei_views(field, wanted.look, changes, side=wanted.crop, count=count)
        for changes, count in zip((wanted.changes, None), _COUNTS, strict=True)
    )
    return Source(train, validation)


def _shapes(wanted: Wanted) -> Source:
    both = []
    for part, count in zip(("train", "val"), _COUNTS, strict=True):
        views = synthetic_views(
            count=count,
            size=wanted.look.size,
            part=part,
            num_phrasings=wanted.look.phrasings,
        )
        both.append(_described(views))
    return Source(both[0], both[1])


def _described(views: Views) -> Views:
    def view(index: int, rng: np.random.Generator) -> View:
        return described(views.view(index, rng), "shapes", MODALITY)

    reasons = all_reasons(views.names, planes=(PLANE,), modality=MODALITY)
    return views._replace(view=view, reasons=reasons)


PACKS = {
    "mr_dk": DESIKAN_PACKS,
    "ct_organs": (CHEST,),
    "nuclei": (FLUORESCENCE,),
    "shapes": (),
}
"""What each source is made of, by its name in a config."""
SOURCES = {"mr_dk": _mr, "ct_organs": _ct, "nuclei": _nuclei, "shapes": _shapes}
"""What makes each source, by its name in a config."""
