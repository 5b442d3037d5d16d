"""The pictures that are asked about: found, named, measured; what cannot be read."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from medjax.data.asking.questions import Questions, by_image
from medjax.data.images import ImageFile, image_size
from medjax.data.images.files import name_image
from medjax.data.images.listing import file_images, folder_files
from medjax.data.lists.images import PLANES, shown_images
from medjax.data.lists.reading import Reading


class Asked(NamedTuple):
    """A picture and what is asked about it."""

    image: ImageFile
    name: str  # what answers call its file
    size: tuple[int, int]  # (height, width) before it is resized
    queries: tuple[str, ...]

    @property
    def called(self) -> str:
        """What errors and overlays call the picture."""
        return name_image(self.image)


class Fault(NamedTuple):
    """A picture that cannot be read, and why."""

    image: str
    message: str


def find_pictures(
    source: str,
    questions: Questions,
    *,
    plane: str,
    reading: Reading,
    identify: bool,
) -> tuple[list[Asked], list[Fault]]:
    """The pictures of a file or a folder with their questions, and those that fail.

    Sizes are read here, so that all batches can have one shape; pixels are not.

    Args:
        source: A picture, a DICOM file, a NIfTI volume, or a folder with such files.
        questions: From `read_questions`.
        plane: Of the slices of volumes.
        reading: Its `window` and `pixels` count, see `shown_images`.
        identify: Whether pictures are called by their paths in the folder, which may
            name a patient; otherwise by the names of their files alone.

    Raises:
        FileNotFoundError: There is nothing at `source`.
        ValueError: The folder has no pictures, two of them have one name, or a
            question is about a picture that is not there.
    """
    if plane not in PLANES:
        raise ValueError(f"predict.plane={plane!r}: expected one of {PLANES}")
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"--input={source}: no such file or folder; expected a picture, a DICOM "
            "file, a NIfTI volume, or a folder with them"
        )
    files = folder_files(path) if path.is_dir() else [path]
    if not files:
        raise ValueError(
            f"--input={source}: no pictures in the folder; expected files such as "
            ".png, .jpg, .tif, .dcm or .nii.gz, in it or in folders in it"
        )
    root = path if path.is_dir() else path.parent
    faults: list[Fault] = []
    names = _names(files, root, identify=identify)
    images = list(_images(files, names, plane, faults))
    asked = by_image(questions, images, root)
    shown = shown_images(asked, reading)
    found = []
    for image, queries in asked.items():
        name = names[image.path]
        try:
            size = image_size(shown[image], name)
        except (ValueError, OSError, ImportError) as error:
            faults.append(Fault(name_image(image), str(error)))
            continue
        found.append(Asked(shown[image], name, size, queries))
    return found, faults


def _names(files: Sequence[Path], root: Path, *, identify: bool) -> dict[Path, str]:
    """What answers call each file."""
    if identify:
        return {file: file.relative_to(root).as_posix() for file in files}
    twice = [n for n, times in Counter(f.name for f in files).items() if times > 1]
    if twice:
        raise ValueError(
            f"--input: {len(twice)} names belong to several files, the first "
            f"{twice[0]!r}: answers name files without their folders, which may name "
            "patients; --config.data.identify=True writes paths, or ask about one "
            "folder at a time"
        )
    return {file: file.name for file in files}


def _images(
    files: Iterable[Path], names: dict[Path, str], plane: str, faults: list[Fault]
) -> Iterable[ImageFile]:
    for file in files:
        try:
            yield from list(file_images(file, plane=plane, origin=names[file]))
        except (ValueError, OSError, ImportError) as error:
            faults.append(Fault(file.name, str(error)))
