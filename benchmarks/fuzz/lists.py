"""Lists of pictures in four formats, sound and with one thing changed, labelled."""

import csv
import io
import json
import unicodedata
from typing import NamedTuple

import numpy as np
from PIL import Image

SIZE = (48, 40)  # (height, width) of the pictures
COUNT = 8
FORMATS = ("jsonl", "csv", "labels", "coco")
NAMES = {"jsonl": "l.jsonl", "csv": "l.csv", "labels": "l.csv", "coco": "l.json"}
NAN = float("nan")


class Case(NamedTuple):
    """The content of a list, and what is to become of it."""

    format: str
    change: str
    label: str  # "refused", "harmless" or "open"
    content: bytes
    line: int | None  # that a refusal names, counted as the file does


def save_pictures(folder):
    """Pictures of their own, a copy of the first, a cut one and one that is none."""
    rng = np.random.default_rng(0)
    for n in range(COUNT):
        noise = Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8))
        noise.resize(SIZE[::-1], Image.Resampling.BICUBIC).save(folder / f"{n}.png")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    whole = (folder / "1.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")


def sound_rows():
    """What is said of the pictures: two of each patient."""
    return [
        {
            "image": f"{n}.png",
            "query": "Find the nodule.",
            "box": [5 + n, 6, 25, 30 + n],
            "frame": "original",
            "label": ("nodule", "Müller cyst")[n % 2],
            "patient": f"p{n // 2}",
            "split": "test" if n >= 6 else "train",
        }
        for n in range(COUNT)
    ]


def written(format, rows):
    """The list as a file's bytes."""
    if format == "jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        return "\n".join(lines).encode()
    if format == "coco":
        return json.dumps(_coco(rows)).encode()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    box = ["x1", "y1", "x2", "y2"] if format == "csv" else []
    more = [key for key in rows[0] if key.startswith("more")]
    writer.writerow(["image", "label", *box, "patient", "split", *more])
    for row in rows:
        corners = row["box"] if isinstance(row["box"], list) else [row["box"]] * 4
        cells = [row.get("image"), row.get("label"), *(corners if box else [])]
        cells += [row.get("patient"), row.get("split"), *(row[key] for key in more)]
        cells += row.get("_extra", [])
        writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue().encode()


# A cell, what it becomes, and the formats in which that cannot be used.
ALL, LISTS, BOXES = FORMATS, FORMATS[:3], ("jsonl", "csv", "coco")
JSONL, LABELS, CSV = ("jsonl",), ("labels",), ("csv", "labels")
CELLS = (
    *(("patient", value, LISTS) for value in (None, NAN, "", "nan", "NaN", "  ")),
    *(("patient", value, LISTS) for value in ("unknown", "None", "N/A", "-")),
    *(("patient", value, JSONL) for value in (7, 7.5, True, ["p1"], {"a": 1})),
    *(("patient", value, LISTS) for value in ("P0", "p 0", "\uff50\uff10", "p0\u200b")),
    *(("label", value, ("jsonl", "labels")) for value in (None, NAN, "", "null")),
    *(("label", value, JSONL) for value in (3, 0.5, False, [], "two\nlines")),
    *(
        ("label", value, LISTS)
        for value in ("Nodule", "NODULE", "nod\u200bule", "a\x00b")
    ),
    *(("label", value, LABELS) for value in ("nodule|cyst", "a|b|c")),
    *(("query", value, JSONL) for value in (None, NAN, "", " ", 5, ["q"], "a\x00b")),
    *(("split", value, LISTS) for value in (None, "dev", "", "all")),
    *(("split", value, JSONL) for value in (1, True, NAN)),
    *(
        ("image", value, LISTS)
        for value in ("", "gone.png", "cut.png", "text.png", ".")
    ),
    *(
        ("image", value, JSONL)
        for value in (None, 3, [], [None], {"p": 1}, "a\x00.png")
    ),
    *(("image", value, ("coco",)) for value in ("gone.png", "cut.png", "text.png")),
    *(("frame", value, JSONL) for value in (None, "pixels", "Original", 1, ["unit"])),
    *(("box", value, BOXES) for value in ([5, 6, 41, 30], [-1, 6, 20, 30])),
    *(("box", value, BOXES) for value in ([25, 6, 5, 30], [5, 6, 5, 30])),
    *(("box", value, BOXES) for value in ([5, 6, 25, 1e9], [5, 6, 5.2, 30])),
    *(("box", value, ("jsonl",)) for value in ([NAN, 6, 25, 30], [1, 2, 3], "1 2 3 4")),
    *(
        ("box", value, JSONL)
        for value in ([5, 6, True, 30], None, [], [[5, 6, 25, 30]])
    ),
    *(("box", ["a", 6, 25, 30], csvs) for csvs in (("csv",),)),
    *(("box", [5, "", 25, 30], csvs) for csvs in (("csv",),)),
    *(("box", [5, 6, "25,0", 30], csvs) for csvs in (("csv",),)),
    *(("box", [5, 6, "inf", 30], csvs) for csvs in (("csv",),)),
)


def cell_case(rng, format):
    """One cell that cannot be used."""
    known = [cell for cell in CELLS if format in cell[2]]
    column, value, _ = known[rng.integers(len(known))]
    rows = sound_rows()
    n = int(rng.integers(2, COUNT))  # others spell the first patient and labels
    rows[n][column] = value
    return Case(format, f"{column}={value!r}", "refused", written(format, rows), n)


def _missing_key(rng, rows, n):
    del rows[n][str(rng.choice(["image", "query", "box", "frame"]))]


def _unknown_key(rng, rows, n):
    rows[n][str(rng.choice(["lable", "Patient", "bbox", ""]))] = "x"


def _extra_cell(rng, rows, n):
    rows[n]["_extra"] = ["x"] * int(rng.integers(1, 3))


def _copy_in_another_part(_rng, rows, _n):
    rows[0]["image"], rows[7]["image"] = "0.png", "copy.png"
    rows[7]["label"], rows[7]["box"] = rows[0]["label"], rows[0]["box"]


def _patient_in_another_part(_rng, rows, _n):
    rows[7]["patient"] = "p0"


def _copy_with_another_answer(_rng, rows, _n):
    rows[1]["image"], rows[1]["split"] = "copy.png", rows[0]["split"]


def _two_answers(rng, rows, _n):
    rows[1]["image"] = str(rng.choice(["0.png", "./0.png", "x/../0.png"]))


def _the_same_twice(_rng, rows, _n):
    rows[1] = dict(rows[0])


def _some_without(rng, rows, n):
    del rows[n][str(rng.choice(["patient", "split"]))]


CONTRADICTIONS = (  # what is done, and where nobody can use it
    (_missing_key, JSONL),
    (_unknown_key, JSONL),
    (_extra_cell, CSV),
    (_copy_in_another_part, LISTS),
    (_patient_in_another_part, LISTS),
    (_copy_with_another_answer, ("jsonl", "labels")),
    (_two_answers, ("jsonl", "labels")),
    (_the_same_twice, LISTS),
    (_some_without, JSONL),
)


def contradiction_case(rng, format):
    """Lines that contradict each other or the format."""
    known = [one for one in CONTRADICTIONS if format in one[1]]
    if not known:
        return cell_case(rng, format)
    change = known[rng.integers(len(known))][0]
    rows, n = sound_rows(), int(rng.integers(2, COUNT))
    change(rng, rows, n)
    name = change.__name__.strip("_").replace("_", " ")
    return Case(format, name, "refused", written(format, rows), None)


def harmless_case(rng, format):
    """The same list, written in another way."""
    rows = sound_rows()
    ways = ["mark", "lines", "order", "blanks"] + (
        ["utf-16"] if format != "coco" else []
    )
    ways += ["./", "floats"] if format != "labels" else ["./", "more"]
    ways += ["nfd"] if format != "coco" else ["mark"]
    way = str(rng.choice(ways))
    if way == "order":
        rows = [rows[n] for n in rng.permutation(COUNT)]
    for row in rows:
        if way == "./":
            row["image"] = f"./{row['image']}"
        if way == "floats":
            row["box"] = [float(x) for x in row["box"]]
        if way == "more":
            row["more site"] = "a"
        if way == "nfd":
            row["label"] = unicodedata.normalize("NFD", row["label"])
        if way == "blanks" and format != "coco":
            row["patient"] = f" {row['patient']} "
            row["label"] = f"{row['label']} "
    content = written(format, rows)
    if way == "mark":
        content = b"\xef\xbb\xbf" + content
    if way == "lines" and format != "coco":
        content = content.replace(b"\n", b"\r\n") + b"\r\n\r\n"
    if way == "utf-16":
        content = content.decode().encode("utf-16")
    return Case(format, way, "harmless", content, None)


def broken_case(rng, format):
    """Bytes lost, doubled, swapped, flipped or foreign: anything may be left."""
    content = bytearray(written(format, sound_rows()))
    ways = ("cut", "drop", "flip", "double", "insert", "encoding", "value")
    way = str(rng.choice(ways))
    a, b = sorted(rng.integers(0, len(content), 2).tolist())
    if way == "cut":
        content = content[:b]
    if way == "drop":
        del content[a : min(b, a + 12)]
    if way == "flip":
        for place in rng.integers(0, len(content), int(rng.integers(1, 6))):
            content[place] = int(rng.integers(256))
    if way == "double":
        content = content[:b] + content[a:]
    if way == "insert":
        piece = rng.choice(
            [b"\x00", b"\xff", b'"', b"{", b",", b"\n", b"1e400", b"null"]
        )
        content[a:a] = bytes(piece)
    if way == "encoding":
        content = bytearray(
            content.decode().encode(
                str(rng.choice(["gbk", "latin-1", "utf-16-le"])), "replace"
            )
        )
    if way == "value":
        old = rng.choice([b"5", b'"', b"p1", b"train", b"nodule", b"png", b",", b"["])
        new = rng.choice([b"", b"null", b"NaN", b"-1", b"[]", b"{}", b"1e9", b"true"])
        content = content.replace(bytes(old), bytes(new), int(rng.integers(1, 4)))
    return Case(format, f"bytes: {way}", "open", bytes(content), None)


KINDS = (cell_case, contradiction_case, harmless_case, broken_case)
SHARES = (0.35, 0.15, 0.15, 0.35)


def draw_case(rng):
    """A case of any format; the same numbers draw the same case."""
    format = str(rng.choice(FORMATS, p=(0.35, 0.25, 0.25, 0.15)))
    return KINDS[rng.choice(len(KINDS), p=SHARES)](rng, format)


def _coco(rows):
    height, width = SIZE
    names = list(dict.fromkeys(str(row["label"]) for row in rows))
    return {
        "images": [
            {"id": n, "file_name": row["image"], "height": height, "width": width}
            for n, row in enumerate(rows)
        ],
        "annotations": [
            {
                "id": n,
                "image_id": n,
                "category_id": names.index(str(row["label"])),
                "bbox": [row["box"][0], row["box"][1], *_sides(row["box"])],
            }
            for n, row in enumerate(rows)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
    }


def _sides(box):
    return [box[2] - box[0], box[3] - box[1]]
