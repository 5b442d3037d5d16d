"""Which way round k-space is read: its conjugate turns all axes of the image."""

import numpy as np

from medjax.data.scans.scan import Scan, ScanSlice

CHOICES = ("vendor", "stored", "conjugate")


def check_orientation(choice: str) -> None:
    """Refuse an unknown choice.

    Raises:
        ValueError: It is none of `CHOICES`.
    """
    if choice not in CHOICES:
        raise ValueError(
            f"predict.orientation {choice!r}: expected one of {', '.join(CHOICES)}"
        )


def oriented(scan: Scan, choice: str) -> Scan:
    """The scan, conjugated where that is asked for and its reader has not done so.

    With x(r) = sum_k X(k) exp(2 pi i k r), the image of conj(X) is conj(x(-r)): the
    same magnitudes with both axes turned about their middle. Siemens' positions belong
    to a forward transform from k-space to images, so that its k-space has to be
    conjugated (as MRpro does since 2025, its issue 828); the reader of ISMRMRD knows
    the vendor and does so. Sensitivities that are given are turned likewise.

    Args:
        scan: Not checked yet; images cannot be conjugated.
        choice: One of `CHOICES`; "vendor" and "stored" change nothing here.

    Raises:
        ValueError: An unknown choice, or one that images do not have.
    """
    check_orientation(choice)
    if scan.kind == "images":
        if choice == "conjugate":
            raise ValueError(
                f"{scan.path}: predict.orientation is of k-space; images say where "
                "they lie by their affine"
            )
        return scan
    done = scan.conjugated > 0
    if not done and choice != "conjugate":
        return scan

    def read(index: int) -> ScanSlice:
        found = scan.read(index)
        sens = None if found.sens is None else turned(np.asarray(found.sens).conj())
        if done:  # all but what lies in another file
            return found._replace(sens=sens)
        noise, kspace = found.noise, np.asarray(found.kspace).conj()
        noise = None if noise is None else np.asarray(noise).conj()
        return found._replace(kspace=kspace, sens=sens, noise=noise)

    note = "orientation: k-space is conjugated (predict.orientation)"
    notes = scan.notes if done else (*scan.notes, note)
    return scan._replace(read=read, conjugated=max(scan.conjugated, 2), notes=notes)


def turned(image: np.ndarray) -> np.ndarray:
    """The last two axes turned about (H // 2, W // 2): pixel r goes to -r, cyclic."""
    for axis in (-2, -1):
        side = image.shape[axis]
        places = (2 * (side // 2) - np.arange(side)) % side
        image = np.take(image, places, axis)
    return image
