"""One thing that people bring, what its truth is, and how `run.py` meets it."""

import contextlib
import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import nibabel
import numpy as np
from absl import flags

import run
from medjax.recipes import layout
from medjax.sharding import make_mesh


class Case(NamedTuple):
    """A scan of known truth, or one that has to be refused."""

    name: str
    build: Callable[[Path], list[str]]  # writes into a folder; --input=... and more
    # of the one material of the object; None: refused, or a wrong map that is doubted
    truth_ms: float | None = None
    refusal: str | None = None  # regular expression on the message
    exit_code: int = 0  # 3: with maps, and a warning
    doubt: str | None = None  # regular expression on the warnings
    variant: str = ""  # of configs/puq.py, such as contrast=t1
    inside: np.ndarray | None = None  # [H, W]: the object; None: where M0 is large


class Outcome(NamedTuple):
    """What became of a case."""

    exit_code: int
    said: str  # the refusal, or the warnings
    median_ms: float | None


ERRORS = (ValueError, OSError, TypeError)  # for which run.py leaves with 1


def predicted(
    arguments: list[str],
    workdir: Path,
    *,
    variant: str = "",
    inside: np.ndarray | None = None,
    mode: str = "predict",
) -> Outcome:
    """Call run.py's main in this process, on one device, a slice at a time.

    Args:
        arguments: Of the command line, beginning with --input.
        workdir: A new folder.
        variant: Of configs/puq.py.
        inside: Where the map's median is taken, in every slice.
        mode: "predict", or "check", which makes no map.
    """
    argv = [
        "run.py", f"--config=configs/puq.py:{variant}", f"--mode={mode}",
        f"--workdir={workdir}", "--compilation_cache=", "--config.predict.slab=1",
        *arguments,
    ]  # fmt: skip
    before, whole = sys.argv, layout.make_mesh
    sys.argv = argv  # where ml_collections looks for options of the config
    first = jax.devices()[:1]
    layout.make_mesh = lambda shape, *_: make_mesh(dict.fromkeys(shape, 1), first)
    said = io.StringIO()
    try:
        for name in [n for n in flags.FLAGS if n.startswith("config.")]:
            delattr(flags.FLAGS, name)  # of the case before
        flags.FLAGS.unparse_flags()
        with warnings.catch_warnings():  # of ml_collections, on Python 3.11
            warnings.simplefilter("ignore", DeprecationWarning)
            flags.FLAGS(argv)
        with contextlib.redirect_stderr(said):
            code = run.main(argv[:1])
    except ERRORS as error:
        return Outcome(1, str(error), None)
    finally:
        sys.argv, layout.make_mesh = before, whole
    median = None if mode == "check" else _median(workdir, inside)
    return Outcome(code, said.getvalue(), median)


def _median(workdir: Path, inside: np.ndarray | None) -> float | None:
    """Of the map, in ms; None where nothing was fitted."""
    found = workdir.glob("predict/*/T*map.nii.gz")
    path = min(found, key=lambda p: len(p.name))  # T1map beside T1starmap
    values = np.asarray(nibabel.load(path).dataobj)
    if inside is None:
        s0 = np.nan_to_num(
            np.asarray(nibabel.load(path.parent / "M0map.nii.gz").dataobj)
        )
        object_ = s0 > 0.3 * np.quantile(s0[s0 > 0], 0.99) if (s0 > 0).any() else s0 > 0
    else:
        object_ = np.broadcast_to(inside[..., None], values.shape)
    found = values[object_ & np.isfinite(values)]
    return 1e3 * float(np.median(found)) if found.size else None
