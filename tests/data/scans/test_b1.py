"""Maps of B1+: read as ratios on the scan's grid, or refused by name."""

import numpy as np
import pytest

from medjax.data.scans.b1 import read_b1
from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import TE, write_nifti

AFFINE = np.diag([2.0, 1.5, 4.0, 1.0])


@pytest.fixture
def scan(tmp_path):
    images = np.ones((6, 7, 4, 3), np.float32)
    return open_scan(write_nifti(tmp_path / "MESE.nii", images, {"EchoTime": TE}))


def field(scale=1.0):
    """[H, W, Z], all of it different."""
    return (scale * np.linspace(0.7, 1.2, 6 * 7 * 4).reshape(6, 7, 4)).astype("f4")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_map_comes_slices_first(tmp_path, scan, suffix):
    values = field()
    values[0, 0, 0], values[1, 0, 0], values[2, 0, 0] = 0, np.nan, -0.1
    path = write_nifti(tmp_path / f"TB1map{suffix}", values[..., None], affine=AFFINE)
    found = read_b1(path, scan)
    assert found.shape == (4, 6, 7) and found.dtype == np.float32
    assert np.isnan(found[0, :3, 0]).all() and np.isnan(found).sum() == 3
    expected = np.moveaxis(values, 2, 0)
    np.testing.assert_array_equal(found[1:], expected[1:])


def test_an_npz_map(tmp_path, scan):
    values = np.moveaxis(field(), 2, 0)
    np.savez(tmp_path / "b1.npz", b1=values)
    np.testing.assert_array_equal(read_b1(tmp_path / "b1.npz", scan), values)
    np.savez(tmp_path / "b1.npz", b1=values, affine=AFFINE)
    np.testing.assert_array_equal(read_b1(tmp_path / "b1.npz", scan), values)
    np.savez(tmp_path / "b1.npz", b1=values, affine=AFFINE + np.eye(4))
    with pytest.raises(ValueError, match=r"lie up to .* mm .*resample_from_to"):
        read_b1(tmp_path / "b1.npz", scan)
    np.savez(tmp_path / "b1.npz", ratio=values)
    with pytest.raises(ValueError, match=r"by the key b1; found ratio"):
        read_b1(tmp_path / "b1.npz", scan)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (100, r"median .* is 95; .*percent: divide the map by 100"),
        (180, r"percent: divide .*degrees"),
        (5, r"expected the ratio of actual to nominal"),
        (0.05, r"add 1 to a relative difference"),
        (-1, r"no value is above 0"),
    ],
)
def test_what_is_no_ratio_is_refused(tmp_path, scan, scale, message):
    path = write_nifti(tmp_path / "TB1map.nii", field(scale), affine=AFFINE)
    with pytest.raises(ValueError, match=f"TB1map.nii: .*{message}"):
        read_b1(path, scan)


def test_another_grid_is_refused(tmp_path, scan):
    half = write_nifti(tmp_path / "half.nii", field()[::2], affine=AFFINE)
    with pytest.raises(ValueError, match=r"half.nii: \(4, 3, 7\) .*\(4, 6, 7\).*Resam"):
        read_b1(half, scan)
    flipped = AFFINE @ np.diag([-1, 1, 1, 1])
    moved = write_nifti(tmp_path / "moved.nii", field(), affine=flipped)
    with pytest.raises(ValueError, match=r"moved.nii: .* from those of MESE.nii"):
        read_b1(moved, scan)
    near = AFFINE.copy()
    near[0, 3] = 0.1
    path = write_nifti(tmp_path / "near.nii", field(), affine=near)
    assert read_b1(path, scan).shape == (4, 6, 7)
    series = np.stack([field()] * 2, axis=-1)
    many = write_nifti(tmp_path / "many.nii", series, affine=AFFINE)
    with pytest.raises(ValueError, match=r"many.nii: .*expected one volume"):
        read_b1(many, scan)


def test_other_files_are_refused(tmp_path, scan):
    with pytest.raises(FileNotFoundError, match="predict.b1: .*none.nii"):
        read_b1(tmp_path / "none.nii", scan)
    (tmp_path / "b1.mat").write_bytes(b"0")
    with pytest.raises(ValueError, match=r"b1.mat: expected a map of B1\+ as .nii"):
        read_b1(tmp_path / "b1.mat", scan)
    (tmp_path / "b1.npz").write_bytes(b"0")
    with pytest.raises(ValueError, match=r"b1.npz: cannot be read"):
        read_b1(tmp_path / "b1.npz", scan)
