"""The page of a training that goes on, from what it has written so far."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medjax.report.page import (
    Table,
    manifest_starts,
    png_bytes,
    render_page,
    run_figures,
    set_state,
    write_file,
)

PAGE = "report.html"
RUN = ("threshold", "curves", "signal")  # figures of the training itself


def write_live_report(
    folder: Path,
    *,
    title: str,
    tables: Sequence[Table],
    story: Sequence[str],
    doubts: Sequence[str],
    state: str,
    reload: int,
    figures: bool,
) -> None:
    """Write report.html with what there is; pictures of the last evaluation stay.

    Args:
        folder: The stage's. With `figures` those of its metrics are drawn anew into
            figures/; the page shows all that are there.
        title: Stands at the head of the page.
        tables: Of the last evaluation, and about the training.
        story: What happened so far, a sentence each.
        doubts: What speaks against it.
        state: How far the training is.
        reload: Seconds after which a browser looks again; 0: never.
        figures: Whether they are drawn anew.

    Raises:
        OSError: The page cannot be written.
        ValueError: A file of the run holds something else; names it.
    """
    if figures:
        for name, figure in run_figures(folder).items():
            write_file(folder / "figures" / f"{name}.png", png_bytes(figure))
    page = render_page(
        title,
        tables=tables,
        figures=_pictures(folder),
        starts=manifest_starts(folder),
        note="",
        heading="Scores and training",
        story=story,
        doubts=doubts,
    )
    write_file(folder / PAGE, set_state(page, state, reload=reload).encode())


def mark_report(folder: Path, *, state: str, reload: int) -> None:
    """Say on the page that is there how far the training is.

    Args:
        folder: The stage's; without a report.html nothing is done.
        state: See `set_state`.
        reload: Likewise.

    Raises:
        OSError: The page cannot be read or written.
    """
    path = folder / PAGE
    if path.exists():
        page = path.read_text(encoding="utf-8")
        write_file(path, set_state(page, state, reload=reload).encode())


def newest_tables(folder: Path) -> tuple[str, list[Table]]:
    """The step of the last evaluation, and its tables; ("", []) before the first one.

    Args:
        folder: The stage's, with eval/STEP/tables.json.

    Raises:
        ValueError: The file holds no tables.
    """
    found = [
        path
        for path in (folder / "eval").glob("*/tables.json")
        if re.fullmatch(r"\d+", path.parent.name)
    ]
    if not found:
        return "", []
    path = max(found, key=lambda path: int(path.parent.name))
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))
        tables = [(x["title"], x["header"], x["rows"]) for x in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a list of tables with title, header and rows"
        ) from error
    return path.parent.name, tables


def _pictures(folder: Path) -> Mapping[str, bytes]:
    """Those of the last evaluation, then the run's, as a finished page has them."""
    found = {
        path.stem: path.read_bytes()
        for path in sorted((folder / "figures").glob("*.png"))
    }
    own = {name: found.pop(name) for name in RUN if name in found}
    return found | own
