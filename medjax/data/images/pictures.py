"""PNG, JPEG, TIFF and the like, through PIL, and what PIL would show wrongly."""

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image, ImageOps, TiffTags, UnidentifiedImageError

from medjax.data.images.deep_colours import has_deep_colours, lower_tiles, show_deep
from medjax.data.images.files import DAMAGED, ImageFile, check_frame, unreadable
from medjax.data.images.windows import show_values

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
_ROTATED = (5, 6, 7, 8)  # EXIF orientations that exchange the sides
# What an orientation's entry in EXIF begins with: its tag, its type and its count.
_ENTRIES = (bytes.fromhex("0112000300000001"), bytes.fromhex("1201030001000000"))
_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_TAGS = {tag.name: number for number, tag in TiffTags.TAGS_V2.items()}
_WAY_OUT = (
    "expected a whole image: PNG, JPEG, TIFF, BMP, GIF, WebP, PGM, DICOM (.dcm) or "
    "NIfTI (.nii, .nii.gz). Mend or convert the file, or take out its lines"
)
_GREY = 0  # colour type of a PNG
_COLOURS = (
    "of these only 8 would be shown: 16 are read of a PNG with three colours or four, "
    "and of a TIFF with three, stored together. Save it so or with 8 bits (magick "
    "in.png -depth 8 out.png), or a grey image with one channel of 16"
)


def picture_size(file: ImageFile, origin: str) -> tuple[int, int]:
    """(height, width) as shown, without decoding the pixels.

    Args:
        file: A picture.
        origin: What an error calls the line that names the image.
    """
    with _opened(file, origin) as image, _damage(file, origin):
        tags = getattr(image, "tag_v2", {})
        width, height = image.size
        if tags:  # PIL's size of a TIFF may be turned already
            width, height = tags[_TAGS["ImageWidth"]], tags[_TAGS["ImageLength"]]
        if image.format == "PNG" and not _png_header(file)[2]:
            turned = _orientation(image, Image.Image.getexif(image))
            image.verify()
        else:  # PIL decodes a PNG to see what stands behind its pixels
            turned = _orientation(image, image.getexif())
    return (width, height) if turned in _ROTATED else (height, width)


def read_picture(file: ImageFile, origin: str) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as RGB, turned as its orientation says, on white where transparent.

    Of 8 bits, it is what PIL decodes; deeper greys are shown in a window, and colours
    of 16 bits by their share of the whole range.

    Args:
        file: A picture.
        origin: What an error calls the line that names the image.
    """
    with _opened(file, origin) as image:
        with _damage(file, origin):
            tags = dict(getattr(image, "tag_v2", {}))
            colours = has_deep_colours(image)
            image.load()
            _orientation(image, image.getexif())
            turned = ImageOps.exif_transpose(image)
            deep = _numbers(turned, tags)
        if colours:
            turned = show_deep(image, _lower(file, origin), file, origin)
        if deep is None:
            shown = np.asarray(_on_white(turned))
        else:
            shown = show_values(deep, file, origin)
            if tags.get(_TAGS["PhotometricInterpretation"]) == 0:  # white is zero
                shown = 255 - shown
            shown = np.repeat(shown[..., None], 3, axis=-1)
        if deep is None and file.window is not None:
            raise unreadable(
                file,
                origin,
                f"a window {file.window}, but it has 8 bits or colours",
                "expected a window of greys with more bits alone",
            )
    return shown


def _lower(file: ImageFile, origin: str) -> Image.Image:
    """The picture again, the lower 8 bits of its colours."""
    with _opened(file, origin) as image, _damage(file, origin):
        opened: Any = image
        opened.tile = lower_tiles(image)
        image.load()
        return image


def _orientation(image: Image.Image, exif: Image.Exif) -> int | None:
    """How EXIF or XMP says that the stored pixels are turned; None: they do not.

    Raises:
        ValueError: EXIF says so behind what is damaged, where PIL gives up.
    """
    found = exif.get(ExifTags.Base.Orientation)
    raw = image.info.get("exif") or b""
    if found is None and any(entry in raw for entry in _ENTRIES):
        preview = exif.get_ifd(ExifTags.IFD.IFD1)
        if ExifTags.Base.Orientation not in preview:
            raise ValueError("damaged EXIF, which hides how it is turned")
    return found


def _numbers(image: Image.Image, tags: dict) -> Shaped[np.ndarray, "h w"] | None:
    """The values of a grey picture that 8 bits cannot hold, None of another."""
    # The first of each sample's; left out, whole numbers without a sign.
    signed = np.ravel(tags.get(_TAGS["SampleFormat"], 1))[0] == 2
    if image.mode == "L" and signed:  # PIL takes the bits as they are
        return np.asarray(image).view(np.int8)
    if not image.mode.startswith(("I", "F")):
        return None
    values = np.asarray(image)
    deep = np.ravel(tags.get(_TAGS["BitsPerSample"], 1))[0] == 32
    if image.mode == "I" and tags and deep and not signed:
        return values.view(np.uint32)
    return values


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, as Qwen's loader (qwen_vl_utils) shows RGBA; other alphas likewise."""
    if image.mode not in _ALPHA and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


@contextlib.contextmanager
def _opened(file: ImageFile, origin: str) -> Iterator[Image.Image]:
    """The picture at its frame, not yet decoded, and known to be shown rightly."""
    with contextlib.ExitStack() as stack:
        with _damage(file, origin):
            # By its name PIL maps a plain TIFF into memory, scrambled if it is turned.
            stream = stack.enter_context(file.path.open("rb"))
            image = stack.enter_context(Image.open(stream, formats=_FORMATS))
            # A camera's MPO holds its picture and then a depth map or a preview.
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        _check_pages(file, origin, frames, str(image.format))
        with _damage(file, origin):
            if file.frame:
                image.seek(file.frame)
            fault = _fault(file, image)
        if fault is not None:
            raise unreadable(file, origin, *fault)
        yield image


def _check_pages(file: ImageFile, origin: str, frames: int, form: str) -> None:
    if frames > 1 and form != "TIFF":
        raise unreadable(
            file,
            origin,
            f"an animation of {frames} frames",
            "expected one picture; save the frame that is meant as a PNG",
        )
    if frames > 1 and file.frame is None:
        raise unreadable(
            file, origin, f"{frames} pages", "name one of them: a frame, counted from 0"
        )
    check_frame(file, frames, origin)


def _fault(file: ImageFile, image: Image.Image) -> tuple[str, str] | None:
    """What PIL would show wrongly, and the way out."""
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        return (
            f"{height} x {width} pixels",
            f"expected at most {limit}. Make it smaller",
        )
    bits, tiles = 8, getattr(image, "tile", [])
    if image.format == "PNG":
        bits, kind, _ = _png_header(file)
        bits = bits if kind != _GREY or "transparency" in image.info else 8
    elif image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        samples = np.ravel(tags.get(_TAGS["BitsPerSample"], 1))
        bits = max(samples) if len(samples) > 1 else 8
        swapped = tags.prefix == b"MM" and tiles[0][0] == "libtiff"
        if swapped and image.mode in ("I", "F"):
            return (
                "compressed numbers with signs or fractions in big-endian order",
                "PIL exchanges their bytes. Save it uncompressed or in little-endian",
            )
    if bits > 8 and not has_deep_colours(image):
        return f"{bits} bits a colour", _COLOURS
    return None


def _png_header(file: ImageFile) -> tuple[int, int, bool]:
    """Bits a sample, colour type, and whether texts or EXIF stand behind the pixels."""
    with file.path.open("rb") as stream:
        stream.seek(8)
        bits = kind = 0
        pixels = False
        while len(head := stream.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"IHDR":
                bits, kind = stream.read(10)[8:]
                length -= 10
            pixels = pixels or name == b"IDAT"
            if pixels and name not in (b"IDAT", b"IEND"):
                return bits, kind, True
            stream.seek(length + 4, 1)
    return bits, kind, False


@contextlib.contextmanager
def _damage(file: ImageFile, origin: str) -> Iterator[None]:
    """PIL's errors, naming the line and the file without its folders."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise unreadable(file, origin, "no image format", _WAY_OUT) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise unreadable(file, origin, error, "expected a smaller image") from error
    except (*DAMAGED, SyntaxError) as error:  # the latter of a PNG
        what = getattr(error, "strerror", None) or error or type(error).__name__
        raise unreadable(file, origin, what, _WAY_OUT) from error
