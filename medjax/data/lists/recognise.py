"""What a user's path holds: the one format that fits, or the choice between several."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.lists.reading import Reading

# Lists of published sets by names that nobody else gives, and all of their lists.
_OF_SETS = (
    *("HAM10000_metadata.csv", "HAM10000_metadata"),
    *("BBox_List_2017.csv", "Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"),
)
PUBLISHED = (
    *_OF_SETS,
    *("annotations_train.csv", "annotations_test.csv"),
    *("image_labels_train.csv", "image_labels_test.csv"),
    *("label4trainval.csv", "label4test.csv", "train_meta.csv", "test_meta.csv"),
)


class Format(NamedTuple):
    """A format by name, how it is recognised, and what is looked for."""

    name: str
    fits: Callable[[Path], bool]  # looks at names and first lines, never at pixels
    sought: str  # "one .csv file", as an error lists it


def recognise(path: Path, formats: Sequence[Format], chosen: str) -> Format:
    """The format of a path, as chosen or as the only one that fits.

    Args:
        path: A file or a folder that is there.
        formats: Those that may be, each with another name.
        chosen: The name of one, or "" to look.

    Raises:
        ValueError: None fits, several do, or there is none of the chosen name; the
            message lists what was looked for.
    """
    named = {one.name: one for one in formats}
    if chosen:
        if chosen not in named:
            raise ValueError(
                f"data.format={chosen!r}: expected one of {', '.join(named)}, or "
                "nothing to have it recognised"
            )
        return named[chosen]
    if path.is_file() and path.name in _OF_SETS:
        raise ValueError(
            f"{path.name}: a list of a published set, which is read with its images; "
            "name the folder that it lies in, or say data.format"
        )
    fitting = [one for one in formats if one.fits(path)]
    if len(fitting) > 1:
        choices = " or ".join(f"data.format={one.name}" for one in fitting)
        found = "; ".join(f"{one.name}: {one.sought}" for one in fitting)
        raise ValueError(
            f"{path.name}: several formats fit ({found}); say which is meant, {choices}"
        )
    if not fitting:
        sought = "\n".join(f"  {one.name}: {one.sought}" for one in formats)
        raise ValueError(
            f"{path.name}: no known format; looked for\n{sought}\nName the file "
            "itself, or say data.format=NAME to hear what is missing"
        )
    return fitting[0]


def own_files(path: Path, *suffixes: str) -> list[Path]:
    """The file itself, or a folder's files of that ending that no published set names.

    Args:
        path: A file or a folder.
        suffixes: Endings in lower case, such as ".csv".
    """
    if path.is_file():
        return [path] if path.suffix.lower() in suffixes else []
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in suffixes
        and file.is_file()
        and file.name not in PUBLISHED
        and not file.name.startswith(".")  # beside each file, from some archives
    )


def refuse_groups(reading: Reading, reason: str) -> None:
    """Raise ValueError where `data.group` names a column that a format does not have.

    Args:
        reading: The options of a user's lists.
        reason: Why there is none, as the error says it.
    """
    if reading.group:
        raise ValueError(
            f"data.group={','.join(reading.group)}: {reason}; leave it out, or write a "
            "list in JSONL or CSV that names the groups"
        )


def refuse_square(reading: Reading, what: str) -> None:
    """Raise ValueError where pixels would be widened that boxes are counted in.

    Args:
        reading: The options of a user's lists.
        what: Is drawn in the pixels that the file stores, as the error says it.
    """
    if reading.pixels == "square":
        raise ValueError(
            f"data.pixels=square: {what} count in the pixels that are stored; choose "
            "data.pixels=stored, or resample images and boxes"
        )


def check_options(
    name: str,
    own: Sequence[str],
    special: Sequence[str],
    given: Mapping[str, Any],
    plain: Mapping[str, Any],
) -> None:
    """Raise ValueError where an option is set that the format would not look at.

    Args:
        name: Of the format.
        own: The options that concern it and not every format.
        special: All options that do not concern every format.
        given: Their values, and those of others.
        plain: The values that they have when nothing is said.
    """
    for option in special:
        if option not in own and given[option] != plain[option]:
            raise ValueError(
                f"data.{option}={given[option]!r} does not concern the format {name}; "
                "leave it out, or say data.format"
            )
