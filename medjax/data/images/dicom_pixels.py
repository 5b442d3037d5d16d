"""The pixels of a DICOM image as a viewer shows them at first."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from medjax.data.images.dicom import damage
from medjax.data.images.files import ImageFile, unreadable
from medjax.data.images.windows import (
    check_finite,
    distinct,
    robust_window,
    show_values,
)

if TYPE_CHECKING:
    from pydicom import Dataset

_GREYS = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_TINTED = ("COLOR", "MIXED", "COLOR_RANGE")  # what PixelPresentation says of greys
_WINDOW = "name a window of your own, level and width, or take out its lines"


def read_dicom(
    header: "Dataset", file: ImageFile, origin: str
) -> UInt8[np.ndarray, "h w 3"]:
    """An image as RGB: greys rescaled, in their window, inverted where 0 is white.

    Args:
        header: From `read_header`.
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: The pixels are damaged, or what the header says of them cannot be
            shown.

    Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (rescaling), C.11.2 (windows).
    """
    with damage(file, origin):
        kind = str(header.get("PhotometricInterpretation", "")).strip()
        shape = str(header.get("PresentationLUTShape", "")).strip()
        tinted = str(header.get("PixelPresentation", "")).strip() in _TINTED
        bits = int(header.get("BitsStored") or 0)
    if kind not in (*_GREYS, *_COLOURS):
        raise unreadable(
            file,
            origin,
            f"colours of the kind {kind[:16]!r}",
            f"expected one of {', '.join((*_GREYS, *_COLOURS))}",
        )
    if tinted and kind in _GREYS:
        raise unreadable(
            file,
            origin,
            "greys that a supplemental palette colours",
            "such files are not read. Export it as RGB, or take out its lines",
        )
    if (shape, kind) in (("INVERSE", "MONOCHROME2"), ("IDENTITY", "MONOCHROME1")):
        raise unreadable(
            file,
            origin,
            f"{kind} and a PresentationLUTShape {shape}, which contradict each other",
            "is 0 black or white? Correct one of the two",
        )
    pixels = _decoded(header, file, origin)
    if kind in _GREYS:
        grey = _grey(header, pixels, file, origin)
        grey = 255 - grey if kind == "MONOCHROME1" else grey
        return np.repeat(grey[..., None], 3, axis=-1)
    if file.window is not None:
        raise unreadable(
            file, origin, f"{kind} has no window", "expected one of greys alone"
        )
    if kind == "PALETTE COLOR":
        return _palette(header, pixels, file, origin)
    if bits != 8 or pixels.dtype != np.uint8:
        raise unreadable(
            file,
            origin,
            f"{bits} bits a colour",
            "expected 8. Export it with 8, or take out its lines",
        )
    return pixels


def _decoded(
    header: "Dataset", file: ImageFile, origin: str
) -> Shaped[np.ndarray, "h w *c"]:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    with damage(file, origin):
        syntax = header.file_meta.TransferSyntaxUID
        name = syntax.name if not syntax.is_private else "a maker's own"
        try:
            known = get_decoder(syntax).is_available
        except NotImplementedError:
            known = False
    if not known:
        raise unreadable(
            file,
            origin,
            f"pixels in the transfer syntax {name!r}, for which there is no decoder",
            'JPEG 2000 is read after pip install "medjax[dicom]"; of others write an '
            "uncompressed copy: gdcmconv --raw in.dcm out.dcm",
        )
    with damage(file, origin):
        # From its path one frame alone is read, in fewer of the odd files.
        whole = syntax.is_deflated or int(header.get("NumberOfFrames") or 1) == 1
        try:
            return pixel_array(header if whole else file.path, index=file.frame or 0)
        except RuntimeError:
            pass  # the decoder's, which says so in many lines
    raise unreadable(
        file,
        origin,
        f"pixels in the transfer syntax {name!r} that cannot be decoded",
        "they are damaged, or of a kind that the decoder does not know (12 bits in "
        "JPEG); try an uncompressed copy: gdcmconv --raw in.dcm out.dcm",
    )


def _grey(
    header: "Dataset",
    stored: Shaped[np.ndarray, "h w"],
    file: ImageFile,
    origin: str,
) -> UInt8[np.ndarray, "h w"]:
    """Grey values, 0 for the lowest of the window."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    numbers, place = distinct(stored)
    with damage(file, origin):
        for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0)):
            if header.get(name) in (None, ""):
                setattr(header, name, default)
        values = apply_modality_lut(numbers, header)
    check_finite(values, file, origin)
    if file.window is not None:
        shown = show_values(values, file, origin)
    elif header.get("VOILUTSequence"):
        with damage(file, origin):
            depth = int(header.VOILUTSequence[0].LUTDescriptor[2])
            whole = np.round(values).astype(np.int64)
            shown = _levels(apply_voi(whole, header) / (2**depth - 1))
    elif _given(header, "WindowCenter") and _given(header, "WindowWidth"):
        shown = _windowed(header, values, file, origin)
    elif (bits := _plain_bits(header, file, origin)) is not None:
        shown = _levels(values / (2**bits - 1))
    else:
        every = values if place is None else values[place]
        inside = every[stored != header.get("PixelPaddingValue")]
        low, high = robust_window(inside if inside.size else every)
        window = ((low + high) / 2, high - low)
        shown = show_values(values, file._replace(window=window), origin)
    return shown if place is None else shown[place]


def _given(header: "Dataset", name: str) -> bool:
    return header.get(name) not in (None, "", [])


def _plain_bits(header: "Dataset", file: ImageFile, origin: str) -> int | None:
    """Bits of whole numbers that are shown as they are: up to 8, and not rescaled."""
    with damage(file, origin):
        bits = int(header.get("BitsStored") or 64)
        if bits > 8 or header.get("ModalityLUTSequence"):
            return None
        rescaled = (header.RescaleSlope, header.RescaleIntercept) != (1, 0)
        return None if rescaled or header.PixelRepresentation else bits


def _windowed(
    header: "Dataset",
    values: Shaped[np.ndarray, "*N"],
    file: ImageFile,
    origin: str,
) -> UInt8[np.ndarray, "*N"]:
    """The first window that the header gives, C.11.2.1.2 and C.11.2.1.3."""
    with damage(file, origin):
        level, width = (
            float(np.ravel(header.get(name))[0])
            for name in ("WindowCenter", "WindowWidth")
        )
        function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise unreadable(file, origin, "an unknown VOILUTFunction", _WINDOW)
    least = width >= 1 if function == "LINEAR" else width > 0
    if not least or not np.isfinite([level, width]).all():
        raise unreadable(
            file, origin, f"a window of level {level:g} and width {width:g}", _WINDOW
        )
    if function == "SIGMOID":
        return _levels(1 / (1 + np.exp(-4 * (values - level) / width)))
    if function == "LINEAR":
        level, width = level - 0.5, width - 1
        if width == 0:
            return _levels((values > level).astype(np.float64))
    return _levels((values - level) / width + 0.5)


def _palette(
    header: "Dataset",
    stored: Shaped[np.ndarray, "h w"],
    file: ImageFile,
    origin: str,
) -> UInt8[np.ndarray, "h w 3"]:
    from pydicom.pixels.processing import apply_color_lut

    with damage(file, origin):
        colours = apply_color_lut(stored, header)[..., :3]
        depth = int(header.RedPaletteColorLookupTableDescriptor[2])
    return _levels(colours / (2**depth - 1))


def _levels(share: Float[np.ndarray, "*N"]) -> UInt8[np.ndarray, "*N"]:
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8)
