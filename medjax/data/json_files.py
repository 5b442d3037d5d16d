"""JSON: a file read whole, or a text, or refused with what is wrong and where."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path, *, expected: str) -> Any:  # noqa: ANN401
    """The content of a JSON file in UTF-8, no key given twice in an object.

    A byte order mark, as some editors put in front, is let pass.

    Args:
        path: A file of any name.
        expected: What an error says that the file should hold; nothing is checked
            against it here.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The content is no such JSON; the message names the file.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not text in UTF-8 ({error}); expected {expected}: save it as "
            "UTF-8"
        ) from error
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; expected {expected}")
    return parse_json(text, str(path), expected=expected, finite=False)


def parse_json(text: str, origin: str, *, expected: str, finite: bool) -> Any:  # noqa: ANN401
    """The value of a JSON text, no key given twice in an object.

    Args:
        text: Of one value.
        origin: What an error calls the text.
        expected: What an error says that the text should hold; nothing is checked
            against it here.
        finite: Whether NaN and Infinity, which Python reads and JSON does not have, are
            refused.

    Raises:
        ValueError: It is no such JSON; the message begins with the origin.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for n, key in enumerate(keys) if key in keys[:n])
            raise ValueError(
                f"{origin}: key {twice!r} is there twice; expected {expected}, each "
                "key once: take one out"
            )
        return fields

    def constant(word: str) -> float:
        if finite:
            raise ValueError(f"{origin}: {word} is not JSON; expected a finite number")
        return float(word)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except RecursionError as error:
        raise ValueError(f"{origin}: nested too deeply; expected {expected}") from error
    except ValueError as error:
        if str(error).startswith(f"{origin}: "):
            raise
        raise ValueError(
            f"{origin}: not JSON ({error}); expected {expected}"
        ) from error
