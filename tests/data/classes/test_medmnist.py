"""MedMNIST files: what is read, and everything that is not one."""

import json

import numpy as np
import pytest

from medjax.data.classes.medmnist import SETS, load_class_names, load_medmnist
from medjax.data.classes.pictures import class_counts
from medjax.data.classes.tasks import check_task

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


@pytest.mark.parametrize("name", list(SETS))
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
        ({"train_images": IMAGES[:, None].repeat(28, 1)}, "the 3-D sets are not read"),
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
    with pytest.raises(ValueError, match="chestmnist has several labels"):
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
