"""fastMRI's files, one a contrast."""

import h5py
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.data.scans.header import crop_readout
from tests.data.scans.scan_cases import TE, header, make_scan

T2 = {"times": TE, "contrast": "t2"}


def write(path, kspace, **datasets):
    """As fastMRI does: kspace [Z, C, H, W], the header as one string."""
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        for name, value in datasets.items():
            file[name] = value
    return path


def write_all(folder, **options):
    kspace, mask, _ = make_scan(shape=(16, 12))
    paths = [
        write(
            folder / f"e{e}.h5",
            kspace[:, e],
            ismrmrd_header=header(te=(1e3 * TE[e],), **options),
        )
        for e in range(3)
    ]
    return paths, kspace, mask


def test_times_and_oversampling_come_from_the_headers(tmp_path):
    paths, kspace, mask = write_all(tmp_path)
    for given in (tmp_path, paths):
        scan = open_scan(given)
        assert scan.contrast == "t2" and scan.num_slices == 3
        np.testing.assert_allclose(scan.times, TE)
        assert scan.shape == (8, 12) and scan.voxel_mm == (10, 20, 5)
        found = scan.read(1)
        np.testing.assert_allclose(
            found.kspace, crop_readout(kspace[1], rows=8), atol=1e-6
        )
        np.testing.assert_array_equal(found.mask[:, 0], mask)
    back = open_scan(paths[::-1])
    np.testing.assert_allclose(back.times, TE[::-1])


def test_times_are_given_where_there_is_no_header(tmp_path):
    kspace, mask, _ = make_scan()
    paths = [write(tmp_path / f"e{e}.h5", kspace[:, e]) for e in range(3)]
    with pytest.raises(ValueError, match="e0.h5 and 2 more: no times.*give times="):
        open_scan(tmp_path)
    scan = open_scan(paths, **T2, voxel_mm=(1, 1, 4))
    assert scan.shape == (8, 12) and scan.voxel_mm == (1, 1, 4)
    found = scan.read(2)
    np.testing.assert_array_equal(found.kspace, kspace[2])
    np.testing.assert_array_equal(found.mask[:, 0], mask)


def test_a_file_s_own_mask(tmp_path):
    kspace, mask, _ = make_scan()
    lines = np.zeros(12, np.float32)
    lines[4:9] = 1
    for e in range(3):
        write(tmp_path / f"e{e}.h5", kspace[:, e], mask=lines)
    found = open_scan(tmp_path, **T2).read(0)
    np.testing.assert_array_equal(found.mask[:, 0], mask & (lines > 0))
    write(tmp_path / "e1.h5", kspace[:, 1])
    with pytest.raises(ValueError, match="some hold a mask"):
        open_scan(tmp_path, **T2).read(0)


def test_files_of_a_single_coil(tmp_path):
    kspace, mask, _ = make_scan(coils=1)
    files = [write(tmp_path / f"e{e}.h5", kspace[:, e, 0]) for e in range(3)]
    found = open_scan(files, **T2)
    assert found.num_slices == 3 and found.shape == (8, 12)
    np.testing.assert_array_equal(found.read(2).kspace, kspace[2])
    np.testing.assert_array_equal(found.read(2).mask[:, 0], mask)


def test_files_of_several_persons_are_refused_without_their_numbers(tmp_path):
    paths, _, _ = write_all(tmp_path)
    for n, path in enumerate(paths):
        with h5py.File(path, "r+") as file:
            file.attrs["patient_id"] = "0815" if n < 2 else "4711"
    with pytest.raises(ValueError, match="e2.h5: its patient is not that") as error:
        open_scan(paths)
    assert "4711" not in str(error.value)
    assert open_scan(paths[:2]).num_slices == 3


def test_bad_files_are_named(tmp_path):
    kspace, _, _ = make_scan()
    one = write(tmp_path / "one.h5", kspace[:, 0])
    other = write(tmp_path / "other.h5", kspace[:, 0, :, :6])
    with pytest.raises(ValueError, match=r"other.h5: kspace \(3, 4, 6, 12\); expected"):
        open_scan([one, other], times=TE[:2], contrast="t2")
    with pytest.raises(ValueError, match="found 1"):
        open_scan(one, times=TE[:1], contrast="t2")
    single = write(tmp_path / "single.h5", kspace[:, 0, 0])
    with pytest.raises(
        ValueError, match=r"single.h5: kspace \(3, 1, 8, 12\); exp.*4, 8"
    ):
        open_scan([one, single], times=TE[:2], contrast="t2")
    data = one.read_bytes()
    one.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="one.h5.*cut short or damaged"):
        open_scan([one, other], times=TE[:2], contrast="t2")
