"""Colours of 16 bits, of which PIL decodes the upper 8 alone: both halves of them."""

import sys
from typing import Any

import numpy as np
from jaxtyping import UInt16
from PIL import Image, ImageOps, TiffTags

from medjax.data.images.files import ImageFile, unreadable

_TAGS = {tag.name: number for number, tag in TiffTags.TAGS_V2.items()}
_LEAST = 1 << 12  # values of which none reaches it are of fewer bits than their file
# The order of bytes that makes PIL keep the other one; N is this machine's.
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def has_deep_colours(image: Image.Image) -> bool:
    """Whether a picture's colours are of 16 bits and can be decoded whole.

    They can be of a PNG with three colours, or four with alpha, and of a TIFF with
    three that are whole numbers without a sign, stored together.

    Args:
        image: Opened and not yet decoded.
    """
    tiles: Any = getattr(image, "tile", [])
    if not tiles or "transparency" in image.info:
        return False
    layout = _layout(tiles[0][3])
    if image.format == "PNG":
        return layout in ("RGB;16B", "RGBA;16B")
    tags: Any = getattr(image, "tag_v2", {})
    whole = np.ravel(tags.get(_TAGS["SampleFormat"], 1))
    together = tags.get(_TAGS["PlanarConfiguration"], 1) == 1
    red_green_blue = tags.get(_TAGS["PhotometricInterpretation"]) == 2
    return (
        image.format == "TIFF"
        and layout in ("RGB;16B", "RGB;16L", "RGB;16N")
        and together
        and red_green_blue
        and bool((whole == 1).all())
    )


def lower_tiles(image: Image.Image) -> list[Any]:
    """Tiles by which PIL decodes the lower 8 bits of each colour, not the upper ones.

    Args:
        image: With deep colours, opened and not yet decoded.
    """
    tiles: Any = getattr(image, "tile", [])
    # of the same kind: a plain tuple, or in later versions of PIL one with names
    return [tuple.__new__(type(one), (*one[:3], _swapped(one[3]))) for one in tiles]


def show_deep(
    upper: Image.Image, lower: Image.Image, file: ImageFile, origin: str
) -> Image.Image:
    """The picture with 8 bits a colour, turned as its orientation says.

    A value v of 16 bits becomes v / 257, rounded: 257 times a value of 8 bits is that
    value again, and 65535 is 255.

    Args:
        upper: The picture as PIL decodes it.
        lower: Likewise from `lower_tiles`.
        file: The image.
        origin: What an error calls the line that names the image.

    Raises:
        ValueError: No value has more than 12 bits, so that the picture would be nearly
            black.
    """
    high, low = (_numbers(ImageOps.exif_transpose(half)) for half in (upper, lower))
    values = (high << 8) + low
    colours = values[..., :3]
    if 0 < int(colours.max()) < _LEAST:
        raise unreadable(
            file,
            origin,
            f"colours of 16 bits of which none is above {int(colours.max())}",
            "expected them to fill 16 bits, or it would be nearly black. Multiply them "
            "up (12 bits by 16), or save it with 8 bits",
        )
    shown = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(shown)


def _numbers(image: Image.Image) -> UInt16[np.ndarray, "h w c"]:
    return np.asarray(image).astype(np.uint16)


def _layout(args: Any) -> str:  # noqa: ANN401
    """PIL's word for how the samples of a tile lie."""
    return str(args if isinstance(args, str) else args[0])


def _swapped(args: Any) -> Any:  # noqa: ANN401
    layout = _layout(args)
    other = layout[:-1] + _OTHER[layout[-1]]
    return other if isinstance(args, str) else (other, *args[1:])
