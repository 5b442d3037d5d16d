import json

import numpy as np
import pytest
from PIL import Image

from medjax.data.audit.facts import look_plainly
from medjax.data.boxes.jsonl import jsonl_entries
from medjax.data.boxes.row_views import row_views
from medjax.data.boxes.rows import box_rows, grouped_rows
from medjax.data.lists.groups import join_groups
from medjax.data.lists.parts import HeldOut, part_lines
from medjax.data.lists.reading import PLAIN
from medjax.data.prompting.layout import Geometry

GEOMETRY = Geometry(
    patch=7, merge=2, temporal=2, window=28, min_pixels=14 * 14, max_pixels=56 * 56
)
GOOD = {
    "image": "a.png",
    "query": "Find the nodule.",
    "box": [10, 20, 60, 80],
    "frame": "original",
    "label": "nodule",
}


@pytest.fixture
def folder(tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (120, 100), np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "b.jpg", quality=95)
    deep = (grey.astype(np.uint16) * 10 + 500).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    return tmp_path


def write(folder, *lines):
    text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
    (folder / "records.jsonl").write_text(text)
    return folder / "records.jsonl"


def read(path, geometry=GEOMETRY, **changes):
    reading = PLAIN._replace(**changes)
    entries = jsonl_entries(path, reading)
    return box_rows(entries, reading, geometry, look_plainly)


def load_rows(path, geometry=GEOMETRY, **changes):
    return read(path, geometry, **changes).rows


def split_rows(rows, root, *, test_share, seed, tested="test"):
    lines = grouped_rows(rows, root)
    groups = join_groups(lines)
    parts = part_lines(lines, groups, HeldOut(test_share, seed, tested))
    return [[rows[n] for n in part] for part in parts]


def test_file_and_folder_are_the_same(folder):
    path = write(folder, GOOD, "", {**GOOD, "image": "b.jpg"})
    rows = load_rows(path, GEOMETRY)
    assert rows == load_rows(folder, GEOMETRY)
    assert [row.origin for row in rows] == [
        "records.jsonl, line 1",
        "records.jsonl, line 3",
    ]
    assert rows[0].sizes == ((120, 100),) and rows[0].boxes == ((10, 20, 60, 80),)


@pytest.mark.parametrize(
    ("frame", "box"),
    [
        ("original", [25, 60, 50, 90]),
        ("unit", [0.25, 0.5, 0.5, 0.75]),
        ("thousand", [250, 500, 500, 750]),
        ("resized", [10.5, 28, 21, 42]),  # 120 x 100 is shown as 56 x 42
    ],
)
def test_frames_are_brought_to_original_pixels(folder, frame, box):
    (row,) = load_rows(write(folder, {**GOOD, "box": box, "frame": frame}), GEOMETRY)
    np.testing.assert_allclose(row.boxes[0], [25, 60, 50, 90])


def test_questions_about_one_image_are_one_view(folder):
    other = {**GOOD, "query": "Where is the vessel?", "label": "vessel"}
    path = write(folder, GOOD, {**GOOD, "image": "b.jpg"}, other)
    views = row_views(load_rows(path, GEOMETRY))
    assert views.count == 2 and views.names == ("nodule", "vessel")
    view = views.view(0, np.random.default_rng(0))
    assert view.names == ("nodule", "vessel") and view.boxes.shape == (2, 4)
    assert view.questions == (("Find the nodule.",), ("Where is the vessel?",))
    assert view.images[0].shape == (120, 100, 3)


def test_outline_is_the_view_without_reading_its_images(folder):
    views = row_views(load_rows(write(folder, GOOD), GEOMETRY))
    view = views.view(0, np.random.default_rng(0))
    (folder / "a.png").unlink()
    outline = views.outline(0)
    assert outline.images[0].shape == view.images[0].shape
    np.testing.assert_array_equal(outline.boxes, view.boxes)
    assert outline[1:2] + outline[3:] == view[1:2] + view[3:]


def test_several_images_of_a_question(folder):
    row = {**GOOD, "image": ["b.jpg", "a.png"]}
    views = row_views(load_rows(write(folder, row), GEOMETRY))
    view = views.view(0, np.random.default_rng(0))
    assert views.slots == 2 and len(view.images) == 2


def without(key):
    return {k: v for k, v in GOOD.items() if k != key}


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ('{"image": ', ValueError, "not JSON.*expected one object"),
        ("[1, 2]", ValueError, "expected a JSON object"),
        (without("frame"), ValueError, "'frame' is not declared.*original"),
        (without("query"), ValueError, r"missing keys \['query'\]"),
        ({**GOOD, "lable": "x"}, ValueError, r"unknown keys \['lable'\]"),
        ({**GOOD, "columns": {"target": 1}}, ValueError, "column 'target': rewards"),
        ({**GOOD, "frame": "pixels"}, ValueError, "frame 'pixels'.*one of"),
        ({**GOOD, "image": "none.png"}, FileNotFoundError, r"no image .*none\.png"),
        ({**GOOD, "image": "broken.png"}, ValueError, r"cannot read .*broken\.png"),
        ({**GOOD, "box": [1, 2, 3]}, ValueError, "expected four numbers"),
        ({**GOOD, "box": "1 2 3 4"}, ValueError, "expected four numbers"),
        ({**GOOD, "box": [1, 2, float("nan"), 4]}, ValueError, "NaN is not JSON"),
        ({**GOOD, "box": [1, 2, True, 4]}, ValueError, "a finite number"),
        (
            {**GOOD, "box": [10, 20, 101, 80]},
            ValueError,
            "leaves the image of 120 x 100",
        ),
        ({**GOOD, "box": [-1, 20, 60, 80]}, ValueError, "leaves the image"),
        ({**GOOD, "box": [60, 20, 60, 80]}, ValueError, "is empty.*Clip it"),
        ({**GOOD, "box": [60, 80, 10, 20]}, ValueError, "is empty"),
        ({**GOOD, "box": [10, 20, 10.2, 80]}, ValueError, "below one pixel.*56 x 42"),
    ],
)
def test_faults_name_the_line_and_the_way_out(folder, line, error, message):
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    path = write(folder, GOOD, line)
    with pytest.raises(error, match=message) as raised:
        load_rows(path, GEOMETRY)
    assert "records.jsonl, line 2" in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patient": None}, "patient is null; expected a name"),
        ({"patient": float("nan")}, "NaN is not JSON"),
        ({"patient": " "}, "patient is empty; expected a name"),
        ({"patient": "nan"}, "patient is 'nan'; expected a name"),
        ({"patient": 17}, "patient is 17; expected text: write it in quotes"),
        ({"study": None}, "study is null"),
        ({"lesion": "unknown"}, "lesion is 'unknown'"),
        ({"label": None}, "label is null; expected text"),
        ({"label": 3}, "label is 3; expected text"),
        ({"query": None}, "query is null; expected text"),
        ({"query": ""}, "query is empty; expected text"),
        ({"image": None}, "none of them empty"),
        ({"image": [None]}, "image is null"),
        ({"image": 5}, "image is 5; expected text"),
        ({"image": "a\x00.png"}, r"holds the character U\+0000"),
        ({"split": None}, "split None; expected train, val"),
        ({"split": "dev"}, "split 'dev'; expected train, val"),
        ({"reader": None}, "reader is null"),
        (
            {"size": [100, 120]},
            r"size \[100, 120\] is declared, but the image is 120 x",
        ),
        ({"size": "120x100"}, r"expected \[height, width\] in pixels"),
        ({"boxes": []}, r"missing keys \['box \(or boxes, one of them\)'\]"),
        ({"clinic": "A"}, r"unknown keys \['clinic'\].*data.group"),
        ({"columns": [1]}, "expected an object"),
        ({"frame": ["original"]}, "frame .* expected one of"),
    ],
)
def test_nothing_is_coerced(folder, changes, message):
    path = write(folder, GOOD, {**GOOD, "image": "b.jpg", **changes})
    with pytest.raises(ValueError, match=f"records.jsonl, line 2: .*{message}"):
        load_rows(path)


def test_a_group_that_no_line_names_is_refused(folder):
    path = write(folder, {**GOOD, "columns": {"clinic": "A"}})
    with pytest.raises(ValueError, match="no line has 'clinic', which data.group"):
        load_rows(path, group=("clinic",))
    assert load_rows(write(folder, {**GOOD, "clinic": "A"}), group=("clinic",))


def test_a_key_given_twice_is_refused(folder):
    twice = json.dumps(GOOD)[:-1] + ', "query": "Other."}'
    with pytest.raises(ValueError, match="line 1: key 'query' is there twice"):
        load_rows(write(folder, twice))


def test_files_of_other_encodings(folder):
    path = write(folder, GOOD)
    text = json.dumps({**GOOD, "label": "结节"}, ensure_ascii=False)
    path.write_bytes(text.encode("utf-8-sig"))
    assert load_rows(path)[0].label == "结节"
    path.write_bytes(text.encode("gbk"))
    with pytest.raises(ValueError, match=r"records.jsonl, line 1: not text.*GBK"):
        load_rows(path)


@pytest.mark.parametrize(
    ("column", "values"), [("patient", ("p1", "P1")), ("label", ("node", "no\u200bde"))]
)
def test_two_spellings_of_a_name_are_refused(folder, column, values):
    lines = [
        {**GOOD, "image": name, column: value}
        for name, value in zip(("a.png", "b.jpg"), values, strict=True)
    ]
    path = write(folder, *lines)
    message = f"records.jsonl, line 2: {column} .* in records.jsonl, line 1; expected"
    with pytest.raises(ValueError, match=message):
        load_rows(path)
    found = read(path, on_bad="drop")
    assert len(found.rows) == 1 and found.dropped[0].origin == "records.jsonl, line 2"


def test_rows_of_one_question_are_a_set(folder):
    other = {**GOOD, "box": [1, 2, 30, 40]}
    with pytest.raises(ValueError, match="2 boxes answer .*Choose data.answers=set"):
        load_rows(write(folder, GOOD, other))
    (row,) = load_rows(
        write(folder, GOOD, {**other, "image": "./a.png"}), answers="set"
    )
    assert row.boxes == ((10, 20, 60, 80), (1, 2, 30, 40))
    path = write(folder, {**without("box"), "boxes": [GOOD["box"], other["box"]]})
    assert load_rows(path, answers="set")[0].boxes == row.boxes
    # another case and other blanks ask the same
    spelt = {**other, "query": "  " + GOOD["query"].upper().replace(" ", "\u00a0 ")}
    with pytest.raises(ValueError, match="2 boxes answer "):
        load_rows(write(folder, GOOD, spelt))
    (row,) = load_rows(write(folder, GOOD, spelt), answers="set")
    assert len(row.boxes) == 2 and row.query == GOOD["query"]
    nothing = {**without("box"), "boxes": []}
    with pytest.raises(ValueError, match="no boxes answer .*data.answers=set"):
        load_rows(write(folder, nothing))
    assert load_rows(write(folder, nothing), answers="set")[0].boxes == ()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({}, r"line 2: the box .* is also in records.jsonl, line 1; expected each"),
        (
            {"box": [1, 2, 30, 40], "label": "mass"},
            "line 2: label 'mass', but 'nodule' in",
        ),
        ({"boxes": []}, "line 2: no boxes, but 1 in records.jsonl, line 1"),
        ({"box": [1, 2, 30, 40], "split": "test"}, "line 2: split 'test', but None in"),
    ],
)
def test_lines_that_contradict_each_other(folder, second, message):
    second = {**GOOD, **second}
    if "boxes" in second:
        del second["box"]
    path = write(folder, GOOD, second, {**GOOD, "image": "b.jpg"})
    with pytest.raises(ValueError, match=message):
        load_rows(path, answers="set")
    found = read(path, answers="set", on_bad="drop")
    assert [row.origin for row in found.rows] == ["records.jsonl, line 3"]
    origins = [bad.origin for bad in found.dropped]
    assert origins == ["records.jsonl, line 1", "records.jsonl, line 2"]


def test_the_same_pixels_under_two_names_with_other_boxes(folder):
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    copy = {**GOOD, "image": "copy.png"}
    assert len(load_rows(write(folder, GOOD, copy))) == 2
    path = write(folder, GOOD, {**copy, "box": [1, 2, 30, 40]})
    message = "line 2: copy.png shows the same pixels as a.png in records.jsonl, line 1"
    with pytest.raises(ValueError, match=message):
        load_rows(path)


def test_lines_that_cannot_be_used_are_dropped_and_listed(folder):
    faults = [
        '{"image": ',
        {**GOOD, "box": [10, 20, 101, 80]},
        {**GOOD, "image": "none.png"},
        {**GOOD, "patient": None},
    ]
    right = {**GOOD, "image": "b.jpg"}
    found = read(write(folder, *faults, right), on_bad="drop")
    assert [row.origin for row in found.rows] == ["records.jsonl, line 5"]
    assert [bad.origin[-1] for bad in found.dropped] == ["1", "4", "2", "3"]
    assert all(bad.message.startswith(bad.origin) for bad in found.dropped)
    with pytest.raises(
        ValueError, match="no lines; the first was left out: .*not JSON"
    ):
        read(write(folder, *faults), on_bad="drop")


@pytest.mark.parametrize(
    "wrong",
    [
        {"box": [10, 20, 101, 80]},
        {"box": [1, 2, 3]},
        {"split": "dev"},
        {"reader": None},
    ],
)
def test_the_rest_of_a_set_is_no_answer(folder, wrong):
    """One of two boxes cannot be used: the other alone would be a wrong answer."""
    other = {**GOOD, "box": [1, 2, 30, 40]}
    elsewhere = {**other, "query": "Where is the vessel?", "label": "vessel"}
    path = write(folder, other, {**GOOD, **wrong}, elsewhere)
    for answers in ("one", "set"):
        found = read(path, on_bad="drop", answers=answers)
        assert [row.query for row in found.rows] == ["Where is the vessel?"]
        assert [bad.origin[-1] for bad in found.dropped] == ["2", "1"]
        told = "line 1: left out with records.jsonl, line 2, which is about the same"
        assert told in found.dropped[1].message


def readers(*boxes, **changes):
    """A line for each reader and box, about one question."""
    return [
        {**without("box"), "boxes": list(mine), "reader": f"R{n}", **changes}
        for n, mine in enumerate(boxes)
    ]


def test_readers_have_to_be_chosen(folder):
    a, near, far = [10, 20, 60, 80], [10, 20, 60, 84], [70, 20, 90, 80]
    path = write(folder, *readers([a], [near], [far]))
    with pytest.raises(
        ValueError, match=r"3 readers \(R0, R1, R2\); expected data.rea"
    ):
        load_rows(path)
    found = read(path, readers="majority")
    assert found.rows[0].boxes == ((10, 20, 60, 82),)
    assert found.agreement.readers == ("R0", "R1", "R2")
    assert found.agreement.measures["F1 at IoU 0.5"] == pytest.approx(1 / 3)
    (row,) = load_rows(path, readers="union", answers="set")
    assert row.boxes == ((10, 20, 60, 82), tuple(map(float, far)))
    assert load_rows(path, readers="R2")[0].boxes == (tuple(map(float, far)),)


def test_a_reader_who_found_nothing_counts(folder):
    """R1 looked at the picture, for another question: of this one there is nothing."""
    path = write(
        folder,
        *readers([[10, 20, 60, 80]], []),
        *readers([], [[1, 1, 9, 90]], query="Find the vessel.", label="vessel"),
        {**readers([[10, 20, 60, 80]])[0], "query": "Find the rib.", "label": "rib"},
    )
    rows = load_rows(path, readers="majority", answers="set")
    assert [len(row.boxes) for row in rows] == [0, 0, 0]
    rows = load_rows(path, readers="R1", answers="set")
    assert [len(row.boxes) for row in rows] == [0, 1, 0]


def test_accents_as_a_disk_spells_them(folder):
    """macOS stores a name's accents as characters of their own."""
    (folder / "a.png").rename(folder / "Mu\u0308ller.png")
    for spelling in ("Mu\u0308ller.png", "M\u00fcller.png"):
        (row,) = load_rows(write(folder, {**GOOD, "image": spelling}))
        assert row.sizes == ((120, 100),)


def test_truncated_image_is_named(folder):
    whole = (folder / "b.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    path = write(folder, GOOD, {**GOOD, "image": "cut.jpg"})
    with pytest.raises(ValueError, match=r"line 2: cannot read cut\.jpg"):
        load_rows(path)


def test_missing_and_ambiguous_files(folder):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_rows(folder / "nowhere.jsonl", GEOMETRY)
    with pytest.raises(ValueError, match="found 0"):
        load_rows(folder, GEOMETRY)
    with pytest.raises(ValueError, match="no lines"):
        load_rows(write(folder, "", ""), GEOMETRY)
    (folder / "more.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="found 2.*name the file"):
        load_rows(folder, GEOMETRY)


def patients(folder, count):
    """So many patients with two pictures each, of which two things are asked."""
    lines = []
    for n in range(2 * count):
        Image.new("L", (100, 120), n).save(folder / f"p{n}.png")
        line = {**GOOD, "image": f"p{n}.png", "patient": f"p{n % count}"}
        lines += [line, {**line, "query": "Where is it?"}]
    return load_rows(write(folder, *lines))


def test_patients_are_not_in_both_parts(folder):
    rows = patients(folder, 10)
    parts = split_rows(rows, folder, test_share=0.3, seed=1)
    train, test = ({row.groups["patient"] for row in part} for part in parts)
    assert len(train) == 7 and len(test) == 3 and not train & test
    assert len(parts[0]) + len(parts[1]) == len(rows)
    _, again = split_rows(rows[::-1], folder, test_share=0.3, seed=1)
    assert {row.groups["patient"] for row in again} == test


def test_split_by_image_where_there_are_no_patients(folder):
    rows = load_rows(write(folder, GOOD, {**GOOD, "image": "b.jpg"}))
    train, test = split_rows(rows, folder, test_share=0.5, seed=0)
    assert len(train) == len(test) == 1 and train[0].images != test[0].images


def test_impossible_splits(folder):
    with pytest.raises(ValueError, match="1 patients or images"):
        split_rows(patients(folder, 1), folder, test_share=0.2, seed=0)
    with pytest.raises(ValueError, match="test='dev': expected one of"):
        rows = patients(folder, 2)
        split_rows(rows, folder, test_share=0.2, seed=0, tested="dev")
    other = {**GOOD, "image": "b.jpg"}
    rows = load_rows(write(folder, {**GOOD, "patient": "p"}, other))
    with pytest.raises(ValueError, match="line 2: no patient, but other lines"):
        split_rows(rows, folder, test_share=0.2, seed=0)
