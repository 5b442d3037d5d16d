"""Which names are public, and on which page the entry of each belongs."""

import fnmatch
import importlib
import pathlib
import re
from collections.abc import Sequence

# What the pages document, in the order in which a name is given to one of them.
MODULES = (
    "medjax.rl",
    "medjax.mri",
    "medjax.models.qwen25vl",
    "medjax.types",
    "medjax.sharding",
    "medjax.runtime.loop",
    "medjax.runtime.stages",
    "medjax",
)
REQUEST = re.compile(r"^```\{api\} (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def requests(pages: pathlib.Path) -> dict[str, list[str]]:
    """The names or patterns that the pages of a folder ask for, by module."""
    patterns: dict[str, list[str]] = {}
    for page in sorted(pages.glob("*.md")):
        for module, body in REQUEST.findall(page.read_text()):
            patterns.setdefault(module, []).extend(body.split())
    return patterns


def public_names(module_name: str) -> list[str]:
    """`__all__`, or where there is none the functions and classes a module defines."""
    module = importlib.import_module(module_name)
    own = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module_name and name[0] != "_"
    ]
    return [n for n in getattr(module, "__all__", own) if n != "__version__"]


def home(name: str, module_name: str) -> str:
    """The first of `MODULES` in which the name stands for the very same object."""
    value = getattr(importlib.import_module(module_name), name)
    return next(
        other
        for other in MODULES
        if name in public_names(other)
        and getattr(importlib.import_module(other), name) is value
    )


def matching(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names in the order of the patterns that ask for them, each once.

    Raises:
        ValueError: a pattern that asks for none.
    """
    chosen: list[str] = []
    for pattern in patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            raise ValueError(f"{pattern!r} is none of {', '.join(names)}")
        chosen += [name for name in matches if name not in chosen]
    return chosen
