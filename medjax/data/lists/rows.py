"""From a list's lines to its rows: what boxes and classes share of checking them."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from medjax.data.audit.records import LookFn, Pictures
from medjax.data.images import ImageFile
from medjax.data.lists.pixels import PictureState, see_pictures
from medjax.data.lists.readers import Agreement, choose_readers
from medjax.data.lists.reading import (
    Bad,
    Reading,
    SpoiltList,
    refuse,
    spoilt_lines,
)
from medjax.data.lists.spellings import Named, spelling_faults


class AnyEntry(Protocol):
    """A line as it was read."""

    @property
    def origin(self) -> str:
        """What an error calls it."""
        ...


class AnyRow(AnyEntry, Protocol):
    """A line that was checked."""

    @property
    def groups(self) -> Mapping[str, str]:
        """Whose it is, by column."""
        ...

    @property
    def columns(self) -> Mapping[str, Any]:
        """What rewards in Python are given."""
        ...


Entry = TypeVar("Entry", bound=AnyEntry)
Row = TypeVar("Row", bound=AnyRow)


class Line(NamedTuple, Generic[Row]):
    """A line whose own cells are right."""

    row: Row
    reader: str | None


class Rows(NamedTuple, Generic[Row]):
    """The rows of a source, and what is said of it."""

    rows: tuple[Row, ...]
    dropped: tuple[Bad, ...]  # lines that were left out
    pictures: Pictures | None = None  # where they were decoded
    agreement: Agreement | None = None  # of several readers


class Kind(NamedTuple, Generic[Entry, Row]):
    """What checking lines has to know of boxes, or of classes."""

    images: Callable[[Entry], Sequence[ImageFile]]
    # The line with its pictures looked up; a fault of it is a ValueError or OSError.
    check: Callable[[Entry, Mapping[ImageFile, PictureState]], Line[Row]]
    # What a wrong line spoils, and what is spoilt by other lines: the first of these,
    # and any of these.
    keys: Callable[[Entry | Row], Sequence[Hashable]]
    labels: Callable[[Row], Sequence[str]]  # names that must have one spelling
    # Lines that were checked, and their readers: rows, and how far readers agree.
    join: Callable[
        [Sequence[Line[Row]], Sequence[str], list[Bad]],
        tuple[list[Row], Agreement | None],
    ]
    same: Callable[[Row], Hashable]  # equal for pixels that must have one answer
    answer: Callable[[Row], object]
    differ: Callable[[Row, Row], str]  # (first, other): the fault of the other


def checked_rows(
    entries: Iterable[Entry | Bad],
    reading: Reading,
    decode: LookFn | None,
    kind: Kind[Entry, Row],
) -> Rows[Row]:
    """The rows of a source: every line right by itself and beside the others.

    Args:
        entries: Of one source, in its order.
        reading: Its `on_bad` says what a wrong line does: "stop" raises, "drop" leaves
            it out, and with it the lines that say a part of the same alone.
        decode: Decodes all pictures, so that none fails later; None reads their sizes.
        kind: How lines of boxes, or of classes, are checked and joined.

    Raises:
        FileNotFoundError: A picture is missing.
        ValueError: Anything else is wrong with a line or its picture, no line is left,
            or several readers are there and none is chosen.
    """
    dropped: list[Bad] = []
    wrong: list[Bad] = []
    right: list[Entry] = []
    for entry in entries:
        if isinstance(entry, Bad):
            refuse(ValueError(entry.message), [entry.origin], reading, dropped)
            wrong.append(entry)
        else:
            right.append(entry)
    seen, pictures = see_pictures(((e.origin, kind.images(e)) for e in right), decode)
    lines: list[Line[Row]] = []
    for entry in right:
        try:
            lines.append(kind.check(entry, seen))
        except (ValueError, OSError) as error:
            refuse(error, [entry.origin], reading, dropped)
            wrong.append(Bad(entry.origin, str(error), kind.keys(entry)[0]))
    spoilt = spoilt_lines(((r.origin, kind.keys(r)) for r, _ in lines), wrong)
    dropped.extend({bad.origin: bad for bad in spoilt}.values())
    lines = _without(spoilt, lines)
    names = (
        Named(row.origin, column, value)
        for row, _ in lines
        for column, value in (
            *(("label", label) for label in kind.labels(row)),
            *row.groups.items(),
        )
    )
    misspelt = spelling_faults(names)
    for bad in {bad.origin: bad for bad in misspelt}.values():
        refuse(ValueError(bad.message), [bad.origin], reading, dropped)
    lines = _without(misspelt, lines)
    readers = choose_readers([line.reader for line in lines], reading)
    rows, agreement = kind.join(lines, readers, dropped)
    rows = _without_contradictions(rows, reading, dropped, kind)
    if not rows:
        reason = f"; the first was left out: {dropped[0].message}" if dropped else ""
        raise SpoiltList(
            f"no lines{reason}; expected at least one that can be used", dropped
        )
    return Rows(tuple(rows), tuple(dropped), pictures, agreement)


def column_lists(lines: Sequence[Line[Row]]) -> dict[str, list[Any]]:
    """Columns of lines that are one row: lists with an entry a line, None for a gap.

    Args:
        lines: In the row's order.
    """
    columns = dict.fromkeys(key for row, _ in lines for key in row.columns)
    return {key: [row.columns.get(key) for row, _ in lines] for key in columns}


def _without(bad: Iterable[Bad], lines: Sequence[Line[Row]]) -> list[Line[Row]]:
    origins = {one.origin for one in bad}
    return [line for line in lines if line.row.origin not in origins]


def _without_contradictions(
    rows: Sequence[Row], reading: Reading, dropped: list[Bad], kind: Kind[Entry, Row]
) -> list[Row]:
    """The rows but those whose pictures, under other names, have other answers."""
    same: dict[Hashable, list[Row]] = {}
    for row in rows:
        same.setdefault(kind.same(row), []).append(row)
    wrong: set[Hashable] = set()
    for key, copies in same.items():
        first, answer = copies[0], kind.answer(copies[0])
        other = next((row for row in copies if kind.answer(row) != answer), None)
        if other is not None:
            error = ValueError(kind.differ(first, other))
            refuse(error, [row.origin for row in copies], reading, dropped)
            wrong.add(key)
    return [row for row in rows if kind.same(row) not in wrong]
