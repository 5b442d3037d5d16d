"""Images told apart by their pixels: the same ones, and nearly the same ones."""

import hashlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy.fft import dctn

_SIDE = 32  # pixels that the image is shrunk to
_LOW = 8  # lowest frequencies of each axis


def pixel_digest(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """SHA-256 of the shape and the decoded pixels, in 64 hexadecimal digits.

    Files of other names, formats or compressions have one digest where they show the
    same pixels.

    Args:
        image: As `read_image` gives it.
    """
    shape = ",".join(str(n) for n in image.shape)
    digest = hashlib.sha256(f"{shape};".encode())
    digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()


def perceptual_hash(image: UInt8[np.ndarray, "h w 3"]) -> int:
    """64 bits that change little where the image does: scaled, compressed, brightened.

    The grey image is shrunk to 32 x 32; each of the 8 x 8 lowest coefficients of its
    cosine transform gives a bit, 1 above their median. Two images are near where few
    of the bits differ: `(a ^ b).bit_count()`. An image of one colour has no pattern,
    and so no hash that means anything.

    Args:
        image: As `read_image` gives it.

    Source: the pHash of C. Zauner, Implementation and Benchmarking of Perceptual Image
    Hash Functions (2010), section 3.2.1, without its mean filter.
    """
    grey = Image.fromarray(image).convert("L")
    small = grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = np.asarray(dctn(np.asarray(small, np.float64)))[:_LOW, :_LOW]
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
