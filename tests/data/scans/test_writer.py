"""Maps on disk, read back by nibabel; nothing half-written, nothing lost."""

import json
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.data.scans.scan import Scan
from medjax.data.scans.writer import map_writer
from tests.data.scans.map_files import write_maps
from tests.data.scans.scan_cases import TE, write_nifti

LEVELS = {0: "converged", 6: "no signal"}
OPTIONS = {
    "sidecar": {"EstimationAlgorithm": "variable projection"},
    "levels": {"status": LEVELS},
}
# A rotated grid: 30 degrees about the slices' normal.
AFFINE = np.array(
    [[1.7320508, -1, 0, 5], [1, 1.7320508, 0, -3], [0, 0, 4, 7], [0, 0, 0, 1]]
)


def scan(**change):
    found = Scan(
        Path("a.h5"), "kspace", "t2", np.array(TE), 3, (5, 6), (2, 2, 4), AFFINE,
        lambda index: None, 2.0,
    )  # fmt: skip
    return found._replace(**change)


def maps(seed=0):
    rng = np.random.default_rng(seed)
    t2 = rng.uniform(0.04, 2, (5, 6, 3))
    t2[1, 2, 0] = np.nan
    status = np.zeros((5, 6, 3), np.int32)
    status[1, 2, 0] = 6
    return {"T2map": t2, "T2sigma": 0.1 * t2, "status": status}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_map_is_one_gzip_member_without_name_or_time(tmp_path):
    for folder in ("a", "b"):
        write_maps(tmp_path / folder, scan(), maps(), **OPTIONS)
    for name, values in maps().items():
        packed = (tmp_path / "a" / f"{name}.nii.gz").read_bytes()
        assert packed == (tmp_path / "b" / f"{name}.nii.gz").read_bytes()
        assert packed[:8] == b"\x1f\x8b\x08" + bytes(5)  # no flags, time 0
        reader = zlib.decompressobj(31)
        data = reader.decompress(packed)[352:]
        assert reader.eof and not reader.unused_data
        stored = values.astype(np.uint8 if name == "status" else np.float32)
        assert data == stored.tobytes(order="F")


def test_maps_come_back(tmp_path):
    write_maps(tmp_path / "new", scan(), maps(), **OPTIONS)
    assert names(tmp_path / "new") == [
        f"{n}.{e}" for n in ("T2map", "T2sigma", "status") for e in ("json", "nii.gz")
    ]
    for name, values in maps().items():
        volume = nibabel.load(tmp_path / "new" / f"{name}.nii.gz")
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
        np.testing.assert_allclose(volume.get_qform(), AFFINE, atol=1e-5)
        assert volume.header.get_xyzt_units()[0] == "mm"
        np.testing.assert_allclose(volume.header.get_zooms(), (2, 2, 4), rtol=1e-6)
        expected = values.astype(np.uint8 if name == "status" else np.float32)
        assert volume.get_data_dtype() == expected.dtype
        np.testing.assert_array_equal(np.asarray(volume.dataobj), expected)
    assert bytes(volume.header["descrip"]).startswith(b"medjax status")


def test_sidecars(tmp_path):
    write_maps(tmp_path, scan(), maps(), **OPTIONS, prefix="sub-1_")
    found = json.loads((tmp_path / "sub-1_T2map.json").read_text())
    assert found["Units"] == "s" and found["EchoTime"] == TE
    assert found["KspaceOrientation"] == "as stored"
    assert found["EstimationAlgorithm"] == "variable projection"
    assert found["GeneratedBy"][0]["Name"] == "medjax" and "Levels" not in found
    assert found["RepetitionTime"] == 2 and found["Sources"] == ["a.h5"]
    levels = json.loads((tmp_path / "sub-1_status.json").read_text())["Levels"]
    assert levels == {"0": "converged", "6": "no signal"}
    angles = scan(contrast="vfa", times=np.deg2rad([2.0, 10, 20]))
    t1 = {"T1map": maps()["T2map"]}
    write_maps(tmp_path, angles, t1, **OPTIONS)
    found = json.loads((tmp_path / "T1map.json").read_text())
    assert found["FlipAngle"] == [2, 10, 20] and "EchoTime" not in found


def test_maps_lie_where_the_images_lie(tmp_path):
    images = np.ones((5, 6, 3, 3), np.float32)
    found = open_scan(write_nifti(tmp_path / "i.nii", images, {"EchoTime": TE}, AFFINE))
    write_maps(tmp_path, found, maps(), **OPTIONS)
    volume = nibabel.load(tmp_path / "T2map.nii.gz")
    np.testing.assert_allclose(
        volume.affine, nibabel.load(tmp_path / "i.nii").affine, atol=1e-6
    )


def test_the_same_maps_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write_maps(tmp_path / folder, scan(), maps(), **OPTIONS)
    for name in names(tmp_path / "a"):
        one, two = ((tmp_path / f / name).read_bytes() for f in "ab")
        assert one == two


def test_another_run_s_files_stay(tmp_path):
    write_maps(tmp_path, scan(), maps(), **OPTIONS)
    before = {n: (tmp_path / n).read_bytes() for n in names(tmp_path)}
    with pytest.raises(FileExistsError, match="T2map.nii.gz exists, as do 5 more"):
        write_maps(tmp_path, scan(), maps(1), **OPTIONS)
    # Told to overwrite, but killed on the way.
    with pytest.raises(RuntimeError, match="stop"):
        with map_writer(
            tmp_path, scan(), names=tuple(maps()), **OPTIONS, overwrite=True
        ) as write:
            write({name: values[..., 0] for name, values in maps(1).items()})
            raise RuntimeError("stop")
    assert {n: (tmp_path / n).read_bytes() for n in names(tmp_path)} == before
    write_maps(tmp_path, scan(), maps(1), **OPTIONS, overwrite=True)
    volume = nibabel.load(tmp_path / "T2map.nii.gz")
    np.testing.assert_allclose(volume.get_fdata(), maps(1)["T2map"], rtol=1e-6)
    assert names(tmp_path) == sorted(before)  # no temporary file is left


def test_bad_slices_store_nothing(tmp_path):
    cases = [
        ({"T3map": np.ones((5, 6, 3))}, "'T3map'.*expected some of"),
        ({}, "expected some of"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            write_maps(tmp_path, scan(), wrong, **OPTIONS)
    slices = [
        ([{"T2map": np.ones((5, 6))}] * 2, "2 slices written; expected 3"),
        ([{"T2map": np.ones((5, 6))}] * 4, "slice 3: maps"),
        ([{"T1map": np.ones((5, 6))}], r"maps \['T1map'\]; expected \['T2map'\]"),
        ([{"T2map": np.ones((6, 5))}], r"slice 0: T2map \(6, 5\); expected \(5, 6\)"),
    ]
    for parts, message in slices:
        with pytest.raises(ValueError, match=message):
            with map_writer(tmp_path, scan(), names=("T2map",), **OPTIONS) as write:
                for part in parts:
                    write(part)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"conjugated": 2}, "conjugated"), ({"kind": "images"}, None)],
)
def test_the_sidecar_says_which_way_round(tmp_path, change, expected):
    write_maps(tmp_path, scan(**change), maps(), **OPTIONS)
    found = json.loads((tmp_path / "T2map.json").read_text())
    assert found.get("KspaceOrientation") == expected
