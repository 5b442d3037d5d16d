"""What of k-space has to be the same in all contrasts, for one of them to be fitted."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, Shaped

from medjax.data.scans.frames import same
from medjax.data.scans.header import Header
from medjax.data.scans.times import CONTRASTS

_MM, _TURNED = 0.5, 0.01  # further away, or turned by more, is another place


def check_constant(
    found: Mapping[str, Sequence[float]],
    origin: str,
    *,
    count: int,
    contrast: str,
    given: bool,
) -> list[str]:
    """Notes on what differs from contrast to contrast beside the scan's times.

    Args:
        found: The file's times in s or radians, by contrast, as `choose_times` has
            them. A list of another length than `count` is no series.
        origin: What errors call the file.
        count: E, how many contrasts there are.
        contrast: What the scan's times are, one of `CONTRASTS`.
        given: Whether the times are the caller's, who then knows better than the file:
            what differs is a doubt.

    Raises:
        ValueError: Something differs, and the times are the file's.
    """
    names = [
        CONTRASTS[name][0]
        for name, values in found.items()
        if name != contrast and len(values) == count
        if not all(same(float(v), float(values[0])) for v in values)
    ]
    if not names:
        return []
    what = f"{' and '.join(names)} differ from contrast to contrast"
    if not given:
        raise ValueError(
            f"{origin}: {what} as the {CONTRASTS[contrast][0]} do; expected contrasts "
            f"that differ in one alone. Write a file of those that do, or give times= "
            "and contrast= where the file is wrong"
        )
    return [f"doubt: {what} by the file, which a fit along other times takes as equal"]


def check_scanner(headers: Sequence[Header | None], names: Sequence[str]) -> None:
    """Refuse contrasts of several field strengths, or of several persons.

    Fields have relaxation times of their own. Who it is stays out of the message.

    Args:
        headers: Of each file or group, None where it has none.
        names: What errors call them.

    Raises:
        ValueError: Two fields differ by more than a hundredth, or two persons; the
            message names both files.
    """
    check_persons([h.person if h else "" for h in headers], names)
    known = [
        (h.frequency, name)
        for h, name in zip(headers, names, strict=True)
        if h is not None and h.frequency
    ]
    for hz, name in known[1:]:
        if not same(hz, known[0][0]):
            raise ValueError(
                f"{name}: H1resonanceFrequency_Hz {hz:.0f}, but {known[0][0]:.0f} in "
                f"{known[0][1]}; expected contrasts of one field strength. Name files "
                "of one scanner"
            )


def check_persons(persons: Sequence[str], names: Sequence[str]) -> None:
    """Refuse contrasts of several persons, whose numbers stay out of the message.

    Args:
        persons: What each file calls whom it is of, "" where it does not say.
        names: What errors call the files.

    Raises:
        ValueError: Two differ.
    """
    known = [(p, name) for p, name in zip(persons, names, strict=True) if p]
    for person, name in known[1:]:
        if person != known[0][0]:
            raise ValueError(
                f"{name}: its patient is not that of {known[0][1]}; expected contrasts "
                "of one person. Name files of one"
            )


def check_places(
    heads: Shaped[np.ndarray, "A"], contrasts: Int[np.ndarray, "A"], origin: str
) -> None:
    """Refuse contrasts of which one was measured somewhere else than the others.

    Args:
        heads: Of ISMRMRD acquisitions, all with a contrast of `contrasts`.
        contrasts: Their numbers.
        origin: What errors call the file.

    Raises:
        ValueError: Position or directions of a slice differ between contrasts by more
            than half a millimetre, or 0.01 of a unit vector.
    """
    slices = heads["idx"]["slice"].astype(int)
    pairs = np.stack([slices, contrasts], 1)
    order, at = np.unique(pairs, axis=0, return_index=True)
    first: dict[int, int] = {}
    for (s, e), n in zip(order.tolist(), at.tolist(), strict=True):
        one, other = heads[first.setdefault(s, n)], heads[n]
        moved = float(np.linalg.norm(other["position"] - one["position"]))
        turned = max(
            float(np.abs(other[name] - one[name]).max())
            for name in ("read_dir", "phase_dir", "slice_dir")
        )
        if moved > _MM or turned > _TURNED:
            how = f"{moved:.1f} mm away" if moved > _MM else "turned"
            raise ValueError(
                f"{origin}: slice {s} of contrast {e} is {how} by its acquisitions' "
                "heads, against the first contrast; expected all contrasts in one "
                "place. Measure them so, or register images and hand those in"
            )
