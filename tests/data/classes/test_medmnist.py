"""MedMNIST files: what is read, and everything that is not one."""

import json

import numpy as np
import pytest

from medjax.data.classes.class_names import load_class_names
from medjax.data.classes.medmnist import Slices, load_medmnist
from medjax.data.classes.medmnist_sets import SETS
from medjax.data.classes.pictures import class_counts
from medjax.data.classes.tasks import check_task
from tests.data.medmnist_files import write_chest, write_volumes

COUNTS = {"train": 12, "val": 5, "test": 6}


def make(path, *, classes=4, colour=False, side=28, **changes):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in COUNTS.items():
        shape = (count, side, side, 3) if colour else (count, side, side)
        arrays[f"{part}_images"] = rng.integers(0, 256, shape).astype(np.uint8)
        labels = np.arange(count) % classes
        arrays[f"{part}_labels"] = labels[:, None].astype(np.uint8)
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return arrays


FLAT = [name for name, x in SETS.items() if not x.multi and not x.volumes]
SOLID = [name for name, x in SETS.items() if x.volumes]


@pytest.mark.parametrize("name", FLAT)
def test_every_single_label_set(tmp_path, name):
    path = tmp_path / f"{name}.npz"
    colour = name in ("pathmnist", "dermamnist", "retinamnist", "bloodmnist")
    arrays = make(path, classes=len(SETS[name].classes), colour=colour)
    parts = load_medmnist(path)
    assert parts.task.classes == SETS[name].classes and parts.task.name == name
    assert parts.task.ordinal == (name == "retinamnist")
    check_task(parts.task, "letter")
    check_task(parts.task, "grade" if parts.task.ordinal else "name")
    assert (parts.train.count, parts.test.count) == (12, 6)
    assert np.array_equal(parts.train.labels, arrays["train_labels"])
    picture = parts.test.picture(2, np.random.default_rng(0))
    expected = arrays["test_images"][2]
    assert picture.image.shape == (28, 28, 3)
    assert np.array_equal(
        picture.image[..., 1], expected[..., 1] if colour else expected
    )
    assert picture.group == f"{name}.npz test 2"


@pytest.mark.parametrize("side", [64, 128, 224])
def test_sizes_parts_and_names(tmp_path, side):
    path = tmp_path / f"organamnist_{side}.npz"
    make(path, side=side)
    parts = load_medmnist(path, test="val")
    assert parts.train.sizes == ((side, side),) and parts.test.count == 5
    assert parts.task.name == "organamnist" and parts.identity["test"] == "val"
    assert class_counts(parts.train, 11).tolist() == [3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0]
    mine = load_medmnist(path, classes=("a", "b", "c", "d"), ordinal=True)
    assert mine.task.classes == ("a", "b", "c", "d") and mine.task.ordinal


def test_the_identity_follows_the_pictures(tmp_path):
    path = tmp_path / "bloodmnist.npz"
    make(path)
    one = load_medmnist(path).identity
    assert one == load_medmnist(path).identity
    make(path, side=64)
    assert one != load_medmnist(path).identity


IMAGES = np.zeros((12, 28, 28), np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"val_images": None, "val_labels": None},
            "no val_images, val_labels among tr",
        ),
        ({"test_labels": None}, "no test_labels among .*official splits"),
        (
            {"train_labels": np.zeros((12, 14), np.uint8)},
            r"14 labels a picture \(multi",
        ),
        (
            {"train_labels": np.full((12, 1), 8)},
            "train_labels, row 0: label 8 is outsid",
        ),
        (
            {"test_labels": np.full((6, 1), -1)},
            "test_labels, row 0: label -1 is outside",
        ),
        (
            {"train_labels": np.arange(12) / 2},
            "train_labels, row 1: 0.5 is not an integ",
        ),
        ({"train_labels": np.full(12, np.nan)}, "row 0: nan is not an integer"),
        ({"train_labels": np.array(["a"] * 12)}, "row 0: a is not an integer"),
        (
            {"train_labels": np.zeros((11, 1), int)},
            "12 train_images and 11 train_labels",
        ),
        ({"train_images": IMAGES.astype(float)}, "float64 of shape .*expected uint8"),
        (
            {"train_images": IMAGES[:, None].repeat(28, 1)},
            r"expected uint8 \[n, h, w\] or \[n, h, w, 3\]$",
        ),
        ({"train_images": np.zeros((0, 28, 28), np.uint8)}, r"shape \(0, 28, 28\)"),
        ({"train_labels": np.array([{}] * 12)}, "not a MedMNIST .npz .*pickle"),
    ],
)
def test_bad_files_are_refused(tmp_path, changes, message):
    path = tmp_path / "bloodmnist.npz"
    make(path, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_medmnist(path)
    assert "bloodmnist.npz" in str(caught.value)


def test_what_is_no_file_of_a_known_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a MedMNIST"):
        load_medmnist(tmp_path / "bloodmnist.npz")
    (tmp_path / "bloodmnist.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match="not a MedMNIST"):
        load_medmnist(tmp_path / "bloodmnist.npz")
    np.save(tmp_path / "octmnist.npy", IMAGES)
    (tmp_path / "octmnist.npy").rename(tmp_path / "octmnist.npz")
    with pytest.raises(ValueError, match="not a MedMNIST"):
        load_medmnist(tmp_path / "octmnist.npz")
    make(tmp_path / "chestmnist.npz")
    with pytest.raises(ValueError, match=r"shape \(12, 1\); expected \[n, 14\]"):
        load_medmnist(tmp_path / "chestmnist.npz")
    make(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match="'mine' is none of .*give them as a JSON"):
        load_medmnist(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match="test='train'"):
        load_medmnist(tmp_path / "mine.npz", test="train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["a"]', "two classes or more"),
        ('["a", ""]', "expected"),
        ('["a", 3]', "expected"),
        ('"ab"', "expected"),
        ('{"0": "a", "2": "b"}', "no gaps"),
        ('{"0": "a", "1": "b", "0": "c"}', "key '0' is there twice"),
    ],
)
def test_bad_class_names(tmp_path, content, message):
    path = tmp_path / "names.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        load_class_names(path)
    assert "names.json" in str(caught.value)


def test_class_names(tmp_path):
    path = tmp_path / "names.json"
    names = [f"c{n}" for n in range(12)]
    path.write_text(json.dumps(names))
    assert load_class_names(path) == tuple(names)
    path.write_text(json.dumps({str(n): name for n, name in enumerate(names)}))
    assert load_class_names(path) == tuple(names)
    with pytest.raises(FileNotFoundError, match="expected JSON of class names"):
        load_class_names(tmp_path / "no.json")


def test_chest_pictures_show_several_classes(tmp_path):
    path = tmp_path / "chestmnist_64.npz"
    arrays = write_chest(path)
    parts = load_medmnist(path)
    task = parts.task
    assert task.multi and not task.ordinal and task.name == "chestmnist"
    assert (task.classes[0], task.classes[12], task.classes[13]) == (
        "atelectasis",
        "pleural",
        "hernia",
    )
    forms = check_task(task, "letter")
    assert len(forms.texts) == 15 and forms.texts[14] == ("none",)
    assert np.array_equal(parts.train.labels, arrays["train_labels"])
    assert parts.train.labels[0].sum() == 0 and parts.train.labels.sum() > 24
    val = load_medmnist(path, test="val").test
    assert np.array_equal(val.labels, arrays["val_labels"])
    mine = tmp_path / "mine.npz"
    path.rename(mine)
    names = tuple(f"sign {n}" for n in range(14))
    other = load_medmnist(mine, classes=names, multi=True)
    assert other.task.multi and other.task.classes == names
    with pytest.raises(ValueError, match=r"14 labels a picture .*data.answers=set"):
        load_medmnist(mine, classes=names)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((24, 14), 2), "train_labels, row 0: mark 2 of class 0; expected 0 or"),
        (np.full((24, 14), 0.5), "train_labels, row 0: 0.5 is not an integer"),
        (np.zeros((24, 13), int), r"shape \(24, 13\); expected \[n, 14\]"),
        (np.full((24, 14), "a"), "row 0: a is not an integer"),
        (np.zeros((23, 14), int), "24 train_images and 23 train_labels"),
    ],
)
def test_bad_marks(tmp_path, labels, message):
    path = tmp_path / "chestmnist.npz"
    arrays = write_chest(path)
    np.savez(path, **arrays | {"train_labels": labels})
    with pytest.raises(ValueError, match=message):
        load_medmnist(path)


def test_one_label_is_not_several(tmp_path):
    path = tmp_path / "bloodmnist.npz"
    make(path)
    with pytest.raises(ValueError, match="bloodmnist has one label a picture; leave"):
        load_medmnist(path, multi=True)


@pytest.mark.parametrize("name", SOLID)
def test_volumes_are_shown_by_slices(tmp_path, name):
    """A slice knows its volume, which is its group; parts are the file's own."""
    path = tmp_path / f"{name}.npz"
    arrays = write_volumes(
        path, classes=len(SETS[name].classes), counts=(3, 2, 2), side=12
    )
    parts = load_medmnist(path, slices=Slices(axis=1, step=5))
    check_task(parts.task, "letter")
    test = parts.test
    assert test.count == 2 * 2 and test.voted == "volume" and test.sizes == ((12, 12),)
    assert test.labels[:, 0].tolist() == np.repeat(arrays["test_labels"], 2).tolist()
    shown = [test.picture(n, np.random.default_rng(0)) for n in range(4)]
    assert [x.group for x in shown] == [
        f"{name}.npz test volume {n}" for n in (0, 0, 1, 1)
    ]
    assert [x.origin.rpartition(" ")[2] for x in shown] == ["2", "7", "2", "7"]
    for picture, (volume, at) in zip(
        shown, ((0, 2), (0, 7), (1, 2), (1, 7)), strict=True
    ):
        expected = arrays["test_images"][volume][:, at]
        assert np.array_equal(picture.image, np.repeat(expected[..., None], 3, axis=-1))
    assert parts.identity["slices"] == {"axis": 1, "step": 5}
    assert load_medmnist(path).train.count == 3 * 12


def test_slices_that_are_not_there(tmp_path):
    path = tmp_path / "organmnist3d.npz"
    write_volumes(path, classes=11, counts=(2, 2, 2), side=8)
    for slices, message in (
        (Slices(axis=3), "data.slices.axis=3: expected 0, 1 or 2"),
        (Slices(step=0), "data.slices.step=0: organmnist3d.npz has 8 slices"),
        (Slices(step=9), "expected 1 to 8"),
    ):
        with pytest.raises(ValueError, match=message):
            load_medmnist(path, slices=slices)
    make(path, classes=11)
    with pytest.raises(ValueError, match=r"expected uint8 \[n, d, h, w\]$"):
        load_medmnist(path)


def test_organs_are_numbered_otherwise_in_three_dimensions():
    """MedMNIST's own INFO: 0 is the bladder in pictures, the liver in volumes."""
    assert SETS["organamnist"].classes[0] == "bladder"
    assert SETS["organmnist3d"].classes[0] == "liver"
    assert set(SETS["organamnist"].classes) == set(SETS["organmnist3d"].classes)


def test_pictures_in_both_parts_are_told(tmp_path):
    path = tmp_path / "pneumoniamnist.npz"
    arrays = make(path, classes=2)
    assert load_medmnist(path).copies == ()
    images = arrays["test_images"].copy()
    images[[1, 4]] = arrays["train_images"][[7, 0]]
    images[5] = 0  # empty pictures are no copies
    trained = arrays["train_images"].copy()
    trained[3] = 0
    make(path, classes=2, test_images=images, train_images=trained)
    (line,) = load_medmnist(path).copies
    assert line.startswith("pneumoniamnist.npz: 2 of the 6 in test_images are in train")
    assert "such as test 1 = train 7" in line
    assert load_medmnist(path, test="val").copies == ()
