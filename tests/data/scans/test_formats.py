"""Which reader opens what."""

import sys

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import TE, make_scan, to_bart, write_cfl, write_nifti


def test_paths_that_are_no_scan(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npz: no such file"):
        open_scan(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="no files of a known format"):
        open_scan(tmp_path)
    with pytest.raises(ValueError, match="no files to open"):
        open_scan([])
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"a.txt: unknown format; expected.*\.npz"):
        open_scan(tmp_path / "a.txt")
    (tmp_path / "a.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match="a.h5.*damaged"):
        open_scan(str(tmp_path / "a.h5"))


def test_files_and_options_that_do_not_belong_together(tmp_path):
    kspace, _, _ = make_scan()
    cfl = write_cfl(tmp_path / "k", to_bart(kspace))
    image = write_nifti(tmp_path / "a.nii", np.ones((4, 4, 2, 3)), {"EchoTime": TE})
    with pytest.raises(ValueError, match="files of several kinds"):
        open_scan(tmp_path)
    with pytest.raises(ValueError, match="expected one file"):
        open_scan([cfl, cfl])
    with pytest.raises(ValueError, match="predict.sens is for k-space"):
        open_scan(image, sens=cfl)
    with pytest.raises(ValueError, match="says its voxel size itself"):
        open_scan(image, voxel_mm=(1, 1, 1))


def test_a_folder_with_one_pair(tmp_path):
    kspace, _, _ = make_scan()
    write_cfl(tmp_path / "k", to_bart(kspace))
    found = open_scan(tmp_path, times=TE, contrast="t2")
    np.testing.assert_array_equal(found.read(1).kspace, kspace[1])


def test_files_of_a_folder_are_in_the_order_of_their_numbers(tmp_path):
    for n in range(1, 13):
        write_nifti(tmp_path / f"e{n}.nii", np.full((4, 4, 2), n, np.float32))
    times = [0.01 * n for n in range(1, 13)]
    found = open_scan(tmp_path, times=times, contrast="t2").read(0)
    assert found.images[:, 0, 0].tolist() == list(range(1, 13))


def test_echo_times_of_ultrashort_echoes_in_milliseconds(tmp_path):
    short, image = [0.3, 0.6, 1.5, 4.5], np.ones((4, 4, 2, 4), np.float32)
    stored = np.moveaxis(image, (2, 3), (0, 1))
    np.savez(tmp_path / "a.npz", images=stored, te=short)
    with pytest.raises(ValueError, match=r"a.npz: echo times up to 4.5 s.*millisec"):
        open_scan(tmp_path / "a.npz")
    found = open_scan(tmp_path / "a.npz", times=short, contrast="t2")
    assert "are they in milliseconds?" in found.notes[-1]


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_text("")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'a.h5.*h5py; pip install "medjax\[mri\]"'):
        open_scan(tmp_path / "a.h5")
