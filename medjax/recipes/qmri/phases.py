"""Do the contrasts of a scan share one phase, inside the sensitivities?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from medjax.data.scans.centre import misplaced
from medjax.data.scans.formats import Scan, ScanSlice, middle_filled
from medjax.recipes.qmri.slabs import (
    KERNEL,
    MISFIT,
    centre_width,
    read_slice,
    slice_misfit,
)

CHOICES = ("auto", "shared", "each")
TESTED = 3  # slices, spread over the scan; the others are as they are fitted


class Phases(NamedTuple):
    """The phases of a scan's contrasts, as its maps are made with them."""

    shared: bool  # one for all contrasts, up to a sign after an inversion
    reference: int | None  # the contrast whose phase is taken off; None: of the sum
    tested: bool  # by the data, and not just said
    note: str  # what was found, "" where nothing is to be said


def find_phases(scan: Scan, choice: str, *, free: bool = False) -> Phases:
    """Test it from the data, or take what is asked for.

    Args:
        scan: Three of its slices are read, or the first filled one. After an inversion
            signs are those relative to the longest inversion time.
        choice: "auto" tests; "shared" and "each" say how it is.
        free: Whether nobody asks for a network or a method: where the centre is too
            small to show phases, magnitudes are right whether they agree or not.

    Raises:
        ValueError: An unknown choice, or a slice that cannot be made ready.
    """
    if choice not in CHOICES:
        raise ValueError(
            f"predict.phase {choice!r}: expected one of {', '.join(CHOICES)}"
        )
    # The last contrast of a recovery is positive wherever T1 < TI / log 2. The sign of
    # longer ones turns in all contrasts together, which changes s0 alone.
    signed = scan.contrast == "t1"
    positive = int(np.argmax(scan.times)) if signed else None
    if scan.kind == "images" or choice == "shared":
        return Phases(True, positive, False, "")
    if choice == "each":
        return Phases(False, positive, False, "a phase for each contrast, as asked for")
    ready = _filled(scan, spread_slices(scan), positive) or _filled(
        scan,
        [next(z for z in range(scan.num_slices) if not scan.read(z).empty)],
        positive,
    )
    found = [slice_misfit(one, signed=signed) for one in ready]
    known = [misfit for misfit in found if misfit is not None]
    if not known:
        width = min(centre_width(one) for one in ready)
        if free:
            note = (
                f"the fully sampled centre is {width} wide, too small to show the "
                f"contrasts' phases (it takes {KERNEL}): magnitudes are fitted. Say "
                "--config.predict.phase=shared where they agree, and the sensitivities "
                "hold the object's phase"
            )
            return Phases(False, positive, False, note)
        note = (
            f"doubt: the fully sampled centre is {width} wide, too small to test "
            f"whether contrasts agree in phase (it takes {KERNEL}): they are taken to. "
            "Say --config.predict.phase=shared where they do, =each where they do not"
        )
        return Phases(True, positive, False, note)
    if max(known) <= MISFIT:
        return Phases(True, positive, True, "")
    note = (
        f"contrasts differ in phase: {100 * max(known):.0f} % of the energy of one is "
        "not in phase with the others (off-resonance of gradient echoes, or a "
        "receiver's phase)"
    )
    return Phases(False, positive, True, note)


def spread_slices(scan: Scan) -> list[int]:
    """Three slices over the scan, or those that there are.

    Args:
        scan: Its number of slices is read.
    """
    places = (np.arange(TESTED) + 0.5) * scan.num_slices / TESTED
    return np.unique(places.astype(int)).tolist()


def moved_contrasts(scan: Scan) -> list[str]:
    """A line for each contrast whose energy is not at the centre of k-space.

    A field that changes within the plane moves a late gradient echo, rightly; `read`
    has refused a scan whose first contrast is moved.

    Args:
        scan: Its middle slice is read, and the first filled one where that is empty.
    """
    if scan.kind == "images":
        return []
    one = middle_filled(scan)
    kspace, mask = np.asarray(one.kspace), np.asarray(one.mask)
    found = [misplaced(k, m) for k, m in zip(kspace, mask, strict=True)]
    return [
        f"contrast {e}: the energy of k-space stands {where} its centre, as where the "
        "field changes within the plane"
        for e, where in enumerate(found)
        if where
    ]


def _filled(
    scan: Scan, indices: Sequence[int], positive: int | None
) -> list[ScanSlice]:
    """Those of some slices that are not empty, ready to be reconstructed."""
    read = (read_slice(scan, index, positive=positive)[0] for index in indices)
    return [one for one in read if not one.empty]
