"""Three-dimensional ISMRMRD scans as slices: one transform along the partitions."""

import math
import mmap
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex

from medjax.data.scans.header import Header, crop_readout, kept_rows
from medjax.data.scans.ismrmrd_lines import (
    Lines,
    Measurement,
    arranged,
    columns,
    crop_mask,
    partitions,
    read_samples,
    spans,
)

_LINES = 256  # acquisitions in memory at once


class Volume(NamedTuple):
    """Slices on disk, in a file without a name that goes with the last reader."""

    slices: Complex[np.ndarray, "Z E W C H"]  # a memory map, 0 where not sampled
    mask: Bool[np.ndarray, "E 1 H W"]
    file: mmap.mmap  # what `slices` is a view of

    def read(self, index: int) -> Complex[np.ndarray, "E C H W"]:
        """A copy of one slice; what it took of the file leaves memory."""
        found = np.array(self.slices[index]).transpose(0, 2, 3, 1)
        _forget(self.file)
        return found


def check_partitions(
    lines: Lines, header: Header, path: Path, *, contrasts: int
) -> None:
    """Refuse phase lines without all of their partitions.

    Raises:
        ValueError: Partitions are missing, or lie outside the encoded matrix.
    """
    depth, places = header.matrix[2], partitions(lines.heads, header)
    if places.min() < 0 or places.max() >= depth:
        raise ValueError(
            f"{path}: partition {places.min()} to {places.max()} about the centre; "
            f"expected 0 to {depth - 1}, the encoded matrix"
        )
    found = np.zeros((contrasts, header.matrix[1], depth), bool)
    found[lines.contrast, columns(lines.heads, header), places] = True
    used = found.any(2)
    lacking = depth - found[used].sum(1)  # of each line
    missing, worst = int(lacking.sum()), int(lacking.max())
    if missing:
        raise ValueError(
            f"{path}: three-dimensional k-space with {missing} missing partitions, up "
            f"to {worst} of {depth} in a phase line; expected all partitions of every "
            "line that is measured. Reconstruct along the partitions elsewhere "
            "(gadgetron, bart) and store slices"
        )


def transform(
    lines: Lines,
    measurements: Sequence[Measurement],
    *,
    contrasts: int,
    conjugate: bool,
) -> Volume:
    """The lines' slices: x[z] = sum_k exp(2 pi i k z / Z) line[k] / sqrt(Z), centred.

    Memory: 256 acquisitions, and one phase line of all partitions. The temporary file
    has the size of the whole k-space without readout oversampling.

    Args:
        lines: Of the whole scan, checked by `check_partitions`; those of one place are
            averaged.
        measurements: Where the samples are; the first one's header is that of all.
        contrasts: E.
        conjugate: Whether samples are conjugated, which turns the image's axes round.
    """
    header = measurements[0].header
    full, width, depth = header.matrix
    rows, coils = kept_rows(header, full), int(lines.heads["active_channels"][0])
    shape = (depth, contrasts, width, coils, rows)
    with tempfile.TemporaryFile(prefix="medjax_") as file:
        file.truncate(8 * math.prod(shape))
        mapped = mmap.mmap(file.fileno(), 0)
    slices = np.frombuffer(mapped, np.complex64).reshape(shape)
    starts, stops = spans(lines.heads, header)
    places = (
        partitions(lines.heads, header),
        lines.contrast,
        columns(lines.heads, header),
    )
    count = np.zeros((depth, contrasts, width), np.int32)
    reached = np.zeros((contrasts, width, full), bool)
    for source, one in enumerate(measurements):
        chosen = np.flatnonzero(lines.source == source)
        for first in range(0, len(chosen), _LINES):
            part = chosen[first : first + _LINES]
            for n, found in zip(
                part, read_samples(one, lines.number[part]), strict=True
            ):
                whole = np.zeros((coils, full), np.complex64)
                line = arranged(found, lines.heads[n])
                whole[:, starts[n] : stops[n]] = line.conj() if conjugate else line
                z, e, w = (int(axis[n]) for axis in places)
                slices[z, e, w] += crop_readout(whole[..., None], rows=rows)[..., 0]
                count[z, e, w] += 1
                reached[e, w, starts[n] : stops[n]] = True
            _forget(mapped)
    for n, (e, w) in enumerate(np.argwhere(count.any(0)).tolist()):
        line = slices[:, e, w] / count[:, e, w, None, None]
        image = np.fft.ifft(np.fft.ifftshift(line, 0), axis=0, norm="ortho")
        slices[:, e, w] = np.fft.fftshift(image, 0)
        if n % 16 == 15:
            _forget(mapped)
    mask = crop_mask(reached.transpose(0, 2, 1)[:, None], rows)
    return Volume(slices, mask, mapped)


def _forget(mapped: mmap.mmap) -> None:
    """Leave the pages to the file, which keeps them."""
    if hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)
