"""What the configs share: the argument behind the colon, the mesh, the rules."""

import difflib
from typing import Any

from ml_collections import ConfigDict

from configs.options import Maybe, Numbers, Words, option

TESTED = ("test", "val")  # parts to evaluate on; val: to choose settings by

SWITCH = ("on", "off")


def parse_arg(arg: str, **defaults: str | int | float | bool) -> ConfigDict:
    """`"reward=fixed,smoke"` against typed defaults; a bare word turns a switch on.

    >>> parse_arg("steps=3,smoke", steps=10, smoke=False).to_dict()
    {'steps': 3, 'smoke': True}
    """
    values = ConfigDict(defaults)
    for item in filter(None, (part.strip() for part in (arg or "").split(","))):
        name, equals, text = item.partition("=")
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"unknown argument {name!r}{hint} Expected: {', '.join(defaults)}"
            )
        kind = type(defaults[name])
        if not equals and kind is not bool:
            raise ValueError(f"argument {name!r} needs a value: {name}=...")
        if kind is bool:
            if text.lower() not in ("", "true", "false"):
                raise ValueError(f"{item}: expected true or false")
            values[name] = text.lower() != "false"
            continue
        try:
            values[name] = kind(text)
        except ValueError as error:
            raise ValueError(f"{item}: expected a {kind.__name__}") from error
    return values


def choose(name: str, value: str, options: tuple[str, ...]) -> str:
    """The value, if it is one of the options."""
    if value not in options:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(options)}")
    return value


def get_model(model: str, default: str) -> str:
    """`policy.path` of a config: "tiny", a folder, or "" for random weights."""
    model = model or default
    return "" if model == "fresh" else model


def get_reading() -> dict[str, Any]:
    """How a user's own files are read; nothing of it concerns built-in data."""
    return {
        # columns whose equal values lie in one part, beside patient, study and lesion
        "group": option((), Words()),
        # where several read a picture: majority, union, or the name of one
        "readers": "",
        "on_bad": "stop",  # or drop: lines that cannot be used are counted and left out
        "near": "report",  # or group: near-duplicates are reported, or lie in one part
        "coords": "",  # xyxy or xywh, of box lists in CSV
        "answers": "one",  # or set: several answers a question, or none
        # of the path, where several fit: jsonl, csv, coco, masks, ham10000, ...
        "format": "",
        "official": True,  # take the parts that a list states; False: part it anew
        "fold": 0,  # of a published set with several
        # level and width of greys of more than 8 bits, such as 40,400 of a CT; (): the
        # window that the file names, or that its values give
        "window": option((), Numbers(float, (0, 2))),
        # of DICOM and NIfTI whose pixels are not square: stored as they are, or square;
        # empty: they are refused
        "pixels": "",
        "check": "on",  # or off: pictures are not looked at before training
        "identify": False,  # patients and folders are named in a run's files
    }


def get_asking() -> dict[str, Any]:
    """What is asked about a user's boxes in a format that has no questions."""
    return {
        "query": "",  # such as "Where is the {label}?"; empty: "Find the {label}."
        # what images are asked about that is not there: one (class of an image in which
        # nothing was found), all (classes of every image), off; empty: as it suits
        "negatives": "",
        "mask": "whole",  # a box a label of a mask; or components: one for each
        "min_area": 1,  # pixels of a region of a mask
        # of the values of masks: '{"1": "liver"}', a JSON file, or one name
        "names": "",
        "plane": "axial",  # or coronal, sagittal: the slices of volumes with masks
        "longest": 2000,  # characters of a question; longer ones are refused
    }


def get_predict() -> dict[str, Any]:
    """How `--mode=predict` of a policy asks and answers; training reads none of it."""
    return {
        "batch": 0,  # pictures at a time; 0: as evaluation.batch
        "questions": 0,  # about each at a time; 0: as evaluation.questions
        "max_tokens": 0,  # of an answer; 0: as long as the longest right one
        # None: a run's checkpoint writes the likeliest tokens (0), a policy's folder
        # what its generation_config.json says; top_k and top_p alone change that
        "temperature": option(None, Maybe(float)),
        "top_k": option(None, Maybe(int)),
        "top_p": option(None, Maybe(float)),
        "seed": 0,  # of answers that are drawn
        "plane": "axial",  # or coronal, sagittal: the slices of volumes
        "overlays": 16,  # answers that are drawn into their pictures, at most
    }


def get_mesh(name: str = "") -> ConfigDict:
    """All devices on one axis; `--config.mesh.model=4` splits arrays over four.

    A size of -1 takes what the others leave; several are chosen so that a run fits.
    """
    rest = -1 if choose("mesh", name, ("", "auto")) else 1
    return ConfigDict({"data": -1, "fsdp": rest, "model": rest})


def get_rules(**changed: tuple[str, ...]) -> ConfigDict:
    """Logical axis -> mesh axes, such as `data,fsdp`; `()` keeps an axis whole."""
    rules = {
        "batch": ("data", "fsdp"),
        "layers": (),
        "embed": ("fsdp",),
        "norm": (),
        "patch": (),
        "vocab": ("model",),
        "mlp": ("model",),
        "heads": ("model",),
        # these three are kept whole where the mesh does not divide them
        "kv_heads": ("model",),
        "vision_mlp": ("model",),
        "vision_heads": ("model",),
    }
    rules |= changed
    return ConfigDict({name: option(axes, Words()) for name, axes in rules.items()})


def get_checkpoint() -> ConfigDict:
    """How often a run is saved, and what a step that is not finite does."""
    return ConfigDict({"every": 100, "keep": 2, "on_nonfinite": "stop"})
