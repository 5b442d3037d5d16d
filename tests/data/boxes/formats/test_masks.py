import numpy as np
import pytest

from medjax.data.boxes.formats.asking import Asking
from medjax.data.boxes.formats.table import box_entries
from medjax.data.images import read_image
from medjax.data.lists.reading import Bad, Reading
from tests.data import folders

FIRST, SECOND = (3, 4, 20, 12), (30, 20, 50, 39)


def entries(path, reading=None, **asking):
    return list(box_entries(path, reading or Reading(), Asking(**asking)))


def pair(root, name, *, ending=".png", **mask):
    folders.picture(root / "images" / f"{name}.png")
    folders.mask(root / "masks" / f"{name}{ending}", **mask)


def test_masks_are_found_by_the_names_of_images(tmp_path):
    for name, ending in (
        ("a", ".png"),
        ("b", "_mask.tif"),
        ("c", "_segmentation.jpg"),
        ("d", "_seg.bmp"),
    ):
        pair(tmp_path, name, ending=ending, boxes=[FIRST])
    pair(tmp_path, "e")
    found = entries(tmp_path)
    assert [one.boxes for one in found] == [(FIRST,)] * 4 + [()]
    assert {one.query for one in found} == {"Find the target."}
    assert found[0].size == (40, 56) and found[0].origin == "images/a.png"
    assert found[0].images[0].path == tmp_path / "images" / "a.png"


def test_one_box_for_all_or_one_for_each_component(tmp_path):
    pair(tmp_path, "a", boxes=[FIRST, SECOND])
    (whole,) = entries(tmp_path, names="cell")
    assert whole.boxes == ((3, 4, 50, 39),) and whole.label == "cell"
    parts = entries(tmp_path, mask="components")
    assert [one.boxes for one in parts] == [(FIRST,), (SECOND,)]
    large = entries(tmp_path, mask="components", min_area=200)
    assert [one.boxes for one in large] == [(SECOND,)]
    assert entries(tmp_path, min_area=10**4) == []  # not: nothing was found


def test_what_is_too_small_is_not_asked_about_as_absent(tmp_path):
    """Liver is large, spleen small, node nowhere: node alone is a negative."""
    small = (30, 20, 33, 23)
    pair(tmp_path, "a", boxes=[FIRST, small], values=[1, 2])
    pair(tmp_path, "b", boxes=[small], values=[2])
    pair(tmp_path, "c")
    (tmp_path / "names.json").write_text('{"1": "liver", "2": "spleen", "3": "node"}')

    def asked(**asking):
        return [
            (one.origin[7], one.label, len(one.boxes))
            for one in entries(tmp_path, min_area=10, **asking)
        ]

    every = [("a", "liver", 1), ("a", "node", 0)]
    every += [("c", name, 0) for name in ("liver", "spleen", "node")]
    assert asked(negatives="all") == every
    assert asked(negatives="all", mask="components") == every
    # of the spleen alone, "a" says nothing: neither that it is there nor that not
    only = [("c", "spleen", 0)]
    assert asked(negatives="all", structures="spleen") == only
    assert asked(negatives="one", structures="spleen") == only
    # nor does it where all classes are asked for at once, as far as they are chosen
    at_once = {"negatives": "all", "query": "Find what is there."}
    assert asked(structures=("spleen", "node"), **at_once) == [("c", "finding", 0)]
    assert ("a", "finding", 0) in asked(structures="node", **at_once)


def test_labels_of_a_map_are_classes(tmp_path):
    pair(tmp_path, "a", boxes=[FIRST, SECOND], values=[1, 2])
    (tmp_path / "names.json").write_text('{"1": "liver", "2": "spleen", "3": "node"}')
    found = entries(tmp_path)
    assert [one.label for one in found] == ["liver", "spleen"]
    every = entries(tmp_path, negatives="all")
    assert [(one.label, len(one.boxes)) for one in every][-1] == ("node", 0)
    (spleen,) = entries(tmp_path, structures="spleen")
    assert spleen.boxes == (SECOND,)


def test_folders_of_the_official_parts(tmp_path):
    for part in ("train", "valid", "test"):
        pair(tmp_path / part, "a", boxes=[FIRST])
    assert [one.split for one in entries(tmp_path)] == ["train", "val", "test"]
    assert entries(tmp_path)[0].origin == "train/images/a.png"
    pair(tmp_path, "b")
    with pytest.raises(ValueError, match="but not both; found 4 such places"):
        entries(tmp_path)


def test_what_has_no_partner_or_two_is_named(tmp_path):
    pair(tmp_path, "a", boxes=[FIRST])
    pair(tmp_path, "b", boxes=[FIRST])
    folders.mask(tmp_path / "masks" / "b_mask.png")
    folders.picture(tmp_path / "images" / "c.png")
    folders.mask(tmp_path / "masks" / "d.png")
    pair(tmp_path, "e", boxes=[FIRST, SECOND], values=[1, 2])
    bad = [one.message for one in entries(tmp_path) if isinstance(one, Bad)]
    assert len(bad) == 4
    assert "images/b.png: 1 images and 2 masks of that name" in bad[0]
    assert "images/c.png: 1 images and 0 masks" in bad[1]
    assert bad[2] == "masks/d.png: a mask without an image of that name"
    assert "images/e.png: the mask has the values 1, 2 beside 0" in bad[3]


def test_columns_that_masks_do_not_have_are_refused(tmp_path):
    pair(tmp_path, "a", boxes=[FIRST])
    with pytest.raises(ValueError, match="data.group=patient: masks have no columns"):
        entries(tmp_path, Reading(group=("patient",)))


def volume(path, values, affine):
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, 1, -1)])
def test_slices_of_volumes_are_turned_as_their_images_are(tmp_path, plane, signs):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 99, (20, 24, 28), np.uint8)
    marks = np.zeros(grey.shape, np.uint8)
    marks[4:11, 6:9, 12:20] = 1
    marks[14:17, 15:22, 3:8] = 2
    grey[marks == 1], grey[marks == 2] = 150, 250
    affine = np.diag([*(2.0 * s for s in signs), 1])
    volume(tmp_path / "images" / "case.nii.gz", grey, affine)
    volume(tmp_path / "masks" / "case_seg.nii", marks, affine)
    names = '{"1": "liver", "2": "node"}'
    found = entries(tmp_path, names=names, plane=plane)
    across = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    assert len(found) == sum(
        marks.take(n, across).max() > 0 and len(set(marks.take(n, across).flat)) - 1
        for n in range(marks.shape[across])
    )
    for one in found:
        image = read_image(one.images[0], one.origin)[..., 0]
        y, x = np.nonzero(image == {"liver": 150, "node": 250}[one.label])
        assert one.boxes == ((x.min(), y.min(), x.max() + 1, y.max() + 1),)
        assert one.size == image.shape and one.groups == {"volume": one.origin[:18]}
    more = entries(tmp_path, names=names, plane=plane, negatives="one")
    assert len(more) - len(found) == sum(
        not marks.take(n, across).any() for n in range(marks.shape[across])
    )


def test_volumes_and_masks_that_do_not_fit_are_named(tmp_path):
    affine = np.diag([2.0, 2, 2, 1])
    empty = np.zeros((8, 9, 10), np.uint8)
    moved = affine.copy()
    moved[0, 3] = 1
    for name, mask, place in (
        ("a", empty[1:], affine),
        ("b", empty, moved),
        ("c", empty.astype(np.float32) + 0.5, affine),
    ):
        volume(tmp_path / "images" / f"{name}.nii.gz", empty, affine)
        volume(tmp_path / "masks" / f"{name}.nii.gz", mask, place)
    volume(tmp_path / "images" / "d.nii", empty, affine)
    folders.mask(tmp_path / "masks" / "d.png")
    (tmp_path / "images" / "e.nii").write_bytes(b"x" * 400)
    volume(tmp_path / "masks" / "e.nii", empty, affine)
    bad = sorted(one.message for one in entries(tmp_path))
    assert "images/a.nii.gz: the mask has (7, 9, 10) voxels, the image" in bad[0]
    assert "images/b.nii.gz: the mask and the image lie at other places" in bad[1]
    assert (
        "images/c.nii.gz: the mask c.nii.gz holds float32 values that are no" in bad[2]
    )
    assert "images/d.nii: d.nii and the mask d.png; expected both as NIfTI" in bad[3]
    assert "images/e.nii: cannot read e.nii" in bad[4]
    with pytest.raises(ValueError, match="data.pixels=square: masks count in the"):
        entries(tmp_path, Reading(pixels="square"))
