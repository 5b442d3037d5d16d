"""The ISMRMRD header, which fastMRI's files carry too, and what oversampling means."""

import contextlib
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex

_NAMES = (
    "measurementInformation/protocolName",
    "measurementInformation/seriesDescription",
    "sequenceParameters/sequence_type",
)


class Header(NamedTuple):
    """The first encoding; times in seconds, angles in radians, lengths in mm."""

    trajectory: str  # "cartesian" and others; "" where the header does not say
    matrix: tuple[int, int, int]  # encoded: readout, phase, partitions
    fov_mm: tuple[float, float, float]  # encoded
    kept_mm: tuple[float, float, float]  # of the images that are wanted
    centre: int | None  # phase-encoding step of the zero frequency
    middle: int | None  # partition step of the zero frequency
    calibration: str  # how calibration lines were measured: "embedded", "separate" ...
    times: dict[str, list[float]]  # by contrast: "t2", "t1", "vfa"
    repetition: tuple[float, ...]  # TR, of all contrasts or of each
    vendor: str  # of the scanner, as written
    frequency: float = 0.0  # of protons, Hz; 0 where the header does not say
    person: str = ""  # patientID, "" where the header does not say
    names: str = ""  # of protocol, series and sequence, in small letters

    @property
    def siemens(self) -> bool:
        """Whether the scanner is one of Siemens."""
        return self.vendor.lower().startswith("siemens")


def parse_header(text: bytes | str, origin: str) -> Header:
    """Read the XML; sequenceParameters hold milliseconds and degrees.

    Args:
        text: The XML, in any namespace.
        origin: What errors call the file.

    Raises:
        ValueError: The text is no XML, or has no encoding with its sizes.
    """
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"{origin}: its ISMRMRD header is no XML ({error})") from error
    encoding = root.find("{*}encoding")
    if encoding is None:
        raise ValueError(f"{origin}: its ISMRMRD header has no <encoding>")

    def size(path: str) -> tuple[float, float, float]:
        sides = [encoding.findtext(f"{_any(path)}/{{*}}{axis}") for axis in "xyz"]
        if None in sides:
            raise ValueError(f"{origin}: its ISMRMRD header has no {path} (x, y, z)")
        x, y, z = (number(value, path) for value in sides if value is not None)
        if min(x, y, z) <= 0:
            raise ValueError(
                f"{origin}: {path} {x:g} x {y:g} x {z:g} in its ISMRMRD header; "
                "expected sizes above 0"
            )
        return x, y, z

    def values(name: str, unit: float) -> list[float]:
        elements = root.findall(_any(f"sequenceParameters/{name}"))
        return [number(e.text, name) * unit for e in elements]

    def number(text: str | None, name: str) -> float:
        with contextlib.suppress(ValueError):
            if math.isfinite(value := float(text or "")):
                return value
        raise ValueError(
            f"{origin}: {name} {text!r} in its ISMRMRD header; expected a number"
        )

    matrix = [int(n) for n in size("encodedSpace/matrixSize")]
    times = {
        "t2": values("TE", 1e-3),
        "t1": values("TI", 1e-3),
        "vfa": values("flipAngle_deg", math.pi / 180),
    }

    def centre(step: int) -> int | None:
        limits = f"encodingLimits/kspace_encoding_step_{step}/center"
        text = encoding.findtext(_any(limits))
        return None if text is None else int(number(text, limits))

    named = [root.findtext(_any(path)) or "" for path in _NAMES]
    frequency = root.findtext(_any("experimentalConditions/H1resonanceFrequency_Hz"))
    mode = encoding.findtext(_any("parallelImaging/calibrationMode"))
    return Header(
        trajectory=encoding.findtext(_any("trajectory")) or "",
        matrix=(matrix[0], matrix[1], matrix[2]),
        fov_mm=size("encodedSpace/fieldOfView_mm"),
        kept_mm=size("reconSpace/fieldOfView_mm"),
        centre=centre(1),
        middle=centre(2),
        calibration=mode or "",
        times={name: values for name, values in times.items() if values},
        repetition=tuple(values("TR", 1e-3)),
        vendor=root.findtext(_any("acquisitionSystemInformation/systemVendor")) or "",
        frequency=number(frequency, "H1resonanceFrequency_Hz") if frequency else 0.0,
        person=root.findtext(_any("subjectInformation/patientID")) or "",
        names=" ".join(filter(None, named)).lower(),
    )


def times_of_files(headers: Sequence[Header | None]) -> dict[str, list[float]]:
    """The times of contrasts that lie in a file each, by contrast: "t2", "t1", "vfa".

    Args:
        headers: Of each file, None where it has none. A time counts where every header
            has one of its kind; what is the same in every file is no series, where
            there is another.
    """
    names = sorted({n for header in headers if header for n in header.times})
    found = {
        name: [h.times[name][0] for h in headers if h is not None]
        for name in names
        if all(h is not None and len(h.times.get(name, ())) == 1 for h in headers)
    }
    if len(names) > 1:
        found = {n: values for n, values in found.items() if len(set(values)) > 1}
    return found


def repetition_times(
    headers: Sequence[Header | None], origin: str, *, count: int, contrast: str
) -> tuple[float, ...]:
    """TR of all contrasts in s, or one of each where it differs; () if not known.

    Args:
        headers: One of all contrasts, or one for each; None where a file has none.
        origin: What errors call the files.
        count: E, how many contrasts there are.
        contrast: "t2", "t1" or "vfa".

    Raises:
        ValueError: Several TR differ, which are not one a contrast, and the model of
            flip angles needs it.
    """
    lists = [tuple(dict.fromkeys(h.repetition)) if h else () for h in headers]
    if len(headers) == 1 and headers[0] is not None and len(lists[0]) > 1:
        lists = [(t,) for t in headers[0].repetition]
    if not lists or not all(lists):
        return ()
    found = tuple(t for each in lists for t in each)
    if len(set(found)) == 1:
        return found[:1]
    if len(found) == count:
        return found
    if contrast == "vfa":
        raise ValueError(
            f"{origin}: repetition times {found} s of {count} flip angles; expected "
            "one, or one for each. Correct the header"
        )
    return ()


def kept_rows(header: Header, rows: int) -> int:
    """How many rows an image has without readout oversampling.

    Args:
        header: Its two fields of view say how much of the image is wanted.
        rows: How many rows there are with oversampling; never more are kept.
    """
    return min(rows, round(rows * header.kept_mm[0] / header.fov_mm[0]))


def crop_readout(
    kspace: Complex[np.ndarray, "*B R W"], *, rows: int
) -> Complex[np.ndarray, "*B H W"]:
    """Cut the image to its `rows` central rows: removes readout oversampling.

    Both transforms are orthonormal, so the noise of a sample keeps its variance.

    Args:
        kspace: Centred, in any unit; R rows with oversampling, any leading axes.
        rows: H, from 1 to R; R returns k-space as it is.
    """
    size = kspace.shape[-2]
    if rows == size:
        return kspace
    image = np.fft.fftshift(
        np.fft.ifft(np.fft.ifftshift(kspace, -2), axis=-2, norm="ortho"), -2
    )
    first = size // 2 - rows // 2
    image = image[..., first : first + rows, :]
    return np.fft.fftshift(
        np.fft.fft(np.fft.ifftshift(image, -2), axis=-2, norm="ortho"), -2
    )


def _any(path: str) -> str:
    """The path in whatever namespace."""
    return "/".join("{*}" + step for step in path.split("/"))
