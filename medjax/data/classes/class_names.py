"""A user's file of class names."""

import os
from pathlib import Path

from medjax.data.json_files import read_json


def load_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names from JSON: a list, or an object of names by "0", "1", ... .

    Args:
        path: The JSON file, with two names or more.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected JSON of class names")
    shape = '["name", ...] or {"0": "name", ...}, two classes or more'
    content = read_json(path, expected=shape)
    if isinstance(content, dict):
        wanted = [str(n) for n in range(len(content))]
        if sorted(content) != sorted(wanted):
            raise ValueError(f"{path}: keys {list(content)}; expected {shape}, no gaps")
        content = [content[key] for key in wanted]
    texts = isinstance(content, list) and all(
        isinstance(name, str) and name.strip() for name in content
    )
    if not texts or len(content) < 2:
        raise ValueError(f"{path}: found {str(content)[:80]}; expected {shape}")
    return tuple(content)
