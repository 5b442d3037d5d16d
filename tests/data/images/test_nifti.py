"""Slices of volumes: nibabel's canonical orientation as oracle, and what is refused."""

import itertools

import nibabel
import numpy as np
import pytest

from medjax.data.images import ImageFile, image_size, read_image
from medjax.data.volumes.atlas import slice_image

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(-1000, 3000, (12, 16, 20)).astype(np.int16)
PLANES = ("axial", "coronal", "sagittal")


def write(path, values, affine=None, *, zooms=(1, 1, 1), slope=None):
    image = nibabel.Nifti1Image(values, np.diag([*zooms, 1]), dtype=values.dtype)
    if affine is not None:
        image = nibabel.Nifti1Image(values, affine)
    image.header.set_slope_inter(slope, 0 if slope else None)
    nibabel.save(image, path)
    return path


def read(path, plane="axial", frame=3, **which):
    file = ImageFile(path, frame=frame, plane=plane, **which)
    image = read_image(file, "line 2")
    assert image.dtype == np.uint8 and image.shape == (*image_size(file, "x"), 3)
    assert (image == image[..., :1]).all()
    return image[..., 0]


def refused(path, fault, plane="axial", frame=3, **which):
    for measure in (image_size, read_image):
        with pytest.raises(ValueError, match=rf"line 2: .*{fault}") as raised:
            measure(ImageFile(path, frame=frame, plane=plane, **which), "line 2")
        assert str(path.parent) not in str(raised.value)


def stretched(values, among=None):
    """In the window of `among`, by the rule of docs/images.md."""
    values = values.astype(np.float64)
    among = np.sort(np.ravel(values if among is None else among).astype(np.float64))
    low, high = (among[int(np.ceil(0.005 * (len(among) - 1)))], among[-1])
    high = among[int(np.floor(0.995 * (len(among) - 1)))]
    margin = 0.5 * (high - low)
    low, high = max(among[0], low - margin), min(among[-1], high + margin)
    grey = np.clip((values - low) * (255 / (high - low)), 0, 255)
    return np.round(grey).astype(np.uint8)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("signs", [*itertools.product((1, -1), repeat=3)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_slices_are_those_of_the_canonical_volume(tmp_path, order, signs, name):
    affine = np.zeros((4, 4))
    affine[order, range(3)] = signs
    affine[:, 3] = 5, -7, 9, 1
    affine[:3, :3] += 0.05  # oblique: the nearest axes count
    path = write(tmp_path / name, COUNTS, affine)
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    volume = np.asarray(canonical.dataobj)
    for plane in PLANES:
        expected = slice_image(volume, plane, 3)  # how the built-in volumes are shown
        image = read(path, plane, pixels="stored")
        np.testing.assert_array_equal(image, stretched(expected, COUNTS))


def test_the_front_is_up_and_the_right_is_left(tmp_path):
    volume = np.zeros((9, 9, 9), np.uint8)
    volume[7, 7, 7] = 255  # right, front, head
    path = write(tmp_path / "a.nii", volume)
    for plane in PLANES:
        image = read(path, plane, 7)
        assert np.argwhere(image).tolist() == [[1, 1]]


def test_numbers_are_scaled_and_shown_in_a_window(tmp_path):
    path = write(tmp_path / "a.nii.gz", COUNTS, slope=2.0)
    shown = slice_image(COUNTS, "coronal", 3) * 2.0
    np.testing.assert_array_equal(read(path, "coronal"), stretched(shown, COUNTS * 2.0))
    expected = np.round(np.clip((shown + 160) * (255 / 400), 0, 255))
    image = read(path, "coronal", window=(40.0, 400.0))
    np.testing.assert_array_equal(image, expected)
    small = np.clip(COUNTS, 100, 104).astype(np.uint8)  # as a picture of 8 bits
    path = write(tmp_path / "b.nii", small)
    np.testing.assert_array_equal(read(path), slice_image(small, "axial", 3))
    spoilt = COUNTS.astype(np.float32)
    spoilt[2, 3, 3] = np.nan
    path = write(tmp_path / "c.nii", spoilt)
    with pytest.raises(ValueError, match=r"line 2: .*c.nii .*1 of 192 pixels are NaN"):
        read(path)
    np.testing.assert_array_equal(read(path, frame=4).shape, (16, 12))


def test_one_window_for_all_slices_of_a_volume(tmp_path):
    """A tissue of 100 has one grey beside bright bone and beside nothing else."""
    volume = np.zeros((40, 40, 6), np.int16)
    volume[5:20] = 100
    volume[25:, :, 3] = 1000
    path = write(tmp_path / "a.nii.gz", volume)
    greys = [read(path, frame=n)[::-1, ::-1].T[10, 10] for n in range(6)]
    assert greys == [greys[3]] * 6 and 0 < greys[0] < 60
    # what is not finite is none of the volume's range, nor of its other slices
    spoilt = volume.astype(np.float32)
    spoilt[:, :, 5] = np.nan
    path = write(tmp_path / "b.nii", spoilt)
    expected = stretched(slice_image(volume, "axial", 3), volume[..., :5])
    np.testing.assert_array_equal(read(path), expected)
    # a slope below 0 turns the ends
    path = write(tmp_path / "c.nii", volume, slope=-2.0)
    expected = stretched(slice_image(volume, "axial", 3) * -2.0, volume * -2.0)
    np.testing.assert_array_equal(read(path), expected)
    path = write(tmp_path / "d.nii", np.full((9, 9, 9), 7, np.int16))
    assert not read(path).any()


def test_voxels_that_are_not_square_are_refused_or_widened(tmp_path):
    path = write(tmp_path / "a.nii", COUNTS, zooms=(1, 1, 2.5))
    assert read(path, "axial").shape == (16, 12)
    refused(path, "rows lie 2.5 apart and columns 1, so that", "coronal")
    assert read(path, "coronal", pixels="stored").shape == (20, 12)
    wide = read(path, "coronal", pixels="square")
    assert wide.shape == (50, 12)
    expected = stretched(slice_image(COUNTS, "coronal", 3), COUNTS)
    halves = wide[:25].mean(), wide[25:].mean()
    np.testing.assert_allclose(
        halves, [expected[:10].mean(), expected[10:].mean()], 0.02
    )


def test_a_slice_that_would_be_too_large_or_too_thin_is_refused(tmp_path):
    path = write(tmp_path / "a.nii", COUNTS, zooms=(1, 1, 1e9))
    refused(path, r"\(20000000000 x 12 square pixels\)", "coronal", pixels="square")
    path = write(tmp_path / "a.nii", COUNTS, zooms=(1, 1, 1e3))
    refused(path, "sides of at most 200 times", "coronal", pixels="square")


def test_what_is_no_slice_is_refused(tmp_path):
    path = write(tmp_path / "a.nii", COUNTS)
    refused(path, r"\(plane '' and frame None\); name a plane", "", None)
    refused(path, r"\(plane 'axial' and frame None\)", "axial", None)
    refused(path, r"\(plane '' and frame 3\)", "", 3)
    refused(path, r"\(plane 'top' and frame 3\); name a plane, one of axial", "top")
    refused(path, "it has 20 such slices", frame=20)
    refused(path, "it has 20 such slices", frame=-1)
    refused(path, "it has 12 such slices", "sagittal", 12)
    write(path, np.zeros((4, 4, 4, 2), np.int16))
    refused(path, "4 x 4 x 4 x 2 numbers")
    assert read(write(path, COUNTS[..., None])).shape == (16, 12)
    write(path, COUNTS.astype(np.complex64))
    refused(path, "numbers of the kind 'c'")
    image = nibabel.Nifti1Image(COUNTS, None)
    nibabel.save(image, path)
    refused(path, "neither its qform nor its sform says how it lies")
    path.write_bytes(b"text")
    refused(path, "a damaged file")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_damaged_volumes_end_in_a_clear_error(tmp_path, name):
    whole = write(tmp_path / name, COUNTS[:6, :6, :6]).read_bytes()
    rng = np.random.default_rng(3)
    for case in range(40):
        body = bytearray(whole[: rng.integers(1, len(whole))] if case % 2 else whole)
        for place in rng.integers(0, min(len(body), 352), rng.integers(0, 4)):
            body[place] = rng.integers(0, 256)
        (tmp_path / name).write_bytes(body)
        for measure in (image_size, read_image):
            try:
                measure(ImageFile(tmp_path / name, 3, "axial"), "line 2")
            except ValueError as error:
                assert str(error).startswith("line 2: ")
                assert str(tmp_path) not in str(error)
