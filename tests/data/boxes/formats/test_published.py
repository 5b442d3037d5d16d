import json

import pytest

from medjax.data.boxes.formats.asking import Asking
from medjax.data.boxes.formats.table import box_entries
from medjax.data.lists.reading import Bad, Reading
from tests.data import folders


def entries(path, reading=None, **asking):
    return list(box_entries(path, reading or Reading(), Asking(**asking)))


def faults(path, reading=None, **asking):
    return [
        one.message for one in entries(path, reading, **asking) if isinstance(one, Bad)
    ]


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


class TestHam10000:
    def test_boxes_are_those_of_masks_and_lesions_are_groups(self, tmp_path):
        found = entries(folders.ham10000(tmp_path))
        assert len(found) == 24
        assert [one.boxes[0] for one in found] == [
            tuple(map(float, folders.some_box(n))) for n in range(24)
        ]
        first = found[0]
        assert first.query == "Find the skin lesion." and first.split is None
        assert first.images[0].path.parent.name == "HAM10000_images_part_1"
        assert found[-1].images[0].path.parent.name == "HAM10000_images_part_2"
        assert first.groups == found[1].groups == {"lesion_id": "HAM_0000000"}
        assert first.origin == "HAM10000_metadata.csv, line 2"
        assert first.columns["diagnosis"] == "melanocytic nevi"
        assert "age" not in found[3].columns and found[4].columns["sex"] == "male"

    def test_archives_of_other_spelling_and_depth(self, tmp_path):
        folders.ham10000(tmp_path)
        plain = entries(tmp_path)
        inner = tmp_path / "HAM10000_segmentations_lesion_tschandl"
        inner.rename(tmp_path / "x")
        inner.mkdir()
        (tmp_path / "x").rename(inner / inner.name)
        for part in "12":
            (tmp_path / f"HAM10000_images_part_{part}").rename(
                tmp_path / f"ham10000_images_part_{part}"
            )
        (tmp_path / "HAM10000_metadata.csv").rename(tmp_path / "HAM10000_metadata")
        assert [one.boxes for one in entries(tmp_path)] == [one.boxes for one in plain]

    def test_images_that_are_there_twice_are_one_if_they_are_copies(self, tmp_path):
        folders.ham10000(tmp_path, lesions=2)
        first = tmp_path / "HAM10000_images_part_1" / "ISIC_0024306.jpg"
        other = tmp_path / "ham10000_images" / first.name
        other.parent.mkdir()
        other.write_bytes(first.read_bytes())
        assert not faults(tmp_path)
        other.write_bytes(first.read_bytes() + b"x")
        assert "2 images are called ISIC_0024306: " in faults(tmp_path)[0]

    def test_what_is_missing_or_wrong_is_named(self, tmp_path):
        folders.ham10000(tmp_path, lesions=3)
        (tmp_path / "HAM10000_images_part_1" / "ISIC_0024306.jpg").unlink()
        masks = tmp_path / "HAM10000_segmentations_lesion_tschandl"
        (masks / "ISIC_0024307_segmentation.png").unlink()
        lines = tmp_path / "HAM10000_metadata.csv"
        replace(lines, "ISIC_0024308,mel", "ISIC_0024308,melanoma")
        replace(lines, "HAM_0000001,ISIC_0024309", ",ISIC_0024309")
        lines.write_text(
            lines.read_text() + "HAM_1,ISIC_0024310,nv,histo,3,male,back\n"
        )
        found = sorted(faults(tmp_path))
        assert len(found) == 5
        assert "line 2: no image ISIC_0024306 in the folders" in found[0]
        assert "line 3: no mask ISIC_0024307_segmentation.png" in found[1]
        assert "line 4: dx is 'melanoma'; expected one of akiec" in found[2]
        assert "line 5: lesion_id is empty" in found[3]
        assert "line 8: ISIC_0024310 is also in HAM10000_metadata.csv" in found[4]

    def test_columns_and_folders_that_are_not_there(self, tmp_path):
        folders.ham10000(tmp_path, lesions=1, masks=False)
        assert "no mask ISIC_0024306_segmentation.png" in faults(tmp_path)[0]
        replace(tmp_path / "HAM10000_metadata.csv", "lesion_id", "lesion")
        with pytest.raises(ValueError, match="line 1: no column lesion_id"):
            entries(tmp_path)
        (tmp_path / "HAM10000_images_part_1").rename(tmp_path / "a")
        (tmp_path / "HAM10000_images_part_2").rename(tmp_path / "b")
        with pytest.raises(ValueError, match="found 1 lists and 0 folders of images"):
            entries(tmp_path)


class TestTn3k:
    def test_masks_in_jpeg_and_official_parts(self, tmp_path):
        found = entries(folders.tn3k(tmp_path))
        assert len(found) == 15
        for one in found:
            half, name = one.images[0].path.parts[-2:]
            seed = int(name[:4]) + 100 * (half == "test-image")
            assert one.boxes == (tuple(map(float, folders.some_box(seed))),)
        fold = json.loads((tmp_path / "tn3k-trainval-fold0.json").read_text())
        val = {one.images[0].path.name for one in found if one.split == "val"}
        assert val == {f"{n:04d}.jpg" for n in fold["val"]}
        assert sum(one.split == "test" for one in found) == 4
        assert found[0].query == "Find the thyroid nodule."

    def test_folds_are_chosen_and_may_be_absent(self, tmp_path):
        folders.tn3k(tmp_path)
        first = tmp_path / "tn3k-trainval-fold0.json"
        fold = {"train": [f"{n:04d}.jpg" for n in range(10)], "val": ["0010.jpg"]}
        (tmp_path / "tn3k-trainval-fold3.json").write_text(json.dumps(fold))
        found = entries(tmp_path, Reading(fold=3))
        assert [one.split for one in found].count("val") == 1
        with pytest.raises(ValueError, match=r"no tn3k-trainval-fold1.json, but other"):
            entries(tmp_path, Reading(fold=1))
        first.unlink()
        (tmp_path / "tn3k-trainval-fold3.json").unlink()
        assert {one.split for one in entries(tmp_path)} == {"train", "test"}

    def test_what_is_missing_or_contradicts_itself(self, tmp_path):
        folders.tn3k(tmp_path)
        (tmp_path / "test-mask" / "0001.jpg").unlink()
        (tmp_path / "trainval-image" / "0002.jpg").unlink()
        found = faults(tmp_path)
        assert "test-image/0001.jpg: no mask 0001 in test-mask/" in found
        assert "fold 0, 0002: no such image in trainval-image/" in found
        assert "trainval-mask/, 0002: no such image in trainval-image/" in found
        file = tmp_path / "tn3k-trainval-fold0.json"
        fold = json.loads(file.read_text())
        file.write_text(json.dumps({**fold, "train": fold["train"][1:]}))
        gone = f"trainval-image/{fold['train'][0]:04d}.jpg: is neither in train nor in"
        assert any(gone in fault for fault in faults(tmp_path))
        file.write_text(json.dumps({**fold, "val": fold["train"]}))
        with pytest.raises(ValueError, match="is in train and again in val"):
            entries(tmp_path)
        file.write_text(json.dumps({"train": [-1], "val": []}))
        with pytest.raises(ValueError, match="-1 in train; expected"):
            entries(tmp_path)
        (tmp_path / "test-mask").rename(tmp_path / "test-masks")
        with pytest.raises(ValueError, match="no test-mask/; expected trainval-image/"):
            entries(tmp_path)


class TestNih:
    def test_boxes_under_the_header_with_brackets(self, tmp_path):
        found = entries(folders.nih(tmp_path, patients=4, size=(64, 64)))
        assert len(found) == 6
        first = found[0]
        assert first.label == "Cardiomegaly" and first.size == (1024, 1024)
        assert first.boxes == (tuple(map(float, folders.some_box(0, (64, 64)))),)
        assert first.origin == "BBox_List_2017.csv, line 2"
        assert first.groups == found[1].groups == {"patient": "1"}
        assert {one.split for one in found} == {"train", "test"}
        assert all(one.boxes for one in found)

    def test_lists_of_other_releases_are_the_same(self, tmp_path):
        folders.nih(tmp_path, patients=4, size=(64, 64), folder="images")
        plain = entries(tmp_path)
        boxes = tmp_path / "BBox_List_2017.csv"
        boxes.write_text(boxes.read_text().replace(",,,", ""))
        (tmp_path / "Data_Entry_2017.csv").rename(
            tmp_path / "Data_Entry_2017_v2020.csv"
        )
        for name in ("train_val_list", "test_list"):
            (tmp_path / f"{name}.txt").rename(tmp_path / f"{name}_NIH.txt")
        assert entries(tmp_path) == plain
        (tmp_path / "Data_Entry_2017_v2020.csv").unlink()
        (tmp_path / "train_val_list_NIH.txt").unlink()
        with pytest.raises(ValueError, match="found test_list_NIH.txt; expected one"):
            entries(tmp_path)
        (tmp_path / "test_list_NIH.txt").unlink()
        bare = [one._replace(split=None) for one in plain]
        assert entries(tmp_path) == bare

    def test_lists_that_leave_nothing_to_train_on_name_the_way_out(self, tmp_path):
        folders.nih(tmp_path, patients=4, size=(64, 64))
        kept, tested = (tmp_path / f"{n}.txt" for n in ("train_val_list", "test_list"))
        tested.write_text(kept.read_text() + tested.read_text())
        kept.write_text("")
        with pytest.raises(ValueError, match="say data.official=False to part them by"):
            entries(tmp_path)
        found = entries(tmp_path, Reading(official=False))
        assert len(found) == 6 and {one.split for one in found} == {None}

    def test_infiltrate_is_infiltration(self, tmp_path):
        folders.nih(tmp_path, patients=1, size=(64, 64))
        replace(tmp_path / "BBox_List_2017.csv", "Cardiomegaly", "Infiltrate")
        assert entries(tmp_path)[0].label == "Infiltration"

    def test_images_without_findings_are_asked_about_when_wanted(self, tmp_path):
        folders.nih(tmp_path, patients=4, size=(64, 64))
        found = entries(tmp_path, negatives="one")
        assert [len(one.boxes) for one in found] == [1] * 6 + [0] * 2
        with pytest.raises(ValueError, match="boxes of ChestX-ray14 are a sample"):
            entries(tmp_path, negatives="all")
        entry = tmp_path / "Data_Entry_2017.csv"
        replace(entry, "_000.png,Cardiomegaly", "_000.png,No Finding")
        assert (
            "line 2: boxes, but Data_Entry_2017.csv, line 2 says No Finding"
            in (faults(tmp_path, negatives="one")[0])
        )
        entry.unlink()
        with pytest.raises(ValueError, match="which Data_Entry_2017.csv lists"):
            entries(tmp_path, negatives="one")

    def test_what_is_missing_or_contradicts_itself(self, tmp_path):
        folders.nih(tmp_path, patients=4, size=(64, 64))
        (tmp_path / "images_001" / "images" / "00000001_000.png").unlink()
        boxes = tmp_path / "BBox_List_2017.csv"
        boxes.write_text(
            boxes.read_text()
            + "00000001_001.png,Fracture,1,2,3,4,,,\n"
            + "00000001_001.png,Mass,1,2,-3,4,,,\n"
            + "00000001_001.png,Mass,1,2,3\n"
            + "00000001_001.png,Mass,1,2,3,4,5\n"
            + "00000009_001.png,Mass,1,2,3,4\n"
        )
        lists = tmp_path / "test_list.txt"
        replace(lists, "00000004_001.png", "")
        found = "\n".join(faults(tmp_path))
        for message in (
            "line 2: no image 00000001_000 in the folders",
            "line 8: finding 'Fracture'; expected one of Atelectasis",
            "line 9: w is -3 and h 4; expected more than 0",
            "line 10: 5 cells; expected 6 and nothing but commas",
            "line 11: 7 cells; expected 6 and nothing but commas",
            "line 12: 00000009_001.png is not in Data_Entry_2017",
            "00000004_001.png is neither in train_val_list.txt nor in test_list.txt",
        ):
            assert message in found
        assert found.count("\n") == 6
        replace(lists, "00000004_000.png", "00000001_001.png")
        with pytest.raises(ValueError, match="00000001_001.png is twice in both lists"):
            entries(tmp_path)
        lists.unlink()
        (tmp_path / "train_val_list.txt").unlink()
        replace(boxes, "Bbox [x,y,w,h]", "x1,y1,x2,y2")
        with pytest.raises(ValueError, match=r"columns .*x1.*; expected Image Index"):
            entries(tmp_path)


class TestVindr:
    def test_readers_have_a_say_about_what_anyone_found(self, tmp_path):
        found = entries(folders.vindr(tmp_path))
        first = f"{0:032x}"
        mine = [one for one in found if one.images[0].path.stem == first]
        assert [(one.reader, one.label, len(one.boxes)) for one in mine] == [
            ("R1", "Aortic enlargement", 1),
            ("R2", "Aortic enlargement", 1),
            ("R3", "Aortic enlargement", 0),
        ]
        assert mine[0].images[0].path == tmp_path / "train" / f"{first}.dicom"
        assert mine[0].boxes == (tuple(map(float, folders.some_box(0, (40, 48)))),)
        assert mine[0].origin == "annotations_train.csv, line 2"
        free = [one for one in found if one.images[0].path.stem == f"{2:032x}"]
        assert [(one.reader, one.boxes) for one in free] == [
            ("R1", ()),
            ("R2", ()),
            ("R3", ()),
        ]
        assert len({one.label for one in free}) == 1
        test = [one for one in found if one.split == "test"]
        assert len(test) == 3 and {one.reader for one in test} == {None}

    def test_kaggles_list_and_lists_in_the_folder_itself(self, tmp_path):
        folders.vindr(tmp_path / "a")
        folders.vindr(tmp_path / "k", kaggle=True)
        train = [one for one in entries(tmp_path / "a") if one.split == "train"]
        kaggle = entries(tmp_path / "k")

        def said(found):
            return [(one.label, one.reader, one.boxes) for one in found]

        assert said(kaggle) == said(train)
        assert {one.split for one in kaggle} == {None}
        for file in (tmp_path / "a" / "annotations").iterdir():
            file.rename(tmp_path / "a" / file.name)
        flat = [one for one in entries(tmp_path / "a") if one.split == "train"]
        assert said(flat) == said(train)

    def test_converted_images_need_the_size_that_boxes_refer_to(self, tmp_path):
        folders.vindr(tmp_path, suffix=".png")
        assert (
            "is no DICOM, and boxes are in pixels of the DICOM" in (faults(tmp_path)[0])
        )
        for split, count in (("train", 6), ("test", 3)):
            lines = [f"{n + 1000 * (split == 'test'):032x},80,96" for n in range(count)]
            text = "\n".join(["image_id,dim0,dim1", *lines])
            (tmp_path / f"{split}_meta.csv").write_text(text)
        first = entries(tmp_path)[0]
        x1, y1, x2, y2 = folders.some_box(0, (40, 48))
        assert first.frame == "unit"
        assert first.boxes[0] == pytest.approx((x1 / 96, y1 / 80, x2 / 96, y2 / 80))

    def test_what_is_missing_or_contradicts_itself(self, tmp_path):
        folders.vindr(tmp_path)
        name = f"{1:032x}"
        (tmp_path / "train" / f"{0:032x}.dicom").unlink()
        file = tmp_path / "annotations" / "annotations_train.csv"
        file.write_text(
            file.read_text()
            + f"{name},R1,No finding,,,,\n"
            + f"{name},R1,Nodule/Mass,3,3,2,9\n"
            + f"{name},R1,Nodule/Mass,3,3,,9\n"
            + f"{name},R1,No finding,3,3,5,9\n"
            + f"{name},R1,No finding,0,0,1,1\n"
            + f"{name},R1,Nodule/Mass,0,0,0,0\n"
        )
        found = "\n".join(faults(tmp_path))
        for message in (
            f"line 2: no image {0:032x} in the folders",
            f"{name}: a finding and 'No finding' of one reader",
            "box 3, 3, 2, 9 is empty; expected x_min <",
            "'Nodule/Mass' without x_max; expected four numbers",
            "line 23: 'No finding' with numbers; expected empty cells (some copies",
            "line 24: 'No finding' with numbers; expected empty cells (some copies",
            "line 25: box 0, 0, 0, 0 is empty",
        ):
            assert message in found
        (tmp_path / "annotations_train.csv").write_text(file.read_text())
        with pytest.raises(ValueError, match="annotations_train.csv and annotations/"):
            entries(tmp_path)

    def test_lists_of_both_releases_at_once_are_refused(self, tmp_path):
        folders.vindr(tmp_path)
        folders.vindr(tmp_path, kaggle=True)
        with pytest.raises(ValueError, match="PhysioNet and Kaggle's train.csv"):
            entries(tmp_path)
        (tmp_path / "train.csv").unlink()
        replace(
            tmp_path / "annotations" / "annotations_train.csv", "rad_id", "radiologist"
        )
        with pytest.raises(ValueError, match="line 1: no column rad_id"):
            entries(tmp_path)

    def test_kaggles_numbers_of_classes_agree_with_the_names(self, tmp_path):
        folders.vindr(tmp_path, kaggle=True)
        replace(tmp_path / "train.csv", "No finding,14", "No finding,3")
        assert "class_id 3 and class_name 'No finding'" in faults(tmp_path)[0]


def test_groups_that_a_published_set_does_not_have_are_refused(tmp_path):
    for name in ("tn3k", "nih", "vindr"):
        made = {"nih": {"patients": 1, "size": (64, 64)}}.get(name, {})
        getattr(folders, name)(tmp_path / name, **made)
        with pytest.raises(ValueError, match="data.group=site: "):
            entries(tmp_path / name, Reading(group=("site",)))
    folders.ham10000(tmp_path / "ham", lesions=1)
    grouped = entries(tmp_path / "ham", Reading(group=("localization",)))
    assert grouped[0].groups == {"lesion_id": "HAM_0000000", "localization": "back"}
