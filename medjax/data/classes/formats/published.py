"""Classes of published sets: each layout is told in `data/lists/published`."""

from collections.abc import Iterator
from pathlib import Path

from medjax.data.classes.entries import LabelEntry
from medjax.data.images import ImageFile
from medjax.data.lists.published import ham10000, nih, tn3k, vindr
from medjax.data.lists.published.places import the_one
from medjax.data.lists.reading import Bad, Reading
from medjax.data.lists.recognise import refuse_groups


def read_ham10000_labels(path: Path, reading: Reading) -> Iterator[LabelEntry | Bad]:
    """Entries of HAM10000: the diagnosis of each image, one of seven.

    Args:
        path: The folder of HAM10000; it may have no masks.
        reading: Its `group` may name other columns of the metadata.
    """
    for one in ham10000.read_ham10000(path, reading):
        if isinstance(one, Bad):
            yield one
        else:
            yield LabelEntry(
                origin=one.origin,
                image=ImageFile(one.image),
                labels=(one.diagnosis,),
                groups=one.groups,
                split=None,
                reader=None,
                columns=one.columns,
            )


def read_tn3k_labels(path: Path, reading: Reading) -> Iterator[LabelEntry | Bad]:
    """Entries of TN3K: whether the nodule of each image is benign or malignant.

    Args:
        path: The folder of TN3K with label4trainval.csv and label4test.csv.
        reading: `fold` parts training and validation.
    """
    refuse_groups(reading, "TN3K names no patients")
    for one in tn3k.read_tn3k(path, fold=reading.fold, labels=True):
        if isinstance(one, Bad):
            yield one
        else:
            yield LabelEntry(
                origin=one.origin,
                image=ImageFile(one.image),
                labels=() if one.kind is None else (one.kind,),
                groups={},
                split=one.split,
                reader=None,
                columns={},
            )


def read_nih_labels(path: Path, reading: Reading) -> Iterator[LabelEntry | Bad]:
    """Entries of the list of findings of ChestX-ray14, any number an image.

    Args:
        path: The folder of ChestX-ray14.
        reading: The options of a user's lists.
    """
    refuse_groups(reading, "ChestX-ray14 is parted by patient")
    places = nih.nih_places(path)
    for one in nih.read_entries(path):
        if isinstance(one, Bad):
            yield one
            continue
        try:
            image = the_one(places.images, Path(one.name).stem, one.origin)
            split = nih.part_of(places, one.name, one.origin)
        except ValueError as error:
            yield Bad(one.origin, str(error))
        else:
            yield LabelEntry(
                origin=one.origin,
                image=ImageFile(image),
                labels=tuple(name.replace("_", " ") for name in one.findings),
                groups={"patient": one.patient},
                split=split,
                reader=None,
                columns={},
            )


def read_vindr_labels(path: Path, reading: Reading) -> Iterator[LabelEntry | Bad]:
    """Entries of the lists of findings of VinDr-CXR, any number an image and reader.

    Of Kaggle's, which has none, they are the classes of the boxes.

    Args:
        path: The folder of VinDr-CXR, as PhysioNet or Kaggle has it.
        reading: The options of a user's lists.
    """
    refuse_groups(reading, "VinDr-CXR names no patients")
    for half in vindr.vindr_halves(path):
        for one in vindr.read_opinions(half):
            if isinstance(one, Bad):
                yield vindr.spoilt_image(half, one)
                continue
            try:
                image = vindr.image_of(half, one.name, one.origin)
            except ValueError as error:
                yield Bad(one.origin, str(error))
            else:
                yield LabelEntry(
                    origin=one.origin,
                    image=ImageFile(image),
                    labels=one.findings,
                    groups={},
                    split=half.split,
                    reader=one.reader,
                    columns={},
                )
