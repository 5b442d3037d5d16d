"""Pictures of a folder: every frame, page and slice; named, measured, or a fault."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from medjax.data.asking.pictures import find_pictures
from medjax.data.asking.questions import read_questions
from medjax.data.images.files import ImageFile
from medjax.data.lists.reading import PLAIN
from tests.data.images.dicom_files import MARKERS, write

HERE = {"plane": "axial", "reading": PLAIN, "identify": False}
ASK = read_questions("Find it.")
GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("p10.png", "p9.png", "more/turned.jpg", ".hidden/x.png", ".y.png"):
        Image.fromarray(GREY).save(tmp_path / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(tmp_path / "more/turned.jpg", exif=exif)
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[:4])]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    write(tmp_path / "IM0001", np.stack([GREY, GREY]))  # DICOM by its mark alone
    volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii.gz")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n????")
    return tmp_path


def test_a_folder_gives_all_its_images_in_natural_order(folder):
    asked, faults = find_pictures(str(folder), ASK, **HERE)
    names = [(x.name, x.image.frame, x.image.plane, x.size) for x in asked]
    assert names == [
        *(("IM0001", n, "", (6, 8)) for n in range(2)),
        ("turned.jpg", None, "", (8, 6)),
        ("p9.png", None, "", (6, 8)),
        ("p10.png", None, "", (6, 8)),
        *(("pages.tif", n, "", (6 - 2 * n, 8)) for n in range(2)),
        *(("v.nii.gz", n, "axial", (4, 3)) for n in range(5)),
    ]
    volume = [x for x in asked if x.name == "v.nii.gz"]
    assert [x.image.frame for x in volume] == list(range(5))
    # one window for all slices, found once
    assert len({x.image.window for x in volume}) == 1 and volume[0].image.window
    assert [fault.image for fault in faults] == ["broken.png"]
    assert "broken.png" in faults[0].message
    text = str([(x.name, x.called) for x in asked]) + str(faults)
    assert str(folder) not in text and not any(mark in text for mark in MARKERS)


def test_the_options_of_reading_are_those_of_training(folder):
    reading = PLAIN._replace(window=(40.0, 400.0), pixels="stored")
    asked, _ = find_pictures(str(folder), ASK, **HERE | {"reading": reading})
    assert {(x.image.window, x.image.pixels) for x in asked} == {((40, 400), "stored")}


def test_one_file(folder):
    (one,), faults = find_pictures(str(folder / "p9.png"), ASK, **HERE)
    assert one.image == ImageFile(folder / "p9.png") and not faults
    assert one.queries == ("Find it.",)
    asked, _ = find_pictures(
        str(folder / "v.nii.gz"), ASK, **HERE | {"plane": "coronal"}
    )
    assert [x.image.frame for x in asked] == list(range(4))


def test_folders_without_pictures_and_names_twice(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text("nothing")
    with pytest.raises(ValueError, match="no pictures in the folder"):
        find_pictures(str(tmp_path), ASK, **HERE)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_pictures(str(tmp_path / "b"), ASK, **HERE)
    with pytest.raises(ValueError, match="predict.plane='oblique'"):
        find_pictures(str(tmp_path), ASK, **HERE | {"plane": "oblique"})
    for name in ("1.png", "a/1.png"):
        Image.fromarray(GREY).save(tmp_path / name)
    with pytest.raises(ValueError, match="the first '1.png'.*identify=True"):
        find_pictures(str(tmp_path), ASK, **HERE)
    asked, _ = find_pictures(str(tmp_path), ASK, **HERE | {"identify": True})
    assert [x.name for x in asked] == ["1.png", "a/1.png"]
