"""A user's pictures with a CSV of labels: read, split, and every bad line refused."""

import numpy as np
import pytest
from PIL import Image

from medjax.data.audit.facts import look_plainly
from medjax.data.classes.labelled_images import load_labelled_images
from medjax.data.classes.labels_csv import label_entries
from medjax.data.lists.parts import HeldOut
from medjax.data.lists.reading import PLAIN

HEADER = "image,label,patient"
LINES = [f"p{n}.png,{'nodule' if n % 2 else 'clear'},q{n // 2}" for n in range(12)]


@pytest.fixture
def folder(tmp_path):
    for n in range(12):
        size = (20, 16) if n else (24, 16)
        Image.new("L", size, 20 * n).save(tmp_path / f"p{n}.png")
    write(tmp_path, LINES)
    return tmp_path


def write(folder, lines, header=HEADER, name="labels.csv"):
    (folder / name).write_text("\n".join([header, *lines]) + "\n")


def textured(seed):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (16, 20), np.uint8))


def load(path, reading=PLAIN, **changes):
    held = {name: changes.pop(name) for name in HeldOut._fields if name in changes}
    options = {"classes": None, "ordinal": False, "question": None}
    options |= {"held": HeldOut(0.3, seed=0)._replace(**held)}
    root = path if path.is_dir() else path.parent
    entries = label_entries(path, reading)
    options |= changes
    return load_labelled_images(entries, root, reading, look_plainly, **options)


def groups(pictures):
    return {
        pictures.picture(n, np.random.default_rng(0)).group
        for n in range(pictures.count)
    }


def test_classes_pictures_and_parts(folder):
    parts = load(folder)
    assert parts.task.classes == ("clear", "nodule") and not parts.task.ordinal
    assert parts.train.count == 8 and parts.test.count == 4  # ceil(0.3 * 6) patients
    assert not groups(parts.train) & groups(parts.test)
    for pictures in (parts.train, parts.test):
        for n in range(pictures.count):
            picture = pictures.picture(n, np.random.default_rng(0))
            grey = int(picture.image[0, 0, 0]) // 20
            assert pictures.labels[n, 0] == grey % 2
            assert picture.group == f"q{grey // 2}"
            assert picture.origin == f"labels.csv, line {grey + 2}"
    assert set(parts.train.sizes) | set(parts.test.sizes) == {(16, 20), (16, 24)}
    assert parts.identity == load(folder / "labels.csv").identity
    assert parts.identity != load(folder, seed=1).identity


def test_a_stated_split_and_other_columns(folder):
    lines = [
        f"{line},{'test' if n >= 8 else 'train'},{n}" for n, line in enumerate(LINES)
    ]
    write(folder, lines, HEADER + ",split,age")
    parts = load(folder, question="What is it?")
    assert parts.train.count == 8 and parts.test.count == 4
    picture = parts.test.picture(0, np.random.default_rng(0))
    assert picture.columns == {"age": "8"}
    assert parts.task.questions[0].phrasings == ("What is it?",)


@pytest.mark.parametrize("stated", [True, False])
def test_the_validation_part_leaves_the_test_alone(folder, stated):
    lines = [f"{line},{'test' if n >= 8 else 'train'}" for n, line in enumerate(LINES)]
    header = HEADER + ",split" if stated else HEADER
    write(folder, lines if stated else LINES, header)
    final, tuned = load(folder), load(folder, tested="val")
    assert groups(tuned.train) and groups(tuned.test)
    assert not groups(tuned.train) & groups(tuned.test)
    assert groups(tuned.train) | groups(tuned.test) == groups(final.train)
    assert tuned.identity != final.identity
    with pytest.raises(ValueError, match="test='all': expected one of"):
        load(folder, tested="all")


def test_pictures_without_patients_are_their_own_groups(folder):
    write(folder, [line.rpartition(",")[0] for line in LINES], "image,label")
    parts = load(folder, share=0.25)
    assert parts.test.count == 3 and parts.train.count == 9
    assert len(groups(parts.train) | groups(parts.test)) == 12


def test_grades(folder):
    lines = [f"p{n}.png,{1 + n % 4},q{n}" for n in range(12)]
    write(folder, lines)
    task = load(folder, ordinal=True).task
    assert task.classes == ("1", "2", "3", "4") and task.first_grade == 1
    assert task.ordinal and task.questions[0].phrasings == ("Which grade is this?",)
    names = ("none", "mild", "moderate", "severe", "dead")
    named = load(folder, ordinal=True, classes=names)
    assert named.task.first_grade == 0 and named.task.classes == names
    assert set(named.train.labels.ravel()) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        ("123141234121", None),
        ((1, 2, 3, 20231), "line 5: grade 20231, and 3 in labels.csv, line 4; .* of 4"),
        ((1, 2, -3, 0), r"line 5: grade 0, and -3 in labels.csv, line 4; .* of -2"),
        ((0, 1, 3, 1), "line 4: grade 3, and 1 in labels.csv, line 3; .* of 2"),
    ],
)
def test_grades_without_gaps(folder, grades, message):
    """A mistyped grade would make as many classes as it is away from the others."""
    write(folder, [f"p{n}.png,{grade},q{n}" for n, grade in enumerate(grades)])
    if message is None:
        assert load(folder, ordinal=True).task.classes == ("1", "2", "3", "4")
        return
    with pytest.raises(ValueError, match=f"{message}.*data.classes"):
        load(folder, ordinal=True)
    if grades[-1] == 1:  # the way out
        named = load(folder, ordinal=True, classes=("a", "b", "c", "d"))
        assert named.task.classes == ("a", "b", "c", "d")


def test_a_replaced_picture_changes_the_identity(folder):
    before = load(folder).identity
    Image.new("L", (20, 16), 210).save(folder / "p3.png")  # as large as it was
    after = load(folder).identity
    assert after != before
    Image.new("L", (20, 16), 60).save(folder / "p3.png")
    assert load(folder).identity == before


def test_own_order_of_classes(folder):
    parts = load(folder, classes=("nodule", "clear", "other"))
    assert parts.task.classes == ("nodule", "clear", "other")
    assert set(parts.train.labels.ravel()) == {0, 1}


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ("p1.png,2.5,q", {"ordinal": True}, "line 2: grade '2.5' is not an integer"),
        ("p1.png,two,q", {"ordinal": True}, "line 2: grade 'two' is not an integer"),
        (
            "p1.png,7,q",
            {"ordinal": True, "classes": ("a", "b")},
            "line 2: label '7' is outside the grades 0 to 1",
        ),
        (
            "p1.png,cyst,q",
            {"classes": ("clear", "nodule")},
            "line 2: label 'cyst' is outside the classes clear, nodule",
        ),
        ("p1.png,,q", {}, "line 2: label is empty"),
        ("p1.png,x", {}, "line 2: fewer cells"),
        ("p1.png,x,q,z", {}, "line 2: more cells"),
        ('p1.png,"x,q', {}, "line 12: not CSV"),
        ("labels.csv,x,q", {}, "line 2: cannot read"),
    ],
)
def test_bad_lines_are_named(folder, line, options, message):
    write(folder, [line, *(() if "ordinal" in options else LINES[2:])])
    with pytest.raises(ValueError, match=f"labels.csv, {message}|{message}"):
        load(folder, **options)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("image,class,patient", r"columns \['image', 'class', 'patient'\]"),
        ("image,label,label", "each once"),
        ("image, label,patient", "without blanks"),
        ("image,label,", "without blanks"),
        ("image,label,patients", "column 'patients'; is it meant to be 'patient'"),
        ("image,label,question", "csv, line 1: column 'question': rewards .*rename it"),
        ("image,label,spilt", "column 'spilt'; is it meant to be 'split'"),
    ],
)
def test_bad_headers(folder, header, message):
    write(folder, LINES, header)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_bad_files(folder):
    with pytest.raises(FileNotFoundError, match=r"no such file; expected a \.csv"):
        load(folder / "no.csv")
    write(folder, [])
    with pytest.raises(ValueError, match="labels.csv: no lines below the header"):
        load(folder)
    write(folder, [*LINES, "gone.png,x,q"])
    with pytest.raises(FileNotFoundError, match=r"line 14: no image .*gone\.png"):
        load(folder)
    write(folder, [*LINES, "./p3.png,clear,q9"])
    with pytest.raises(ValueError, match=r"line 14: p3\.png is also in .*line 5"):
        load(folder)
    write(folder, LINES, name="more.csv")
    with pytest.raises(
        ValueError, match="expected one .csv file in the folder, found 2"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("p1.png,nan,q", "label is 'nan'; expected text"),
        ("p1.png,x,", "patient is empty; expected a name"),
        ("p1.png,x,NaN", "patient is 'NaN'; expected a name"),
        ("p1.png,x,unknown", "patient is 'unknown'; expected a name"),
        ("p1.png,a|b,q", r"label 'a\|b' is not one class; .*data.answers=set"),
    ],
)
def test_nothing_is_coerced(folder, line, message):
    write(folder, [LINES[0], line])
    with pytest.raises(ValueError, match=f"labels.csv, line 3: {message}"):
        load(folder)


def test_other_encodings_are_named(folder):
    text = (folder / "labels.csv").read_text().replace("nodule", "结节")
    (folder / "labels.csv").write_bytes(text.encode("utf-8-sig"))
    assert load(folder).task.classes == ("clear", "结节")
    (folder / "labels.csv").write_bytes(text.encode("gbk"))
    with pytest.raises(ValueError, match="labels.csv, line 3: not text in UTF-8.*GBK"):
        load(folder)


def test_lesions_group_as_patients_do(folder):
    """As in HAM10000: several pictures of a lesion."""
    write(folder, LINES, "image,label,lesion_id")
    parts = load(folder)
    assert not groups(parts.train) & groups(parts.test)
    assert len(groups(parts.train)) == 4 and parts.train.count == 8
    picture = parts.train.picture(0, np.random.default_rng(0))
    assert picture.columns == {}


def test_columns_group_that_are_named(folder):
    lines = [f"{line},c{n // 6}" for n, line in enumerate(LINES)]
    write(folder, lines, HEADER + ",clinic")
    parts = load(folder, PLAIN._replace(group=("clinic",)), share=0.5)
    assert (parts.train.count, parts.test.count) == (6, 6)
    with pytest.raises(ValueError, match="no column 'site', which data.group names"):
        load(folder, PLAIN._replace(group=("site",)))


def test_the_same_pixels_never_lie_in_two_parts(folder):
    """Under other names, of other patients, in other formats."""
    for n in range(12):
        textured(n // 4).save(folder / f"p{n}.png")
    for n in (1, 5, 9):
        Image.open(folder / f"p{n}.png").save(folder / f"p{n}.png", compress_level=1)
    write(folder, [f"p{n}.png,{'abc'[n // 4]},q{n}" for n in range(12)])
    for seed in range(5):
        parts = load(folder, seed=seed)
        assert (parts.train.count, parts.test.count) == (8, 4)
        assert len(groups(parts.train)) == 2
    stated = [
        f"p{n}.png,{'abc'[n // 4]},q{n},{'test' if n % 4 == 1 else 'train'}"
        for n in range(12)
    ]
    write(folder, stated, HEADER + ",split")
    message = (
        "line 3: split test, but labels.csv, line 2, of the same picture, is in tr"
    )
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_the_same_pixels_with_two_labels(folder):
    for n in (0, 1):
        textured(0).save(folder / f"p{n}.png")
    message = (
        "line 3: p1.png shows the same pixels as p0.png in labels.csv, line 2, but"
    )
    with pytest.raises(ValueError, match=message):
        load(folder)
    parts = load(folder, PLAIN._replace(on_bad="drop"))
    assert parts.train.count + parts.test.count == 10
    assert [bad.origin[-1] for bad in parts.dropped] == ["2", "3"]
    assert "p1.png shows the same" in parts.dropped[0].message


def test_empty_pictures_join_nobody(folder):
    """As the first slices of all volumes: equal, and no copies of each other."""
    for n in range(12):
        if n % 2 == 0:
            Image.new("L", (20, 16), 0).save(folder / f"p{n}.png")
    parts = load(folder)
    assert parts.train.count == 8 and len(groups(parts.train)) == 4
    write(folder, [f"p{n}.png,{'ab'[n % 4 // 2]},q{n}" for n in range(12)])
    assert load(folder).train.count == 8  # and are no contradiction


def test_two_spellings_are_refused(folder):
    write(folder, [*LINES[:-1], LINES[-1].replace("nodule", "Nodule")])
    with pytest.raises(
        ValueError, match="line 13: label 'Nodule', but 'nodule' in .*3;"
    ):
        load(folder)
    write(folder, [*LINES[:-1], LINES[-1].replace("q5", "Q5")])
    with pytest.raises(
        ValueError, match="line 13: patient 'Q5', but 'q5' in .*12; exp"
    ):
        load(folder)


def test_near_duplicates_are_one_group_on_demand(folder):
    rng = np.random.default_rng(0)
    for n in range(0, 12, 2):
        small = Image.fromarray(rng.integers(20, 230, (8, 8), np.uint8))
        large = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC), np.int32)
        for m in (0, 1):
            noisy = large + rng.integers(0, 3, (64, 64)) + 5 * m
            grey = noisy.clip(0, 255).astype(np.uint8)
            Image.fromarray(grey).save(folder / f"p{n + m}.png")
    write(folder, [f"p{n}.png,{'ab'[n % 4 // 2]},q{n}" for n in range(12)])
    apart = load(folder, share=0.5)
    together = load(folder, PLAIN._replace(near="group"), share=0.5)
    assert len(groups(apart.train)) == 6 and len(groups(together.train)) == 3

    def pairs(pictures):
        count = range(pictures.count)
        rows = (pictures.picture(n, np.random.default_rng(0)) for n in count)
        return {(int(row.origin.rpartition(" ")[2]) - 2) // 2 for row in rows}

    assert not pairs(together.train) & pairs(together.test)
    assert pairs(apart.train) & pairs(apart.test)
    assert together.identity != apart.identity


def test_several_readers(folder):
    lines = [
        f"p{n // 3}.png,{'clear' if n % 3 or n < 6 else 'nodule'},q{n // 3},R{n % 3}"
        for n in range(18)
    ]
    write(folder, lines, HEADER + ",rad_id")
    with pytest.raises(
        ValueError, match=r"3 readers \(R0, R1, R2\); expected data.rea"
    ):
        load(folder)
    most = load(folder, PLAIN._replace(readers="majority"))
    assert most.task.classes == ("clear",) and most.train.count + most.test.count == 6
    assert most.notes[0].startswith(
        "3 readers, 6 read by several: share of agreeing pa"
    )
    one = load(folder, PLAIN._replace(readers="R0"))
    assert one.task.classes == ("clear", "nodule") and one.identity != most.identity
    message = (
        "line 8: its readers say R0: nodule, R1: clear, R2: clear; expected one la"
    )
    with pytest.raises(ValueError, match=message):
        load(folder, PLAIN._replace(readers="union"))
    agreed = load(folder, PLAIN._replace(readers="union", on_bad="drop"))
    assert agreed.train.count + agreed.test.count == 2


def test_the_rest_of_the_readers_is_no_majority(folder):
    lines = [f"p{n // 3}.png,x,q{n // 3},R{n % 3}" for n in range(18)]
    lines[4] = "p1.png,,q1,R1"
    write(folder, lines, HEADER + ",rad_id")
    parts = load(folder, PLAIN._replace(readers="majority", on_bad="drop"))
    assert parts.train.count + parts.test.count == 5
    assert sorted(bad.origin[-1] for bad in parts.dropped) == ["5", "6", "7"]


def test_bad_splits(folder):
    header = HEADER + ",split"
    write(folder, [f"{line},train" for line in LINES], header)
    with pytest.raises(ValueError, match=r"no line is in test \(found 12 train\)"):
        load(folder)
    write(folder, [f"{LINES[0]},dev"], header)
    with pytest.raises(ValueError, match="line 2: split 'dev'"):
        load(folder)
    lines = [f"{line},{'test' if n == 1 else 'train'}" for n, line in enumerate(LINES)]
    write(folder, lines, header)
    with pytest.raises(
        ValueError,
        match="line 3: split test, but .*line 2, of the same patient, is in t",
    ):
        load(folder)
    write(folder, LINES[:2])
    with pytest.raises(ValueError, match="leave nothing to train or to test on"):
        load(folder)


SETS = PLAIN._replace(answers="set")


def test_several_labels_a_picture(folder):
    labels = ("a|b", "No Finding", "b", "NONE", " b | a ", "a")
    lines = [f"p{n}.png,{labels[n % 6]},q{n}" for n in range(12)]
    write(folder, lines)
    parts = load(folder, SETS)
    assert parts.task.multi and parts.task.classes == ("a", "b")
    assert parts.task.questions[0].phrasings == ("Which of these are seen?",)
    marks = [(1, 1), (0, 0), (0, 1), (0, 0), (1, 1), (1, 0)]
    for pictures in (parts.train, parts.test):
        for n in range(pictures.count):
            grey = pictures.picture(n, np.random.default_rng(0)).image[0, 0, 0] // 20
            assert tuple(pictures.labels[n]) == marks[grey % 6]
    declared = load(folder, SETS, classes=("b", "c", "a"))
    assert declared.task.classes == ("b", "c", "a")
    assert declared.train.labels[:, 1].sum() == 0
    with pytest.raises(ValueError, match=r"line 2: label 'a\|b' is not one class"):
        load(folder)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("a|", "line 2, column 'label': 'a.' says an empty name"),
        ("a||b", "says an empty name"),
        ("a|b|a", "says 'a' twice"),
        ("No Finding|a", "says that nothing is found beside a class"),
        ("c", "label 'c' is outside the classes a, b"),
    ],
)
def test_bad_sets_of_labels(folder, label, message):
    lines = [f"p{n}.png,{'a|b' if n else label},q{n}" for n in range(12)]
    write(folder, lines)
    with pytest.raises(ValueError, match=message):
        load(folder, SETS, classes=("a", "b"))


def test_sets_of_labels_are_no_grades(folder):
    with pytest.raises(ValueError, match=r"data.answers=set and data.ordinal=True"):
        load(folder, SETS, ordinal=True)
