"""Images of files with several, as lists name them, and what their headers join."""

import json
import warnings

import nibabel
import numpy as np
import pytest
from PIL import Image

from medjax.data.audit.facts import read_pictures
from medjax.data.boxes.formats.asking import Asking
from medjax.data.boxes.formats.csv_boxes import read_csv_boxes
from medjax.data.boxes.jsonl import jsonl_entries
from medjax.data.boxes.row_views import row_views
from medjax.data.boxes.rows import box_rows, grouped_rows
from medjax.data.classes.labels_csv import label_entries
from medjax.data.classes.rows import grouped_labels, label_rows
from medjax.data.images import ImageFile, read_image
from medjax.data.lists import images
from medjax.data.lists.groups import join_groups, split_faults
from medjax.data.lists.images import header_contents, object_image, shown_as
from medjax.data.lists.reading import Bad, Reading, check_reading
from medjax.data.prompting.layout import Geometry
from tests.data.images.dicom_files import MARKERS, write

GREY = np.random.default_rng(0).integers(0, 256, (56, 84), np.uint8)
GEOMETRY = Geometry(14, 2, 2, 112, 28 * 28, 112 * 112)
READING = Reading()


def jsonl(folder, *lines):
    plain = {"query": "Find it.", "box": [1, 2, 40, 50], "frame": "original"}
    text = "\n".join(json.dumps({**plain, **line}) for line in lines)
    (folder / "a.jsonl").write_text(text)
    return folder / "a.jsonl"


def test_a_line_of_jsonl_names_frames_and_slices(tmp_path):
    several = [{"path": "a.dcm", "frame": 3}, "b.png", {"path": "c.nii", "frame": 0}]
    several[2]["plane"] = "coronal"
    (entry,) = jsonl_entries(jsonl(tmp_path, {"image": several}), READING)
    assert entry.images == (
        ImageFile(tmp_path / "a.dcm", 3),
        ImageFile(tmp_path / "b.png"),
        ImageFile(tmp_path / "c.nii", 0, "coronal"),
    )


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        ({"frame": 3}, "expected a path, or an object with path"),
        ({"path": "a", "slice": 3}, "expected a path, or an object with path"),
        ({"path": "a", "frame": "3"}, "frame '3' of an image; expected a whole number"),
        ({"path": "a", "frame": True}, "frame True of an image"),
        ({"path": "a", "frame": -1}, "frame -1 of an image"),
        ({"path": "a", "frame": 1, "plane": "top"}, "plane 'top'; expected one of"),
        ({"path": None}, "image is null"),
    ],
)
def test_other_objects_are_refused(tmp_path, image, fault):
    (bad,) = jsonl_entries(jsonl(tmp_path, {"image": image}), READING)
    assert isinstance(bad, Bad) and bad.message.startswith("a.jsonl, line 1: ")
    with pytest.raises(ValueError, match=fault):
        object_image(image, tmp_path, "a.jsonl, line 1")


def test_columns_of_csv_name_frames_and_slices(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,label,image_frame,image_plane\na.dcm,x,3,\nb.png,y,,\n")
    one, two = label_entries(path, READING)
    assert (one.image, one.columns) == (ImageFile(tmp_path / "a.dcm", 3), {})
    assert two.image == ImageFile(tmp_path / "b.png")
    path.write_text("image,label,image_frame\na.dcm,x,1.5\n")
    (bad,) = label_entries(path, READING)
    assert "a.csv, line 2: image_frame '1.5'; expected a whole number" in bad.message
    path.write_text(
        "image,label,x1,y1,x2,y2,image_frame,image_plane\n"
        "a.nii,x,1,2,3,4,7,axial\na.nii,x,1,2,3,5,8,axial\na.nii,x,2,2,3,5,7,axial\n"
    )
    entries = read_csv_boxes(path, READING._replace(coords="xyxy"), Asking())
    boxes = [(entry.images, len(entry.boxes)) for entry in entries]
    seven, eight = ((ImageFile(tmp_path / "a.nii", n, "axial"),) for n in (7, 8))
    assert sum(count for images, count in boxes if images == seven) == 2
    assert sum(count for images, count in boxes if images == eight) == 1


def test_window_and_pixels_are_options_of_the_whole_list(tmp_path):
    write(tmp_path / "a.dcm", GREY.astype(np.uint16), PixelSpacing=[2, 1])
    lines = jsonl_entries(jsonl(tmp_path, {"image": "a.dcm"}), READING)
    with pytest.raises(ValueError, match="line 1: .*rows lie 2 apart and columns 1"):
        box_rows(lines, READING, GEOMETRY)
    reading = check_reading(READING._replace(window=(40.0, 400.0), pixels="square"))
    lines = list(jsonl_entries(jsonl(tmp_path, {"image": "a.dcm"}), reading))
    rows = box_rows(lines, reading, GEOMETRY).rows
    assert rows[0].sizes == ((112, 84),)
    assert rows[0].images[0].window == (40.0, 400.0)
    file = ImageFile(tmp_path / "a.dcm")
    assert shown_as(file, READING) == file
    for wrong in ({"window": (40.0,)}, {"window": (40.0, 0.0)}, {"pixels": "wide"}):
        with pytest.raises(ValueError, match=f"data.{next(iter(wrong))}="):
            check_reading(READING._replace(**wrong))


def test_the_window_of_a_volume_is_found_once(tmp_path, monkeypatch):
    volume = np.random.default_rng(0).integers(-100, 900, (9, 9, 9)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "b.nii").write_bytes(b"no volume")
    named = [ImageFile(tmp_path / "a.nii", n, "axial") for n in range(9)]
    named += [ImageFile(tmp_path / "b.nii", 0, "axial"), ImageFile(tmp_path / "c.png")]
    plain, calls = images.volume_window, []

    def counted(slab, file, origin):
        calls.append(file.path.name)
        return plain(slab, file, origin)

    monkeypatch.setattr(images, "volume_window", counted)
    shown = images.shown_images(named, READING)
    assert calls == ["a.nii"]
    assert {shown[x].window for x in named[9:]} == {None}
    (window,) = {shown[x].window for x in named[:9]}
    low, high = int(volume.min()), int(volume.max())
    assert window == ((low + high) / 2, high - low)
    for file in named[:9]:
        same = read_image(file, "x") == read_image(shown[file], "x")
        assert same.all()
    mine = images.shown_images(named[:2], READING._replace(window=(40.0, 400.0)))
    assert {x.window for x in mine.values()} == {(40.0, 400.0)} and len(calls) == 1


def test_headers_join_what_is_of_one_patient(tmp_path):
    for n, patient in enumerate(("p1", "p2", "p1", "anonymous", "Anonymous")):
        study = {"StudyInstanceUID": f"1.{n}", "SeriesInstanceUID": f"1.{n}.1"}
        write(tmp_path / f"{n}.dcm", GREY + n, PatientID=patient, **study)
    Image.fromarray(GREY).save(tmp_path / "5.png")
    names = [*(f"{n}.dcm" for n in range(5)), "5.png"]
    lines = jsonl_entries(jsonl(tmp_path, *({"image": x} for x in names)), READING)
    rows = box_rows(lines, READING, GEOMETRY).rows
    assert join_groups(grouped_rows(rows, tmp_path)) == [0, 1, 0, 2, 3, 4]
    parts = ["train", *["test"] * 5]
    text = "".join(f"{x},y,{part}\n" for x, part in zip(names, parts, strict=True))
    (tmp_path / "a.csv").write_text("image,label,split\n" + text)
    labels = label_rows(label_entries(tmp_path / "a.csv", READING), READING).rows
    grouped = grouped_labels(labels, tmp_path)
    (fault,) = split_faults(grouped, join_groups(grouped))
    assert "line 4: split test, but a.csv, line 2, of the same DICOM patient" in (
        fault.message
    )
    # A list that names patients knows better.
    file = ImageFile(tmp_path / "0.dcm")
    for column in ("patient_id", "participant", "MRN", "PatientID", "patient_code_new"):
        assert header_contents(file, {column: "7"}, "x") == ()
    assert ("DICOM patient", "p1") in header_contents(file, {"lesion": "7"}, "x")
    assert header_contents(file, {"rapid": "7"}, "x")
    # and one that says something about them does not know who they are
    for column in (
        "patient_sex",
        "PatientAge",
        "subject_side",
        "patient side",
        "person",
    ):
        joined = ("DICOM patient", "p1") in header_contents(file, {column: "7"}, "x")
        assert joined == (column != "person")


def test_spoilt_dicom_files_of_a_list_are_dropped_and_counted(tmp_path):
    rng = np.random.default_rng(1)
    whole = write(tmp_path / "0.dcm", GREY).read_bytes()
    for n in range(1, 12):
        body = bytearray(whole[: rng.integers(400, len(whole)) if n % 2 else None])
        for place in rng.integers(132, 700, 4):
            body[place] = rng.integers(0, 256)
        (tmp_path / f"{n}.dcm").write_bytes(body)
    (tmp_path / "12.dcm").write_bytes(whole)
    lines = jsonl(tmp_path, *({"image": f"{n}.dcm"} for n in range(13)))
    reading = READING._replace(on_bad="drop")

    def decode(files):
        return read_pictures(files, cache=None, threads=2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about lengths and tags
        found = box_rows(jsonl_entries(lines, reading), reading, GEOMETRY, decode)
    assert len(found.rows) + len(found.dropped) == 13
    assert {"a.jsonl, line 1", "a.jsonl, line 13"} <= {row.origin for row in found.rows}
    assert len(found.dropped) >= 6
    for bad in found.dropped:
        assert bad.message.startswith(f"{bad.origin}: ")
        assert not any(word in bad.message for word in (*MARKERS, str(tmp_path)))


def test_slices_of_a_case_are_shown_together(tmp_path):
    volume = np.repeat(GREY.T[:, ::-1, None], 4, axis=2) // (1 + np.arange(4))
    image = nibabel.Nifti1Image(volume.astype(np.uint8), np.eye(4))
    nibabel.save(image, tmp_path / "ct.nii.gz")
    case = [{"path": "ct.nii.gz", "plane": "axial", "frame": n} for n in (1, 2)]
    lines = jsonl_entries(jsonl(tmp_path, {"image": case}), READING)
    views = row_views(box_rows(lines, READING, GEOMETRY).rows)
    view = views.view(0, np.random.default_rng(0))
    assert (views.slots, views.sizes) == (2, ((56, 84),))
    for image, n in zip(view.images, (1, 2), strict=True):
        np.testing.assert_array_equal(image[..., 0], GREY[:, ::-1] // (1 + n))
