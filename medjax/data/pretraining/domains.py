"""New domains: what pretraining never asked for, in other looks.

==========  ====================================================================
mr_new      the twelve structures of `mr_dk` that are held out, greys inverted
ct_new      the four organs of `ct_organs` that are held out, in a window of lungs
==========  ====================================================================

Training pictures are of blocks of slices that pretraining may have shown, in another
look and with other questions; the pictures of the test, its blocks, were never shown.
"""

from functools import partial

from medjax.data.pretraining.held_out import HELD_OUT, refuse_seen
from medjax.data.volumes.atlas import MR, Atlas
from medjax.data.volumes.chest import load_chest
from medjax.data.volumes.ct import CHEST, CT, window_image
from medjax.data.volumes.desikan import DESIKAN_PACKS, load_desikan
from medjax.data.volumes.table import Volume

LUNG_WINDOW = (-600.0, 1500.0)  # level and width, HU


def load_inverted_brain() -> Atlas:
    """The slices and labels of `load_desikan`, white shown black."""
    atlas = load_desikan()
    return atlas._replace(volume=255 - atlas.volume)


def load_lung_window() -> Atlas:
    """The slices and labels of `load_chest` in `LUNG_WINDOW`."""
    chest = load_chest()
    level, width = LUNG_WINDOW
    shown = window_image(chest.hounsfield, level=level, width=width)
    return chest.atlas._replace(volume=shown)


def select_new(source: str, names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Structures that pretraining never asked for.

    Args:
        source: The source's name in `HELD_OUT`.
        names: "all" that are held out, one of them, or several.

    Raises:
        ValueError: Pretraining asked for one, or it is unknown.
    """
    if names == "all":
        return HELD_OUT.structures[source]
    chosen = (names,) if isinstance(names, str) else tuple(names)
    refuse_seen(source, chosen)
    return chosen


NEW_DOMAINS = {
    "mr_new": Volume(
        load_inverted_brain,
        DESIKAN_PACKS,
        MR,
        partial(select_new, "mr_dk"),
        mirror=True,
    ),
    "ct_new": Volume(
        load_lung_window, (CHEST,), CT, partial(select_new, "ct_organs"), mirror=False
    ),
}
"""The domains as volumes, by their names in a config."""
