"""Headers of NIfTI files: both versions, both affines, and what is no image."""

import nibabel
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.data.scans.volumes import open_volume, readers
from tests.data.scans.map_files import write_maps

TE = [0.01, 0.02, 0.04]
DATA = np.arange(4 * 5 * 3 * 3, dtype=np.int16).reshape(4, 5, 3, 3)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_version_2(tmp_path, suffix, order):
    header = nibabel.Nifti2Header(endianness=order)
    volume = nibabel.Nifti2Image(DATA, np.diag([2, 2, 3, 1]), header)
    volume.to_filename(tmp_path / f"a{suffix}")
    scan = open_scan(tmp_path / f"a{suffix}", times=TE, contrast="t2")
    assert scan.voxel_mm == (2, 2, 3)
    found = np.stack([scan.read(z).images for z in range(3)], -1)
    np.testing.assert_array_equal(found, np.moveaxis(DATA, -1, 0))


@pytest.mark.parametrize("codes", [(1, 1), (2, 4), (0, 4), (3, 0), (0, 0), (1, 2)])
def test_codes_and_values_of_both_affines_are_kept(tmp_path, codes):
    turned = np.array([[0, -2, 0, 5], [2, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    moved = turned + np.diag([0, 0, 0, 0])
    moved[:3, 3] += 10
    volume = nibabel.Nifti1Image(DATA, turned)
    volume.header.set_qform(turned, code=codes[0])
    volume.header.set_sform(moved, code=codes[1])
    volume.header.set_xyzt_units("mm")
    nibabel.save(volume, tmp_path / "a.nii.gz")
    written = nibabel.load(tmp_path / "a.nii.gz")
    scan = open_scan(tmp_path / "a.nii.gz", times=TE, contrast="t2")
    write_maps(
        tmp_path / "out", scan, {"T2map": np.ones((4, 5, 3))}, sidecar={}, levels={}
    )
    found = nibabel.load(tmp_path / "out" / "T2map.nii.gz")
    for key in ("qform_code", "sform_code"):
        assert found.header[key] == written.header[key]
    for name in ("get_qform", "get_sform"):
        np.testing.assert_allclose(
            getattr(found.header, name)(), getattr(written.header, name)(), atol=1e-5
        )  # quaternions are float32
    np.testing.assert_allclose(found.affine, written.affine, atol=1e-5)


def test_files_in_other_units_are_compared_in_mm(tmp_path):
    for name, unit, size in (("a", "mm", 2.0), ("b", "meter", 2e-3), ("c", "meter", 2)):
        volume = nibabel.Nifti1Image(DATA[..., 0] + 1, np.diag([size] * 3 + [1]))
        volume.header.set_xyzt_units(unit)
        volume.to_filename(tmp_path / f"{name}.nii")
    a, b, c = (tmp_path / f"{name}.nii" for name in "abc")
    assert open_scan([a, b], times=TE[:2], contrast="t2").voxel_mm == (2, 2, 2)
    with pytest.raises(ValueError, match="c.nii: .*expected one grid"):
        open_scan([a, c], times=TE[:2], contrast="t2")


def test_colours_are_no_measurement(tmp_path):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.Nifti1Image(np.zeros((4, 5, 3), kind), np.eye(4)).to_filename(
        tmp_path / "a.nii"
    )
    with pytest.raises(ValueError, match=r"a.nii: colours \(RGB\); expected magn"):
        open_scan(tmp_path / "a.nii", times=TE, contrast="t2")


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (40, b"\xff\xff"),  # number of axes
        (70, b"\x13\x27"),  # type of data
        (344, b"none"),  # magic
        (280, b"\0\0\xc0\x7f"),  # NaN in the sform
        (108, b"\0\0\xc0\x7f"),  # NaN as the offset of the data
        (123, b"\x07"),  # unit
        (42, b"\x03"),  # fewer rows than there are
        (46, b"\xff\x7f"),  # more slices than there are
        (48, b"\0\0"),  # no volume
        (46, b"\xfe\xff"),  # -2 slices
        (108, b"\0\0\xcd\x43"),  # data begin at byte 410
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_damaged_headers_are_named(tmp_path, at, value, suffix):
    import gzip

    nibabel.Nifti1Image(DATA, np.eye(4)).to_filename(tmp_path / "b.nii")
    data = bytearray((tmp_path / "b.nii").read_bytes())
    data[at : at + len(value)] = value
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    with pytest.raises(ValueError, match=r"a\.nii.*(cannot be read|shape .*exp)"):
        open_scan(path, times=TE, contrast="t2").read(0)


def test_a_compressed_file_may_have_parts_and_padding(tmp_path):
    import gzip

    nibabel.Nifti1Image(DATA, np.eye(4)).to_filename(tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    packed = gzip.compress(data[:500]) + gzip.compress(data[500:])
    for end in (b"", bytes(300)):
        (tmp_path / "a.nii.gz").write_bytes(packed + end)
        found = open_scan(tmp_path / "a.nii.gz", times=TE, contrast="t2").read(1)
        np.testing.assert_array_equal(found.images, np.moveaxis(DATA[:, :, 1], -1, 0))
    for spoiled in (packed[:-20], packed[:-5] + b"12345"):
        (tmp_path / "a.nii.gz").write_bytes(spoiled)
        with pytest.raises(ValueError, match="a.nii.gz: .*cut short or damaged"):
            open_scan(tmp_path / "a.nii.gz", times=TE, contrast="t2").read(1)


def test_unpacked_copies_go_with_their_readers(tmp_path):
    import gc
    import os

    nibabel.Nifti1Image(DATA, np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    (read,) = readers([open_volume(tmp_path / "a.nii.gz")])
    np.testing.assert_array_equal(read((slice(None), 2, 1, 0)), DATA[:, 2, 1, 0])
    del read
    gc.collect()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before
