"""Our own layout in .npz, .npy and HDF5."""

import tracemalloc

import h5py
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import TE, make_scan


def write(path, **arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


FORMATS = pytest.mark.parametrize("name", ["a.npz", "a.h5"])


@FORMATS
def test_a_volume_comes_back(tmp_path, name):
    kspace, mask, sens = make_scan()
    noise = kspace[0, 0, :, 0]
    path = write(
        tmp_path / name, kspace=kspace, te=TE, sens=sens, noise=noise, tr=2.0,
        voxel_mm=[1.0, 2.0, 5.0],
    )  # fmt: skip
    scan = open_scan(path)
    assert scan.kind == "kspace" and scan.contrast == "t2"
    assert scan.times.tolist() == TE and scan.num_slices == 3
    assert scan.shape == (8, 12) and scan.voxel_mm == (1, 2, 5)
    assert scan.repetition == 2
    for index in range(3):
        found = scan.read(index)
        np.testing.assert_array_equal(found.kspace, kspace[index])
        np.testing.assert_array_equal(found.sens, sens[index])
        np.testing.assert_array_equal(found.noise, noise)
        np.testing.assert_array_equal(found.mask[:, 0], mask)


@FORMATS
def test_one_slice_and_images(tmp_path, name):
    kspace, _, sens = make_scan(slices=1)
    path = write(tmp_path / name, kspace=kspace[0], ti=[0.1, 0.5, 2], sens=sens[0])
    scan = open_scan(path)
    assert scan.contrast == "t1" and scan.num_slices == 1
    np.testing.assert_array_equal(scan.read(0).kspace, kspace[0])
    images = np.abs(kspace[:, :, 0])
    scan = open_scan(write(tmp_path / f"i{name}", images=images, te=TE))
    assert scan.kind == "images" and scan.read(0).kspace is None
    np.testing.assert_array_equal(scan.read(0).images, images[0])


@FORMATS
@pytest.mark.parametrize(
    "axes",
    [(12,), (3, 1, 12), (3, 8, 12), (3, 1, 1, 12), (1, 3, 1, 8, 12), (3, 3, 1, 1, 12)],
)
def test_masks_of_every_shape(tmp_path, name, axes):
    kspace = np.ones((3, 3, 4, 8, 12), np.complex64)
    kspace[..., 4, 5] = 9
    whole = np.ones(axes, np.uint8)
    whole[..., 6] = 0
    scan = open_scan(write(tmp_path / name, kspace=kspace, te=TE, mask=whole))
    expected = np.ones((3, 12), bool)
    expected[:, 6] = False
    np.testing.assert_array_equal(scan.read(2).mask[:, 0], expected)


def test_column_major_and_compressed_members(tmp_path):
    kspace, _, _ = make_scan()
    np.savez(tmp_path / "f.npz", kspace=np.asfortranarray(kspace), te=TE)
    np.savez_compressed(tmp_path / "c.npz", kspace=kspace, te=TE)
    for name in "fc":
        found = open_scan(tmp_path / f"{name}.npz").read(2)
        np.testing.assert_array_equal(found.kspace, kspace[2])


def test_plain_npy(tmp_path):
    kspace, _, _ = make_scan()
    np.save(tmp_path / "k.npy", kspace)
    with pytest.raises(ValueError, match="give times="):
        open_scan(tmp_path / "k.npy")
    found = open_scan(tmp_path / "k.npy", times=TE, contrast="t2").read(1)
    np.testing.assert_array_equal(found.kspace, kspace[1])


def test_nothing_is_unpickled(tmp_path):
    kspace, _, _ = make_scan(slices=1)
    np.save(tmp_path / "p.npy", {"image": kspace}, allow_pickle=True)
    np.savez(tmp_path / "p.npz", kspace=np.array([{"a": 1}], object), te=TE)
    for name in ("p.npy", "p.npz"):
        with pytest.raises(ValueError, match=f"{name}.*pickled.*never unpickled"):
            open_scan(tmp_path / name, times=TE, contrast="t2")


@FORMATS
def test_a_file_cut_short(tmp_path, name):
    kspace, _, _ = make_scan()
    path = write(tmp_path / name, kspace=kspace, te=TE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match=f"{name}.*cut short or damaged"):
        open_scan(path)


def test_an_array_cut_short(tmp_path):
    np.save(tmp_path / "k.npy", make_scan()[0])
    data = (tmp_path / "k.npy").read_bytes()
    (tmp_path / "k.npy").write_bytes(data[:-50])
    with pytest.raises(ValueError, match=r"k\.npy.*cut short or damaged"):
        open_scan(tmp_path / "k.npy", times=TE, contrast="t2")
    (tmp_path / "k.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"k\.npy is no NumPy array"):
        open_scan(tmp_path / "k.npy", times=TE, contrast="t2")


KSPACE = make_scan()[0]


@FORMATS
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": KSPACE, "te": TE}, r"holds \['data', 'te'\]; expected 'kspace'"),
        ({"kspace": KSPACE[0, 0], "te": TE}, r"expected axes \[Z, E, C, H, W\]"),
        (
            {"kspace": np.moveaxis(KSPACE, 1, 2), "te": TE},
            "E = 4, but there are 3 times, as many as axis",
        ),
        ({"kspace": KSPACE, "te": [0.01, 0.02]}, "found: {'echo times': 2}"),
        ({"kspace": KSPACE, "te": [15, 40, 80]}, "milliseconds: divide by 1000"),
        ({"kspace": KSPACE[:, :1], "te": TE[:1]}, "found 1"),
        ({"kspace": KSPACE, "te": TE, "sens": KSPACE[:2, 0]}, r"sens \(2, 4, 8, 12\)"),
        ({"kspace": KSPACE, "te": TE, "affine": np.eye(3)}, r"expected \[4, 4\]"),
    ],
)
def test_bad_files_are_named(tmp_path, name, arrays, message):
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        open_scan(write(tmp_path / name, **arrays))


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.npy"])
def test_a_slice_costs_a_slice(tmp_path, name):
    """Peak memory of a read stays far below the volume's size."""
    kspace = np.ones((40, 2, 4, 64, 64), np.complex64)  # 10 MB, 0.25 MB a slice
    kspace[..., 32, 32] = 9
    if name == "a.npy":
        np.save(tmp_path / name, kspace)
    else:
        write(tmp_path / name, kspace=kspace, te=TE[:2])
    scan = open_scan(tmp_path / name, times=TE[:2], contrast="t2")
    scan.read(0)
    tracemalloc.start()
    scan.read(39)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < kspace.nbytes / 4
