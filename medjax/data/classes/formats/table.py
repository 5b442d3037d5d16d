"""Every format of a user's labelled images, and the reading of a path in one of them.

MedMNIST's .npz files hold their own pictures and are read elsewhere (`medmnist`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from medjax.data.classes.entries import LabelEntry
from medjax.data.classes.formats.coco import read_coco_labels
from medjax.data.classes.formats.published import (
    read_ham10000_labels,
    read_nih_labels,
    read_tn3k_labels,
    read_vindr_labels,
)
from medjax.data.classes.labels_csv import label_entries
from medjax.data.lists.coco import find_coco
from medjax.data.lists.published import ham10000, nih, tn3k, vindr
from medjax.data.lists.reading import Bad, Reading
from medjax.data.lists.recognise import Format, check_options, own_files, recognise


class ReadLabels(Protocol):
    """The reader of a format."""

    def __call__(self, path: Path, reading: Reading) -> Iterator[LabelEntry | Bad]:
        """The entries of a path that the format fits."""
        ...


class LabelFormat(NamedTuple):
    """A format, its reader, and the options that concern it and not all the others."""

    format: Format
    read: ReadLabels
    options: tuple[str, ...]


def read_labels(path: Path, reading: Reading) -> Iterator[LabelEntry | Bad]:
    """The entries of a user's file or folder, in the one format that fits it.

    Args:
        path: It is there.
        reading: `format` names the format where several fit; "" has it recognised.
            `official` False leaves the parts that a list states out of account.

    Raises:
        ValueError: No format fits or several do, an option does not concern the one
            that does, or its reader refuses the list as a whole.
    """
    formats = {one.format.name: one for one in LABEL_FORMATS}
    chosen = recognise(path, [one.format for one in LABEL_FORMATS], reading.format)
    mine = formats[chosen.name]
    check_options(
        chosen.name,
        mine.options,
        ("coords", "fold"),
        reading._asdict(),
        Reading()._asdict(),
    )
    for entry in mine.read(path, reading):
        if isinstance(entry, Bad) or reading.official:
            yield entry
        else:
            yield entry._replace(split=None)


def _fits_csv(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() != ".json"
    return bool(own_files(path, ".csv")) and not vindr.is_vindr(path)


def _fits_coco(path: Path) -> bool:
    return bool(find_coco(path))


def _fits_nih(path: Path) -> bool:
    return path.is_dir() and nih.has_entries(path)


def _fits_tn3k(path: Path) -> bool:
    return tn3k.is_tn3k(path)


LABEL_FORMATS = (
    LabelFormat(
        Format("csv", _fits_csv, "one .csv file with a picture a line"),
        label_entries,
        (),
    ),
    LabelFormat(
        Format(
            "coco", _fits_coco, "COCO .json files, in the folder or in annotations/"
        ),
        read_coco_labels,
        (),
    ),
    LabelFormat(
        Format("ham10000", ham10000.is_ham10000, ham10000.SOUGHT),
        read_ham10000_labels,
        (),
    ),
    LabelFormat(
        Format(
            "tn3k", _fits_tn3k, f"{tn3k.SOUGHT}, label4trainval.csv, label4test.csv"
        ),
        read_tn3k_labels,
        ("fold",),
    ),
    LabelFormat(
        Format("nih", _fits_nih, "Data_Entry_2017.csv beside images/"),
        read_nih_labels,
        (),
    ),
    LabelFormat(Format("vindr", vindr.is_vindr, vindr.SOUGHT), read_vindr_labels, ()),
)
