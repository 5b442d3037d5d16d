"""The network of a checkpoint, made as the run that trained it says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.json_files import read_json
from medjax.recipes.qmri.options import SCHEDULING, Definition, read_definition
from medjax.recipes.qmri.setup import make_estimator
from medjax.recipes.sections import plain
from medjax.systems.puq.network import Estimator

# A scan is held against the times; scheduling is the config's own.
FREE = ("data.times", *(f"network.{name}" for name in SCHEDULING))
STARTS = (
    "a list of the run's starts, each with its stage and config: copy the file again "
    "from where the network was trained, or train it again"
)


class Trained(NamedTuple):
    """A trained network on disk."""

    folder: Path  # of its checkpoints
    stage: str  # the last that was trained
    contrast: str
    estimator: Estimator


def find_trained(
    checkpoint: str, config: Definition, usual: Definition, *, fit: str
) -> tuple[Trained, list[str]]:
    """A checkpoint's network by its manifest, and where that is not what `config` has.

    What `config` has because nobody asked for anything else gives way; what somebody
    asked for is refused where the network is another. The bounds of a fit to its images
    may be chosen, but those of PUQ's regressor are the trained ones.

    Args:
        checkpoint: The folder of a run, or of one of its stages.
        config: The network that this run's config describes.
        usual: What it would say if nobody had asked for anything: the contrast without
            any argument, and the rest as it is for `config`'s.
        fit: How the network's images are fitted, see `network_fit`.

    Returns:
        The network, and a text for each value of `config` that gave way.

    Raises:
        FileNotFoundError: There are no checkpoints, or no manifest beside them.
        ValueError: A value was asked for that is not the network's; or the manifest
            does not tell what the network is: it is of another run or version, or
            damaged.
    """
    folder = _checkpoints(checkpoint)
    stage, definition = _last_start(folder.parent / "manifest.json", config)
    mine, plain = _values(config), _values(usual)
    if fit != "puq" and mine["fit.bounds"] != plain["fit.bounds"]:
        chosen = definition.fit._replace(bounds=config.fit.bounds)
        definition = definition._replace(fit=chosen)
    theirs = _values(definition)
    other = [name for name in sorted(mine) if mine[name] != theirs[name]]
    asked = [name for name in other if mine[name] != plain[name]]
    if asked:
        listed = [f"{n} {mine[n]!r} (trained: {theirs[n]!r})" for n in asked]
        raise ValueError(
            f"{folder.parent}: the config asks for {', '.join(listed)}. Leave that "
            "out, and what the network was trained with is used; or name the "
            "checkpoint of another run"
        )
    contrast, estimator = definition.data.contrast, make_estimator(definition)
    trained = Trained(folder, stage, contrast, estimator)
    return trained, [f"{n} {theirs[n]!r}, not {mine[n]!r}" for n in other]


def _checkpoints(checkpoint: str) -> Path:
    """Of a run's last stage, or of the stage named."""
    folder = Path(checkpoint)
    folders = [folder / "checkpoints", folder / "fit" / "checkpoints"]
    for path in filter(Path.is_dir, folders):
        return path
    raise FileNotFoundError(
        f"{checkpoint}: no checkpoints; expected the folder of a run, with fit/ in it"
    )


def _last_start(manifest: Path, config: Definition) -> tuple[str, Definition]:
    """Stage and network of the start that trained: all starts must agree on it."""
    if not manifest.is_file():
        raise FileNotFoundError(
            f"{manifest}: no such file, but it says what the network is made of; copy "
            "it along with the checkpoints"
        )
    starts = read_json(manifest, expected=STARTS)
    if not isinstance(starts, list) or not starts or not all(map(_is_start, starts)):
        raise ValueError(
            f"{manifest}: of another version of medjax, or damaged: found "
            f"{str(starts)[:60]!r}, expected {STARTS}"
        )
    *others, last = [_defined(manifest, start, config) for start in starts]
    new = _values(last)
    for old in map(_values, others):
        differing = [name for name in sorted(new) if new[name] != old[name]]
        if differing:  # one may have been killed before its first checkpoint
            n = differing[0]
            raise ValueError(
                f"{manifest}: {n} is {old[n]!r} at one start of the run and {new[n]!r} "
                "at another, and which of them trained is not on record; take the "
                "others out of the file"
            )
    return starts[-1]["stage"], last


def _is_start(record: object) -> bool:
    if not isinstance(record, Mapping):
        return False
    stage, config = record.get("stage"), record.get("config")
    return isinstance(stage, str) and isinstance(config, Mapping)


def _defined(manifest: Path, start: Mapping[str, Any], mine: Definition) -> Definition:
    """What a start's config says of the network, scheduled as `mine` is."""
    config = start["config"]
    if not all(isinstance(config.get(x), Mapping) for x in Definition._fields):
        raise ValueError(
            f"{manifest}: of a run of {config.get('system')!r}; expected one of 'puq' "
            f"and its config with {', '.join(Definition._fields)}"
        )
    scheduling = {name: getattr(mine.network, name) for name in SCHEDULING}
    network = {**config["network"], **scheduling}
    try:
        return read_definition({**config, "network": network})
    except ValueError as error:
        versions, commit = start.get("versions"), start.get("git")
        version = versions.get("medjax") if isinstance(versions, Mapping) else None
        raise ValueError(
            f"{manifest}: of another version of medjax ({version or 'unknown'}, commit "
            f"{commit or 'unknown'}), or damaged: {error}. Train it again, or predict "
            "with the version that trained it"
        ) from error


def _values(definition: Definition) -> dict[str, Any]:
    """What must agree, by dotted names, as JSON has it."""
    values = dict(_dotted(plain(definition), ""))
    return json.loads(json.dumps({k: values[k] for k in values if k not in FREE}))


def _dotted(options: Mapping[str, Any], above: str) -> list[tuple[str, Any]]:
    dotted = []
    for name, value in options.items():
        inside = isinstance(value, Mapping)
        full = f"{above}{name}"
        dotted += _dotted(value, f"{full}.") if inside else [(full, value)]
    return dotted
