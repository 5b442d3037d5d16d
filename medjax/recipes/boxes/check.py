"""Check data about boxes before training: counts, sizes, tokens, copies, examples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from medjax.data.boxes.batches import AnyRecord
from medjax.data.boxes.set_records import SetRecord
from medjax.data.prompting.chat import asks_for_sets
from medjax.data.prompting.layout import shown_size
from medjax.recipes.policy.check_report import Report, Table, label_rows, make_report
from medjax.recipes.policy.examples import count_tokens
from medjax.recipes.policy.findings import Finding
from medjax.recipes.policy.setup import Setup
from medjax.rl.boxes import convert_boxes
from medjax.rl.text.box_set_text import parse_box_set_text
from medjax.rl.text.box_text import parse_text

if TYPE_CHECKING:
    from medjax.report.check import Figure

_CELLS = 16  # a side of the map of places
_SHARES = (0.05, 0.5, 0.95)


class Boxes(NamedTuple):
    """All boxes of a data set, as the policy sees them."""

    corners: Float[np.ndarray, "b 4"]  # pixels of the picture as shown
    sizes: Int[np.ndarray, "b 2"]  # (height, width) of each one's picture, as shown
    counts: Int[np.ndarray, "q"]  # boxes of each question


def examine_boxes(setup: Setup, findings: Sequence[Finding]) -> Report:
    """All that the page and the document of a check say of a run's boxes.

    Args:
        setup: Data, policy and encoding of the run.
        findings: What was found already.
    """
    samples = setup.parts.samples
    tokens, seen = count_tokens(setup)
    named = label_rows(samples)
    if not samples:
        named = {
            part: [record.structure for mine, record in seen if mine == part]
            for part in ("train", "test")
        }
    read = read_sets if asks_for_sets(setup.encoding.style) else read_boxes
    report = make_report(setup, findings, tokens, named, read)
    table, statistics, figure = box_statistics(
        all_boxes(setup, [record for _, record in seen])
    )
    return report._replace(
        document={**report.document, "boxes": statistics},
        tables=[*report.tables, table],
        figures={**report.figures, **({"boxes": figure} if figure else {})},
    )


def read_boxes(answer: str) -> list[tuple[float, float, float, float]]:
    """The boxes that an answer's text names, as rewards read them.

    Args:
        answer: A whole answer with its tags; one that names none gives [].
    """
    parsed = parse_text(answer)
    if not parsed.box_found:
        return []
    x1, y1, x2, y2 = parsed.boxes.tolist()
    return [(x1, y1, x2, y2)]


def read_sets(answer: str) -> list[tuple[float, float, float, float]]:
    """The boxes of an answer that is a set, as rewards read them.

    Args:
        answer: A whole answer with its tags; one that says there is none gives [].
    """
    parsed = parse_box_set_text(answer)
    boxes = np.asarray(parsed.boxes)[np.asarray(parsed.box_valid)]
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes.tolist()]


def all_boxes(setup: Setup, records: Sequence[AnyRecord]) -> Boxes:
    """The boxes of every row of a user's data, or else those of some questions.

    Args:
        setup: Data, and how pictures are shown.
        records: Questions about built-in data; not read where there are rows.
    """
    samples = [sample for sample in setup.parts.samples if sample.part]
    corners, sizes = [], []
    for sample in samples:
        shown = shown_size(sample.size, setup.policy.geometry)
        given = np.array(sample.boxes, np.float64).reshape(-1, 4)
        corners.append(
            convert_boxes(given, "original", "resized", size=sample.size, resized=shown)
        )
        sizes += [shown] * len(given)
    counts = [len(sample.boxes) for sample in samples]
    if not samples:
        corners = [
            r.boxes if isinstance(r, SetRecord) else r.box[None] for r in records
        ]
        counts = list(map(len, corners))
        sizes = [
            r.image.shape[:2]
            for r, count in zip(records, counts, strict=True)
            for _ in range(count)
        ]
    return Boxes(
        np.concatenate([np.zeros((0, 4)), *corners]),
        np.array(sizes, np.int64).reshape(-1, 2),
        np.array(counts, np.int64),
    )


def box_statistics(
    boxes: Boxes,
) -> tuple[Table, dict[str, Any], "Figure | None"]:
    """How large boxes are, of which shape, and where they lie.

    Args:
        boxes: Of a data set; where there are none there is no figure.
    """
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]  # width, height
    areas = np.prod(sides, axis=1) / np.prod(boxes.sizes, axis=1).clip(1)
    columns = {
        "share of the picture": areas,
        "shorter side, pixels as shown": sides.min(axis=1, initial=np.inf),
        "width / height": sides[:, 0] / sides[:, 1].clip(1e-9),
        "boxes a question": boxes.counts,
    }
    rows, document = [], {}
    for name, values in columns.items():
        if not len(values):
            continue
        low, middle, high = np.quantile(values, _SHARES).tolist()
        ends = float(values.min()), low, middle, high, float(values.max())
        document[name] = dict(
            zip(("min", "5 %", "median", "95 %", "max"), ends, strict=True)
        )
        rows.append((name, *(f"{x:.4g}" for x in ends)))
    cover = box_cover(boxes)
    document |= {"boxes": len(areas), "cover": np.round(cover, 4).tolist()}
    table = (
        f"{len(areas)} boxes of {len(boxes.counts)} questions",
        ("of the boxes", "least", "5 %", "median", "95 %", "most"),
        rows,
    )
    if not len(areas):
        return table, document, None
    from medjax.report.check import box_figure

    shorter = columns["shorter side, pixels as shown"]
    return table, document, box_figure(cover, areas, shorter, boxes.counts)


def box_cover(boxes: Boxes) -> Float[np.ndarray, "n n"]:
    """The share of the boxes that cover the middle of each cell of their picture.

    Args:
        boxes: Of a data set; none gives zeros.
    """
    middles = (np.arange(_CELLS) + 0.5) / _CELLS
    scale = np.concatenate([boxes.sizes[:, ::-1]] * 2, axis=1).clip(1)
    x1, y1, x2, y2 = (boxes.corners / scale).T[:, :, None]
    across = ((x1 <= middles) & (middles < x2)).astype(np.float64)
    down = ((y1 <= middles) & (middles < y2)).astype(np.float64)
    return down.T @ across / max(1, len(across))
