"""NIfTI series written by nibabel, with BIDS sidecars."""

import tracemalloc

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import TE, write_nifti


def images(seed=0):
    """[H, W, Z, E] magnitudes."""
    return np.random.default_rng(seed).random((6, 7, 4, 3)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_one_file_with_a_list(tmp_path, suffix):
    data = images()
    path = write_nifti(tmp_path / f"MESE{suffix}", data, {"EchoTime": TE})
    scan = open_scan(path)
    assert scan.kind == "images" and scan.contrast == "t2"
    assert scan.times.tolist() == TE and scan.num_slices == 4
    assert scan.shape == (6, 7) and scan.voxel_mm == (2, 1.5, 4)
    np.testing.assert_array_equal(scan.affine, np.diag([2, 1.5, 4, 1]))
    for z in (3, 0, 2):
        found = scan.read(z).images
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, data[:, :, z].transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_for_each_time(tmp_path, suffix):
    data = images()
    for e, te in enumerate(TE[::-1]):  # the names are not in the order of the times
        write_nifti(
            tmp_path / f"sub-1_echo-{e}_MESE{suffix}",
            data[..., 2 - e, None] if e == 1 else data[..., 2 - e],
            {"EchoTime": te, "RepetitionTime": 3.0, "FlipAngle": 90},
        )
    scan = open_scan(tmp_path)
    assert scan.contrast == "t2" and scan.times.tolist() == TE
    assert scan.repetition == 3
    np.testing.assert_array_equal(scan.read(1).images, data[:, :, 1].transpose(2, 0, 1))


def test_inversion_times_and_flip_angles(tmp_path):
    data = images()
    for folder, key in (("ir", "InversionTime"), ("vfa", "FlipAngle")):
        (tmp_path / folder).mkdir()
        for e, value in enumerate([0.1, 0.5, 2.0] if key[0] == "I" else [2, 10, 20]):
            write_nifti(
                tmp_path / folder / f"{e}.nii",
                data[..., e] - (0.5 if key[0] == "I" else 0),  # signed
                {key: value, "EchoTime": 0.003, "RepetitionTimeExcitation": 0.02},
            )
    scan = open_scan(tmp_path / "ir")
    assert scan.contrast == "t1" and scan.times.tolist() == [0.1, 0.5, 2]
    assert (scan.read(0).images < 0).any()
    scan = open_scan(tmp_path / "vfa")
    assert scan.contrast == "vfa" and scan.repetition == 0.02
    np.testing.assert_allclose(scan.times, np.deg2rad([2, 10, 20]))


def test_given_times_keep_the_order_of_the_files(tmp_path):
    data = images()
    paths = [write_nifti(tmp_path / f"{e}.nii", data[..., e]) for e in range(3)]
    with pytest.raises(ValueError, match="0.nii and 2 more: no times.*give times="):
        open_scan(paths)
    scan = open_scan(paths[::-1], times=TE[::-1], contrast="t2")
    assert scan.times.tolist() == TE[::-1]
    np.testing.assert_array_equal(
        scan.read(0).images, data[:, :, 0].transpose(2, 0, 1)[::-1]
    )


def test_given_times_that_are_not_those_of_the_sidecar_are_noted(tmp_path):
    path = write_nifti(tmp_path / "a.nii", images(), {"EchoTime": TE})
    assert open_scan(path, times=TE, contrast="t2").notes == ()
    (note,) = open_scan(path, times=[t / 2 for t in TE], contrast="t2").notes
    assert note.startswith("times are those that are given, and not the files' EchoT")


def test_scaled_integers(tmp_path):
    import nibabel

    counts = np.arange(6 * 7 * 4 * 3, dtype=np.int16).reshape(6, 7, 4, 3)
    volume = nibabel.Nifti1Image(counts, np.eye(4))
    volume.header.set_slope_inter(0.5, 3)
    volume.to_filename(tmp_path / "a.nii")
    found = open_scan(tmp_path / "a.nii", times=TE, contrast="t2").read(2)
    expected = nibabel.load(tmp_path / "a.nii").get_fdata()[:, :, 2].transpose(2, 0, 1)
    np.testing.assert_allclose(found.images, expected)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_slice_costs_a_slice(tmp_path, suffix):
    """Peak memory of a read stays far below the volume's size."""
    data = np.ones((128, 128, 40, 3), np.float32)  # 7.5 MB, 0.2 MB a slice
    path = write_nifti(tmp_path / f"a{suffix}", data, {"EchoTime": TE})
    scan = open_scan(path)
    scan.read(0)
    tracemalloc.start()
    scan.read(39)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < data.nbytes / 4


def test_metres(tmp_path):
    import nibabel

    volume = nibabel.Nifti1Image(images(), np.diag([0.002, 0.002, 0.005, 1]))
    volume.header.set_xyzt_units("meter")
    volume.to_filename(tmp_path / "a.nii")
    scan = open_scan(tmp_path / "a.nii", times=TE, contrast="t2")
    np.testing.assert_allclose(scan.voxel_mm, (2, 2, 5), rtol=1e-6)
    np.testing.assert_allclose(np.diag(scan.affine), (2, 2, 5, 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "sidecar", "message"),
    [
        (images(), {"EchoTime": [15, 40, 80]}, "milliseconds: divide by 1000"),
        (images(), {"EchoTime": 0.015}, "found: none"),
        (images(), {"EchoTime": TE[:2]}, "'echo times': 2"),
        (images(), {"EchoTime": "15 ms"}, "expected a number or a list of numbers"),
        (images()[..., :1], {"EchoTime": TE[:1]}, "found 1"),
        (images()[..., 0], {"EchoTime": 0.015}, r"expected \[H, W, slices, times\]"),
        (images()[..., None], {"EchoTime": TE}, r"shape \(6, 7, 4, 3, 1\)"),
        (images() * 1j, {"EchoTime": TE}, "complex.* expected magnitudes"),
        (images(), {"EchoTime": TE, "ImageType": ["P"]}, "phase images; expected"),
        (images(), [1], "expected a JSON object"),
    ],
)
def test_bad_series_are_named(tmp_path, data, sidecar, message):
    path = write_nifti(tmp_path / "a.nii", data, sidecar)
    with pytest.raises(ValueError, match=rf"a\.(nii|json).*{message}"):
        open_scan(path)


def test_files_that_do_not_belong_together(tmp_path):
    data = images()
    one = write_nifti(tmp_path / "one.nii", data[..., 0], {"EchoTime": 0.01})
    small = write_nifti(tmp_path / "small.nii", data[:5, ..., 1], {"EchoTime": 0.02})
    moved = write_nifti(
        tmp_path / "moved.nii", data[..., 1], {"EchoTime": 0.02}, 2 * np.eye(4)
    )
    for other in (small, moved):
        with pytest.raises(ValueError, match=f"{other.name}: shape.*expected one grid"):
            open_scan([one, other])
    phase = write_nifti(tmp_path / "a_part-phase.nii", data[..., 1], {"EchoTime": 0.02})
    with pytest.raises(ValueError, match="phase images"):
        open_scan([one, phase])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_damaged_files(tmp_path, suffix):
    path = write_nifti(tmp_path / f"a{suffix}", images(), {"EchoTime": TE})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="cut short or damaged"):
        open_scan(path).read(3)
    path.write_bytes(b"no image at all")
    with pytest.raises(ValueError, match="a.nii.*cannot be read"):
        open_scan(path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="a.json: not JSON"):
        open_scan(path)
