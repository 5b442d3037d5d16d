"""Every format of a user's boxes, and the reading of a path in the one that fits."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from medjax.data.boxes.entries import BoxEntry
from medjax.data.boxes.formats.asking import Asking, check_asking, choose_classes
from medjax.data.boxes.formats.coco import read_coco
from medjax.data.boxes.formats.csv_boxes import read_csv_boxes
from medjax.data.boxes.formats.masks import find_mask_folders, read_masks
from medjax.data.boxes.formats.published import (
    read_ham10000_boxes,
    read_nih_boxes,
    read_tn3k_boxes,
    read_vindr_boxes,
)
from medjax.data.boxes.jsonl import jsonl_entries
from medjax.data.lists.coco import find_coco
from medjax.data.lists.groups import question_key
from medjax.data.lists.published import ham10000, nih, tn3k, vindr
from medjax.data.lists.reading import Bad, Reading
from medjax.data.lists.recognise import Format, check_options, own_files, recognise

_ASKED = ("query", "negatives")
_MASKS = ("mask", "min_area")
_NAMED = 3  # questions that are too long, of which an error names the lines


class ReadBoxes(Protocol):
    """The reader of a format."""

    def __call__(
        self, path: Path, reading: Reading, asking: Asking
    ) -> Iterator[BoxEntry | Bad]:
        """The entries of a path that the format fits."""
        ...


class BoxFormat(NamedTuple):
    """A format, its reader, and the options that concern it and not all the others."""

    format: Format
    read: ReadBoxes
    options: tuple[str, ...]


def box_entries(
    path: Path, reading: Reading, asking: Asking
) -> Iterator[BoxEntry | Bad]:
    """The entries of a user's file or folder, in the one format that fits it.

    Args:
        path: It is there.
        reading: `format` names the format where several fit; "" has it recognised.
            `official` False leaves the parts that a list states out of account.
        asking: What is asked about lists that have no questions.

    Raises:
        ValueError: No format fits or several do, an option does not concern the one
            that does, its reader refuses the list as a whole, or, with `on_bad` "stop",
            questions are longer than `asking` has it.
    """
    asking = check_asking(asking)
    formats = {one.format.name: one for one in FORMATS}
    chosen = recognise(path, [one.format for one in FORMATS], reading.format)
    mine = formats[chosen.name]
    check_options(
        chosen.name,
        mine.options,
        sorted({option for one in FORMATS for option in one.options}),
        {**reading._asdict(), **asking._asdict()},
        {**Reading()._asdict(), **check_asking(Asking())._asdict()},
    )
    long: list[BoxEntry] = []
    for entry in mine.read(path, reading, asking):
        if isinstance(entry, Bad):
            yield entry
        elif len(entry.query) > asking.longest:
            long.append(entry)
            if reading.on_bad == "drop":
                told = (
                    f"a question of {len(entry.query)} characters; {_shorter(asking)}"
                )
                key = question_key(entry.images, entry.query)
                yield Bad(entry.origin, f"{entry.origin}: {told}", key)
        else:
            yield entry if reading.official else entry._replace(split=None)
    if long and reading.on_bad == "stop":
        first = ", ".join(
            f"{entry.origin} ({len(entry.query)})" for entry in long[:_NAMED]
        )
        more = ", ..." if len(long) > _NAMED else ""
        raise ValueError(
            f"{path.name}: {len(long)} questions are too long, of so many characters: "
            f"{first}{more}; {_shorter(asking)}, or leave them out by data.on_bad=drop"
        )


def _shorter(asking: Asking) -> str:
    return (
        f"expected {asking.longest} at most, since every question is padded to the "
        "longest: shorten, or raise data.longest"
    )


def _read_jsonl(
    path: Path, reading: Reading, asking: Asking
) -> Iterator[BoxEntry | Bad]:
    """Lines of JSONL, which have questions of their own; of some labels, if chosen."""
    if asking.structures == "all":
        yield from jsonl_entries(path, reading)
        return
    entries = list(jsonl_entries(path, reading))
    labels = dict.fromkeys(one.label for one in entries if isinstance(one, BoxEntry))
    chosen = choose_classes(tuple(labels), asking.structures, path.name)
    for one in entries:
        if isinstance(one, Bad) or one.label in chosen:
            yield one


def _fits_jsonl(path: Path) -> bool:
    if path.is_dir():
        return bool(own_files(path, ".jsonl"))
    if path.suffix.lower() == ".json":
        return _has_lines(path)
    return path.suffix.lower() != ".csv"


def _has_lines(path: Path) -> bool:
    """Whether a .json file holds an object a line, as JSONL does."""
    with path.open("rb") as stream:
        first = stream.readline(1 << 16).removeprefix(b"\xef\xbb\xbf").strip()
    return first.startswith(b"{") and first.endswith(b"}") and b'"image"' in first


def _fits_csv(path: Path) -> bool:
    return bool(own_files(path, ".csv")) and not vindr.is_vindr(path)


def _fits_coco(path: Path) -> bool:
    return bool(find_coco(path)) and not (path.is_file() and _has_lines(path))


def _fits_masks(path: Path) -> bool:
    return bool(find_mask_folders(path))


FORMATS = (
    BoxFormat(Format("jsonl", _fits_jsonl, "one .jsonl file"), _read_jsonl, ()),
    BoxFormat(
        Format("csv", _fits_csv, "one .csv file with a box a line"),
        read_csv_boxes,
        ("coords", *_ASKED),
    ),
    BoxFormat(
        Format(
            "coco", _fits_coco, "COCO .json files, in the folder or in annotations/"
        ),
        read_coco,
        _ASKED,
    ),
    BoxFormat(
        Format(
            "masks",
            _fits_masks,
            "images/ beside masks/, in the folder or in its train/, val/ and test/",
        ),
        read_masks,
        ("names", "plane", *_MASKS, *_ASKED),
    ),
    BoxFormat(
        Format("ham10000", ham10000.is_ham10000, ham10000.SOUGHT),
        read_ham10000_boxes,
        (*_MASKS, *_ASKED),
    ),
    BoxFormat(
        Format("tn3k", tn3k.is_tn3k, tn3k.SOUGHT),
        read_tn3k_boxes,
        ("fold", *_MASKS, *_ASKED),
    ),
    BoxFormat(Format("nih", nih.is_nih, nih.SOUGHT), read_nih_boxes, _ASKED),
    BoxFormat(Format("vindr", vindr.is_vindr, vindr.SOUGHT), read_vindr_boxes, _ASKED),
)
