"""COCO JSON: images, annotations and categories, whatever is made of them.

    {"images": [{"id": 1, "file_name": "a/1.png", "width": 640, "height": 480}],
     "annotations": [{"id": 7, "image_id": 1, "category_id": 3, ...}],
     "categories": [{"id": 3, "name": "nodule"}]}

`file_name` counts from the file's folder, the data's folder, or `images/` or the
part's folder in it. Groups are fields of an image, those of a patient, study
or lesion by their names, others by `data.group`. What else the file
says, licences among it, is let be.

Source: the format of the COCO data set, cocodataset.org, "Data format", and its
reference reader pycocotools.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.images import ImageFile
from medjax.data.json_files import read_json
from medjax.data.lists import cells
from medjax.data.lists.groups import SPLITS, group_columns
from medjax.data.lists.reading import Bad, Reading
from medjax.data.lists.recognise import own_files

_EXPECTED = 'a COCO object {"images": [...], "annotations": [...], "categories": [...]}'
_LISTS = ("images", "annotations", "categories")


ReadBox = Callable[
    [Mapping[str, Any], Mapping[str, Any]], tuple[float, float, float, float] | str
]
"""Of an annotation and its image the box, or what is wrong with it."""


class Part(NamedTuple):
    """One JSON file, and the official part that its name or folder says."""

    path: Path
    split: str | None
    name: str  # as errors call it, other than those of the other files


class Mark(NamedTuple):
    """An annotation of an image."""

    origin: str  # "instances.json, annotation 7"
    category: str
    box: tuple[float, float, float, float] | None  # None where none is asked for


class MarkedImage(NamedTuple):
    """An image and all of its annotations."""

    origin: str  # "instances.json, image 1"
    image: ImageFile
    marks: tuple[Mark, ...]
    groups: Mapping[str, str]
    split: str | None
    size: tuple[int, int] | None  # (height, width) that the file declares


class CocoFile(NamedTuple):
    """One JSON file, its lists and its categories."""

    part: Part
    lists: Mapping[str, Sequence[Mapping[str, Any]]]
    categories: Mapping[int | str, str]  # names by id


def find_coco(path: Path) -> list[Part]:
    """The COCO files of a path: one, or one for each official part.

    One JSON file in the folder or in `annotations/` has no parts. Several must each say
    theirs, as `instances_train2017.json`, or `train/_annotations.coco.json` beside
    `valid/` and `test/`.

    Args:
        path: A .json file, or a folder.

    Raises:
        ValueError: There are several files whose names do not say three parts.
    """
    if path.is_file():
        return [Part(path, None, path.name)] if path.suffix.lower() == ".json" else []
    files = [
        file
        for folder in (path, path / "annotations", *(path / name for name in SPLITS))
        if folder.is_dir()
        for file in own_files(folder, ".json")
        if _looks_like(file)
    ]
    if len(files) < 2:
        return [Part(file, None, file.name) for file in files]
    # Of files called the same, train/_annotations.coco.json, the folder tells which.
    same = len({file.name for file in files}) < len(files)
    parts = [
        Part(
            file,
            _part_of(file, path),
            file.relative_to(path).as_posix() if same else file.name,
        )
        for file in files
    ]
    splits = [part.split for part in parts]
    if None in splits or len(set(splits)) != len(splits):
        names = ", ".join(file.relative_to(path).as_posix() for file in files)
        raise ValueError(
            f"{path.name}: several COCO files, {names}; expected one, or one for each "
            "of train, val and test, as their names say. Name the file itself"
        )
    return parts


def open_coco(path: Path) -> list[CocoFile]:
    """The files of a path with what they hold.

    Args:
        path: A file or a folder, see `find_coco`.

    Raises:
        ValueError: A file is no COCO, or ids or names of categories are not unique.
    """
    parts = find_coco(path)
    if not parts:
        raise ValueError(
            f"{path.name}: no COCO file; expected {_EXPECTED} in a .json file"
        )
    files = [(part, _read_lists(part)) for part in parts]
    return [CocoFile(p, lists, _categories(p.name, lists)) for p, lists in files]


def marked_images(
    file: CocoFile, root: Path, reading: Reading, read_box: ReadBox | None
) -> Iterator[MarkedImage | Bad]:
    """Each image with its annotations; those that are wrong first.

    An image of which an annotation is wrong is not among them, nor is one without any
    that a wrong annotation could belong to.

    Args:
        file: From `open_coco`.
        root: The data's folder.
        reading: Its `group` names fields of an image.
        read_box: What reads an annotation's box; None where boxes are let be.

    Raises:
        ValueError: An id is not unique, or two images are one file.
    """
    part, lists, categories = file
    images = _by_id(part.name, lists["images"], "image")
    found: dict[int | str, list[Mark]] = {key: [] for key in images}
    spoilt: set[int | str] = set()  # images that may have an annotation which is wrong
    partial: set[int | str] = set()  # and those that have
    for key, entry in _by_id(part.name, lists["annotations"], "annotation").items():
        origin = f"{part.name}, annotation {key}"
        image, category = entry.get("image_id"), entry.get("category_id")
        for name, value, known in (
            ("image_id", image, images),
            ("category_id", category, categories),
        ):
            if isinstance(value, bool | float | list | dict) or value not in known:
                spoilt.update([image] if name == "category_id" else images)
                partial.update([image] if name == "category_id" else ())
                yield Bad(
                    origin,
                    f"{origin}: {name} {value!r} is no id of the file; correct it or "
                    "take the annotation out",
                )
                break
        else:
            box = read_box(entry, images[image]) if read_box else None
            if isinstance(box, str):
                spoilt.add(image)
                partial.add(image)
                yield Bad(origin, f"{origin}: {box}")
            else:
                found[image].append(Mark(origin, categories[category], box))
    fields = list(dict.fromkeys(name for entry in images.values() for name in entry))
    columns = group_columns(fields, reading, part.name) if images else []
    entries: dict[Path, int | str] = {}  # by file, the first id
    for key, entry in images.items():
        origin = f"{part.name}, image {key}"
        made = _image(entry, found[key], part, root, columns, origin)
        if isinstance(made, MarkedImage):
            first = entries.setdefault(made.image.path.resolve(), key)
            if first != key:
                raise ValueError(
                    f"{origin}: {made.image.path.name} is also image {first}; expected "
                    "each file once, since the annotations of one id alone are not all "
                    "of its. Join the two entries"
                )
        if isinstance(made, MarkedImage) and key in partial:
            for one in found[key]:  # some boxes of a picture are not its answer
                told = f"{one.origin}: left out with a wrong one of {origin}"
                yield Bad(one.origin, told)
        elif isinstance(made, Bad) or found[key] or key not in spoilt:
            yield made  # never "nothing found" where an annotation is wrong


def _looks_like(file: Path) -> bool:
    """Whether the file's beginning or end names a list of COCO's; it may be large."""
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - (1 << 16)))
        text = head + stream.read()
    return text.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") and any(
        f'"{name}"'.encode() in text for name in _LISTS
    )


def _part_of(file: Path, root: Path) -> str | None:
    """What the file's own name, or else its folder's, says."""
    words = file.stem.lower().replace("-", "_").split("_")
    named = {SPLITS[word.rstrip("0123456789")] for word in words if _is_part(word)}
    if not named and file.parent != root:
        named = {SPLITS[file.parent.name]} if file.parent.name in SPLITS else set()
    return named.pop() if len(named) == 1 else None


def _is_part(word: str) -> bool:
    return word.rstrip("0123456789") in SPLITS


def _read_lists(part: Part) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    content = read_json(part.path, expected=_EXPECTED)
    if not isinstance(content, dict):
        raise ValueError(
            f"{part.name}: found {type(content).__name__}; expected {_EXPECTED}"
        )
    for name in _LISTS:
        entries = content.get(name)
        if not isinstance(entries, list) or not all(
            isinstance(e, dict) for e in entries
        ):
            raise ValueError(
                f"{part.name}: {name!r} is missing or no list of objects; expected "
                f"{_EXPECTED}"
            )
    if not content["images"]:
        raise ValueError(f"{part.name}: 'images' is empty; expected at least one")
    return {name: content[name] for name in _LISTS}


def _by_id(
    file: str, entries: Sequence[Mapping[str, Any]], what: str
) -> dict[int | str, Mapping[str, Any]]:
    """Entries by id; each has one, and none has another's."""
    found: dict[int | str, Mapping[str, Any]] = {}
    for number, entry in enumerate(entries):
        name = entry.get("id")
        if isinstance(name, bool) or not isinstance(name, int | str) or name == "":
            raise ValueError(
                f"{file}, {what} {number} (from 0): id {name!r}; expected a whole "
                "number"
            )
        if name in found:
            raise ValueError(
                f"{file}: two {what}s have the id {name!r}; expected each id once"
            )
        found[name] = entry
    return found


def _categories(
    file: str, lists: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[int | str, str]:
    names: dict[int | str, str] = {}
    for key, entry in _by_id(file, lists["categories"], "category").items():
        name = cells.name(entry.get("name"), f"{file}, category {key}", "name")
        if name in names.values():
            raise ValueError(
                f"{file}: two categories are called {name!r}; expected each name once"
            )
        names[key] = name
    return names


def _image(
    entry: Mapping[str, Any],
    found: Sequence[Mark],
    part: Part,
    root: Path,
    columns: Sequence[str],
    origin: str,
) -> MarkedImage | Bad:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name.strip():
        return Bad(
            origin, f"{origin}: file_name {name!r}; expected the path of an image"
        )
    width, height = entry.get("width"), entry.get("height")
    sides = (width, height)
    if sides == (None, None):
        size = None
    elif any(isinstance(x, bool) or not isinstance(x, int) or x < 1 for x in sides):
        return Bad(
            origin,
            f"{origin}: width {width!r}, height {height!r}; expected whole numbers "
            "above 0",
        )
    else:
        size = (int(height), int(width))
    groups: dict[str, str] = {}
    for group in columns:
        value = entry.get(group)
        whole = isinstance(value, int) and not isinstance(value, bool)
        try:
            name_of_group = str(value) if whole else value
            groups[group] = cells.group_name(name_of_group, origin, group)
        except ValueError as error:
            return Bad(origin, str(error))
    place = _locate(name, part, root)
    if isinstance(place, str):
        return Bad(origin, f"{origin}: {place}")
    return MarkedImage(
        origin=origin,
        image=ImageFile(place),
        marks=tuple(found),
        groups=groups,
        split=part.split,
        size=size,
    )


def _locate(name: str, part: Part, root: Path) -> Path | str:
    """Where an image lies; or what is wrong."""
    words = part.path.stem.split("_")[-1]
    folders = [part.path.parent, root, root / "images", part.path.parent / "images"]
    for folder in dict.fromkeys((words, part.split or words)):
        folders += [root / folder, root / "images" / folder]
    found = {
        (folder / name).resolve(): folder / name
        for folder in reversed(folders)
        if (folder / name).is_file()
    }
    if len(found) > 1:
        return f"file_name {name!r} is there {len(found)} times: " + ", ".join(
            str(place.relative_to(root)) for place in found.values()
        )
    if not found:
        looked = dict.fromkeys(str(folder.relative_to(root)) for folder in folders)
        return (
            f"file_name {name!r}: no such image; looked in the data's folder at "
            f"{', '.join(looked)}"
        )
    return next(iter(found.values()))
