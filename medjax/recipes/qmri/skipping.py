"""A scan without its first echoes."""

import numpy as np

from medjax.data.scans.formats import Scan, ScanSlice


def skip_first(scan: Scan, count: int) -> Scan:
    """The scan without its `count` shortest echo times, read so slice by slice.

    The first echo of a spin-echo train has no stimulated part, the next ones have.

    Args:
        scan: Of echo times, in any order.
        count: 0 or more, at least two echoes fewer than there are; 0 changes nothing.

    Raises:
        ValueError: The number is negative or leaves fewer than two echoes, or the scan
            has no echo times.
    """
    echoes = len(scan.times)
    if count == 0:
        return scan
    if scan.contrast != "t2" or not 0 <= count <= echoes - 2:
        raise ValueError(
            f"{scan.path}: predict.skip {count}; expected 0, or up to {echoes - 2} of "
            f"{echoes} echo times; found a {scan.contrast} scan"
        )
    kept = np.sort(np.argsort(scan.times, kind="stable")[count:])

    def pick(values):
        return tuple(values[e] for e in kept) if len(values) == echoes else values

    def read(index: int) -> ScanSlice:
        found = scan.read(index)
        parts = {"kspace": found.kspace, "mask": found.mask, "images": found.images}
        return found._replace(
            **{k: None if x is None else np.asarray(x)[kept] for k, x in parts.items()}
        )

    protocol = scan.protocol
    each = ("repetition", "flip_angle", "echo_time", "inversion_time")
    times = scan.slice_times
    return scan._replace(
        times=scan.times[kept],
        read=read,
        protocol=protocol._replace(**{k: pick(getattr(protocol, k)) for k in each}),
        slice_times=None if times is None else times[:, kept],
        files=pick(scan.files),
    )
