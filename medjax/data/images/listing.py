"""The images of a file or a folder: every frame, page and slice, each by its number."""

import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from medjax.data.images.dicom import count_frames, is_dicom
from medjax.data.images.files import ImageFile, check_file
from medjax.data.images.nifti import count_slices, is_nifti

# Endings of the pictures that are read; DICOM files may have another, or none.
ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *(".pgm", ".ppm", ".dcm", ".dicom", ".ima", ".nii", ".nii.gz"),
)


def folder_files(folder: Path) -> list[Path]:
    """The files of a folder, and of those in it, that may be images, by their names.

    Numbers in names count as numbers: `slice_9` stands before `slice_10`. Hidden files
    and folders are left out, and so is what neither has an ending of an image nor
    DICOM's mark.

    Args:
        folder: It exists. Links to files are followed, links to folders are not.
    """
    found = [
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and (path.is_file() or path.is_symlink() and not path.is_dir())
        and path.name.upper() != "DICOMDIR"  # an index of others
        and _may_be_image(path)
    ]
    return sorted(found, key=lambda path: _natural(path.relative_to(folder).as_posix()))


def file_images(path: Path, *, plane: str, origin: str) -> Iterator[ImageFile]:
    """The images of one file: one, or every frame, page or slice of it.

    Args:
        path: A picture, a DICOM file or a NIfTI volume.
        plane: The plane of a volume's slices: "axial", "coronal" or "sagittal".
        origin: What an error calls the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged so that its images cannot be counted.
    """
    file = ImageFile(path)
    check_file(file, origin)
    if is_nifti(file):
        file = file._replace(plane=plane)
        for frame in range(count_slices(file, origin)):
            yield file._replace(frame=frame)
        return
    count = count_frames(file, origin) if is_dicom(file) else _count_pages(path)
    if count == 1:
        yield file
    else:
        yield from (file._replace(frame=frame) for frame in range(count))


def _may_be_image(path: Path) -> bool:
    if path.name.lower().endswith(ENDINGS):
        return True
    return path.is_file() and is_dicom(ImageFile(path))


def _count_pages(path: Path) -> int:
    """Of a TIFF; anything else, and what is damaged, is one image, read or refused."""
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            return int(getattr(image, "n_frames", 1))
    except (OSError, ValueError, SyntaxError, TypeError, KeyError):
        return 1


def _natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """What names are ordered by: whole numbers by their value."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(x)) if x.isdigit() else (1, x) for x in parts)
