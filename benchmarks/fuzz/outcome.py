"""What `--mode=predict` makes of a scan: refused, warned, right, or a silent error."""

import contextlib
import io
import pathlib
from collections.abc import Mapping
from typing import NamedTuple
from unittest import mock

import jax
import nibabel
import numpy as np
from fuzz.oracle import WRONG

from configs.puq import get_config
from medjax.recipes.qmri.predict import predict
from medjax.sharding import make_mesh

LOOP = ("system", "seed", "mesh", "rules", "checkpoint")
SECTIONS = {k: v for k, v in get_config().to_dict().items() if k not in LOOP}


class Outcome(NamedTuple):
    """refused, warned, right, silent (an error above 5 %) or bare (no message)."""

    kind: str
    said: str
    value: float | None  # s, the map's median


def outcome(
    source: pathlib.Path,
    truth: float,
    workdir: pathlib.Path,
    options: Mapping[str, object],
) -> Outcome:
    """Predict from a scan; figures are not drawn.

    Args:
        source: The scan.
        truth: Its time constant, s.
        workdir: A new folder.
        options: Of the config's section `predict`.
    """
    sections = {**SECTIONS, "predict": {**SECTIONS["predict"], "slab": 1, **options}}
    quiet = contextlib.ExitStack()
    for name in ("map_figure", "write_png"):
        quiet.enter_context(mock.patch(f"medjax.report.qmri.{name}", _nothing))
    quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
    quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
    try:
        with quiet:
            doubts = predict(
                str(source),
                checkpoint=None,
                workdir=workdir,
                seed=0,
                mesh=make_mesh({"data": 1}, jax.devices()[:1]),
                rules={"batch": ("data",)},
                **sections,
            )
    except (ValueError, OSError) as error:
        named = source.name.split(".")[0] in str(error)
        kind = "refused" if named else "bare"
        return Outcome(kind, f"{type(error).__name__}: {error}"[:300], None)
    except Exception as error:  # a user would see a traceback
        return Outcome("bare", f"{type(error).__name__}: {error}"[:300], None)
    value = _median(workdir)
    if doubts:
        return Outcome("warned", " | ".join(doubts), value)
    right = value is not None and abs(value / truth - 1) <= WRONG
    return Outcome("right" if right else "silent", "", value)


def _nothing(path=None, *_, **__):
    if isinstance(path, pathlib.Path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")


def _median(workdir):
    found = workdir.glob("predict/*/T*map.nii.gz")
    (path,) = (p for p in found if p.name.split(".")[0] in ("T1map", "T2map"))
    values = np.asarray(nibabel.load(path).dataobj)
    s0 = np.nan_to_num(np.asarray(nibabel.load(path.parent / "M0map.nii.gz").dataobj))
    inside = np.isfinite(values) & (s0 > 0.3 * s0.max())
    return float(np.median(values[inside])) if inside.any() else None
