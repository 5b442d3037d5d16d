"""What pretraining never sees, fixed before the first run: new domains are made of it.

A structure that is held out is never asked for by its name; its pixels are in pictures
of its neighbours. Slices, strips and looks that are held out are never shown.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from medjax.data.volumes.anatomy import other_side


class HeldTable(NamedTuple):
    """What is kept from pretraining, by the source's name."""

    structures: Mapping[str, tuple[str, ...]]  # never asked for
    slices: str  # of volumes: never shown
    strip: str  # of the image of nuclei: never shown
    inverted: Mapping[str, tuple[str, ...]]  # planes whose greys are never inverted
    lowest_level: float  # HU; windows of a CT with a lower level are never shown


_KEPT = (
    *("hippocampus", "putamen", "precuneus", "lingual gyrus"),
    *("superior temporal gyrus", "superior frontal gyrus"),
)
HELD_OUT = HeldTable(
    structures={
        "mr_dk": tuple(f"{side} {x}" for x in _KEPT for side in ("left", "right")),
        "ct_organs": ("heart", "liver", "spleen", "trachea"),
    },
    slices="every fourth block of 8 slices, and 2 slices on each side of it",
    strip="the left fifth of the image",
    inverted={"mr_dk": ("coronal",), "ct_organs": ()},
    lowest_level=-300.0,
)
"""The table of the shipped policy; it is written into its card."""


def held_in_words(table: HeldTable) -> dict[str, str]:
    """What is held out, for a card: what -> in words.

    Args:
        table: What is held out.
    """
    said = {
        f"structures of {source}, never asked for": ", ".join(names)
        for source, names in table.structures.items()
    }
    inverted = (
        f"inverted {' and '.join(planes)} pictures of {source}"
        for source, planes in table.inverted.items()
        if planes
    )
    windows = f"windows of a CT with a level below {table.lowest_level:g} HU"
    return {
        **said,
        "slices, never shown": table.slices,
        "nuclei, never shown": table.strip,
        "looks, never shown": ", ".join((*inverted, windows)),
        "questions": "grades of any kind",
    }


def seen_structures(
    source: str, known: Sequence[str], table: HeldTable = HELD_OUT
) -> tuple[str, ...]:
    """The structures of a source that pretraining may ask for, in the order of `known`.

    Args:
        source: The source's name; one without a row keeps nothing back.
        known: All names of the source.
        table: What is held out.

    Raises:
        ValueError: The table holds out a name that the source does not have, so that
            it would keep nothing back.
    """
    held = table.structures.get(source, ())
    missing = [name for name in held if name not in known]
    if missing:
        raise ValueError(
            f"the table of held-out structures names {', '.join(missing)} of {source}, "
            f"which has {', '.join(known)}: correct the table"
        )
    return tuple(name for name in known if name not in held)


def refuse_held_out(
    source: str, names: Sequence[str], table: HeldTable = HELD_OUT
) -> None:
    """Refuse to pretrain on what is held out.

    Args:
        source: The name of the source that `names` belong to.
        names: What would be asked for in pretraining.
        table: What is held out.

    Raises:
        ValueError: A name is held out, or is the other side of one that is, which a
            mirrored picture would show; every such name is listed.
    """
    held = set(table.structures.get(source, ()))
    held |= {other_side(name) for name in held}
    overlap = [name for name in names if name in held]
    if overlap:
        raise ValueError(
            f"pretraining on {source} would ask for {', '.join(overlap)}, which the "
            "table of medjax/data/pretraining/held_out.py keeps for new domains: take "
            "them out of the structures"
        )


def refuse_seen(source: str, names: Sequence[str], table: HeldTable = HELD_OUT) -> None:
    """Refuse to call a domain new whose structures pretraining asked for.

    Args:
        source: The domain's source, by its name in the table.
        names: What the domain asks for.
        table: What was held out.

    Raises:
        ValueError: A name is not among those held out; every such name is listed.
    """
    held = table.structures.get(source, ())
    overlap = [name for name in names if name not in held]
    if overlap:
        raise ValueError(
            f"a new domain of {source} asks for {', '.join(overlap)}, which "
            f"pretraining asked for too: expected some of {', '.join(held) or 'none'}"
        )
