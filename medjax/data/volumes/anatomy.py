"""Structures of the AAL atlas by the names a reader uses, and unions of them.

A structure is a name and the AAL labels it consists of. Paired structures begin with
"left " or "right "; the side is the patient's.
"""

from typing import NamedTuple


class Structure(NamedTuple):
    """A named region: one AAL label, or the union of several."""

    name: str
    labels: tuple[str, ...]  # AAL names, as in its label file


# AAL name without its side, and the name spelled out.
_PAIRED = (
    ("Precentral", "precentral gyrus"),
    ("Frontal_Sup", "superior frontal gyrus"),
    ("Frontal_Sup_Orb", "orbital superior frontal gyrus"),
    ("Frontal_Mid", "middle frontal gyrus"),
    ("Frontal_Mid_Orb", "orbital middle frontal gyrus"),
    ("Frontal_Inf_Oper", "opercular inferior frontal gyrus"),
    ("Frontal_Inf_Tri", "triangular inferior frontal gyrus"),
    ("Frontal_Inf_Orb", "orbital inferior frontal gyrus"),
    ("Rolandic_Oper", "rolandic operculum"),
    ("Supp_Motor_Area", "supplementary motor area"),
    ("Olfactory", "olfactory cortex"),
    ("Frontal_Sup_Medial", "medial superior frontal gyrus"),
    ("Frontal_Med_Orb", "medial orbital frontal gyrus"),
    ("Rectus", "gyrus rectus"),
    ("Insula", "insula"),
    ("Cingulum_Ant", "anterior cingulate gyrus"),
    ("Cingulum_Mid", "middle cingulate gyrus"),
    ("Cingulum_Post", "posterior cingulate gyrus"),
    ("Hippocampus", "hippocampus"),
    ("ParaHippocampal", "parahippocampal gyrus"),
    ("Amygdala", "amygdala"),
    ("Calcarine", "calcarine cortex"),
    ("Cuneus", "cuneus"),
    ("Lingual", "lingual gyrus"),
    ("Occipital_Sup", "superior occipital gyrus"),
    ("Occipital_Mid", "middle occipital gyrus"),
    ("Occipital_Inf", "inferior occipital gyrus"),
    ("Fusiform", "fusiform gyrus"),
    ("Postcentral", "postcentral gyrus"),
    ("Parietal_Sup", "superior parietal gyrus"),
    ("Parietal_Inf", "inferior parietal gyrus"),
    ("SupraMarginal", "supramarginal gyrus"),
    ("Angular", "angular gyrus"),
    ("Precuneus", "precuneus"),
    ("Paracentral_Lobule", "paracentral lobule"),
    ("Caudate", "caudate nucleus"),
    ("Putamen", "putamen"),
    ("Pallidum", "pallidum"),
    ("Thalamus", "thalamus"),
    ("Heschl", "Heschl gyrus"),
    ("Temporal_Sup", "superior temporal gyrus"),
    ("Temporal_Pole_Sup", "superior temporal pole"),
    ("Temporal_Mid", "middle temporal gyrus"),
    ("Temporal_Pole_Mid", "middle temporal pole"),
    ("Temporal_Inf", "inferior temporal gyrus"),
    ("Cerebelum_Crus1", "cerebellar crus I"),
    ("Cerebelum_Crus2", "cerebellar crus II"),
    ("Cerebelum_3", "cerebellar lobule III"),
    ("Cerebelum_4_5", "cerebellar lobules IV-V"),
    ("Cerebelum_6", "cerebellar lobule VI"),
    ("Cerebelum_7b", "cerebellar lobule VIIb"),
    ("Cerebelum_8", "cerebellar lobule VIII"),
    ("Cerebelum_9", "cerebellar lobule IX"),
    ("Cerebelum_10", "cerebellar lobule X"),
)
_MEDIAN = (
    ("Vermis_1_2", "vermis lobules I-II"),
    ("Vermis_3", "vermis lobule III"),
    ("Vermis_4_5", "vermis lobules IV-V"),
    ("Vermis_6", "vermis lobule VI"),
    ("Vermis_7", "vermis lobule VII"),
    ("Vermis_8", "vermis lobule VIII"),
    ("Vermis_9", "vermis lobule IX"),
    ("Vermis_10", "vermis lobule X"),
)
# Unions that anatomy names too, by the AAL names they consist of. They follow the
# atlas: cortex and what it counts to it, not the whole lobe of a textbook.
_PAIRED_UNIONS = (
    (
        "frontal lobe",
        "Precentral Frontal_Sup Frontal_Sup_Orb Frontal_Mid Frontal_Mid_Orb "
        "Frontal_Inf_Oper Frontal_Inf_Tri Frontal_Inf_Orb Rolandic_Oper "
        "Supp_Motor_Area Olfactory Frontal_Sup_Medial Frontal_Med_Orb Rectus "
        "Paracentral_Lobule",
    ),
    (
        "parietal lobe",
        "Postcentral Parietal_Sup Parietal_Inf SupraMarginal Angular Precuneus",
    ),
    (
        "temporal lobe",
        "Heschl Temporal_Sup Temporal_Pole_Sup Temporal_Mid Temporal_Pole_Mid "
        "Temporal_Inf Fusiform ParaHippocampal Hippocampus Amygdala",
    ),
    (
        "occipital lobe",
        "Calcarine Cuneus Lingual Occipital_Sup Occipital_Mid Occipital_Inf",
    ),
    ("cingulate cortex", "Cingulum_Ant Cingulum_Mid Cingulum_Post"),
    ("lentiform nucleus", "Putamen Pallidum"),
    (
        "cerebellar hemisphere",
        "Cerebelum_Crus1 Cerebelum_Crus2 Cerebelum_3 Cerebelum_4_5 Cerebelum_6 "
        "Cerebelum_7b Cerebelum_8 Cerebelum_9 Cerebelum_10",
    ),
)
_SIDES = (("left", "L"), ("right", "R"))

STRUCTURES = tuple(
    Structure(f"{side} {name}", (f"{label}_{letter}",))
    for label, name in _PAIRED
    for side, letter in _SIDES
) + tuple(Structure(name, (label,)) for label, name in _MEDIAN)
"""The 116 labels of AAL."""

UNIONS = tuple(
    Structure(f"{side} {name}", tuple(f"{x}_{letter}" for x in labels.split()))
    for name, labels in _PAIRED_UNIONS
    for side, letter in _SIDES
) + (Structure("cerebellar vermis", tuple(label for label, _ in _MEDIAN)),)
"""Larger regions made of several labels."""

CLEAR = tuple(
    f"{side} {name}"
    for name in (
        *("frontal lobe", "parietal lobe", "temporal lobe", "occipital lobe"),
        *("cerebellar hemisphere", "cingulate cortex", "thalamus", "insula"),
        *("caudate nucleus", "lentiform nucleus"),
    )
    for side, _ in _SIDES
)
"""Names that a policy of a million parameters can learn to see within minutes."""


def other_side(name: str) -> str:
    """The name of the mirror-image structure; a median structure is its own.

    >>> other_side("left insula")
    'right insula'
    """
    side, _, rest = name.partition(" ")
    swap = {"left": "right", "right": "left"}
    return f"{swap[side]} {rest}" if side in swap else name


def select_structures(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Structures by a word ("aal", "clear", "unions", "all"), by one name or several.

    "aal" is the atlas's 116 labels, "clear" a choice for tiny policies.

    Args:
        names: A word, or one or more names.

    Raises:
        ValueError: A word or a name is unknown.
    """
    aal = tuple(s.name for s in STRUCTURES)
    unions = tuple(s.name for s in UNIONS)
    words = {"aal": aal, "unions": unions, "all": aal + unions, "clear": CLEAR}
    if isinstance(names, str):
        if names not in words and names not in words["all"]:
            raise ValueError(
                f"structures={names!r}: expected one of {', '.join(words)}, or names "
                "of structures"
            )
        return words.get(names, (names,))
    unknown = [name for name in names if name not in words["all"]]
    if unknown:
        raise ValueError(
            f"unknown structures {unknown}; medjax.data.volumes.anatomy lists the names"
        )
    return tuple(names)
