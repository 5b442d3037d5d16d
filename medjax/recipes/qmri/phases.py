"""Do the contrasts of a scan share one phase, inside the sensitivities?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from medjax.data.scans.formats import Scan, ScanSlice
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
    width: int  # of the fully sampled centre that shows them; 0 of images
    tested: bool  # by the data, and not just said
    note: str  # what was found, "" where nothing is to be said


def find_phases(scan: Scan, choice: str) -> Phases:
    """Test it from the data, or take what is asked for.

    Where contrasts differ, their phases are taken relative to that of the strongest
    contrast, after an inversion to that of the longest inversion time.

    Args:
        scan: Three of its slices are read, or the first filled one.
        choice: "auto" tests; "shared" and "each" say how it is.

    Raises:
        ValueError: An unknown choice; a slice cannot be made ready; or contrasts have a
            phase each, and the centre is too small to show it.
    """
    if choice not in CHOICES:
        raise ValueError(
            f"predict.phase {choice!r}: expected one of {', '.join(CHOICES)}"
        )
    # The last contrast of a recovery is positive wherever T1 < TI / log 2. The sign of
    # longer ones turns in all contrasts together, which changes s0 alone.
    signed = scan.contrast == "t1"
    positive = int(np.argmax(scan.times)) if signed else None
    if scan.kind == "images":
        return Phases(True, positive, 0, False, "")
    if choice == "shared":
        return Phases(True, positive, 0, False, "")
    places = (np.arange(TESTED) + 0.5) * scan.num_slices / TESTED
    spread = np.unique(places.astype(int)).tolist()
    ready = _filled(scan, spread, positive) or _filled(
        scan, [next(z for z in range(scan.num_slices) if not scan.read(z).empty)], positive
    )
    width = min(centre_width(one) for one in ready)
    found = [slice_misfit(one, signed=signed) for one in ready]
    misfit = max((x for x in found if x is not None), default=None)
    if choice == "auto" and misfit is None:
        note = (
            f"doubt: the fully sampled centre is {width} wide, too small to test "
            f"whether contrasts agree in phase (it takes {KERNEL}): they are taken to. "
            "Say --config.predict.phase=shared where they do"
        )
        return Phases(True, positive, width, False, note)
    if choice == "auto" and misfit is not None and misfit <= MISFIT:
        return Phases(True, positive, width, True, "")
    if width < KERNEL:
        raise ValueError(
            f"{scan.path}: predict.phase 'each' needs a fully sampled centre of "
            f"{KERNEL} or more lines, found {width}"
        )
    if positive is None:
        energy = sum((np.abs(np.asarray(x.kspace)) ** 2).sum((1, 2, 3)) for x in ready)
        positive = int(np.argmax(energy))
    note = "a phase for each contrast, as asked for"
    if choice == "auto" and misfit is not None:
        note = (
            f"contrasts differ in phase: {100 * misfit:.0f} % of the energy of one is "
            "not in phase with the others (off-resonance of gradient echoes, or a "
            "receiver's phase)"
        )
    return Phases(False, positive, width, True, note)


def _filled(
    scan: Scan, indices: Sequence[int], positive: int | None
) -> list[ScanSlice]:
    """Those of some slices that are not empty, ready to be reconstructed."""
    read = (read_slice(scan, index, positive=positive)[0] for index in indices)
    return [one for one in read if not one.empty]
