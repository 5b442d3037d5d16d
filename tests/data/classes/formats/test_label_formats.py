import json

import pytest

from medjax.data.classes.formats.table import LABEL_FORMATS, read_labels
from medjax.data.classes.rows import label_rows
from medjax.data.lists.reading import Bad, Reading
from medjax.data.lists.recognise import recognise
from tests.data import folders

SETS = Reading(answers="set")


def entries(path, reading=SETS):
    return list(read_labels(path, reading))


def faults(path, reading=SETS):
    return [one.message for one in entries(path, reading) if isinstance(one, Bad)]


def test_diagnoses_of_ham10000_and_lesions_as_groups(tmp_path):
    found = entries(folders.ham10000(tmp_path, masks=False), Reading())
    assert len(found) == 24 and len({one.labels for one in found}) == 7
    assert found[0].labels == found[1].labels == ("melanocytic nevi",)
    assert found[0].groups == {"lesion_id": "HAM_0000000"} and found[0].split is None
    assert found[0].image.path.name == "ISIC_0024306.jpg"


def test_kinds_of_tn3k_in_official_parts(tmp_path):
    found = entries(folders.tn3k(tmp_path), Reading())
    assert len(found) == 15
    assert [one.labels for one in found[:2]] == [("benign",), ("malignant",)]
    fold = json.loads((tmp_path / "tn3k-trainval-fold0.json").read_text())
    val = {one.image.path.name for one in found if one.split == "val"}
    assert val == {f"{n:04d}.jpg" for n in fold["val"]}
    again = entries(tmp_path, Reading(official=False))
    assert {one.split for one in again} == {None}
    (tmp_path / "trainval-mask").rename(tmp_path / "a")
    assert entries(tmp_path, Reading()) == found  # masks are not needed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0000.jpg,1\n0000.jpg,0\n", "line 2: 0000 is there twice"),
        ("0000.jpg,2\n", "line 1: '0000.jpg,2'; expected a name and 0 .benign."),
        ("image,label\n0000.jpg,2\n", "line 1: 'image,label'; expected a name"),
        ("0000.jpg\n", "line 1: '0000.jpg'; expected a name and 0"),
    ],
)
def test_wrong_lines_of_tn3k_are_named(tmp_path, text, message):
    folders.tn3k(tmp_path)
    (tmp_path / "label4trainval.csv").write_text(text)
    with pytest.raises(ValueError, match=f"label4trainval.csv, {message}"):
        entries(tmp_path, Reading())


def test_images_of_tn3k_without_a_kind_are_named(tmp_path):
    folders.tn3k(tmp_path)
    (tmp_path / "label4test.csv").write_text("0000.jpg,1\n0001.jpg,0\n0009.jpg,0\n")
    found = faults(tmp_path, Reading())
    assert found[:2] == [
        "test-image/0002.jpg: is not in label4test.csv",
        "test-image/0003.jpg: is not in label4test.csv",
    ]
    assert found[2] == "label4test.csv, 0009: no such image in test-image/"
    (tmp_path / "label4test.csv").unlink()
    with pytest.raises(ValueError, match="no label4test.csv; expected lines such as"):
        entries(tmp_path, Reading())


def test_findings_of_nih_are_sets_and_patients_groups(tmp_path):
    found = entries(folders.nih(tmp_path, patients=4, size=(64, 64)))
    assert [one.labels for one in found[:4]] == [
        ("Cardiomegaly",),
        ("Effusion", "Mass"),
        (),
        ("Nodule",),
    ]
    assert found[0].groups == found[1].groups == {"patient": "1"}
    assert {one.split for one in found} == {"train", "test"}
    (tmp_path / "BBox_List_2017.csv").unlink()
    assert entries(tmp_path) == found
    (tmp_path / "images_001").rename(tmp_path / "images-224")
    inner = tmp_path / "images-224" / "images"
    inner.rename(inner.with_name("images-224"))
    smaller = entries(tmp_path)
    assert [one.labels for one in smaller] == [one.labels for one in found]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("Effusion|No Finding", "expected No Finding, or other findings once each"),
        ("Effusion|Effusion", "expected No Finding, or other findings once each"),
        ("Effusion|", "finding ''; expected one of Atelectasis"),
        ("", "Finding Labels is empty"),
        ("Fracture", "finding 'Fracture'; expected one of"),
    ],
)
def test_findings_that_contradict_themselves_are_named(tmp_path, labels, message):
    folders.nih(tmp_path, patients=1, size=(64, 64))
    file = tmp_path / "Data_Entry_2017.csv"
    file.write_text(file.read_text().replace("Effusion|Mass", labels))
    (fault,) = faults(tmp_path)
    assert fault.startswith("Data_Entry_2017.csv, line 3: ") and message in fault


def test_findings_of_vindr_have_readers(tmp_path):
    found = entries(folders.vindr(tmp_path / "a"))
    assert [(one.labels, one.reader) for one in found[:3]] == [
        (("Aortic enlargement",), "R1"),
        (("Aortic enlargement",), "R2"),
        ((), "R3"),
    ]
    assert [one.reader for one in found if one.split == "test"] == [None] * 3
    folders.vindr(tmp_path / "k", kaggle=True)
    kaggle = entries(tmp_path / "k")
    train = [one for one in found if one.split == "train"]
    assert [(one.labels, one.reader) for one in kaggle] == [
        (one.labels, one.reader) for one in train
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",R1,1,0,0,0", ",R1,1,0,0,1", "'No finding' beside Aortic enlargement"),
        (",R1,1,0,0,0", ",R1,2,0,0,0", "Aortic enlargement is '2'; expected 0 or 1"),
        (",R1,1,0,0,0", ",,1,0,0,0", "rad_id is empty"),
        (",R1,1,0,0,0", ",R1,0,0,0,0", "every column is 0, 'No finding' too; expected"),
    ],
)
def test_opinions_that_contradict_themselves_are_named(tmp_path, old, new, message):
    folders.vindr(tmp_path)
    file = tmp_path / "annotations" / "image_labels_train.csv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    (fault,) = faults(tmp_path)
    assert fault.startswith("image_labels_train.csv, line 2: ") and message in fault


def test_a_wrong_line_of_a_reader_spoils_the_image(tmp_path):
    """Dropped, it would leave the majority to two of three readers."""
    folders.vindr(tmp_path)
    file = tmp_path / "annotations" / "image_labels_train.csv"
    file.write_text(file.read_text().replace(",R1,1,0,0,0", ",R1,0,0,0,0", 1))
    reading = Reading(answers="set", on_bad="drop", readers="majority")
    found = label_rows(read_labels(tmp_path, reading), reading, None)
    assert f"{0:032x}" not in {row.image.path.stem for row in found.rows}
    assert [bad.origin.rpartition(" ")[2] for bad in found.dropped] == ["2", "3", "4"]


def test_a_list_of_ones_own_is_read_as_before_and_options_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("image,label\na.png,node\n")
    (found,) = entries(tmp_path, Reading())
    assert found.labels == ("node",)
    for reading in (Reading(fold=1), Reading(coords="xyxy")):
        with pytest.raises(ValueError, match="does not concern the format csv"):
            entries(tmp_path, reading)
    folders.ham10000(tmp_path, lesions=1)
    with pytest.raises(ValueError, match="data.format=csv or data.format=ham10000"):
        entries(tmp_path, Reading())
    assert len(entries(tmp_path, Reading(format="ham10000"))) == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"no known format; looked for\n  csv: one"):
        recognise(empty, [one.format for one in LABEL_FORMATS], "")


def test_a_list_of_tn3k_that_is_no_csv_is_named(tmp_path):
    folders.tn3k(tmp_path)
    (tmp_path / "label4trainval.csv").write_text('"0000.jpg"x,1\n')
    with pytest.raises(ValueError, match="label4trainval.csv, line 1: not CSV"):
        entries(tmp_path, Reading())


def test_an_image_of_coco_shows_the_categories_of_its_annotations(tmp_path):
    content = folders.coco(tmp_path)
    content["annotations"].append(content["annotations"][0] | {"id": 90, "bbox": []})
    content["annotations"].append(content["annotations"][0] | {"id": 91})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    names = {one["id"]: one["name"] for one in content["categories"]}
    truth = {one["id"]: set() for one in content["images"]}
    for one in content["annotations"]:
        truth[one["image_id"]].add(names[one["category_id"]])
    found = entries(tmp_path)
    assert found == entries(tmp_path / "instances.json")
    assert [set(one.labels) for one in found] == list(truth.values())
    assert {len(one.labels) for one in found} >= {0, 1}
    assert all(len(set(one.labels)) == len(one.labels) for one in found)
    groups = entries(tmp_path, SETS._replace(group=("patient_id",)))
    assert groups[2].groups == {"patient_id": "p1"}


def test_official_parts_of_coco_are_those_of_its_files(tmp_path):
    for part in ("train", "val"):
        folders.coco(tmp_path, name=f"annotations/instances_{part}2017.json")
    assert {one.split for one in entries(tmp_path)} == {"train", "val"}
    assert {x.split for x in entries(tmp_path, SETS._replace(official=False))} == {None}


def test_images_of_coco_with_a_wrong_annotation_have_no_labels(tmp_path):
    content = folders.coco(tmp_path)
    wrong = content["annotations"][0] | {"id": 90, "category_id": 77}
    content["annotations"].append(wrong)
    (tmp_path / "instances.json").write_text(json.dumps(content))
    kept = [one for one in entries(tmp_path) if not isinstance(one, Bad)]
    assert len(kept) == len(content["images"]) - 1
    assert kept[0].origin == "instances.json, image 2"
    assert faults(tmp_path)[0].startswith("instances.json, annotation 90: category_id")


def test_no_finding_is_no_class_of_coco(tmp_path):
    content = folders.coco(tmp_path)
    content["categories"].append({"id": 99, "name": "No finding"})
    nothing = content["annotations"][0] | {"id": 90, "category_id": 99}
    content["annotations"].append(nothing | {"image_id": content["images"][-1]["id"]})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    assert entries(tmp_path)[-1].labels == ()
    content["annotations"].append(nothing | {"id": 91})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (message,) = faults(tmp_path)
    assert "expected 'No finding' alone, or other categories" in message
