"""One HTML file that holds a run: scores, figures, config and manifest."""

import base64
import html
import io
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medjax.report.boxes import Overlay, contact_sheet
from medjax.report.curves import signal_stack, threshold_path, training_curves
from medjax.report.series import find_raises, read_metrics, with_row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# (title, header, rows) of text; an evaluation's table is one.
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
NOTE = "Research software, not a medical device."  # on every page
NARROW = ".narrow"  # behind the name of a figure
CAPTIONS = {
    "answers": "Right and wrong answers of the evaluation, a class in turn; below each "
    "picture what the policy wrote.",
    "confusion": "True classes (rows) and answers (columns) of the evaluation; shade: "
    "share of the row.",
    "overlays": "Best, median and worst answers of the evaluation; below each picture "
    "the question and what the policy wrote.",
    "threshold": "The reward's threshold. A raise needs the window's hit rate, its "
    "deviation and the IoU margin at once; the table has the numbers of each.",
    "curves": "Faint: each step; strong: running mean; dotted, if any: raises of tau.",
    "maps_median": "The slice of median error in tissue: each method's map over its "
    "signed error.",
    "maps_worst": "The slice of the largest error.",
    "maps_in_vivo": "The measured slice.",
    "calibration": "Left: errors by sigma; right: how many voxels lie within "
    "a multiple of sigma, as if errors were normal. A posterior's intervals are judged "
    "as such in the figure of intervals.",
    **{
        f"trust_{which}": f"{slice_}: each map with an interval, half the interval's "
        "width, and the true error on the same scale."
        for which, slice_ in (
            ("median", "The slice of median error in tissue"),
            ("worst", "The slice of the largest error"),
            ("in_vivo", "The measured slice"),
        )
    },
    "intervals": "Left: how many voxels lie in their interval. Middle: the error that "
    "is left when the least certain voxels are taken out. Right: errors by what noise "
    "alone allows.",
    "examples": "Questions of both parts as the policy sees them: pictures joined from "
    "their patches, boxes read back from the written answer; marks at the edges are "
    "one image token apart.",
    "boxes": "Left: the share of all boxes that cover a place of their picture.",
    "agreement": "Vials against their references: the median, a line from the lower to "
    "the upper quartile of the voxels, and across it 1.96 sd of the reference. Blue: "
    "bias; red: limits of agreement, bias +- 1.96 sd; shades: their 95 % intervals.",
    "signal": "Groups whose rewards differ teach; the others give no gradient.",
}
_CHARSET = '<meta charset="utf-8">'
_SENTENCE = 36  # characters of a cell that is more than a name or a number
# Colours of light and of dark pages; below 40rem a table's rows stand one below the
# other, each cell behind the head of its column, so that nothing is scrolled sideways.
_STYLE = """
:root { color-scheme: light dark; --text: #222; --ground: #fff; --line: #ddd;
        --strong: #444; --soft: #595959; --box: #f6f6f6; --doubt: #b34700;
        --going: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e4e4; --ground: #16181b; --line: #3a3d42; --strong: #999;
          --soft: #a8a8a8; --box: #22252a; --doubt: #ff9d4d;
          --going: #56b4e9; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text);
       background: var(--ground); max-width: 72rem; margin: 2rem auto;
       padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; }
ul.story { padding-left: 1.1rem; max-width: 50rem; } .story li { margin: .35rem 0; }
.doubts { border-left: 4px solid var(--doubt); padding: .1rem 0 .1rem .9rem;
          max-width: 50rem; }
.doubts p { margin: .3rem 0; font-weight: 600; }
.state { border-left: 4px solid var(--going); padding: .3rem 0 .3rem .9rem;
         max-width: 50rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
        margin: .6rem 0; overflow-wrap: normal; font-size: 14px; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem;
          white-space: pre-line; overflow-wrap: anywhere; }
th, td { padding: .25rem .5rem; text-align: right;
         border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; } td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td:first-child { white-space: normal; min-width: 5rem; }
td.text:not(:first-child) { text-align: left; white-space: normal; min-width: 24rem; }
td.text:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
td.interval { white-space: normal; }
thead th { border-bottom: 2px solid var(--strong); }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 3px; }
figcaption, .note { color: var(--soft); max-width: 50rem; }
pre { background: var(--box); padding: .8rem; overflow-x: auto; font-size: 12.5px; }
@media (max-width: 40rem) {
  body { margin-top: 1rem; }
  table, caption, thead, tbody, tr, td { display: block; }
  table { overflow-wrap: anywhere; }
  thead { display: none; }
  tr { border-bottom: 1px solid var(--line); padding: .35rem 0; }
  td, td.text:not(:first-child) { border: 0; padding: .1rem 0; white-space: normal;
       min-width: 0; display: flex; justify-content: space-between; gap: 1rem; }
  td:first-child, td.text:first-child { font-weight: 600; min-width: 0; }
  td:not(:first-child)::before { content: attr(data-head); color: var(--soft);
       text-align: left; flex: none; max-width: 55%; }
  pre { white-space: pre-wrap; }
}
"""


def write_report(
    workdir: str | os.PathLike,
    *,
    title: str,
    tables: Sequence[Table] = (),
    answers: Sequence[Overlay] = (),
    figures: Mapping[str, "Figure"] | None = None,
    count: int = 6,
    note: str = "",
    story: Sequence[str] = (),
    doubts: Sequence[str] = (),
    evaluated: tuple[int, Mapping[str, Any]] | None = None,
) -> pathlib.Path:
    """Write `figures/*.png` and `report.html` into a run's folder; return the page.

    Reads metrics.jsonl, eval.jsonl and manifest.json there; a figure whose numbers the
    run does not have is left out.

    Args:
        workdir: The folder that a run wrote into; none of the three files has to be
            there.
        title: Stands at the head of the page.
        tables: Of scores, in the order of the page; there may be none.
        answers: Evaluated answers, for the sheet of overlays; without any it is left
            out.
        figures: Further figures by name, which come before the run's own. The name
            becomes that of the PNG file and picks a caption from `CAPTIONS`.
        count: How many answers a row of that sheet has, 1 or more.
        note: A sentence under the title; the empty text leaves it out.
        story: What happened, a sentence each; see `render_page`.
        doubts: What speaks against it, likewise.
        evaluated: (steps done, scores) of the evaluation that the page is about, which
            curves end with: its row of eval.jsonl is written after the page.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A metrics file holds something else; names file and line.
    """
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        raise FileNotFoundError(f"{workdir}: no such run folder")
    drawn = dict(figures or {})
    if answers:
        drawn["overlays"] = contact_sheet(answers, count=count)
        drawn[f"overlays{NARROW}"] = contact_sheet(answers, count=2)
    drawn |= run_figures(workdir, evaluated)
    pictures = {name: png_bytes(figure) for name, figure in drawn.items() if figure}
    for name, picture in pictures.items():
        write_file(workdir / "figures" / f"{name}.png", picture)
    starts = manifest_starts(workdir)
    unchecked = str(starts[-1].get("check", "")) if starts else ""
    if unchecked.startswith("data.check=off"):
        note = f"{note} {unchecked}.".strip()
    page = render_page(
        title,
        tables=tables,
        figures=pictures,
        starts=starts,
        note=note,
        story=story,
        doubts=doubts,
    )
    return write_file(workdir / "report.html", page.encode())


def run_figures(
    workdir: pathlib.Path, evaluated: tuple[int, Mapping[str, Any]] | None = None
) -> "dict[str, Figure]":
    """The figures of a run's metrics by name, those that it has numbers for.

    Args:
        workdir: The folder with metrics.jsonl and eval.jsonl; neither has to be there.
        evaluated: (steps done, scores) of an evaluation that eval.jsonl may lack. Where
            nothing was trained it is no curve, and is left out.

    Raises:
        ValueError: A file holds something else; names file and line.
    """
    metrics, evals = (
        read_metrics(workdir / name) if (workdir / name).exists() else {}
        for name in ("metrics.jsonl", "eval.jsonl")
    )
    if evaluated is not None and metrics:
        evals = with_row(evals, *evaluated)
    raises = find_raises(metrics)
    drawn = {
        "threshold": threshold_path(metrics, raises),
        "curves": training_curves(metrics, evals=evals, raises=raises),
        "signal": signal_stack(metrics),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def manifest_starts(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The record of each start of a run; none without a manifest.

    Args:
        workdir: The folder with manifest.json.
    """
    path = workdir / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def set_state(page: str, line: str, *, reload: int) -> str:
    """The page with a line below its title that says how far the training is.

    Args:
        page: Of `render_page`, with such a line or without; nothing else changes.
        line: It is escaped; "" takes an earlier one away.
        reload: Seconds after which a browser looks again; 0: never.
    """
    page = re.sub(r'<meta http-equiv="refresh"[^>]*>', "", page, count=1)
    page = re.sub(r'<p class="state">[^<]*</p>\n', "", page, count=1)
    if reload:
        again = f'<meta http-equiv="refresh" content="{reload}">'
        page = page.replace(_CHARSET, _CHARSET + again, 1)
    if line:
        told = f'<p class="state">{html.escape(line)}</p>\n'
        page = page.replace("</h1>\n", "</h1>\n" + told, 1)
    return page


def render_page(
    title: str,
    *,
    tables: Sequence[Table],
    figures: Mapping[str, bytes],
    starts: Sequence[Mapping[str, Any]],
    note: str,
    heading: str = "Scores",
    story: Sequence[str] = (),
    doubts: Sequence[str] = (),
) -> str:
    """The page as HTML that needs no other file.

    Args:
        title: Stands at the head, and in the browser's tab; like all texts here it is
            escaped.
        tables: In the order of the page; their first column is aligned to the left.
        figures: The bytes of PNG files by name. Names in `CAPTIONS` get the caption
            there, others their name. One of a name and `NARROW` is shown in its place
            where the window is as narrow as a phone.
        starts: The manifest: one record per start of the run. The last one is shown,
            its `config` apart; without any the page has no such part.
        note: A sentence under the title; the empty text leaves it out.
        heading: Stands over the tables.
        story: What happened, a sentence each; before all else. Without any the page
            has no such part.
        doubts: What speaks against the results, a sentence each, marked, at the head
            of the story.
    """
    escaped = html.escape(title)
    below = html.escape(f"{note} {NOTE}".strip())
    parts = [f"<h1>{escaped}</h1>", f'<p class="note">{below}</p>']
    if story or doubts:
        parts.append("<h2>What happened</h2>")
    if doubts:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in doubts)
        parts.append(f'<div class="doubts">{lines}</div>')
    if story:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in story)
        parts.append(f'<ul class="story">{lines}</ul>')
    if tables:
        parts += [f"<h2>{html.escape(heading)}</h2>", *map(_table, tables)]
    if figures:
        parts.append("<h2>Figures</h2>")
    shown = {x: _data(picture) for x, picture in figures.items()}
    for name in (x for x in figures if not x.endswith(NARROW)):
        caption = html.escape(CAPTIONS.get(name, name))
        image = f'<img alt="{html.escape(name)}" src="{shown[name]}">'
        if narrow := shown.get(f"{name}{NARROW}"):
            source = f'<source media="(max-width: 600px)" srcset="{narrow}">'
            image = f"<picture>{source}{image}</picture>"
        parts.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    if starts:
        last = dict(starts[-1])
        config = last.pop("config", None)
        if config is not None:
            parts += ["<h2>Config</h2>", _json(config)]
        parts += ["<h2>Manifest of the last start</h2>", _json(last)]
        if len(starts) > 1:
            parts.append(
                f'<p class="note">The run was started {len(starts)} times.</p>'
            )
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head>{_CHARSET}'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{escaped}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def png_bytes(figure: "Figure") -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes.

    Args:
        figure: Of matplotlib; no date or version goes into the file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _data(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _table(table: Table) -> str:
    title, header, rows = table
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = (
        f"<tr>{''.join(_cell(*pair) for pair in zip(row, header, strict=True))}</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><caption>{html.escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(text: str, head: str) -> str:
    """A cell that knows its column; a sentence is wrapped, and begins at the left.

    An interval may stand below its estimate, or eleven of them would not fit a page.
    """
    kind = ' class="interval"' if "[" in text else ""
    kind = ' class="text"' if len(text) > _SENTENCE else kind
    return f'<td{kind} data-head="{html.escape(head)}">{html.escape(text)}</td>'


def _json(value: Any) -> str:
    return f"<pre>{html.escape(json.dumps(value, indent=2, default=str))}</pre>"


def write_file(path: pathlib.Path, data: bytes) -> pathlib.Path:
    """Write a file under a temporary name, then rename it; return its path.

    Args:
        path: Folders that are missing are made, and a file that is there is replaced.
        data: All that the file will hold.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
