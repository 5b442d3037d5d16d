"""Label maps: read on the scan's grid, or refused by name."""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.data.scans.labels import read_label_names, read_labels
from tests.data.scans.scan_cases import TE, write_nifti

AFFINE = np.diag([2.0, 1.5, 4.0, 1.0])


@pytest.fixture
def scan(tmp_path):
    images = np.ones((6, 7, 4, 3), np.float32)
    return open_scan(write_nifti(tmp_path / "MESE.nii", images, {"EchoTime": TE}))


def labels():
    """[H, W, Z]."""
    found = np.zeros((6, 7, 4), np.int16)
    found[1:3, 2:5, 1], found[4, 4, 3] = 2, 41
    return found


def test_both_formats_come_slices_first(tmp_path, scan):
    expected = np.moveaxis(labels(), 2, 0)
    path = write_nifti(tmp_path / "seg.nii.gz", labels(), affine=AFFINE)
    np.testing.assert_array_equal(read_labels(path, scan), expected)
    np.save(tmp_path / "seg.npy", expected.astype(float))
    found = read_labels(tmp_path / "seg.npy", scan)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32


def test_another_grid_is_refused(tmp_path, scan):
    path = write_nifti(tmp_path / "a.nii", labels()[:-1], affine=AFFINE)
    with pytest.raises(ValueError, match=r"predict.labels: .*\(4, 5, 7\).*\(4, 6, 7\)"):
        read_labels(path, scan)
    path = write_nifti(tmp_path / "b.nii", labels(), affine=AFFINE + np.eye(4))
    with pytest.raises(ValueError, match="lie up to .* mm .*Resample the labels"):
        read_labels(path, scan)
    np.save(tmp_path / "c.npy", labels())
    with pytest.raises(ValueError, match=r"slices first.*moveaxis\(labels, 2, 0\)"):
        read_labels(tmp_path / "c.npy", scan)
    np.save(tmp_path / "d.npy", labels()[..., 0])
    with pytest.raises(ValueError, match="expected the scan's"):
        read_labels(tmp_path / "d.npy", scan)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, r"slice 1, row 1, column 2: 0.5; expected whole .*probabilities"),
        (-1, "column 2: -1"),
        (np.nan, "column 2: nan"),
        (1e12, "column 2: 1e"),
    ],
)
def test_what_is_no_label_is_refused_by_its_voxel(tmp_path, scan, value, message):
    wrong = np.moveaxis(labels(), 2, 0).astype(float)
    wrong[1, 1, 2] = value
    np.save(tmp_path / "a.npy", wrong)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "a.npy", scan)


def test_other_files_are_refused(tmp_path, scan):
    with pytest.raises(FileNotFoundError, match="predict.labels: .*no such file"):
        read_labels(tmp_path / "none.nii", scan)
    (tmp_path / "a.txt").write_text("1")
    with pytest.raises(ValueError, match="expected labels as .nii"):
        read_labels(tmp_path / "a.txt", scan)
    (tmp_path / "a.npy").write_text("1")
    with pytest.raises(ValueError, match="a.npy: no .npy array"):
        read_labels(tmp_path / "a.npy", scan)
    np.save(tmp_path / "b.npy", np.array(["x"]))
    with pytest.raises(ValueError, match="expected whole numbers .slices"):
        read_labels(tmp_path / "b.npy", scan)
    np.save(tmp_path / "c.npy", np.zeros((4, 6, 7), int))
    with pytest.raises(ValueError, match="all voxels are 0"):
        read_labels(tmp_path / "c.npy", scan)


def test_names_come_from_a_bids_table(tmp_path):
    path = tmp_path / "dseg.tsv"
    path.write_text('index\tname\tcolor\n2\twhite "matter"\t#ff\n41\tgrey\t#00\n')
    assert read_label_names(path) == {2: 'white "matter"', 41: "grey"}
    for text, message in (
        ("index,name\n2,a\n", "columns index,name; expected a tab-separated"),
        ("", "columns none"),
        ("index\tname\n2\n", "line 2: index 2 has no name"),
        ("index\tname\nx\ta\n", "line 2: index 'x'; expected a whole"),
        ("index\tname\n2\ta\n2\tb\n", "line 3: index 2 stands there twice"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_label_names(path)
    path.write_bytes(b"index\tname\n2\t\xff\n")
    with pytest.raises(ValueError, match="expected text in UTF-8"):
        read_label_names(path)
    with pytest.raises(FileNotFoundError, match="predict.label_names"):
        read_label_names(tmp_path / "none.tsv")
