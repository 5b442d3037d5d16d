"""Where k-space's energy stands, against the centre that every reader promises.

The zero frequency is promised at (H // 2, W // 2). An image's energy is within a few
points of it, whatever the object: a coil's phase, an object beside the middle and a
partial Fourier sampling leave it there. k-space that was stored without the lines that
a partial Fourier scan leaves out, or was put in its place by a wrong header, has it
elsewhere: its image turns in phase from row to row, by half a turn a pixel at worst.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Complex, Float

SHARE = 0.08  # of a side: further away is refused
# Of the samples' mean energy: a peak below is noise, or an object smaller than a voxel
_CLEAR = 6.0


def energy_offset(
    kspace: Complex[np.ndarray, "C H W"], mask: Bool[np.ndarray, "#H W"]
) -> tuple[int, int] | None:
    """Rows and columns from (H // 2, W // 2) to the peak of k-space's energy.

    The energy of all coils, sum_c |k_c|^2, is averaged with a Gaussian of 1/64 of each
    side (0.75 points at least) over what is sampled: one point that is missing, or is
    noise, moves the peak by no more than that.

    Args:
        kspace: One contrast, in any unit.
        mask: True where it is sampled.

    Returns:
        The offsets, 0 where the peak is no further than the sampled point that is next
        to the centre; None where no energy stands out of the rest (6 times its mean).
    """
    height, width = kspace.shape[-2:]
    sampled = np.broadcast_to(mask, (height, width))
    size = np.abs(kspace)
    largest = size.max(initial=0, where=sampled)
    if not largest > 0:
        return None
    energy = sampled * ((size / largest) ** 2).sum(0, dtype=np.float64)
    rows, columns = _gaussian(height), _gaussian(width)
    weight = rows @ sampled.astype(np.float64) @ columns
    smooth = np.where(sampled, rows @ energy @ columns / np.maximum(weight, 1e-9), 0)
    if smooth.max() < _CLEAR * energy.sum() / sampled.sum():
        return None
    row, column = np.unravel_index(smooth.argmax(), smooth.shape)
    return (
        _beyond(int(row) - height // 2, sampled.any(1)),
        _beyond(int(column) - width // 2, sampled.any(0)),
    )


def check_centre(
    kspace: Complex[np.ndarray, "E C H W"],
    mask: Bool[np.ndarray, "E #H W"],
    origin: str,
    *,
    contrast: str,
    times: Sequence[float],
) -> None:
    """Refuse k-space whose energy stands beside its centre, in rows or columns.

    Judged is the contrast that nothing has moved yet: the shortest echo time, or else
    the strongest, in which no signal is near 0.

    Args:
        kspace: One slice, in any unit.
        mask: True where it is sampled.
        origin: What errors call the slice.
        contrast: What the times are, see `times.CONTRASTS`.
        times: E of them.

    Raises:
        ValueError: The peak of the energy is further from the centre than 8 % of a
            side, and than one point.
    """
    strength = np.linalg.norm(kspace.reshape(len(kspace), -1), axis=1)
    judged = int(np.argmin(times) if contrast == "t2" else strength.argmax())
    where = misplaced(kspace[judged], mask[judged])
    if where:
        height, width = kspace.shape[-2:]
        raise ValueError(
            f"{origin}: the energy of k-space (contrast {judged}) stands {where} the "
            f"centre that is declared, index {(height // 2, width // 2)}; expected "
            f"within {100 * SHARE:g} % of the side. Lines of a partial Fourier scan "
            "that are not stored have to be filled with zeros on their side "
            "(numpy.pad), so that the zero frequency comes to index N // 2; in an "
            "ISMRMRD file correct the header's encodingLimits/kspace_encoding_step_1/"
            "center, or center_sample"
        )


def misplaced(
    kspace: Complex[np.ndarray, "C H W"], mask: Bool[np.ndarray, "#H W"]
) -> str:
    """`16 columns (25 % of 64) beyond`; "" where the energy is at the centre.

    Args:
        kspace: One contrast, in any unit.
        mask: True where it is sampled.
    """
    offsets = energy_offset(kspace, mask) or (0, 0)
    sides = zip(offsets, kspace.shape[-2:], ("rows", "columns"), strict=True)
    return " and ".join(
        f"{abs(n)} {name} ({100 * abs(n) / side:.0f} % of {side}) "
        f"{'beyond' if n > 0 else 'before'}"
        for n, side, name in sides
        if abs(n) > max(SHARE * side, 1)
    )


def _gaussian(side: int) -> Float[np.ndarray, "N N"]:
    places = np.arange(side) / max(side / 64, 0.75)
    return np.exp(-((places[:, None] - places) ** 2) / 2)


def _beyond(offset: int, sampled: Bool[np.ndarray, "N"]) -> int:
    """The offset without the gap that the sampling has about the centre."""
    gap = int(np.abs(np.flatnonzero(sampled) - len(sampled) // 2).min())
    return int(np.sign(offset)) * max(abs(offset) - gap, 0)
