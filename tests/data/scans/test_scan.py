"""What leaves a reader: one form, or one error that names file and slice."""

import numpy as np
import pytest

from medjax.data.scans import scan as scan_slice
from medjax.data.scans.scan import Protocol, Scan, ScanSlice, check_slice
from tests.data.scans.scan_cases import make_scan


def check(**parts):
    kspace, _, sens = make_scan(slices=1)
    parts = {"kspace": kspace[0], "sens": sens[0], **parts}
    return check_slice(ScanSlice(**parts), "a.h5, slice 0", echoes=3, shape=(8, 12))


def test_lines_are_found_from_zeros():
    kspace, mask, _ = make_scan(slices=1)
    found = check(kspace=kspace[0].astype(np.complex128))
    assert found.kspace.dtype == found.sens.dtype == np.complex64
    assert found.mask.shape == (3, 1, 12)
    np.testing.assert_array_equal(found.mask[:, 0], mask)


def test_points_are_found_from_zeros():
    kspace, mask, _ = make_scan(slices=1)
    points = np.broadcast_to(mask[:, None], (3, 8, 12)).copy()
    points[:, :3] = False  # a partial echo
    found = check(kspace=kspace[0] * points[:, None])
    np.testing.assert_array_equal(found.mask, points)


def test_a_given_mask_wins():
    kspace, mask, _ = make_scan(slices=1)
    less = mask.copy()
    less[:, np.flatnonzero(mask.any(0))[0]] = False
    found = check(mask=less[:, None, None].astype(np.float64))
    np.testing.assert_array_equal(found.mask[:, 0], less)
    np.testing.assert_array_equal(found.kspace, kspace[0] * less[:, None, None])
    kspace = np.ones((3, 4, 8, 12), complex)
    kspace[..., 4, 6] = 9
    whole = check(mask=np.ones((1, 1, 8, 12)), kspace=kspace)
    assert whole.mask.shape == (3, 1, 12) and whole.mask.all()


def spoil(index, value):
    kspace = make_scan(slices=1)[0][0].copy()
    kspace[index] = value
    return kspace


COIL = np.ones((3, 4, 1, 12))
COIL[1, 2, 0, 6] = 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"kspace": np.ones((3, 8, 12))}, r"\(3, 8, 12\); expected \[E, C, H, W\]"),
        ({"kspace": np.ones((4, 3, 8, 12), complex)}, "E = 3 times"),
        ({"kspace": np.ones((3, 4, 8, 12))}, "complex.*float64"),
        ({"kspace": spoil((1, 2, 3, 6), np.nan)}, r"NaN or Inf.*\(1, 2, 3, 6\)"),
        ({"kspace": spoil((1, 2, 3, 6), np.inf)}, "NaN or Inf"),
        ({"kspace": spoil(1, 0)}, "contrast 1 has no samples"),
        ({"mask": np.zeros((1, 1, 1, 12))}, "k-space is 0 everywhere"),
        (
            {"kspace": spoil((1, 2, slice(None), 6), 0)},
            "differs between coils: coil 2 of contrast 1",
        ),
        ({"kspace": spoil((slice(None), 3), 0)}, "coil 3 is 0 everywhere"),
        ({"mask": COIL}, "differs between coils, in contrast 1 coil 2"),
        ({"mask": np.ones((1, 1, 1, 12))}, "where k-space is 0 in all coils"),
        ({"mask": np.full((1, 1, 1, 12), 2)}, "expected 0 and 1"),
        ({"mask": np.ones((1, 1, 1, 11))}, r"mask \(1, 1, 1, 11\); expected"),
        ({"mask": np.ones((3, 1, 12))}, "mask"),
        ({"sens": np.ones((4, 8, 12), complex)}, r"sum_c \|S_c\|\^2 = 1"),
        ({"sens": np.ones((3, 8, 12), complex)}, "sens: expected .* C = 4"),
        ({"noise": np.ones((3, 99), complex)}, r"noise \(3, 99\).*C = 4"),
        ({"noise": np.full((4, 9), np.nan)}, "noise holds NaN or Inf"),
        ({"images": np.ones((3, 8, 12), complex)}, "expected magnitudes"),
        ({"images": np.ones((2, 8, 12))}, r"E, H, W = \(3, 8, 12\)"),
        ({"images": np.ones((3, 8, 12)) * [[[0]], [[1]], [[1]]]}, "phase 0 of 3 is em"),
    ],
)
def test_bad_slices_are_named(parts, message):
    with pytest.raises(ValueError, match=f"a.h5, slice 0.*{message}"):
        check(**parts)


def test_nan_in_an_image_is_left_to_the_fit():
    images = np.ones((3, 8, 12))
    images[:, 0] = np.nan
    assert np.isnan(check(images=images).images[:, 0]).all()


@pytest.mark.parametrize(
    "parts",
    [
        {"images": np.zeros((3, 8, 12))},
        {"kspace": np.zeros((3, 4, 8, 12), complex)},
        {"kspace": np.zeros((3, 4, 8, 12), complex), "mask": np.ones((3, 1, 1, 12))},
        {"kspace": np.zeros((3, 4, 8, 12)), "sens": np.zeros((4, 8, 12))},
        {"sens": np.zeros((4, 8, 12), complex)},  # noise beside the object
    ],
)
def test_a_slice_outside_the_object_may_be_empty(parts):
    found = check(**parts)
    assert found.empty and not check().empty
    if "images" in parts:
        assert not found.images.any()
        return
    assert found.kspace.shape == (3, 4, 8, 12) and found.kspace.dtype == np.complex64
    assert not found.kspace.any() and not found.mask.any()
    assert found.mask.shape == (3, 1, 12) and found.sens is None


def test_the_first_slice_with_signal(tmp_path):
    images = np.zeros((4, 3, 8, 12))
    images[2:] = [[[[5.0]]], [[[6.0]]]]
    size = ("images", "t2", np.ones(3), 4, (8, 12), (1, 1, 1), None)
    scan = Scan(tmp_path / "a.h5", *size, lambda i: ScanSlice(images=images[i]))
    assert (scan_slice.first_filled(scan).images == 5).all()
    images[:] = 0
    with pytest.raises(ValueError, match=r"a.h5: images are 0 .*4 slices; expected"):
        scan_slice.first_filled(scan)
    images[1, 0, 0, 0] = np.nan  # is the fit's to report
    assert np.isnan(scan_slice.first_filled(scan).images).any()


def test_indices_and_damage(tmp_path):
    def read(index):
        raise OSError("truncated")

    scan = Scan(
        tmp_path / "a", "images", "t2", np.ones(3), 2, (8, 12), (1, 1, 1), None, read
    )
    scan = scan_slice.make_scan(scan)
    with pytest.raises(IndexError, match="slice 2; expected 0 to 1"):
        scan.read(2)
    with pytest.raises(ValueError, match="cut short or damaged"):
        scan.read(1)


def test_what_a_reader_does_not_say_is_unknown(tmp_path):
    scan = Scan(
        tmp_path / "a", "images", "t2", np.ones(3), 2, (8, 12), (1, 1, 1), None, None
    )
    found = scan_slice.make_scan(scan)
    assert found.protocol == Protocol() and found.protocol.repetition == ()
    assert found.slice_times is None and found.notes == ()
    assert found.files == (tmp_path / "a",)
    named = scan_slice.make_scan(scan._replace(files=(tmp_path / "b",)))
    assert named.files == (tmp_path / "b",)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"protocol": Protocol(repetition=(1, 2))}, "2 values of repetition; .*of 3"),
        ({"protocol": Protocol(flip_angle=(1, 2, 3, 4))}, "4 values of flip_angle"),
        ({"protocol": Protocol(sequence="spiral")}, "sequence 'spiral'; expected one"),
        ({"slice_times": np.ones((3, 2))}, r"by slice \(3, 2\); .* = \(2, 3\)"),
    ],
)
def test_a_protocol_of_another_scan(tmp_path, parts, message):
    size = ("images", "t2", np.ones(3), 2, (8, 12), (1, 1, 1), None, None)
    scan = Scan(tmp_path / "a", *size)._replace(**parts)
    with pytest.raises(ValueError, match=message):
        scan_slice.make_scan(scan)


def test_voxels_and_affine():
    assert scan_slice.check_voxel(np.array([1, 2, 3]), "a") == (1, 2, 3)
    for wrong in ([1, 2], [0.001, 0.001, 0.005], [1, 1, np.nan], [-1, 1, 1]):
        with pytest.raises(ValueError, match="expected three sizes in mm"):
            scan_slice.check_voxel(wrong, "a")
    affine = scan_slice.centred_affine((1, 2, 3), (8, 5, 1))
    np.testing.assert_array_equal(affine @ [4, 2, 0, 1], [0, 0, 0, 1])


def test_a_missing_package_names_the_extra(tmp_path):
    with pytest.raises(ImportError, match=r'pip install "medjax\[mri\]"'):
        scan_slice.require("no_such_package", tmp_path)
