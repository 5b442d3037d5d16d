"""What JSON files say of a NIfTI image, with BIDS's inheritance.

Of an image with a BIDS name (key-value pairs and a suffix, joined by underscores) every
JSON of the same suffix counts whose pairs are all the image's, in its folder and in
those above it up to the data set's root: the more specific one wins. Of another image
only NAME.json counts.

Source: BIDS 1.10, "The Inheritance Principle".
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Folders of a data set below its root.
_INSIDE = re.compile(r"(sub|ses)-\w+|anat|fmap|func|dwi|perf|micr|swi|mrs", re.I)
_PAIR = re.compile(r"([a-z]+)-([A-Za-z0-9]+)")


class Name(NamedTuple):
    """A BIDS name; without pairs where a file is named in another way."""

    pairs: Mapping[str, str]  # such as {"sub": "01", "echo": "2"}
    suffix: str  # such as "MESE"; "" of another name


class Sidecar(NamedTuple):
    """All that is known of an image beside its own header."""

    image: Path
    name: Name
    fields: Mapping[str, Any]
    files: tuple[Path, ...]  # the JSON files read, the most specific one last

    @property
    def origin(self) -> Path:
        """What errors call the fields' source."""
        return self.files[-1] if self.files else self.image


def read_sidecars(paths: Sequence[Path]) -> list[Sidecar]:
    """A sidecar for each image; without fields where there is no JSON.

    Args:
        paths: NIfTI files; what they hold is not read.

    Raises:
        ValueError: A JSON file cannot be read, is no object, holds a key twice, or two
            files that are equally specific contradict each other.
    """
    read: dict[Path, Mapping[str, Any]] = {}
    sidecars = []
    for path in paths:
        name = parse_name(path)
        files = _files(path, name)
        fields: dict[str, Any] = {}
        for n, file in enumerate(files):
            if file not in read:
                read[file] = _load(file)
            more = read[file]
            if n and _rank(file) == _rank(files[n - 1]):
                _check_rivals(path, files[n - 1], file, read)
            fields.update(more)
        sidecars.append(Sidecar(path, name, fields, tuple(files)))
    return sidecars


def parse_name(path: Path) -> Name:
    """`sub-01_echo-2_MESE.nii.gz` -> pairs and suffix.

    Args:
        path: An image or a JSON file; a name of one word is a suffix alone.
    """
    stem = re.sub(r"\.(nii|nii\.gz|json)$", "", path.name, flags=re.I)
    *words, suffix = stem.split("_")
    pairs = [_PAIR.fullmatch(word) for word in words]
    if not all(pairs) or not suffix.isalnum():
        return Name({}, "")
    return Name({m[1]: m[2] for m in pairs if m}, suffix)


def numbers(sidecar: Sidecar, key: str) -> float | list[Any] | None:
    """A field's number, or its list of numbers or of such lists; None without one.

    Raises:
        ValueError: The field is anything else, or holds NaN or Inf.
    """
    value = sidecar.fields.get(key)
    if value is None:
        return None
    if _numeric(value):
        return value if isinstance(value, list) else float(value)
    raise ValueError(
        f"{sidecar.origin}: {key} {value!r}; expected a number or a list of numbers"
    )


def _numeric(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_numeric(v) for v in value)
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _files(path: Path, name: Name) -> list[Path]:
    """The JSON files that count, the most specific one last."""
    own = path.with_name(re.sub(r"\.nii(\.gz)?$", ".json", path.name, flags=re.I))
    if not name.pairs:
        return [own] if own.exists() else []
    found = []
    for folder in _above(path):
        for file in sorted(folder.glob("*.json")):
            other = parse_name(file)
            if (
                other.suffix == name.suffix
                and other.pairs.items() <= name.pairs.items()
            ):
                found.append(file)
    return sorted(found, key=_rank)


def _rank(file: Path) -> tuple[int, int]:
    """Deeper folders are more specific, then more pairs."""
    return len(file.parts), len(parse_name(file).pairs)


def _above(path: Path) -> list[Path]:
    """The image's folder and those above it, up to the root of its data set."""
    folder = Path(os.path.abspath(path)).parent
    found = [folder]
    while not (folder / "dataset_description.json").exists():
        if not _INSIDE.fullmatch(folder.name):
            break
        folder = folder.parent
        found.append(folder)
    return found


def _load(file: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        for key, value in pairs:
            if not _equal(fields[key], value):
                raise ValueError(f"{key!r} twice, as {value!r} and {fields[key]!r}")
        return fields

    def integer(digits: str) -> int:
        if len(digits) > 300:  # a float ends at 308
            raise ValueError(f"{digits[:9]}... has {len(digits)} digits")
        return int(digits)

    try:
        text = file.read_text("utf-8-sig")
        fields = json.loads(text, object_pairs_hook=unique, parse_int=integer)
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(
            f"{file}: not JSON ({error}); correct it, or export it again"
        ) from error
    if not isinstance(fields, dict):
        raise ValueError(f"{file}: expected a JSON object, found {fields!r}")
    return fields


def _equal(one: Any, other: Any) -> bool:
    return one is other or one == other


def _check_rivals(
    image: Path, one: Path, other: Path, read: Mapping[Path, Mapping[str, Any]]
) -> None:
    for key in read[one].keys() & read[other].keys():
        if not _equal(read[one][key], read[other][key]):
            raise ValueError(
                f"{image}: {one.name} and {other.name} both apply and differ in {key}: "
                f"{read[one][key]!r} and {read[other][key]!r}; expected one of them to "
                "be more specific, or equal values"
            )
