"""MedMNIST files: small pictures in `.npz` arrays with official splits.

    organamnist.npz, organamnist_224.npz: train_images [n, h, w] or [n, h, w, 3] uint8,
    train_labels [n, 1], and the same for val_ and test_
    chestmnist.npz: train_labels [n, 14] of 0 and 1, several a picture or none
    organmnist3d.npz, organmnist3d_64.npz: train_images [n, d, h, w], one label a volume

Volumes are shown slice by slice. What their axes are in the body is not published, so
an axis is named by its number.
The files are the user's own (Yang et al., Scientific Data 2023, zenodo 10519652; CC BY
4.0, DermaMNIST CC BY-NC 4.0). They hold no class names: those are in `SETS` here, or
come from a JSON file. Pictures have no patients' ids, so each is a group of its own,
and so is each volume.
"""

import hashlib
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
_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)


class MedSet(NamedTuple):
    """What is public about a set and not in its file."""

    picture: str  # what one is, in a question
    classes: tuple[str, ...]
    ordinal: bool = False
    multi: bool = False  # several classes a picture, or none
    volumes: bool = False


class Slices(NamedTuple):
    """Which slices of a volume are shown."""

    axis: int = 0  # that slices are cut across, of the three of the array
    step: int = 1  # every so many voxels, from the middle of the first so many on


EVERY = Slices()


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
    "chestmnist": MedSet(
        "frontal chest radiograph",
        (
            *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass"),
            *("nodule", "pneumonia", "pneumothorax", "consolidation", "edema"),
            *("emphysema", "fibrosis", "pleural", "hernia"),
        ),
        multi=True,
    ),
    "organmnist3d": MedSet(
        "slice of a CT crop of an organ",
        (
            *("liver", "kidney-right", "kidney-left", "femur-right", "femur-left"),
            *("bladder", "heart", "lung-right", "lung-left", "spleen", "pancreas"),
        ),
        volumes=True,
    ),
    "nodulemnist3d": MedSet(
        "slice of a CT crop of a lung nodule", ("benign", "malignant"), volumes=True
    ),
    "adrenalmnist3d": MedSet(
        "slice of the mask of an adrenal gland",
        ("normal", "hyperplasia"),
        volumes=True,
    ),
    "fracturemnist3d": MedSet(
        "slice of a CT crop of a broken rib",
        (
            *("buckle rib fracture", "nondisplaced rib fracture"),
            "displaced rib fracture",
        ),
        volumes=True,
    ),
    "vesselmnist3d": MedSet(
        "slice of the mask of a brain vessel", ("vessel", "aneurysm"), volumes=True
    ),
    "synapsemnist3d": MedSet(
        "slice of an electron microscopy crop of a synapse",
        ("inhibitory synapse", "excitatory synapse"),
        volumes=True,
    ),
}
"""The sets of MedMNIST v2 and MedMNIST+; names and order as its `INFO` has them."""


def load_medmnist(
    path: str | os.PathLike[str],
    *,
    test: str = "test",
    classes: Sequence[str] | None = None,
    ordinal: bool | None = None,
    multi: bool = False,
    slices: Slices = EVERY,
) -> TaskParts:
    """The task of a file, its training part and the part to test on.

    Args:
        path: The .npz file; which set it is, is known by its name.
        test: The official part that is tested, "test" or "val".
        classes: Names in the order of the labels; None takes those of `SETS`.
        ordinal: Whether the classes are grades; None takes what `SETS` says, or else
            False.
        multi: Whether a file that is not in `SETS` has marks of several classes a
            picture, as those of chestmnist are. A set of `SETS` is what it is.
        slices: Which slices of volumes are shown; each is a picture, and those of a
            volume are one group. Not read for pictures.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, lacks a split, has several labels a picture
            where one is expected or the other way round, pictures of another kind, or a
            label outside the classes; the set is unknown; or there are no such slices.
    """
    path = Path(path)
    if test not in PARTS[1:]:
        raise ValueError(f"test={test!r}: expected one of {PARTS[1:]}")
    stem = re.sub(r"_(28|64|128|224)$", "", path.stem.lower())
    arrays = _read(path, ("train", test))
    known = SETS.get(stem)
    if classes is None and known is None:
        raise ValueError(
            f"{path}: {stem!r} is none of {', '.join(SETS)}, and the file holds no "
            "class names: give them as a JSON file, a list in the labels' order"
        )
    if known is not None and multi and not known.multi:
        raise ValueError(
            f"{path}: {stem} has one label a picture; leave out data.answers=set"
        )
    names = tuple(classes if classes is not None else known.classes if known else ())
    graded = (known.ordinal if known else False) if ordinal is None else ordinal
    several = known.multi if known else multi
    shape = _Shape(len(names), several, known.volumes if known else None, slices)
    both = [_pictures(path, part, *arrays[part], shape) for part in ("train", test)]
    task = ClassTask(
        name=stem,
        classes=names,
        questions=(_question(known, len(names), graded, several),),
        ordinal=graded,
        multi=several,
    )
    identity = {"task": stem, "classes": list(names), "crc": _sums(path), "test": test}
    if both[0].voted:
        identity |= {"slices": slices._asdict()}
    notes = _copies(path.name, arrays["train"][0], test, arrays[test][0])
    return TaskParts(task, both[0], both[1], identity, notes=notes)


def _copies(
    name: str, train: UInt8[np.ndarray, "n ..."], test: str, tested: np.ndarray
) -> tuple[str, ...]:
    """A line where pictures or volumes of both parts are equal, and no single grey."""

    def sums(images: np.ndarray) -> dict[bytes, int]:
        return {
            hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest(): n
            for n, image in enumerate(images)
            if image.min() < image.max()
        }

    known, other = sums(train), sums(tested)
    both = [(n, known[key]) for key, n in other.items() if key in known]
    if not both:
        return ()
    first, like = both[0]
    return (
        f"{name}: {len(both)} of the {len(tested)} in {test}_images are in "
        f"train_images too, pixel by pixel, such as {test} {first} = train {like}; "
        "scores count them",
    )


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


class _Shape(NamedTuple):
    """What a file's arrays should be."""

    classes: int
    multi: bool
    volumes: bool | None  # None: as the arrays look
    slices: Slices


def _pictures(
    path: Path, part: str, images: np.ndarray, labels: np.ndarray, shape: _Shape
) -> Pictures:
    read = _marks if shape.multi else _labels
    known = read(path, part, labels, shape.classes)
    _check_images(path, part, images, shape.volumes)
    if len(images) != len(known):
        raise ValueError(
            f"{path}: {len(images)} {part}_images and {len(known)} {part}_labels"
        )
    if images.ndim == 4 and images.shape[-1] != 3:
        return _slices(path, part, images, known, shape.slices)

    def picture(index: int, rng: np.random.Generator) -> Picture:
        del rng  # nothing is drawn
        name = f"{path.name} {part} {index}"
        return Picture(_rgb(images[index]), name, name)

    return Pictures(len(known), picture, known, (images.shape[1:3],))


def _slices(
    path: Path,
    part: str,
    images: UInt8[np.ndarray, "n d h w"],
    labels: Int[np.ndarray, "n Q"],
    slices: Slices,
) -> Pictures:
    """The slices of volumes, volume by volume; a volume is a group."""
    axis, step = slices
    if axis not in (0, 1, 2):
        raise ValueError(f"data.slices.axis={axis}: expected 0, 1 or 2")
    across = images.shape[1 + axis]
    if not 1 <= step <= across:
        raise ValueError(
            f"data.slices.step={step}: {path.name} has {across} slices across axis "
            f"{axis}; expected 1 to {across}"
        )
    positions = range((step - 1) // 2, across, step)

    def picture(index: int, rng: np.random.Generator) -> Picture:
        del rng  # nothing is drawn
        volume, n = divmod(index, len(positions))
        image = images[volume].take(positions[n], axis=axis)
        name = f"{path.name} {part} volume {volume}"
        return Picture(_rgb(image), f"{name}, slice {positions[n]}", name)

    size = tuple(np.delete(images.shape[1:], axis).tolist())
    every = np.repeat(labels, len(positions), axis=0)
    return Pictures(len(every), picture, every, (size,), voted="volume")


def _check_images(
    path: Path, part: str, images: np.ndarray, volumes: bool | None
) -> None:
    plane = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    solid = images.ndim == 4 and images.shape[-1] != 3
    fits = {True: solid, False: plane, None: plane or solid}[volumes]
    if images.dtype == np.uint8 and fits and images.size:
        return
    pictures, blocks = "[n, h, w] or [n, h, w, 3]", "[n, d, h, w]"
    expected = {True: blocks, False: pictures, None: f"{pictures}, or {blocks}"}
    raise ValueError(
        f"{path}, {part}_images: {images.dtype} of shape {images.shape}; expected "
        f"uint8 {expected[volumes]}"
    )


def _labels(
    path: Path, part: str, labels: np.ndarray, count: int
) -> Int[np.ndarray, "n 1"]:
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"{path}, {part}_labels: {labels.shape[1]} labels a picture (multi-label); "
            "expected one class a picture. If they are marks of several classes, name "
            "the classes in a JSON file, data.classes, and set data.answers=set"
        )
    flat = _whole(path, part, labels.reshape(-1))
    outside = np.flatnonzero((flat < 0) | (flat >= count))
    if len(outside):
        raise ValueError(
            f"{path}, {part}_labels, row {outside[0]}: label {flat[outside[0]]} is "
            f"outside the {count} classes 0 to {count - 1}"
        )
    return flat.astype(np.int32)[:, None]


def _marks(
    path: Path, part: str, labels: np.ndarray, count: int
) -> Int[np.ndarray, "n C"]:
    if labels.ndim != 2 or labels.shape[1] != count:
        raise ValueError(
            f"{path}, {part}_labels: shape {labels.shape}; expected [n, {count}], a "
            "mark of 0 or 1 for each class"
        )
    _whole(path, part, labels)
    row, column = np.nonzero((labels != 0) & (labels != 1))
    if len(row):
        raise ValueError(
            f"{path}, {part}_labels, row {row[0]}: mark "
            f"{labels[row[0], column[0]]} of class {column[0]}; expected 0 or 1"
        )
    return labels.astype(np.int32)


def _whole(path: Path, part: str, labels: np.ndarray) -> np.ndarray:
    """The labels, which are whole numbers."""
    whole = np.issubdtype(labels.dtype, np.number) and np.isrealobj(labels)
    first = np.zeros((1, labels.ndim), int)
    wrong = np.argwhere(labels != np.round(labels)) if whole else first
    if len(wrong):
        row = int(wrong[0][0])
        value = labels[tuple(wrong[0])] if len(labels) else "nothing"
        raise ValueError(f"{path}, {part}_labels, row {row}: {value} is not an integer")
    return labels


def _rgb(image: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "h w 3"]:
    return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image


def _question(
    known: MedSet | None, count: int, ordinal: bool, multi: bool
) -> ClassQuestion:
    picture = known.picture if known else "picture"
    phrasings = (
        "Which class is this?",
        f"What does this {picture} show?",
        f"Classify this {picture}.",
    )
    if ordinal:
        phrasings = ("Which grade is this?", f"Grade this {picture}.")
    if multi:
        phrasings = (
            "Which of these are seen?",
            f"What does this {picture} show?",
            f"Name all that this {picture} shows.",
        )
    return ClassQuestion("class", phrasings, tuple(range(count)))


def _sums(path: Path) -> dict[str, int]:
    """Checksums of the members, as their archive holds them."""
    with zipfile.ZipFile(path) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}
