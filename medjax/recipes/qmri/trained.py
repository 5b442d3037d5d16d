"""The network of a checkpoint, made as the run that trained it says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medjax.data.json_files import read_json

# What a network is and how its images are read: these of a config's sections.
SECTIONS = ("data", "network", "fit")
DATA, FIT = ("contrast",), ("bounds", "normalisation", "width", "layers")
SCHEDULING = ("remat", "unroll")  # of a network; they bear on no number
STARTS = (
    "a list of the run's starts, each with its stage and config: copy the file again "
    "from where the network was trained, or train it again"
)
Sections = Mapping[str, Mapping[str, Any]]


class Trained(NamedTuple):
    """A network on disk, and the sections of a config that describe it."""

    folder: Path  # of its checkpoints
    stage: str
    data: Mapping[str, Any]
    network: Mapping[str, Any]
    fit: Mapping[str, Any]


def find_trained(
    checkpoint: str, config: Sections, *, usual: Sections, use: str
) -> tuple[Trained, list[str]]:
    """A checkpoint's network by its manifest, and where that is not what `config` has.

    What `config` has because nobody asked for anything else gives way; what somebody
    asked for is refused where the network is another. The bounds of a fit to its images
    may be chosen, but those of PUQ's regressor are the trained ones.

    Args:
        checkpoint: a run's folder, or that of one of its stages.
        config: `SECTIONS` of this run.
        usual: the same (of data and fit: `DATA` and `FIT`) where nobody asked: the
            contrast without any argument, and the rest as it is for `config`'s.
        use: `predict.fit`.

    Returns:
        The network, and a text for each value of `config` that gave way.

    Raises:
        FileNotFoundError: no checkpoints there, or no manifest beside them.
        ValueError: a value asked for that is not the network's; a manifest that does
            not tell what the network is: of another run or version, or damaged.
    """
    folder = _checkpoints(checkpoint)
    manifest = folder.parent / "manifest.json"
    stage, found = _start(manifest)
    mine, plain, theirs = (_defining(x) for x in (config, usual, found))
    odd = mine.keys() ^ theirs.keys()
    if "times" not in found["data"]:  # a scan's are held against them
        odd.add("data.times")
    if odd:
        raise ValueError(
            f"{manifest}: of another version of medjax, or damaged: it names a "
            f"network's parts otherwise: {', '.join(sorted(odd))}. Train it again, or "
            "predict with the version that trained it"
        )
    fit = {name: found["fit"][name] for name in FIT}
    if use != "puq" and mine["fit.bounds"] != plain["fit.bounds"]:
        fit["bounds"] = theirs["fit.bounds"] = mine["fit.bounds"]
    other = [name for name in sorted(mine) if mine[name] != theirs[name]]
    asked = [name for name in other if mine[name] != plain[name]]
    if asked:
        listed = [f"{n} {mine[n]!r} (trained: {theirs[n]!r})" for n in asked]
        raise ValueError(
            f"{folder.parent}: the config asks for {', '.join(listed)}. Leave that "
            "out, and what the network was trained with is used; or name the "
            "checkpoint of another run"
        )
    network = {**found["network"], **{k: config["network"][k] for k in SCHEDULING}}
    trained = Trained(folder, stage, found["data"], network, fit)
    return trained, [f"{n} {theirs[n]!r}, not {mine[n]!r}" for n in other]


def _checkpoints(checkpoint: str) -> Path:
    """Of a run's last stage, or of the stage named."""
    folder = Path(checkpoint)
    folders = [folder / "checkpoints", folder / "fit" / "checkpoints"]
    for found in filter(Path.is_dir, folders):
        return found
    raise FileNotFoundError(
        f"{checkpoint}: no checkpoints; expected the folder of a run, with fit/ in it"
    )


def _start(manifest: Path) -> tuple[str, Sections]:
    """Stage and config of the start that trained: all starts must agree on those."""
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
    *others, last = [start["config"] for start in starts]
    read = [config.get(name) for config in (*others, last) for name in SECTIONS]
    if not all(isinstance(section, Mapping) for section in read):
        raise ValueError(
            f"{manifest}: of a run of {last.get('system')!r}; expected one of 'puq' "
            f"and its config with {', '.join(SECTIONS)}"
        )
    new = _defining(last)
    for config in others:
        old = _defining(config)
        differing = [n for n in sorted(new | old) if new.get(n) != old.get(n)]
        if differing:  # one may have been killed before its first checkpoint
            n = differing[0]
            raise ValueError(
                f"{manifest}: {n} is {old.get(n)!r} at one start of the run and "
                f"{new.get(n)!r} at another, and which of them trained is not on "
                "record; take the others out of the file"
            )
    return starts[-1]["stage"], last


def _is_start(record: object) -> bool:
    if not isinstance(record, Mapping):
        return False
    stage, config = record.get("stage"), record.get("config")
    return isinstance(stage, str) and isinstance(config, Mapping)


def _defining(config: Sections) -> dict[str, Any]:
    """What must agree, by dotted names, as JSON has it; without what is not there."""
    flat = {}
    for section, names in (("data", DATA), ("fit", FIT)):
        there = [name for name in names if name in config[section]]
        flat |= {f"{section}.{name}": config[section][name] for name in there}
    for name, value in config["network"].items():
        inside = value if isinstance(value, Mapping) else {"": value}
        flat |= {f"network.{name}.{k}".rstrip("."): x for k, x in inside.items()}
    for name in SCHEDULING:
        flat.pop(f"network.{name}", None)
    return json.loads(json.dumps(flat))
