"""The page of a prediction: what was found and done in words, tables, figures."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from medjax.recipes.qmri.findings import Summary
from medjax.report.page import Table, render_page

PAGE = "report.html"
SOUND = (
    "Nothing that is looked at speaks against these maps. That is no proof that they "
    "are right: a time that is wrong in all files alike cannot be seen."
)


class Told(NamedTuple):
    """What stands on the page of a prediction beside its summary."""

    title: str
    found: tuple[str, ...] = ()  # of error bars, regions and vials, a line each
    done: tuple[str, ...] = ()  # what was read, which model and method, and why
    tables: tuple[Table, ...] = ()
    source: str = ""  # the scan's path, of which the page shows the name alone


def maps_page(
    told: Told,
    warnings: Sequence[str],
    lines: Sequence[str],
    more: Sequence[str],
    summary: Summary,
    distrust: Mapping[str, int] | None,
    figures: Mapping[str, bytes],
) -> str:
    """The page as HTML that needs no other file.

    Args:
        told: Beside the summary.
        warnings: What makes the maps doubtful, a line each; [] for nothing.
        lines: What was found, in words.
        more: What else the summary says, which comes last.
        summary: Its counts of the fits' states stand in a table.
        distrust: Voxels with signal by the reason not to trust them; None: no
            posterior.
        figures: PNG files by their names in the folder of the maps.
    """
    name = PurePosixPath(told.source.replace("\\", "/")).name
    head = ["These maps are doubtful:", *warnings] if warnings else []
    story = [*([] if warnings else [SOUND]), *lines, *told.found, *told.done, *more]
    if told.source:
        head, story = (
            [line.replace(told.source, name) for line in some] for some in (head, story)
        )
    tables = [
        *told.tables,
        _counts("Voxels with signal, by what became of their fit", summary.status),
    ]
    if distrust is not None:
        tables.append(_counts("Voxels with signal, by reason of distrust", distrust))
    return render_page(
        told.title,
        tables=[table for table in tables if table[2]],
        figures={_caption(file): picture for file, picture in figures.items()},
        starts=(),
        note="",
        heading="Numbers",
        story=[_sentence(line) for line in story],
        doubts=[_sentence(line) for line in head],
    )


def _counts(title: str, counts: Mapping[str, int]) -> Table:
    total = sum(counts.values())
    rows = [
        (name, str(count), f"{100 * count / total:.1f} %")
        for name, count in counts.items()
        if count
    ]
    return title, ("", "voxels", "share"), rows


def _caption(file: str) -> str:
    """`figures/slice_003.png` -> `Slice 3`; other names as captions are kept."""
    stem = PurePosixPath(file).stem
    kind, _, number = stem.partition("_")
    return f"Slice {int(number)}" if kind == "slice" else stem


def _sentence(line: str) -> str:
    """A line that begins with a capital letter, but for names of maps and files."""
    first = line.split(" ", 1)[0]
    return line[:1].upper() + line[1:] if first.isalpha() and first.islower() else line
