"""What a manifest may say of a run: of the paths of users' data their names alone."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

_SEPARATOR = re.compile(r"[/\\]")
_PATHS = ("source", "classes", "descriptions", "names")  # options that name files
_FIRST = ("localisation", "data")  # the section of data that comes first, if any
_CHECKED = {
    "on": "the data passed the check before training, or is built in",
    "off": "data.check=off: the data was not checked before training",
}


def hide_paths(facts: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
    """The facts of a manifest; a path of a user's data becomes its last name.

    The paths are those in the sections `data` and `localisation.data` of the config,
    and the workdir. They are hidden wherever they stand, in the command too. With
    `data.identify` nothing is. The digest of the data stays in the checkpoints.

    Args:
        facts: With a run's `config`, or without one; as JSON can hold them.
        workdir: The folder that the manifest is in or under.

    Returns:
        The facts, and where the config has `data.check` what came of it.
    """
    config = facts.get("config") or {}
    data, first = (_section(config, *names) for names in (("data",), _FIRST))
    found = dict(facts)
    checks = [section["check"] for section in (data, first) if "check" in section]
    if checks:
        found["check"] = _CHECKED["off" if "off" in checks else "on"]
    if data.get("identify", False):
        return found
    values = [section.get(name) for section in (data, first) for name in _PATHS]
    paths = {x for x in values if isinstance(x, str) and _SEPARATOR.search(x)}
    whole = pathlib.Path(workdir)
    paths |= {str(path) for path in (whole, whole.parent) if len(path.parts) > 1}
    order = sorted(paths, key=len, reverse=True)

    def hide(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: hide(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [hide(item) for item in value]
        if isinstance(value, str):
            for path in order:
                value = value.replace(path, pathlib.Path(path).name)
        return value

    return hide(found)


def _section(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        config = config.get(name) or {}
    return config if isinstance(config, Mapping) else {}
