"""JSON files: read whole, or refused with what is wrong and where."""

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

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = next((key for n, key in enumerate(keys) if key in keys[:n]), None)
        if twice is not None:
            raise ValueError(
                f"{path}: key {twice!r} is there twice; expected {expected}, each key "
                "once: take one out"
            )
        return dict(pairs)

    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not text in UTF-8 ({error}); expected {expected}: save it as "
            "UTF-8"
        ) from error
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; expected {expected}")
    try:
        return json.loads(text, object_pairs_hook=unique)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}); expected {expected}") from error
    except ValueError as error:  # of a key given twice, or a number of 5,000 digits
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: not JSON ({error}); expected {expected}") from error
