import json
import re

import numpy as np
import pytest

from medjax.data.boxes.entries import BoxEntry
from medjax.data.boxes.formats.asking import Asking
from medjax.data.boxes.formats.table import box_entries
from medjax.data.boxes.rows import box_rows
from medjax.data.lists.reading import Bad, Reading
from medjax.data.prompting.layout import Geometry
from tests.data import folders


def entries(path, reading=None, **asking):
    return list(box_entries(path, reading or Reading(), Asking(**asking)))


def write(root, content, name="instances.json"):
    (root / name).write_text(json.dumps(content))
    return root


def test_boxes_are_corners_and_an_image_without_any_is_asked_about(tmp_path):
    content = folders.coco(tmp_path)
    found = entries(tmp_path)
    assert found == entries(tmp_path / "instances.json")
    assert [len(one.boxes) for one in found] == [1] * 5 + [0]
    x, y, width, height = content["annotations"][0]["bbox"]
    first = found[0]
    assert first.boxes == ((x, y, x + width, y + height),)
    assert first.origin == "instances.json, annotation 10"
    assert first.query == "Find the nodule." and first.label == "nodule"
    assert first.images[0].path == tmp_path / "images" / "a" / "0.png"
    assert first.size == (40, 56) and first.frame == "original"
    assert first.groups == {"patient_id": "p0"}
    assert found[-1].origin == "instances.json, image 6"
    assert found[-1].label in ("nodule", "cyst")


def test_what_is_asked_about_absent_classes(tmp_path):
    folders.coco(tmp_path)
    every = entries(tmp_path, negatives="all")
    asked = {(one.images[0].path.name, one.label): len(one.boxes) for one in every}
    assert len(asked) == len(every) == 12 and sum(asked.values()) == 5
    assert all(one.boxes for one in entries(tmp_path, negatives="off"))
    together = entries(tmp_path, query="Find everything.")
    assert {one.label for one in together} == {"finding"}
    assert {one.query for one in together} == {"Find everything."}
    where = entries(tmp_path, query="Where is the {label}?")
    assert where[1].query == "Where is the cyst?"


def test_images_are_without_a_class_that_is_not_chosen(tmp_path):
    folders.coco(tmp_path)
    found = entries(tmp_path, structures="cyst")
    assert {one.label for one in found} == {"cyst"}
    assert [len(one.boxes) for one in found] == [0, 1, 0, 1, 0, 0]
    with pytest.raises(ValueError, match=r"structures: liver of .*nodule, cyst"):
        entries(tmp_path, structures=("cyst", "liver"))


def test_groups_are_fields_of_an_image(tmp_path):
    content = folders.coco(tmp_path)
    assert entries(tmp_path)[3].groups == {"patient_id": "p1"}  # by its name
    for n, image in enumerate(content["images"]):
        image |= {"site": n % 3, "patient_id": 7 + n // 2}
    write(tmp_path, content)
    found = entries(tmp_path, Reading(group=("site",)))
    assert found[4].groups == {"patient_id": "9", "site": "1"}
    with pytest.raises(ValueError, match=r"instances.json: no column 'scanner'"):
        entries(tmp_path, Reading(group=("scanner",)))
    for value in (None, "", "unknown", "nan", 1.5, True, ["p1"]):
        content["images"][2]["patient_id"] = value
        write(tmp_path, content)
        (bad,) = (one for one in entries(tmp_path) if isinstance(one, Bad))
        assert bad.message.startswith("instances.json, image 3: patient_id is ")
    del content["images"][2]["patient_id"]
    write(tmp_path, content)
    assert any(isinstance(one, Bad) for one in entries(tmp_path))


def test_files_of_the_official_parts_are_told_by_name_or_folder(tmp_path):
    for part in ("train", "val"):
        root = tmp_path / "named"
        folders.coco(root, name=f"annotations/instances_{part}2017.json")
        folders.coco(tmp_path / "apart" / part, name="_annotations.coco.json")
    found = entries(tmp_path / "named")
    assert [one.split for one in found] == ["train"] * 6 + ["val"] * 6
    found = entries(tmp_path / "apart")
    assert [one.split for one in found] == ["train"] * 6 + ["val"] * 6
    assert "train" in found[0].images[0].path.parts
    free = entries(tmp_path / "apart", Reading(official=False))
    assert {one.split for one in free} == {None}
    folders.coco(tmp_path / "named", name="annotations/instances_old_train.json")
    with pytest.raises(ValueError, match="several COCO files, .*instances_old_train"):
        entries(tmp_path / "named")


def test_boxes_missing_are_those_of_polygons_and_runs(tmp_path):
    from pycocotools import mask as mask_utils

    content = folders.coco(tmp_path)
    rng = np.random.default_rng(0)
    truths = []
    for n, annotation in enumerate(content["annotations"][:3]):
        inside = np.zeros((40, 56), np.uint8)
        y, x = rng.integers(0, 20, 2)
        inside[y : y + 9, x : x + 5 + n] = 1
        inside[y + 4, x + 20] = 1
        packed = mask_utils.encode(np.asfortranarray(inside))
        left, top, width, height = mask_utils.toBbox(packed)
        truths.append((left, top, left + width, top + height))
        counts = packed["counts"].decode()
        if n == 1:  # the same, not compressed
            flat = inside.T.ravel()
            edges = np.flatnonzero(np.diff(flat)) + 1
            runs = np.diff([0, *edges, flat.size]).tolist()
            counts = [0, *runs] if flat[0] else runs
        del annotation["bbox"]
        annotation["segmentation"] = {"size": [40, 56], "counts": counts}
        annotation["iscrowd"] = 1
    content["annotations"][3]["bbox"] = []
    content["annotations"][3]["segmentation"] = [[3, 4, 20, 4.5, 7, 30.25], [1, 9] * 3]
    write(tmp_path, content)
    found = entries(tmp_path)
    assert [one.boxes[0] for one in found[:3]] == truths
    assert found[3].boxes == ((1, 4, 20, 30.25),)


@pytest.mark.parametrize(
    ("what", "number", "change", "message"),
    [
        ("annotations", 0, {"image_id": 77}, "annotation 10: image_id 77 is no id"),
        ("annotations", 0, {"image_id": True}, "annotation 10: image_id True is no"),
        ("annotations", 0, {"category_id": 4}, "annotation 10: category_id 4 is no id"),
        ("annotations", 0, {"category_id": None}, "category_id None is no id"),
        ("annotations", 1, {"bbox": [1, 2, 3]}, "annotation 11: bbox .*four numbers"),
        ("annotations", 1, {"bbox": [1, 2, -3, 4]}, "bbox .* is empty; expected width"),
        ("annotations", 1, {"bbox": [1, 2, "3", 4]}, "four numbers"),
        ("annotations", 1, {"bbox": [1, 2, 1e400, 4]}, "four numbers"),
        ("annotations", 1, {"bbox": None}, "neither bbox nor segmentation"),
        (
            "annotations",
            1,
            {"bbox": None, "segmentation": [[1, 2, 3, 4]]},
            "three points or more",
        ),
        (
            "annotations",
            1,
            {"bbox": None, "segmentation": {"size": [40, 56], "counts": [5, 6]}},
            "runs of 11 pixels in all, but size says 40 x 56",
        ),
        (
            "annotations",
            1,
            {"bbox": None, "segmentation": {"size": [40, 56], "counts": "ab\u00e9"}},
            "counts 'ab\u00e9'; expected run lengths",
        ),
        (
            "annotations",
            1,
            {"bbox": None, "segmentation": {"size": [56, 40], "counts": [0, 2240]}},
            r"size \[56, 40\], but the image's height and width are \[40, 56\]",
        ),
        ("images", 0, {"file_name": ""}, "image 1: file_name ''"),
        ("images", 0, {"file_name": "gone.png"}, "no such image; looked in .*images"),
        ("images", 0, {"height": 4.5}, "image 1: width 56, height 4.5; expected whole"),
    ],
)
def test_a_wrong_annotation_or_image_is_named(tmp_path, what, number, change, message):
    content = folders.coco(tmp_path)
    content[what][number].update(change)
    write(tmp_path, content)
    bad = [one for one in entries(tmp_path) if isinstance(one, Bad)]
    assert len(bad) == 1 and re.search(message, bad[0].message)
    assert bad[0].message.startswith(bad[0].origin + ": ")
    # An image whose annotation is wrong is none in which nothing was found.
    absent = [one for one in entries(tmp_path) if isinstance(one, BoxEntry)]
    torn = "image_id" in change
    assert sum(not one.boxes for one in absent) == (0 if torn else 1)


@pytest.mark.parametrize(
    ("what", "number", "change", "message"),
    [
        ("images", 1, {"id": 1}, "two images have the id 1"),
        ("annotations", 1, {"id": 10}, "two annotations have the id 10"),
        ("annotations", 1, {"id": None}, "annotation 1 .from 0.: id None; expected a"),
        ("categories", 1, {"id": 3}, "two categorys have the id 3"),
        ("categories", 1, {"name": "nodule "}, "two categories are called 'nodule'"),
        ("categories", 1, {"name": "<|image_pad|>"}, "name .* is a token of prompts"),
        ("categories", 1, {"name": None}, "category 9: name is null; expected text"),
    ],
)
def test_ids_and_names_that_are_not_unique_are_refused(
    tmp_path, what, number, change, message
):
    content = folders.coco(tmp_path)
    content[what][number].update(change)
    write(tmp_path, content)
    with pytest.raises(ValueError, match=message):
        entries(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("{", "not JSON"),
        ("[]", "found list; expected a COCO object"),
        ('{"images": []}', "'images' is empty|'annotations' is missing"),
        ('{"images": [1]}', "'images' is missing or no list of objects"),
        ('{"images": [], "images": []}', "key 'images' is there twice"),
    ],
)
def test_what_is_no_coco_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        entries(tmp_path / "a.json", Reading(format="coco"))


def test_an_image_that_is_there_twice_is_refused(tmp_path):
    folders.coco(tmp_path)
    folders.picture(tmp_path / "a" / "0.png")
    bad = [one for one in entries(tmp_path) if isinstance(one, Bad)]
    assert "'a/0.png' is there 2 times: " in bad[0].message


def test_a_wrong_annotation_spoils_its_picture(tmp_path):
    content = folders.coco(tmp_path)
    twice = content["annotations"][0] | {"id": 99, "bbox": [5, 5, -1, 4]}
    content["annotations"].append(twice)
    write(tmp_path, content)
    wrong = [one for one in entries(tmp_path) if isinstance(one, Bad)]
    assert [bad.origin for bad in wrong] == [
        "instances.json, annotation 99",
        "instances.json, annotation 10",
    ]
    assert "left out with a wrong one of instances.json, image" in wrong[1].message


def test_files_of_one_name_are_told_apart_by_folder(tmp_path):
    for part in ("train", "valid", "test"):
        folders.coco(tmp_path / part, name="_annotations.coco.json")
    file = tmp_path / "train" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [50, 1, 200, 5]  # leaves its image
    file.write_text(json.dumps(content))
    found = entries(tmp_path)
    assert {one.origin.split(",")[0] for one in found} == {
        f"{part}/_annotations.coco.json" for part in ("train", "valid", "test")
    }
    assert len({one.origin for one in found}) == len(found) == 18
    geometry = Geometry(7, 2, 2, 28, 28 * 28, 56 * 56)
    rows = box_rows(found, Reading(on_bad="drop", answers="set"), geometry)
    assert [one.origin for one in rows.dropped] == [
        "train/_annotations.coco.json, annotation 10"
    ]
    assert len(rows.rows) == 17  # annotation 10 of the other files is another


def test_a_file_that_is_two_images_is_refused(tmp_path):
    content = folders.coco(tmp_path)
    content["images"].append(content["images"][0] | {"id": 77})
    write(tmp_path, content)
    told = r"instances.json, image 77: 0.png is also image 1; expected each file once"
    with pytest.raises(ValueError, match=told):
        entries(tmp_path, Reading(on_bad="drop"))
