"""What a scan is, and what `predict` would do with it, without a map."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from medjax.data.scans.overview import list_series
from medjax.recipes.qmri.choice import shown_kind
from medjax.recipes.qmri.decide import (
    Decision,
    decide,
    maps_folder,
    noted_doubts,
    open_source,
)
from medjax.recipes.qmri.inspection import (
    content_lines,
    contrast_lines,
    geometry_lines,
)
from medjax.recipes.qmri.moved import check_middle
from medjax.recipes.qmri.options import Predict, read_definition
from medjax.recipes.qmri.outputs import SUMMARY
from medjax.recipes.qmri.regions import read_regions, region_notes
from medjax.recipes.qmri.summary import counted, say
from medjax.recipes.sections import read_section
from medjax.sharding import Rules

_SHOWN = 160  # characters of a reason


def check(
    source: str,
    *,
    checkpoint: str | None,
    workdir: Path,
    seed: int,
    mesh: Mesh,
    rules: Rules,
    data: Mapping[str, Any],
    network: Mapping[str, Any],
    fit: Mapping[str, Any],
    predict: Mapping[str, Any],
    **unused: Mapping[str, Any],
) -> list[str]:
    """Print what a scan is and what `predict` would do with it; nothing is written.

    Headers are read, and the samples of a few slices: the middle one, and those by
    which `predict` decides. No image is reconstructed and no map is fitted.

    Args:
        source: Of `predict`, like all others. Of a folder its series are listed first.
        checkpoint: Its manifest is read, and its weights.
        workdir: Nothing is written to it.
        seed: Not read, as nothing is drawn.
        mesh: Not read, as no slab is computed.
        rules: Not read, likewise.
        data: Section of the config, likewise.
        network: Section of the config, likewise.
        fit: Section of the config, likewise.
        predict: Section of the config, likewise.
        unused: Sections of the config for training, which are not read.

    Returns:
        What would make the maps doubtful as far as it shows before a fit, a line each.

    Raises:
        ValueError: `predict` would refuse the scan or an option, with this message.
        FileNotFoundError: There is no such file.
    """
    del seed, mesh, rules, unused
    options = read_section(Predict, "predict", predict)
    config = read_definition({"data": data, "network": network, "fit": fit})
    try:
        scan = open_source(source, options)
    except ValueError:
        _say("series", _series_lines(Path(source), ()))
        raise
    _say("series", _series_lines(Path(source), scan.files))
    _say(f"contrasts of {scan.path}", contrast_lines(scan))
    _say("geometry", geometry_lines(scan))
    _say("noise and coils" if scan.kind == "kspace" else "images", content_lines(scan))
    decision = decide(scan, checkpoint=checkpoint, options=options, config=config)
    if not options.register:
        check_middle(decision.scan)
    regions = read_regions(decision.scan, options, shown_kind(decision.choice.model))
    folder = maps_folder(workdir, source)
    there = (folder / SUMMARY).exists() and not options.overwrite
    _say(
        "predict",
        [
            *_decision_lines(decision),
            *region_notes(regions),
            f"maps go to {folder}"
            + (", where some are: set predict.overwrite" if there else ""),
        ],
    )
    lines = [f"{scan.path}: {line}" for line in noted_doubts(decision, ())]
    return counted(lines, strict=options.strict)


def _say(title: str, lines: Sequence[str]) -> None:
    if lines:
        say("\n".join([f"{title}:", *(f"    {line}" for line in lines), ""]))


def _decision_lines(decision: Decision) -> list[str]:
    """All that `predict` says before it begins, and what it does not say."""
    plan, lines = decision.plan, decision.lines
    if plan.basis is not None:
        lines.append(f"a subspace of rank {plan.basis.shape[1]}")
    if plan.floor.level is not None:
        lines.append(f"noise of the images is known: {plan.floor.level:.4g}")
    if decision.scan.kind == "kspace":
        how = "as the data say" if plan.phases.tested else "not tested"
        lines.append(
            f"{'one phase' if plan.phases.shared else 'a phase for each'} of "
            f"{len(decision.scan.times)} contrasts, {how}"
        )
    return lines


def _series_lines(folder: Path, taken: Sequence[Path]) -> list[str]:
    """A folder's series, and which of them `predict` takes."""
    found = []
    if folder.is_dir():
        with contextlib.suppress(ValueError):  # opening says more of it
            found = list_series(folder)
    lines = []
    for series in found:
        size = " x ".join(map(str, series.shape))
        count = len(series.files)
        line = f"{series.name}: {count} file{'s' if count > 1 else ''} of {size}; "
        used = sum(file in taken for file in series.files)
        if used:
            line += "taken" if used == count else f"{used} of them taken"
        elif series.count:
            names = ",".join(str(file) for file in series.files)
            line += f"{series.contrast} of {series.count} by itself: --input={names}"
        else:
            line += f"not taken: {series.problem[:_SHOWN]}"
        lines.append(line)
    return lines
