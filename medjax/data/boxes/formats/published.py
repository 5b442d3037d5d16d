"""Boxes of published sets: each layout is told in `data/lists/published`."""

from collections.abc import Iterator
from pathlib import Path

from medjax.data.boxes.entries import BoxEntry
from medjax.data.boxes.formats.asking import Asking, Found, Seen, ask, choose_classes
from medjax.data.boxes.formats.masks import Pair, marked
from medjax.data.images import ImageFile
from medjax.data.lists.published import ham10000, nih, tn3k, vindr
from medjax.data.lists.published.places import the_one
from medjax.data.lists.reading import Bad, Reading
from medjax.data.lists.recognise import refuse_groups, refuse_square

LESION = "skin lesion"
NODULE = "thyroid nodule"


def read_ham10000_boxes(
    path: Path, reading: Reading, asking: Asking
) -> Iterator[BoxEntry | Bad]:
    """Entries of HAM10000: the box of a mask is that of the skin lesion.

    Diagnosis, age, sex and place are columns for rewards in Python.

    Args:
        path: The folder of HAM10000.
        reading: Its `group` may name other columns of the metadata.
        asking: See `read_masks`.
    """
    classes = choose_classes((LESION,), asking.structures, "HAM10000")
    pairs: list[Pair] = []
    for one in ham10000.read_ham10000(path, reading):
        if isinstance(one, Bad):
            yield one
        elif one.mask is None:
            name = one.image.stem
            yield Bad(
                one.origin,
                f"{one.origin}: no mask {name}_segmentation.png of {name}; get "
                "HAM10000_segmentations_lesion_tschandl/, or say data.on_bad=drop",
            )
        else:
            seen = Seen(
                origin=one.origin,
                image=ImageFile(one.image),
                found=(),
                groups=one.groups,
                columns={**one.columns, "diagnosis": one.diagnosis},
            )
            pairs.append(Pair(one.origin, one.image, one.mask, seen))
    yield from _of_masks(pairs, LESION, classes, asking)


def read_tn3k_boxes(
    path: Path, reading: Reading, asking: Asking
) -> Iterator[BoxEntry | Bad]:
    """Entries of TN3K: the boxes of a mask are those of thyroid nodules.

    Args:
        path: The folder of TN3K.
        reading: `fold` parts training and validation.
        asking: See `read_masks`.
    """
    refuse_groups(reading, "TN3K names no patients")
    classes = choose_classes((NODULE,), asking.structures, "TN3K")
    pairs: list[Pair] = []
    for one in tn3k.read_tn3k(path, fold=reading.fold, labels=False):
        if isinstance(one, Bad) or one.mask is None:
            yield one if isinstance(one, Bad) else Bad(one.origin, "no mask")
        else:
            seen = Seen(one.origin, ImageFile(one.image), (), split=one.split)
            pairs.append(Pair(one.origin, one.image, one.mask, seen))
    yield from _of_masks(pairs, NODULE, classes, asking)


def read_nih_boxes(
    path: Path, reading: Reading, asking: Asking
) -> Iterator[BoxEntry | Bad]:
    """Entries of the list of boxes of ChestX-ray14.

    The list is a sample: what it does not name may be there, so that only images of
    "No Finding" can be asked about what is absent (`data.negatives=one`).

    Args:
        path: The folder of ChestX-ray14.
        reading: The options of a user's lists.
        asking: What is asked about them.

    Raises:
        ValueError: A list is missing, `negatives` is "all", or it is "one" without the
            list of findings.
    """
    refuse_groups(reading, "ChestX-ray14 is parted by patient")
    if asking.negatives == "all":
        raise ValueError(
            "data.negatives='all': the boxes of ChestX-ray14 are a sample, so what has "
            "none may be there; expected 'one' (of images without findings) or 'off'"
        )
    if asking.negatives == "one" and not nih.has_entries(path):
        raise ValueError(
            "data.negatives='one' asks about images of 'No Finding', which "
            "Data_Entry_2017.csv lists; put it into the folder, or say "
            "data.negatives=off"
        )
    places = nih.nih_places(path)
    patients: dict[str, str] = {}
    free: list[nih.Entry] = []
    if nih.has_entries(path):
        for one in nih.read_entries(path):
            if isinstance(one, Bad):
                yield one
            else:
                patients[one.name] = one.patient
                free += [one] if not one.findings else []
    boxed: dict[str, list[Found]] = {}
    for one in nih.read_boxes(path):
        if isinstance(one, Bad):
            yield one
        elif patients and one.name not in patients:
            yield Bad(one.origin, f"{one.origin}: {one.name} is not in Data_Entry_2017")
        else:
            mine = boxed.setdefault(one.name, [])
            mine.append(Found(one.origin, one.finding, one.box))
    if reading.official and {places.parts.get(name) for name in boxed} == {"test"}:
        raise ValueError(
            f"{nih.BOXES}: every image with boxes is in test_list.txt, so that none is "
            "left to train on; say data.official=False to part them by patient"
        )
    names = [label for found in boxed.values() for _, label, *_ in found]
    known = tuple(label for label in nih.FINDINGS if label in names)
    classes = choose_classes(known, asking.structures, nih.BOXES)
    if asking.negatives == "one":
        for one in free:
            if one.name in boxed:
                origin = boxed[one.name][0].origin
                yield Bad(
                    origin, f"{origin}: boxes, but {one.origin} says {nih.NOTHING}"
                )
            else:
                boxed[one.name] = []
    for name, found in boxed.items():
        origin = found[0].origin if found else name
        try:
            patient = patients.get(name) or nih.patient_name(name.partition("_")[0])
            seen = Seen(
                origin=origin,
                image=ImageFile(the_one(places.images, Path(name).stem, origin)),
                found=tuple(found),
                groups={"patient": patient},
                split=nih.part_of(places, name, origin),
                size=(nih.SIDE, nih.SIDE),
            )
        except ValueError as error:
            yield Bad(origin, str(error))
        else:
            yield from ask((seen,), classes, asking)


def read_vindr_boxes(
    path: Path, reading: Reading, asking: Asking
) -> Iterator[BoxEntry | Bad]:
    """Entries of the lists of boxes of VinDr-CXR, each with its reader.

    A reader who looked at an image and did not box a finding says that it is absent.

    Args:
        path: The folder of VinDr-CXR, as PhysioNet or Kaggle has it.
        reading: The options of a user's lists.
        asking: What is asked about them.

    Raises:
        ValueError: A list is missing.
    """
    refuse_groups(reading, "VinDr-CXR names no patients")
    refuse_square(reading, "the boxes of VinDr-CXR")
    halves = vindr.vindr_halves(path)
    marks: list[tuple[vindr.Half, dict[str, list[vindr.Mark]]]] = []
    for half in halves:
        mine: dict[str, list[vindr.Mark]] = {}
        for mark in vindr.read_marks(half):
            if isinstance(mark, Bad):
                yield vindr.spoilt_image(half, mark)
            else:
                mine.setdefault(mark.name, []).append(mark)
        marks.append((half, mine))
    names = sorted(
        {
            mark.finding
            for _, images in marks
            for image in images.values()
            for mark in image
            if mark.finding is not None
        }
    )
    classes = choose_classes(tuple(names), asking.structures, "VinDr-CXR")
    for half, images in marks:
        for name, found in images.items():
            seen = _vindr_image(half, name, found)
            if isinstance(seen, Bad):
                yield seen
            else:
                yield from ask((seen,), classes, asking)


def _vindr_image(half: vindr.Half, name: str, marks: list[vindr.Mark]) -> Seen | Bad:
    origin = marks[0].origin
    nothing = {mark.reader for mark in marks if mark.finding is None}
    something = {mark.reader: mark for mark in marks if mark.finding is not None}
    torn = [reader for reader in something if reader in nothing]
    if torn:
        mark = something[torn[0]]
        return Bad(
            mark.origin,
            f"{mark.origin}: {name}: a finding and {vindr.NOTHING!r} of one reader; "
            "expected one of them",
        )
    try:
        image = vindr.image_of(half, name, origin)
    except ValueError as error:
        return Bad(origin, str(error))
    scale = (1.0, 1.0)
    frame = "original"
    if image.suffix.lower() not in (".dicom", ".dcm"):
        if name not in half.sizes:
            return Bad(
                origin,
                f"{origin}: {image.name} is no DICOM, and boxes are in pixels of the "
                "DICOM; expected its height and width in a list "
                f"{half.split or 'train'}_meta.csv, image_id,dim0,dim1",
            )
        height, width = half.sizes[name]
        scale, frame = (1 / width, 1 / height), "unit"
    found = tuple(
        Found(
            mark.origin,
            mark.finding,
            (
                mark.box[0] * scale[0],
                mark.box[1] * scale[1],
                mark.box[2] * scale[0],
                mark.box[3] * scale[1],
            ),
            mark.reader,
        )
        for mark in marks
        if mark.finding is not None and mark.box is not None
    )
    readers = dict.fromkeys(mark.reader for mark in marks if mark.reader is not None)
    return Seen(
        origin=origin,
        image=ImageFile(image),
        found=found,
        frame=frame,
        split=half.split,
        readers=tuple(readers),
        size=half.sizes.get(name) if frame == "original" else None,
    )


def _of_masks(
    pairs: list[Pair], name: str, classes: tuple[str, ...], asking: Asking
) -> Iterator[BoxEntry | Bad]:
    for seen in marked(pairs, name, asking):
        if isinstance(seen, Bad):
            yield seen
        else:
            yield from ask((seen,), classes, asking)
