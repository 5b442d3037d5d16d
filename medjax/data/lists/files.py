"""Files that list pictures: found, decoded, and cut into lines, each with its name."""

import codecs
import csv
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.json_files import parse_json
from medjax.data.lists.reading import Bad

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_EXPECTED = (
    'one object a line, such as {"image": "a.png", "query": "Find ...", "box": [x1, '
    'y1, x2, y2], "frame": "original"}'
)


class Line(NamedTuple):
    """What one line says by column; numbers and objects only where it is JSON."""

    origin: str  # "records.jsonl, line 3"
    cells: Mapping[str, Any]


class Table(NamedTuple):
    """A CSV file: its columns, and its lines, a wrong one being `Bad`."""

    header: tuple[str, ...]
    lines: Iterator[Line | Bad]


def find_list(path: str | os.PathLike[str], suffix: str) -> Path:
    """The file that lists the images: `path` itself, or the only one in that folder.

    Args:
        path: A file, which may have any name, or a folder.
        suffix: The ending that exactly one file of a folder must have, such as ".csv".

    Raises:
        FileNotFoundError: There is neither a file nor a folder.
        ValueError: The folder holds no such file, or several.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob(f"[!.]*{suffix}"))
        if len(files) != 1:
            raise ValueError(
                f"{path}: expected one {suffix} file in the folder, found {len(files)};"
                " name the file itself"
            )
        path = files[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected a {suffix} file or a folder with one"
        )
    return path


def decode_list(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    UTF-16 is read where its mark says so. Nothing else is guessed: a file in GBK read
    as Latin-1 has other names, and no error would show it.

    Args:
        path: A file of any name.

    Raises:
        ValueError: The bytes are no such text; the message names the first line that
            is not, and GBK where the file could be in it.
    """
    raw = path.read_bytes()
    try:
        return raw.decode("utf-16" if raw[:2] in _UTF16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        origin = f"{path.name}, line {line}"
        raise ValueError(_no_text(origin, error, raw)) from error


def json_lines(path: Path) -> Iterator[Line | Bad]:
    """The objects of a JSONL file, blank lines left out; a wrong line is `Bad`.

    Args:
        path: Text as `decode_list` reads it, one object a line, each key once, no NaN.
            Of a file in UTF-8 a line that is no text is `Bad` too.

    Raises:
        ValueError: A file in UTF-16 is no text, or there are no lines.
    """
    raw = path.read_bytes()
    whole = raw.removeprefix(codecs.BOM_UTF8)
    if raw[:2] in _UTF16:
        whole = decode_list(path).encode()
    if not whole.strip():
        raise ValueError(f"{path.name}: no lines; expected one JSON object a line")
    for number, line in enumerate(whole.split(b"\n"), 1):
        if line.strip():
            origin = f"{path.name}, line {number}"
            try:
                yield Line(origin, _object(line.decode(), origin))
            except UnicodeDecodeError as error:
                yield Bad(origin, _no_text(origin, error, raw))
            except ValueError as error:
                yield Bad(origin, str(error))


def csv_table(path: Path) -> Table:
    """The columns and lines of a CSV file with a header; cells are stripped.

    Args:
        path: Text as `decode_list` reads it, cells parted by commas. A blank line is
            left out, a line with more or fewer cells than the header is `Bad`.

    Raises:
        ValueError: The header is missing, or a column has no name or one that another
            has; while lines are read, that a quote is not closed or there is no line.
    """
    rows = csv_rows(path)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{path}: the file is empty; expected a line of columns")
    header = first[1]
    names = [name.strip() for name in header]
    if "" in names or names != header or len(set(names)) != len(names):
        raise ValueError(
            f"{path.name}, line 1: columns {header}; expected names, each once, "
            "without blanks"
        )
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise ValueError(
            f"{path.name}, line 1: one column, {names[0]!r}; expected cells parted by "
            "commas: save the file so"
        )
    return Table(tuple(names), _table_lines(path, rows, tuple(names)))


def csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """What an error calls each line of a CSV file that is not blank, and its cells.

    Args:
        path: Text as `decode_list` reads it, cells parted by commas; none is stripped.

    Raises:
        ValueError: The file is no such text, or a quote is not closed.
    """
    reader = csv.reader(io.StringIO(decode_list(path), newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield f"{path.name}, line {reader.line_num}", cells
    except csv.Error as error:
        raise ValueError(
            f"{path.name}, line {reader.line_num}: not CSV ({error})"
        ) from error


def _table_lines(
    path: Path, rows: Iterator[tuple[str, list[str]]], header: tuple[str, ...]
) -> Iterator[Line | Bad]:
    empty = True
    for origin, cells in rows:
        empty = False
        if len(cells) != len(header):
            more = "more" if len(cells) > len(header) else "fewer"
            yield Bad(
                origin,
                f"{origin}: {more} cells than the header has, {len(cells)}; expected "
                f"{len(header)}",
            )
        else:
            stripped = [cell.strip() for cell in cells]
            yield Line(origin, dict(zip(header, stripped, strict=True)))
    if empty:
        raise ValueError(f"{path.name}: no lines below the header; expected some")


def _object(line: str, origin: str) -> dict[str, Any]:
    entry = parse_json(line, origin, expected=_EXPECTED, finite=True)
    if not isinstance(entry, dict):
        raise ValueError(f"{origin}: expected a JSON object, found {entry!r}")
    return entry


def _no_text(origin: str, error: UnicodeDecodeError, raw: bytes) -> str:
    return (
        f"{origin}: not text in UTF-8 ({error.reason}){_guess(raw)}; expected UTF-8: "
        "save the file so, by an editor or by `iconv -f FROM -t UTF-8`"
    )


def _guess(raw: bytes) -> str:
    """A word about what the bytes could be instead."""
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    return ", perhaps GBK (as Excel saves in Chinese) or Latin-1"
