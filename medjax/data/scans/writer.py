"""Parameter maps as NIfTI files with BIDS sidecars, written as slices come.

T2map.nii.gz and T2map.json, likewise T2sigma, M0map, residual, rsquared and status:
float32 (the status uint8) on the scan's own grid, times in seconds as BIDS has them.
A voxel without a result is NaN; `status` says why. They are packed
by ISA-L, whose level 1 is four times as fast as zlib's, and no larger.
"""

import contextlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from isal.igzip import IGzipFile
from jaxtyping import Num

from medjax import __version__
from medjax.data.scans.scan import Frames, Scan

# File name -> (unit, description).
MAPS = {
    "T2map": ("s", "transverse relaxation time T2"),
    "T2sigma": ("s", "standard deviation of T2"),
    "T2starmap": ("s", "observed transverse relaxation time T2*"),
    "T2starsigma": ("s", "standard deviation of T2*"),
    "T1map": ("s", "longitudinal relaxation time T1"),
    "T1sigma": ("s", "standard deviation of T1"),
    "T1starmap": ("s", "time constant T1* of a recovery with several readouts"),
    "T1starsigma": ("s", "standard deviation of T1*"),
    **{
        f"{kind}{name}": ("s", text)
        for kind in ("T2", "T2star", "T1")
        for name, text in (
            ("mean", f"posterior mean of {kind.replace('star', '*')}"),
            ("low", f"lower end of the interval of {kind.replace('star', '*')}"),
            ("high", f"upper end of the interval of {kind.replace('star', '*')}"),
        )
    },
    "distrust": ("1", "why a voxel's time should not be trusted; 0 = no reason found"),
    "efficiency": (
        "1",
        "B / 2A of the recovery A - B exp(-t/T); of one readout after "
        "each inversion 1 is a full one",
    ),
    "TB1map": ("1", "refocusing angle / nominal one: B1+ as a ratio, 1 = nominal"),
    "M0map": ("arbitrary", "signal amplitude, in units of the reconstructed images"),
    "M0sigma": ("arbitrary", "standard deviation of M0map"),
    "residual": ("arbitrary", "root mean square of the fit's residuals"),
    "rsquared": ("1", "coefficient of determination of the fit"),
    "status": ("1", "what became of the voxel's fit"),
}
TIMES = {
    "t2": ("EchoTime", 1.0),
    "t1": ("InversionTime", 1.0),
    "vfa": ("FlipAngle", 180 / math.pi),
}
CODES = ("status", "distrust")  # maps of whole numbers
_WAITING = 8  # slices that wait to be packed
_LEVEL = 1  # of ISA-L, 0 to 3
WriteSlice = Callable[[Mapping[str, Num[np.ndarray, "H W"]]], None]


@contextlib.contextmanager
def map_writer(
    folder: str | os.PathLike[str],
    scan: Scan,
    *,
    names: tuple[str, ...],
    sidecar: Mapping[str, Any],
    levels: Mapping[str, Mapping[int, str]],
    details: Mapping[str, Mapping[str, Any]] | None = None,
    prefix: str = "",
    overwrite: bool = False,
) -> Iterator[WriteSlice]:
    """A function that takes the maps of slice 0, 1, ... of a scan, one at a time.

    The files appear under their names, all together, when the last slice is in; before
    that, and after an error, what lay in the folder is as it was. A thread packs them
    while the caller computes; at most eight slices are in memory.

    Args:
        folder: Where the files go; it is made, with its parents, if it does not exist.
        scan: The maps get its grid, its times and its number of slices.
        names: The maps that every slice will have, at least one of `MAPS`, in any
            order.
        sidecar: Further fields for every JSON file, such as EstimationAlgorithm; they
            win over the usual ones. It is read when the last slice is in.
        levels: What each whole number, 0 to 255, means, by the name of the map that
            holds them: `status`, `distrust`.
        details: Further fields of single maps, by their names; they win over all.
        prefix: Stands before every file's name, such as "sub-01_"; "" for nothing.
        overwrite: Whether files of another run are replaced; else they are an error.

    Raises:
        ValueError: A name is unknown, a slice does not fit, or slices are missing at
            the end.
        FileExistsError: A file exists, and `overwrite` is not set.
        OSError: The disk is full or fails; it may be a later slice that says so.
    """
    unknown = [name for name in names if name not in MAPS]
    if unknown or not names:
        raise ValueError(f"maps {unknown or names}: expected some of {list(MAPS)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{prefix}{name}.nii.gz" for name in names}
    texts = {name: folder / f"{prefix}{name}.json" for name in names}
    there = [p for p in [*files.values(), *texts.values()] if p.exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{there[0]} exists, as do {len(there) - 1} more of the files to write; "
            "choose another folder, or set overwrite"
        )
    packed: dict[str, IGzipFile] = {}
    streams = []
    written = 0
    waiting: deque[Future[None]] = deque()
    with contextlib.ExitStack() as stack:
        for name, path in files.items():
            stack.callback(_temporary(path).unlink, missing_ok=True)
            streams.append(stack.enter_context(_temporary(path).open("wb")))
            # neither name nor time: the same maps are the same bytes
            file = IGzipFile("", "wb", _LEVEL, fileobj=streams[-1], mtime=0)
            packed[name] = stack.enter_context(file)
            packed[name].write(_header(name, scan))
        thread = ThreadPoolExecutor(1)  # one: slices stay in order
        stack.callback(thread.shutdown, cancel_futures=True)

        def pack(maps: Mapping[str, Num[np.ndarray, "H W"]]) -> None:
            for name, values in maps.items():
                packed[name].write(values.ravel(order="F"))

        def write(maps: Mapping[str, Num[np.ndarray, "H W"]]) -> None:
            nonlocal written
            if set(maps) != set(names) or written == scan.num_slices:
                raise ValueError(
                    f"{folder}, slice {written}: maps {sorted(maps)}; expected "
                    f"{sorted(names)} for each of {scan.num_slices} slices"
                )
            for name, values in maps.items():
                if np.shape(values) != scan.shape:
                    raise ValueError(
                        f"{folder}, slice {written}: {name} {np.shape(values)}; "
                        f"expected {scan.shape}"
                    )
            # a copy: the caller may go on to change its own
            kept = {n: np.array(v, _dtype(n), order="F") for n, v in maps.items()}
            waiting.append(thread.submit(pack, kept))
            while waiting and (len(waiting) > _WAITING or waiting[0].done()):
                waiting.popleft().result()
            written += 1

        yield write
        if written != scan.num_slices:
            raise ValueError(
                f"{folder}: {written} slices written; expected {scan.num_slices}. No "
                "map was stored"
            )
        for one in waiting:
            one.result()
        for file, stream in zip(packed.values(), streams, strict=True):
            file.close()
            stream.flush()
        for name, path in texts.items():
            fields = _sidecar(name, scan, sidecar, levels.get(name, {}))
            fields |= dict((details or {}).get(name, {}))
            text = json.dumps(fields, indent=2) + "\n"
            stack.callback(_temporary(path).unlink, missing_ok=True)
            _temporary(path).write_text(text, encoding="utf-8")
        for path in [*files.values(), *texts.values()]:
            _temporary(path).replace(path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _dtype(name: str) -> np.dtype:
    return np.dtype(np.uint8 if name in CODES else np.float32)


def _header(name: str, scan: Scan) -> bytes:
    """NIfTI-1 header and its empty extension, in front of the data."""
    import nibabel

    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_dtype(_dtype(name))
    header.set_data_shape((*scan.shape, scan.num_slices))
    frames = scan.frames or Frames(scan.affine, 1, scan.affine, 1)
    header.set_sform(frames.sform, code=frames.sform_code)
    header.set_qform(frames.qform, code=frames.qform_code)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header["descrip"] = f"medjax {name} [{MAPS[name][0]}]".encode()
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    return header.binaryblock + b"\0" * 4


def _sidecar(
    name: str, scan: Scan, more: Mapping[str, Any], levels: Mapping[int, str]
) -> dict[str, Any]:
    unit, description = MAPS[name]
    key, factor = TIMES[scan.contrast]
    times = scan.times if scan.slice_times is None else scan.slice_times.T
    fields = {
        "Description": description,
        "Units": unit,
        key: np.round(np.asarray(times, float) * factor, 9).tolist(),
        "GeneratedBy": [{"Name": "medjax", "Version": __version__}],
        "Sources": [scan.path.name],
        **more,
    }
    if scan.kind == "kspace":
        turned = scan.conjugated > 0
        fields["KspaceOrientation"] = "conjugated" if turned else "as stored"
    if scan.repetition is not None:
        fields["RepetitionTime"] = scan.repetition
    elif scan.protocol.repetition:
        fields["RepetitionTime"] = list(scan.protocol.repetition)
    if name in CODES:
        fields["Levels"] = {str(code): text for code, text in levels.items()}
    return fields
