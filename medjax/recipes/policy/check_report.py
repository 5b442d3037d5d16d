"""The page and the document of a check: what was found in a data set, and examples."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medjax import __version__
from medjax.data.audit.records import Sample
from medjax.data.batches import Parts
from medjax.data.lists.reading import Bad
from medjax.data.prompting.layout import shown_size
from medjax.recipes.policy.checking import find_faults
from medjax.recipes.policy.examples import Example, Tokens, draw_examples
from medjax.recipes.policy.findings import DOUBT, NOTE, STOP, Finding
from medjax.recipes.policy.setup import Setup
from medjax.runtime.writer import write_atomic

if TYPE_CHECKING:
    from medjax.report.check import Figure

_EXAMPLES = 10
_ROWS = 40  # of a table of labels or sizes
_LISTED = 200  # lines of a finding on the page; the document has all
_PARTS = ("train", "test", "")
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
BoxesFn = Callable[[str], list[tuple[float, float, float, float]]]


class Report(NamedTuple):
    """What a check writes down."""

    document: Mapping[str, Any]  # as JSON
    tables: Sequence[Table]
    figures: Mapping[str, "Figure"]
    findings: Sequence[Finding]


def make_report(
    setup: Setup,
    findings: Sequence[Finding],
    tokens: Tokens,
    named: Mapping[str, Iterable[str]],
    read: BoxesFn,
) -> Report:
    """What a check says of any data: counts, labels, sizes, tokens and examples.

    Args:
        setup: Data, policy and encoding of the run.
        findings: What was found already.
        tokens: Of the questions that were counted.
        named: By part: the labels, one for each row and label of it.
        read: The boxes of an answer, in pixels of the picture as shown.
    """
    sections = {
        "parts": count_table(setup.parts),
        "labels": label_table(named),
        "pictures": size_table(setup),
        "tokens": token_table(setup, tokens),
    }
    examples = draw_examples(setup, count=_EXAMPLES)
    document = {name: content for name, (_, content) in sections.items()}
    sheet = example_figure(examples, read, setup.policy.geometry.factor)
    return Report(
        document=document | {"examples": example_rows(examples, read)},
        tables=[table for table, _ in sections.values()],
        figures={"examples": sheet},
        findings=findings,
    )


def left_out(dropped: Sequence[Bad], weight: str) -> Finding:
    """The lines that cannot be used, each with its reason.

    Args:
        dropped: At least one line.
        weight: STOP, or DOUBT where the run goes on without them.
    """
    lines = tuple(
        bad.message
        if bad.message.startswith(f"{bad.origin}:")
        else f"{bad.origin}: with it, {bad.message}"
        for bad in dropped
    )
    return Finding("lines that cannot be used", weight, lines)


def data_findings(parts: Parts, *, on_bad: str) -> list[Finding]:
    """Lines that were left out, and all that pictures and groups tell, worst first.

    Args:
        parts: As they were loaded with wrong lines left out.
        on_bad: What a run does about those, "stop" or "drop".
    """
    found = []
    if parts.dropped:
        found.append(left_out(parts.dropped, STOP if on_bad == "stop" else DOUBT))
    if parts.pictures is not None:
        found += find_faults(parts)
    if parts.notes:
        what = "new domain" if parts.pictures is None else "readers"
        found.append(Finding(what, NOTE, parts.notes))
    if parts.copies:
        found.append(Finding("equal pictures in two parts", DOUBT, parts.copies))
    order = (STOP, DOUBT, NOTE)
    return sorted(found, key=lambda finding: order.index(finding.weight))


def count_table(parts: Parts) -> tuple[Table, dict[str, Any]]:
    """Rows, pictures and groups of each part of a user's data.

    Args:
        parts: Its `samples` are counted; without any the counts are of views.
    """
    header = ("part", "rows", "pictures", "groups")
    counts: dict[str, Any] = {}
    for part in _PARTS:
        mine = [sample for sample in parts.samples if sample.part == part]
        if mine:
            counts[part or "not used"] = {
                "rows": len(mine),
                "pictures": len({file for s in mine for file in s.images}),
                "groups": len({s.group for s in mine}),
            }
    if not parts.samples:
        for name in ("train", "test"):
            counts[name] = {"pictures": getattr(parts, name).count}
    rows = [
        (name, *(str(row.get(column, "")) for column in header[1:]))
        for name, row in counts.items()
    ]
    return ("Parts", header, rows), counts


def label_table(
    named: Mapping[str, Iterable[str]],
) -> tuple[Table, dict[str, dict[str, int]]]:
    """How often each label occurs in each part, the most frequent first.

    Args:
        named: By part: the labels, one for each row and label of it.
    """
    counts = {part: Counter(labels) for part, labels in named.items()}
    every = sum(counts.values(), Counter())
    rows = [
        (label, *(str(count[label]) for count in counts.values()))
        for label, _ in every.most_common(_ROWS)
    ]
    title = "Labels" if len(every) <= _ROWS else f"Labels, the first {_ROWS}"
    document = {part: dict(count.most_common()) for part, count in counts.items()}
    return (title, ("label", *counts), rows), document


def size_table(setup: Setup) -> tuple[Table, list[dict[str, Any]]]:
    """Sizes of pictures as they came and as they are shown, and what kind they are.

    Args:
        setup: Of built-in data there are sizes alone.
    """
    parts, geometry = setup.parts, setup.policy.geometry
    kinds: Counter[tuple[tuple[int, int], str]] = Counter()
    if parts.pictures is not None:
        for file, facts in parts.pictures.facts.items():
            colour = "colour" if facts.colour else "grey"
            ending = file.path.suffix.lower().lstrip(".") or "no ending"
            kinds[facts.size, f"{ending}, {colour}"] += 1
    else:
        files = {(s.images[-1], s.size) for s in parts.samples if s.images}
        kinds.update((size, file.path.suffix.lower()) for file, size in files)
    if not kinds:
        sizes = {*parts.train.sizes, *parts.test.sizes}
        kinds.update({(size, "built in"): 0 for size in sizes})
    document = [
        {
            "size": list(size),
            "shown": list(shown_size(size, geometry)),
            "kind": kind,
            "pictures": count,
        }
        for (size, kind), count in kinds.most_common()
    ]
    rows = [
        (
            " x ".join(map(str, row["size"])),
            " x ".join(map(str, row["shown"])),
            row["kind"],
            str(row["pictures"] or ""),
        )
        for row in document[:_ROWS]
    ]
    header = ("height x width", "as shown", "kind", "pictures")
    return ("Pictures", header, rows), document


def token_table(setup: Setup, tokens: Tokens) -> tuple[Table, dict[str, Any]]:
    """Tokens a question, and the sizes that arrays are padded to.

    Args:
        setup: Its buckets hold every question of both parts.
        tokens: Of the questions that were counted.
    """
    buckets = setup.encoding.buckets
    sizes = {
        "image": (),
        "context": buckets.context,
        "question": buckets.question,
        "answer": buckets.answer,
    }
    totals = tokens.context + tokens.question
    counts = tokens._asdict() | {"prompt": totals, "all": totals + tokens.answer}
    rows, document = [], {}
    for name, values in counts.items():
        low, middle, high = (
            int(values.min()),
            float(np.median(values)),
            int(values.max()),
        )
        held = sizes.get(name, ())
        places = np.searchsorted(held, values) if held else np.zeros(0, int)
        per = {str(size): int((places == n).sum()) for n, size in enumerate(held)}
        filled = float(np.mean(values / np.array(held)[places])) if held else None
        document[name] = {
            "min": low,
            "median": middle,
            "max": high,
            "buckets": per,
            "filled": filled,
        }
        told = ", ".join(f"{size}: {count}" for size, count in per.items())
        share = "" if filled is None else f"{filled:.0%}"
        rows.append((name, str(low), f"{middle:g}", str(high), told, share))
    document["windows"] = list(buckets.windows)
    document["questions counted"] = len(totals)
    header = ("tokens", "least", "median", "most", "bucket: questions", "filled")
    return (f"Tokens of {len(totals)} questions", header, rows), document


def finding_table(findings: Sequence[Finding], clean: Callable[[str], str]) -> Table:
    """What was found, a line each.

    Args:
        findings: The worst first.
        clean: A message as a file may have it.
    """
    rows = []
    for finding in findings:
        for n, line in enumerate(finding.lines[:_LISTED]):
            head = f"{finding.what}: {len(finding.lines)}" if n == 0 else ""
            rows.append((head, finding.weight if n == 0 else "", clean(line)))
        if len(finding.lines) > _LISTED:
            rows.append(("", "", f"and {len(finding.lines) - _LISTED} more"))
    if not rows:
        rows = [("nothing", "", "")]
    return "What was found", ("found", "weight", "where"), rows


def write_check(
    workdir: Path,
    name: str,
    report: Report,
    *,
    source: str,
    clean: Callable[[str], str],
) -> Path:
    """Write NAME.json, NAME.html and the figures; return the page.

    Args:
        workdir: It is made, with its parents, if it does not exist.
        name: What the files are called, "check".
        report: What they hold.
        source: What the data is called.
        clean: A message as a file may have it.
    """
    from medjax.report.page import png_bytes, render_page, write_file

    workdir.mkdir(parents=True, exist_ok=True)
    found = [
        {
            "what": finding.what,
            "weight": finding.weight,
            "lines": [clean(line) for line in finding.lines],
        }
        for finding in report.findings
    ]
    head = {"medjax": __version__, "source": source, "found": found}
    text = json.dumps(head | dict(report.document), indent=1, ensure_ascii=False)
    write_atomic(workdir / f"{name}.json", text)
    pictures = {key: png_bytes(figure) for key, figure in report.figures.items()}
    for key, picture in pictures.items():
        write_file(workdir / f"{name}_{key}.png", picture)
    weights = Counter(finding.weight for finding in report.findings)
    verdict = "would stop a run" if weights[STOP] else "passed"
    doubts = f", with {weights[DOUBT]} doubts" if weights[DOUBT] else ""
    page = render_page(
        f"Check of {source}: {verdict}{doubts}",
        heading="Data",
        tables=[finding_table(report.findings, clean), *report.tables],
        figures=pictures,
        starts=(),
        note="Pictures below are decoded from the arrays that the policy is given.",
    )
    return write_file(workdir / f"{name}.html", page.encode())


def example_figure(examples: Sequence[Example], read: BoxesFn, cell: int) -> "Figure":
    """The sheet of examples.

    Args:
        examples: At least one.
        read: The boxes of an answer, in pixels of the picture as shown.
        cell: Pixels a side of an image token.
    """
    from medjax.report.check import Shown, example_sheet

    shown = [
        Shown(
            title=f"{example.part}: {example.origin}",
            image=example.image,
            boxes=read(example.answer),
            question=example.query,
            answer=example.answer,
        )
        for example in examples
    ]
    return example_sheet(shown, cell=cell)


def example_rows(examples: Sequence[Example], read: BoxesFn) -> list[dict[str, Any]]:
    """The examples for the document, without their pictures.

    Args:
        examples: Any number.
        read: The boxes of an answer, in pixels of the picture as shown.
    """
    return [
        {
            "part": example.part,
            "origin": example.origin,
            "shown": list(example.image.shape[:2]),
            "prompt": example.prompt,
            "answer": example.answer,
            "boxes": [list(box) for box in read(example.answer)],
        }
        for example in examples
    ]


def label_rows(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """By part: the labels of its rows.

    Args:
        samples: Rows of a user's data; those of neither part are left out.
    """
    return {
        part: [label for s in samples if s.part == part for label in s.labels]
        for part in _PARTS[:2]
    }
