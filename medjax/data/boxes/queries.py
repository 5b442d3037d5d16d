"""What is asked about a structure, in several phrasings."""

# The shortest first, for policies that read slowly.
_PHRASINGS = (
    "Find the {name}.",
    "Where is the {name}?",
    "Locate the {name} in this {plane} slice.",
    "Find the {name} in this {plane} {modality} image.",
    "Draw a tight box around the {name} in the {plane} {modality} slice.",
    "Modality: {modality}. Plane: {plane}. Outline the {name} with a box.",
    "In the {plane} {modality} slice, give the bounding box of the {name}.",
    "Point out the {name} on this {modality} scan ({plane}).",
)
# Where there may be several, or none.
_SET_PHRASINGS = (
    "Find every {name}.",
    "Where is each {name}?",
    "Locate every {name} in this {plane} slice.",
    "Find every {name} in this {plane} {modality} image.",
    "Draw a tight box around each {name} in the {plane} {modality} slice.",
    "Modality: {modality}. Plane: {plane}. Outline each {name} with a box.",
    "In the {plane} {modality} slice, give the bounding box of every {name}.",
    "Point out every {name} on this {modality} scan ({plane}).",
)
NUM_PHRASINGS = len(_PHRASINGS)


def phrasings(
    name: str, *, plane: str, modality: str, count: int, several: bool = False
) -> tuple[str, ...]:
    """The first `count` ways to ask for a structure, of eight, the shortest first.

    >>> phrasings("left insula", plane="axial", modality="MR", count=4)[-1]
    'Find the left insula in this axial MR image.'

    Args:
        name: What is asked for, such as "left insula".
        plane: The slice's plane, such as "axial".
        modality: What the pictures are called, such as "MR".
        count: How many ways, from 1 to 8; other numbers are a ValueError.
        several: Asks for every one there is, and there may be none.
    """
    if not 1 <= count <= NUM_PHRASINGS:
        raise ValueError(f"{count} phrasings: there are 1 to {NUM_PHRASINGS}")
    return tuple(
        text.format(name=name, plane=plane, modality=modality)
        for text in (_SET_PHRASINGS if several else _PHRASINGS)[:count]
    )
