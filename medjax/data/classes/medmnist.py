"""MedMNIST files: small pictures in `.npz` arrays with official splits.

    organamnist.npz, organamnist_224.npz: train_images [n, h, w] or [n, h, w, 3] uint8,
    train_labels [n, 1], and the same for val_ and test_

The files are the user's own (Yang et al., Scientific Data 2023, zenodo 10519652; CC BY
4.0, DermaMNIST CC BY-NC 4.0). They hold no class names: those are in `SETS` here, or
come from a JSON file. Pictures have no patients' ids, so each is a group of its own.
"""

import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from medjax.data.classes.pictures import Picture, Pictures
from medjax.data.classes.tasks import ClassQuestion, ClassTask, TaskParts
from medjax.data.json_files import read_json

PARTS = ("train", "val", "test")
_MULTI_LABEL = ("chestmnist",)
_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)


class MedSet(NamedTuple):
    """What is public about a set and not in its file."""

    picture: str  # what one is, in a question
    classes: tuple[str, ...]
    ordinal: bool = False


SETS = {
    "pathmnist": MedSet(
        "H&E stained patch of colorectal tissue",
        (
            *("adipose", "background", "debris", "lymphocytes", "mucus"),
            *("smooth muscle", "normal colon mucosa", "cancer-associated stroma"),
            "colorectal adenocarcinoma epithelium",
        ),
    ),
    "dermamnist": MedSet(
        "dermoscopic picture",
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
        ),
    ),
    "octmnist": MedSet(
        "retinal OCT picture",
        (
            "choroidal neovascularization",
            *("diabetic macular edema", "drusen", "normal"),
        ),
    ),
    "pneumoniamnist": MedSet("chest radiograph of a child", ("normal", "pneumonia")),
    "retinamnist": MedSet("fundus photograph", ("0", "1", "2", "3", "4"), True),
    "breastmnist": MedSet("breast ultrasound picture", ("malignant", "normal, benign")),
    "bloodmnist": MedSet(
        "picture of a blood cell",
        (
            *("basophil", "eosinophil", "erythroblast"),
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            *("lymphocyte", "monocyte", "neutrophil", "platelet"),
        ),
    ),
    "tissuemnist": MedSet(
        "fluorescence picture of a kidney cortex cell",
        (
            *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule"),
            *("Glomerular endothelial cells", "Interstitial endothelial cells"),
            *("Leukocytes", "Podocytes", "Proximal Tubule Segments"),
            "Thick Ascending Limb",
        ),
    ),
    "organamnist": MedSet("axial CT crop", _ORGANS),
    "organcmnist": MedSet("coronal CT crop", _ORGANS),
    "organsmnist": MedSet("sagittal CT crop", _ORGANS),
}
"""The single-label 2-D sets of MedMNIST v2 and MedMNIST+."""


def load_medmnist(
    path: str | os.PathLike[str],
    *,
    test: str = "test",
    classes: Sequence[str] | None = None,
    ordinal: bool | None = None,
) -> TaskParts:
    """The task of a file, its training part and the part to test on.

    Args:
        path: The .npz file; which set it is, is known by its name.
        test: The official part that is tested, "test" or "val".
        classes: Names in the order of the labels; None takes those of `SETS`.
        ordinal: Whether the classes are grades; None takes what `SETS` says, or else
            False.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, lacks a split, has several labels a picture or
            pictures of another kind, or a label outside the classes; or the set is
            unknown.
    """
    path = Path(path)
    if test not in PARTS[1:]:
        raise ValueError(f"test={test!r}: expected one of {PARTS[1:]}")
    stem = re.sub(r"_(28|64|128|224)$", "", path.stem.lower())
    if stem in _MULTI_LABEL:
        raise ValueError(
            f"{path}: {stem} has several labels a picture (multi-label); this task is "
            f"about one class a picture, as are {', '.join(SETS)}"
        )
    arrays = _read(path, ("train", test))
    known = SETS.get(stem)
    if classes is None and known is None:
        raise ValueError(
            f"{path}: {stem!r} is none of {', '.join(SETS)}, and the file holds no "
            "class names: give them as a JSON file, a list in the labels' order"
        )
    names = tuple(classes if classes is not None else known.classes if known else ())
    graded = (known.ordinal if known else False) if ordinal is None else ordinal
    both = [
        _pictures(path, part, *arrays[part], names=names) for part in ("train", test)
    ]
    task = ClassTask(
        name=stem,
        classes=names,
        questions=(_question(known, len(names), graded),),
        ordinal=graded,
    )
    identity = {"task": stem, "classes": list(names), "crc": _sums(path), "test": test}
    return TaskParts(task, both[0], both[1], identity)


def load_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names from JSON: a list, or an object of names by "0", "1", ... .

    Args:
        path: The JSON file, with two names or more.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected JSON of class names")
    shape = '["name", ...] or {"0": "name", ...}, two classes or more'
    content = read_json(path, expected=shape)
    if isinstance(content, dict):
        wanted = [str(n) for n in range(len(content))]
        if sorted(content) != sorted(wanted):
            raise ValueError(f"{path}: keys {list(content)}; expected {shape}, no gaps")
        content = [content[key] for key in wanted]
    texts = isinstance(content, list) and all(
        isinstance(name, str) and name.strip() for name in content
    )
    if not texts or len(content) < 2:
        raise ValueError(f"{path}: found {str(content)[:80]}; expected {shape}")
    return tuple(content)


def _read(path: Path, parts: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pictures and labels of the parts, all of PARTS being there."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a MedMNIST .npz")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a MedMNIST .npz (no archive)")
    wanted = [f"{part}_{kind}" for part in PARTS for kind in ("images", "labels")]
    members: tuple[str, ...] = ()
    read: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            members = tuple(arrays.files)
            if set(wanted) <= set(members):
                read = {
                    part: (arrays[f"{part}_images"], arrays[f"{part}_labels"])
                    for part in parts
                }
    except (ValueError, zipfile.BadZipFile, EOFError, OSError, AttributeError) as error:
        raise ValueError(f"{path}: not a MedMNIST .npz ({error})") from error
    if not read:
        missing = [name for name in wanted if name not in members]
        raise ValueError(
            f"{path}: no {', '.join(missing)} among {', '.join(members)}; expected the "
            "official splits train, val and test, which the published file holds"
        )
    return read


def _pictures(
    path: Path,
    part: str,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    names: tuple[str, ...],
) -> Pictures:
    flat = _labels(path, part, labels, len(names))
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (grey or colour) or not len(images):
        raise ValueError(
            f"{path}, {part}_images: {images.dtype} of shape {images.shape}; expected "
            "uint8 [n, h, w] or [n, h, w, 3] (the 3-D sets are not read)"
        )
    if len(images) != len(flat):
        raise ValueError(
            f"{path}: {len(images)} {part}_images and {len(flat)} {part}_labels"
        )

    def picture(index: int, rng: np.random.Generator) -> Picture:
        del rng  # nothing is drawn
        name = f"{path.name} {part} {index}"
        return Picture(_rgb(images[index]), name, name)

    return Pictures(len(flat), picture, flat[:, None], (images.shape[1:3],))


def _labels(
    path: Path, part: str, labels: np.ndarray, count: int
) -> Int[np.ndarray, "n"]:
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"{path}, {part}_labels: {labels.shape[1]} labels a picture (multi-label); "
            "this task is about one class a picture"
        )
    flat = labels.reshape(-1)
    whole = np.issubdtype(flat.dtype, np.number) and np.isrealobj(flat)
    wrong = np.flatnonzero(flat != np.round(flat)) if whole else np.arange(1)
    if len(wrong):
        value = flat[wrong[0]] if len(flat) else "nothing"
        raise ValueError(
            f"{path}, {part}_labels, row {wrong[0]}: {value} is not an integer"
        )
    outside = np.flatnonzero((flat < 0) | (flat >= count))
    if len(outside):
        raise ValueError(
            f"{path}, {part}_labels, row {outside[0]}: label {flat[outside[0]]} is "
            f"outside the {count} classes 0 to {count - 1}"
        )
    return flat.astype(np.int32)


def _rgb(image: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "h w 3"]:
    return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image


def _question(known: MedSet | None, count: int, ordinal: bool) -> ClassQuestion:
    picture = known.picture if known else "picture"
    phrasings = (
        ("Which grade is this?", f"Grade this {picture}.")
        if ordinal
        else (
            "Which class is this?",
            f"What does this {picture} show?",
            f"Classify this {picture}.",
        )
    )
    return ClassQuestion("class", phrasings, tuple(range(count)))


def _sums(path: Path) -> dict[str, int]:
    """Checksums of the members, as their archive holds them."""
    with zipfile.ZipFile(path) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}
