"""Complex numbers as pairs and records, and what is no array of numbers."""

import h5py
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import TE, make_scan
from tests.data.scans.test_arrays import FORMATS, write

RECORD = np.dtype([("real", "f4"), ("imag", "f4")])


def pairs(array):
    return np.ascontiguousarray(array).view(np.float32).reshape(*array.shape, 2)


def records(array):
    return np.ascontiguousarray(array).view(RECORD)


@FORMATS
@pytest.mark.parametrize("stored", [pairs, records])
def test_complex_numbers_of_two(tmp_path, name, stored):
    kspace, mask, sens = make_scan()
    noise = kspace[0, 0, :, 0]
    path = write(
        tmp_path / name, kspace=stored(kspace), sens=stored(sens), te=TE,
        noise=stored(noise),
    )  # fmt: skip
    scan = open_scan(path)
    assert scan.num_slices == 3 and scan.shape == (8, 12)
    found = scan.read(1)
    np.testing.assert_array_equal(found.kspace, kspace[1])
    np.testing.assert_array_equal(found.sens, sens[1])
    np.testing.assert_array_equal(found.noise, noise)
    one = open_scan(write(tmp_path / f"1{name}", kspace=stored(kspace[2]), te=TE))
    assert one.num_slices == 1
    np.testing.assert_array_equal(one.read(0).kspace, kspace[2])
    np.testing.assert_array_equal(one.read(0).mask[:, 0], mask)


def test_pairs_of_integers_and_a_plain_npy(tmp_path):
    counts = np.random.default_rng(0).integers(1, 9, (3, 4, 8, 12, 2), np.int16)
    counts[..., 4, 6, :] = 99
    np.save(tmp_path / "k.npy", counts)
    found = open_scan(tmp_path / "k.npy", times=TE, contrast="t2").read(0).kspace
    np.testing.assert_array_equal(found, counts[..., 0] + 1j * counts[..., 1])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kspace", None, "kspace is a group or empty"),
        ("kspace", h5py.Empty("f4"), "kspace is a group or empty"),
        ("kspace", np.array([b"abc"]), r"kspace has the type \|S3; expected numbers"),
        (
            "kspace",
            np.zeros(3, [("a", "f4"), ("b", "S2")]),
            "expected numbers, complex",
        ),
        ("sens", np.zeros(3, [("a", "f4")]), "sens has the type"),
        ("mask", records(np.ones((3, 1, 1, 12), np.complex64)), "mask has the type"),
        ("te", np.array([b"10", b"20", b"40"]), "te has the type"),
        ("te", h5py.Empty("f8"), "te is a group or empty"),
        ("te", np.array([True, False, True]), "te has the type bool"),
        ("voxel_mm", np.array([b"1 mm"]), "voxel_mm has the type"),
        ("voxel_mm", np.array([1j, 1, 1]), "voxel_mm has the type"),
        ("tr", np.array(3000.0), "tr .3000.0.; expected 0 to 60 seconds"),
        ("tr", np.array([1.0, 2.0]), "2 values of repetition"),
    ],
)
def test_what_is_no_number_is_named(tmp_path, key, value, message):
    arrays = {"kspace": make_scan()[0], "te": TE} | {key: value}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays.items():
            if array is None:
                file.create_group(name)
            else:
                file[name] = array
    with pytest.raises(ValueError, match=f"a.h5.*{message}"):
        open_scan(tmp_path / "a.h5")


@FORMATS
def test_another_order_of_bytes(tmp_path, name):
    kspace, _, sens = make_scan()
    swapped = {"kspace": kspace.astype(">c8"), "sens": sens.astype(">c16"), "te": TE}
    found = open_scan(write(tmp_path / name, **swapped)).read(1)
    np.testing.assert_array_equal(found.kspace, kspace[1])
    np.testing.assert_allclose(found.sens, sens[1], rtol=1e-6)


def test_a_mask_is_no_image(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.ones((3, 4, 5), bool), te=TE)
    with pytest.raises(ValueError, match="a.npz: images has the type bool"):
        open_scan(tmp_path / "a.npz")


@FORMATS
def test_what_the_fit_needs(tmp_path, name):
    kspace = make_scan()[0]
    path = write(
        tmp_path / name, kspace=kspace, ti=[0.1, 0.5, 2], te=[0.01], tr=[3.0, 4, 5]
    )
    found = open_scan(path)
    assert found.contrast == "t1" and found.repetition is None
    assert found.protocol.repetition == (3, 4, 5)
    assert found.protocol.echo_time == (0.01,)
    assert found.protocol.inversion_time == (0.1, 0.5, 2)


KINDS = {
    **{f"{n} pairs": lambda a, n=n: np.stack([a.real, a.imag], -1).astype(n)
       for n in ("f2", ">f4", "f8", "i2", ">i8", "u1", np.longdouble)},
    **{f"{n} records": lambda a, n=n: np.stack([a.real, a.imag], -1).astype(n).view(
        [("r", n), ("i", n)])[..., 0] for n in ("f2", "i2", "f8")},
    **{n: lambda a, n=n: a.astype(n) for n in (">c8", "c16", "clongdouble")},
    "three": lambda a: np.zeros(a.shape, [(n, "f4") for n in "abc"]),
    "nested": lambda a: np.zeros(a.shape, [("a", [("r", "f4"), ("i", "f4")])]),
    "arrays": lambda a: np.zeros(a.shape, [("a", "f4", (2,)), ("b", "f4")]),
    "booleans": lambda a: a != 0,
    "bytes": lambda a: np.array([[b"a"] * 3] * 3),
    "opaque": lambda a: np.zeros(a.shape, "V8"),
    "real": lambda a: a.real,
    "scalar": lambda a: np.float32(3),
}  # fmt: skip
MADE = {
    "words": {"shape": (3,), "dtype": h5py.string_dtype()},
    "ragged": {"shape": (3, 4), "dtype": h5py.vlen_dtype("f4")},
    "references": {"shape": (3,), "dtype": h5py.ref_dtype},
    "enum": {"shape": (3, 3, 4, 8, 12), "dtype": h5py.enum_dtype({"A": 0, "B": 1})},
}
PUT = {
    "nothing": h5py.Empty("f4"),
    "link": h5py.SoftLink("/nowhere"),
    "other file": h5py.ExternalLink("none.h5", "/x"),
}


@pytest.mark.parametrize(
    "key", ["kspace", "images", "te", "sens", "noise", "mask", "voxel_mm", "tr"]
)
def test_whatever_hdf5_holds_is_read_or_refused_by_name(tmp_path, key):
    kspace, mask, sens = make_scan()
    beside = {"sens": sens, "noise": kspace[0, 0, :, 0], "mask": mask[:, None]}
    rest = {"te": np.array(TE), "voxel_mm": np.ones(3), "tr": np.array(2.0)}
    whole = {"images": np.abs(kspace[:, :, 0])} | rest
    whole = whole if key == "images" else {"kspace": kspace} | beside | rest
    read = []
    for kind in (*KINDS, *MADE, *PUT, "group"):
        path = tmp_path / f"{kind.replace(' ', '_')}.h5"
        with h5py.File(path, "w") as file:
            for name in whole.keys() - {key}:
                file[name] = whole[name]
            if kind in KINDS:
                file[key] = KINDS[kind](np.asarray(whole[key]))
            elif kind in MADE:
                file.create_dataset(key, **MADE[kind])
            elif kind in PUT:
                file[key] = PUT[kind]
            else:
                file.create_group(key)
        try:
            open_scan(path).read(0)
            read.append(kind)
        except ValueError as error:
            assert path.name in str(error) or f"{path.stem}" in str(error), (
                kind,
                error,
            )
    if key in ("kspace", "sens"):
        assert {"f2 pairs", ">f4 pairs", "f8 records", ">c8", "c16"} <= set(read)
        assert not {"three", "nested", "words", "ragged", "link", "group"} & set(read)
