"""HAM10000: dermoscopic images with diagnoses and masks of the lesions.

    HAM10000_images_part_1/ISIC_0024306.jpg        600 x 450 pixels
    HAM10000_images_part_2/ISIC_0029306.jpg
    HAM10000_metadata.csv                          lesion_id,image_id,dx,dx_type,age,...
    HAM10000_segmentations_lesion_tschandl/ISIC_0024306_segmentation.png

Several images show one lesion; `lesion_id` keeps them in one part. `image_id` has no
ending. Both spellings of the folders of images are read, and `HAM10000_images/`.

Source: Harvard Dataverse, doi:10.7910/DVN/DBW86T (images, metadata and, from version 4
on, masks), mirrored as kmader/skin-cancer-mnist-ham10000 and
tschandl/ham10000-lesion-segmentations on Kaggle.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from medjax.data.lists import cells
from medjax.data.lists.files import csv_table
from medjax.data.lists.groups import group_columns, read_groups
from medjax.data.lists.published.places import by_stem, the_one
from medjax.data.lists.reading import Bad, Reading

DIAGNOSES = {  # in the order of the codes, by the names that MedMNIST has too
    "akiec": "actinic keratoses and intraepithelial carcinoma",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis-like lesions",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevi",
    "vasc": "vascular lesions",
}
_METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata")
_MASKS = "HAM10000_segmentations_lesion_tschandl"
SOUGHT = f"{_METADATA[0]} beside HAM10000_images_part_1/ and _part_2/"


class Lesion(NamedTuple):
    """One image of a lesion."""

    origin: str
    image: Path
    mask: Path | None
    diagnosis: str  # of DIAGNOSES, in words
    groups: Mapping[str, str]  # lesion_id, and what `data.group` names
    columns: Mapping[str, str]  # dx_type, age, sex, localization; where known


def is_ham10000(path: Path) -> bool:
    """Whether the folder holds the metadata of HAM10000.

    Args:
        path: A file or a folder.
    """
    return any((path / name).is_file() for name in _METADATA)


def read_ham10000(path: Path, reading: Reading) -> Iterator[Lesion | Bad]:
    """The images of the metadata, in its order.

    Args:
        path: The folder of HAM10000.
        reading: Its `group` names columns that group beside lesion_id.

    Raises:
        ValueError: The metadata or the folders of images are not there, or a column is
            missing.
    """
    lists = [path / name for name in _METADATA if (path / name).is_file()]
    folders = sorted(
        folder
        for folder in path.iterdir()
        if folder.is_dir() and folder.name.lower().startswith("ham10000_images")
    )
    if len(lists) != 1 or not folders:
        raise ValueError(
            f"{path.name}: expected {SOUGHT}; found {len(lists)} lists and "
            f"{len(folders)} folders of images"
        )
    table = csv_table(lists[0])
    missing = {"lesion_id", "image_id", "dx"} - set(table.header)
    if missing:
        raise ValueError(
            f"{lists[0].name}, line 1: no column {', '.join(sorted(missing))};"
            " expected lesion_id,image_id,dx and perhaps dx_type,age,sex,localization"
        )
    grouping = group_columns(table.header, reading, lists[0].name)
    images, masks = by_stem(folders), by_stem(_mask_folders(path))
    seen: dict[str, str] = {}
    for line in table.lines:
        if isinstance(line, Bad):
            yield line
            continue
        origin = line.origin
        try:
            name = cells.name(line.cells["image_id"], origin, "image_id")
            if name in seen:
                raise ValueError(
                    f"{origin}: {name} is also in {seen[name]}; expected each once"
                )
            seen[name] = origin
            code = cells.name(line.cells["dx"], origin, "dx")
            if code not in DIAGNOSES:
                raise ValueError(
                    f"{origin}: dx is {code!r}; expected one of {', '.join(DIAGNOSES)}"
                )
            mask = f"{name}_segmentation"
            yield Lesion(
                origin=origin,
                image=the_one(images, name, origin),
                mask=the_one(masks, mask, origin) if mask in masks else None,
                diagnosis=DIAGNOSES[code],
                groups=read_groups(line.cells, grouping, origin),
                columns={
                    key: value
                    for key, value in line.cells.items()
                    if key not in (*grouping, "image_id", "dx")
                    and not cells.missing(value)
                },
            )
        except ValueError as error:
            yield Bad(origin, str(error))


def _mask_folders(path: Path) -> list[Path]:
    """The folder of masks; an archive may have put it into one of its own name."""
    outer = path / _MASKS
    return [place for place in (outer, outer / _MASKS) if place.is_dir()]
