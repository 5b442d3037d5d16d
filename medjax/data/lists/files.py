"""Files that list pictures: found, decoded, and cut into lines, each with its name."""

import codecs
import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.lists.reading import Bad

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


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
    reader = csv.reader(io.StringIO(decode_list(path), newline=""), strict=True)
    header = next(_cells(path, reader), None)
    if header is None:
        raise ValueError(f"{path}: the file is empty; expected a line of columns")
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
    return Table(tuple(names), _table_lines(path, reader, tuple(names)))


def _table_lines(
    path: Path, reader: Any, header: tuple[str, ...]
) -> Iterator[Line | Bad]:
    empty = True
    for cells in _cells(path, reader):
        empty = False
        origin = f"{path.name}, line {reader.line_num}"
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


def _cells(path: Path, reader: Any) -> Iterator[list[str]]:
    """Lines that are not blank; the file's own errors get its name and line."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{path.name}, line {reader.line_num}: not CSV ({error})"
            ) from error
        if cells:
            yield cells


def _object(line: str, origin: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = next((key for n, key in enumerate(keys) if key in keys[:n]), None)
        if twice is not None:
            raise ValueError(
                f"{origin}: key {twice!r} is there twice; expected each key once"
            )
        return dict(pairs)

    def constant(word: str) -> Any:
        raise ValueError(f"{origin}: {word} is not JSON; expected a finite number")

    try:
        entry = json.loads(line, object_pairs_hook=once, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{origin}: not JSON ({error}); expected one object a line, such as "
            '{"image": "a.png", "query": "Find ...", "box": [x1, y1, x2, y2], '
            '"frame": "original"}'
        ) from error
    except RecursionError as error:
        raise ValueError(f"{origin}: nested too deeply; expected one object") from error
    except ValueError as error:
        if str(error).startswith(origin):
            raise
        raise ValueError(f"{origin}: not JSON ({error})") from error
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
