"""The chest CT in Hounsfield units, with more structures than the eleven organs.

`ct` shows the scan in one window; pretraining shows it in many, and asks for parts of
organs, bones and vessels too.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from medjax.data.volumes.anatomy import Structure
from medjax.data.volumes.atlas import (
    Atlas,
    atlas_arrays,
    atlas_from_arrays,
)
from medjax.data.volumes.ct import (
    CHEST,
    ORGANS,
    SPACING,
    WINDOW,
    make_chest,
)
from medjax.data.volumes.derived import derived
from medjax.data.volumes.packs import fetch_pack, say

_VERSION = 1  # of the derived file
_PAIRED = (
    ("scapula", "scapula"),
    ("humerus", "humerus"),
    ("clavicula", "clavicle"),
    ("autochthon", "back muscle"),
)
CHEST_STRUCTURES = (
    *ORGANS,
    Structure("left upper lobe", ("lung_upper_lobe_left",)),
    Structure("left lower lobe", ("lung_lower_lobe_left",)),
    Structure("right upper lobe", ("lung_upper_lobe_right",)),
    Structure("right middle lobe", ("lung_middle_lobe_right",)),
    Structure("right lower lobe", ("lung_lower_lobe_right",)),
    *(
        Structure(f"{side} {name}", (f"{label}_{side}",))
        for label, name in _PAIRED
        for side in ("left", "right")
    ),
    Structure("sternum", ("sternum",)),
    Structure("spinal cord", ("spinal_cord",)),
    Structure("colon", ("colon",)),
    Structure("pancreas", ("pancreas",)),
    Structure("duodenum", ("duodenum",)),
    Structure("esophagus", ("esophagus",)),
    Structure("inferior vena cava", ("inferior_vena_cava",)),
    Structure("superior vena cava", ("superior_vena_cava",)),
)
"""The eleven organs and 21 more structures, by their labels."""


class Chest(NamedTuple):
    """The scan, and slices of it with the structures seen there."""

    hounsfield: Int[np.ndarray, "X Y Z"]  # int16, axes right, anterior, superior
    atlas: Atlas  # its volume is the scan in the window of `ct`


def load_chest(
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> Chest:
    """The chest CT with 32 structures; fetches its pack (35 MB) where needed.

    What is derived from it is kept beside it, in the folder of `cache_dir`.

    Args:
        cache: The folder that packs are kept in; None is the usual one (`cache_dir`).
        progress: Called with a line of text before what takes seconds.

    Raises:
        ConnectionError: The pack is not there, and neither is a network.
        ValueError: A pack is not the expected file.
    """
    paths = fetch_pack(CHEST, cache, progress=progress)

    def make() -> dict[str, np.ndarray]:
        progress("chest CT: finding 32 structures in every slice, some seconds")
        hounsfield, atlas = make_chest(
            paths, CHEST_STRUCTURES, spine=lambda name: name.startswith("vertebrae_")
        )
        rounded = np.round(hounsfield).astype(np.int16)
        return atlas_arrays(atlas) | {"hounsfield": rounded}

    recipe = (_VERSION, SPACING, WINDOW, CHEST_STRUCTURES, CHEST.sha256)
    arrays = derived("chest-ct-hounsfield", recipe, make, cache=cache)
    return Chest(arrays.pop("hounsfield"), atlas_from_arrays(arrays))
