"""Rules that suit both a policy and a mesh: what must not be cut is kept whole."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medjax.planning.meshes import nearest_sizes


class Unit(NamedTuple):
    """What a logical axis of a policy is made of, in pieces that must not be cut."""

    axis: str  # its logical name
    words: str  # what the pieces are, for a person
    counts: tuple[int, ...]  # how many there are, in each array that has the axis
    # whether a device may as well hold all of them where the mesh does not divide them:
    # they are a small part of the policy
    small: bool


def divided(
    axis: str, rules: Mapping[str, Sequence[str]], mesh: Mapping[str, int]
) -> int:
    """How many devices a logical axis is divided over.

    Args:
        axis: Its name.
        rules: The mesh axes that each logical axis falls on.
        mesh: The devices along each mesh axis; others count as one.
    """
    return int(np.prod([mesh.get(name, 1) for name in rules[axis]], dtype=int))


def cut(
    units: Sequence[Unit], rules: Mapping[str, Sequence[str]], mesh: Mapping[str, int]
) -> str | None:
    """The first unit that is not small and that a mesh does not divide, in words.

    Args:
        units: Of a policy.
        rules: See `divided`.
        mesh: Likewise.
    """
    large = [unit for unit in units if not unit.small]
    return next((x for x in (_undivided(u, rules, mesh) for u in large) if x), None)


def _undivided(unit: Unit, rules, mesh) -> str | None:
    parts = divided(unit.axis, rules, mesh)
    left = [str(count) for count in unit.counts if count % parts]
    if not left:
        return None
    return (
        f"{' and '.join(left)} {unit.words} are not divisible by the {parts} devices "
        f"of {', '.join(rules[unit.axis])}"
    )


def fit_rules(
    rules: Mapping[str, Sequence[str]],
    mesh: Mapping[str, int],
    units: Sequence[Unit],
) -> tuple[dict[str, Sequence[str]], list[str]]:
    """Rules that cut no piece of a policy, and what they keep whole for that.

    Two key-value heads on four devices would be halves of heads: an attention that
    sends all of them for every token.

    Args:
        rules: The mesh axes that each logical axis falls on.
        mesh: The devices along each mesh axis.
        units: The policy's.

    Returns:
        The rules, with () for each small unit that the mesh does not divide; and a line
        about each of those.

    Raises:
        ValueError: The mesh does not divide a unit that is not small; the nearest mesh
            that does is named.
    """
    fault = cut(units, rules, mesh)
    if fault is not None:
        count = int(np.prod(list(mesh.values()), dtype=int))
        near = nearest_sizes(mesh, count, lambda x: cut(units, rules, x) is None)
        more = "" if near is None else f"; the nearest mesh that divides them is {near}"
        raise ValueError(fault + more)
    fitted, told = dict(rules), []
    for unit in units:
        found = _undivided(unit, rules, mesh)
        if found is not None:
            fitted[unit.axis] = ()
            told.append(f"{found}: each device holds all of them")
    return fitted, told
