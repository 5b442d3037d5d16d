"""Every labelled volume that data packs hold, one row each.

A new volume is a module beside `atlas` and `ct`, which names its packs and loads an
`Atlas`, and a row here. Boxes can then be asked for in its slices under the row's name;
a task about its classes is a row of `classes.built_in`.
"""

from collections.abc import Callable
from typing import NamedTuple

from medjax.data.volumes.anatomy import select_structures
from medjax.data.volumes.atlas import AAL_PACKS, MR, Atlas, load_atlas
from medjax.data.volumes.ct import CHEST, CT, load_ct, select_organs
from medjax.data.volumes.desikan import DESIKAN_PACKS, load_desikan, select_desikan
from medjax.data.volumes.packs import Pack


class Volume(NamedTuple):
    """A labelled volume, and what must be known of it to show and to ask."""

    load: Callable[[], Atlas]  # fetches the packs where needed
    packs: tuple[Pack, ...]
    modality: str  # what questions call the pictures
    # Names of structures, chosen by a word or listed; unknown ones are a ValueError.
    select: Callable[[str | tuple[str, ...]], tuple[str, ...]]
    mirror: bool  # its mirror image is one of the same body, sides of names exchanged


VOLUMES = {
    "mr_aal": Volume(load_atlas, AAL_PACKS, MR, select_structures, mirror=True),
    "mr_dk": Volume(load_desikan, DESIKAN_PACKS, MR, select_desikan, mirror=True),
    # The heart lies on one side.
    "ct_organs": Volume(load_ct, (CHEST,), CT, select_organs, mirror=False),
}
