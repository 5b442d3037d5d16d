"""From what was found in an image to the questions about it.

Lists of boxes have no questions: a template asks for each class that was found, for all
its boxes together. An image in which nothing was found is asked about as well, or a
policy would learn that there is always something.
"""

import hashlib
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medjax.data.boxes.entries import BoxEntry
from medjax.data.images import ImageFile
from medjax.data.lists.images import PLANES
from medjax.data.lists.masks import PIECES

ANYTHING = "finding"  # what is asked for where a template names no class
NEGATIVES = ("one", "all", "off")
QUERY = "Find the {label}."


class Asking(NamedTuple):
    """What is asked about a list; the names are those of a config's section `data`."""

    structures: str | Sequence[str] = "all"  # or the classes that are asked for
    query: str = ""  # a template with {label}; "": QUERY
    negatives: str = ""  # of NEGATIVES, see `ask`; "": what suits the format
    mask: str = "whole"  # a box for all of a label, or one for each of "components"
    min_area: int = 1  # pixels that a region of a mask has at least
    names: str = ""  # of the values of masks, see `read_names`
    plane: str = "axial"  # of the slices of volumes with masks
    longest: int = 2000  # characters that a question has at most


ASKING = Asking()


class Found(NamedTuple):
    """A box, or None where a reader says that there is none of the class."""

    origin: str
    label: str
    box: tuple[float, float, float, float] | None
    reader: str | None = None


class Seen(NamedTuple):
    """An image, and everything that was found in it, in the list's order."""

    origin: str
    image: ImageFile
    found: tuple[Found, ...]
    frame: str = "original"
    groups: Mapping[str, str] = {}
    split: str | None = None
    readers: tuple[str, ...] = ()  # everyone who looked at it, also in vain
    size: tuple[int, int] | None = None  # (height, width) that the list declares
    columns: Mapping[str, Any] = {}
    hidden: tuple[str, ...] = ()  # classes that are there, too small to be asked for


def check_asking(asking: Asking) -> Asking:
    """The options as they are, `query` written out, each of a value that it may have.

    Args:
        asking: Of a config. A `query` without a field asks for every class at once.

    Raises:
        ValueError: A template with another field than `{label}`, or an unknown word.
    """
    query = asking.query or QUERY
    _check_template(query)
    for option, value, known in (
        ("negatives", asking.negatives, ("", *NEGATIVES)),
        ("mask", asking.mask, PIECES),
        ("plane", asking.plane, PLANES),
    ):
        if value not in known:
            raise ValueError(f"data.{option}={value!r}: expected one of {known}")
    if asking.min_area < 1:
        raise ValueError(f"data.min_area={asking.min_area}: expected 1 pixel or more")
    if asking.longest < 1:
        raise ValueError(f"data.longest={asking.longest}: expected 1 character or more")
    return asking._replace(query=query)


def _check_template(query: str) -> None:
    try:
        fields = [tuple(field) for _, *field in string.Formatter().parse(query)]
    except ValueError as error:
        raise ValueError(
            f"data.query={query!r}: {error}; expected {{label}}"
        ) from error
    unknown = {field for field in fields if field[0] is not None}
    unknown -= {("label", "", None)}
    if unknown or not query.strip():
        raise ValueError(
            f"data.query={query!r}: expected a question with {{label}} in it, such as "
            "'Find the {label}.', or without any field to ask for all classes at once"
        )


def choose_classes(
    classes: Sequence[str], structures: str | Sequence[str], origin: str
) -> tuple[str, ...]:
    """The classes that are asked for, in the list's order.

    Args:
        classes: All that the list knows, each once.
        structures: "all", or names among them.
        origin: What an error calls the list.

    Raises:
        ValueError: A name is none of them, or stands there twice.
    """
    if structures == "all" or not structures:
        return tuple(classes)
    wanted = (structures,) if isinstance(structures, str) else tuple(structures)
    unknown = [name for name in wanted if name not in classes]
    if unknown or len(set(wanted)) != len(wanted):
        raise ValueError(
            f"data.structures: {', '.join(unknown or wanted)} of {origin}; expected "
            f"some of its classes, each once: {', '.join(classes)}"
        )
    return tuple(name for name in classes if name in wanted)


def ask(
    seen: Iterable[Seen], classes: Sequence[str], asking: Asking
) -> Iterator[BoxEntry]:
    """An entry for each box, in the list's order, and one where a class is absent.

    Entries of one image and question are joined later, and readers compared. So that
    this can be done, every reader who looked at an image has an entry for every class
    that anyone found in it.

    Args:
        seen: The images; what was found of other classes is left out.
        classes: Those that are asked for, from `choose_classes`.
        asking: From `check_asking`. `negatives` says what an image is asked about
            that is not there: "one" (or "") asks an image in which nothing was found
            about one class, which follows from its name; "all" asks every image about
            every class, which is right where the list is complete; "off" asks for
            nothing but what the list names. Of what is `hidden` nobody says that it is
            absent.
    """
    together = "{label}" not in asking.query
    for image in seen:
        found = [one for one in image.found if one.label in classes]
        absent = [name for name in classes if name not in image.hidden]
        if together:
            absent = [ANYTHING] if len(absent) == len(classes) else []
            found = [one._replace(label=ANYTHING) for one in found]
        for one in found:
            boxes = () if one.box is None else (one.box,)
            yield _entry(image, one.origin, one.label, boxes, one.reader, asking)
        for label in _absent(image, found, absent, asking):
            for reader in image.readers or (None,):
                if (label, reader) not in {(one.label, one.reader) for one in found}:
                    yield _entry(image, image.origin, label, (), reader, asking)


def _absent(
    image: Seen, found: Sequence[Found], classes: Sequence[str], asking: Asking
) -> list[str]:
    """The classes that some reader, or nobody, found, and that are asked about."""
    present = dict.fromkeys(one.label for one in found)
    if asking.negatives == "all":
        return [*present, *(name for name in classes if name not in present)]
    if present or asking.negatives == "off" or not classes:
        return list(present)
    digest = hashlib.sha256(image.image.path.name.encode()).digest()
    return [classes[int.from_bytes(digest[:8], "big") % len(classes)]]


def _entry(
    image: Seen,
    origin: str,
    label: str,
    boxes: tuple[tuple[float, float, float, float], ...],
    reader: str | None,
    asking: Asking,
) -> BoxEntry:
    name = label.replace("_", " ")
    return BoxEntry(
        origin=origin,
        images=(image.image,),
        query=asking.query.format(label=name),
        boxes=boxes,
        frame=image.frame,
        label=name,
        groups=image.groups,
        split=image.split,
        reader=reader,
        size=image.size,
        columns=image.columns,
    )
