"""A user's own images: measured and read as a policy sees them, and told apart."""

from medjax.data.images.dicom import image_groups
from medjax.data.images.digests import perceptual_hash, pixel_digest
from medjax.data.images.files import ImageFile
from medjax.data.images.reading import image_size, read_image

__all__ = [
    "ImageFile",
    "image_groups",
    "image_size",
    "perceptual_hash",
    "pixel_digest",
    "read_image",
]
