"""Forms in which sound ISMRMRD files come: reversed lines, groups, files, slabs."""

import h5py
import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import TE, header, make_scan
from tests.data.scans.test_ismrmrd import MS, case, ismrmrd, line, lines, scan, write
from tests.data.scans.test_orientation import vendor_header

REVERSE = [ismrmrd.ACQ_IS_REVERSE]
NOISE = [ismrmrd.ACQ_IS_NOISE_MEASUREMENT]


def add(path, acquisitions, text, group):
    """One more group of a file."""
    with ismrmrd.Dataset(str(path), group, mode="a") as file:
        file.write_xml_header(text.encode())
        for acquisition in acquisitions:
            file.append_acquisition(acquisition)
    return path


def test_reversed_lines_whose_centre_is_half_their_length(tmp_path):
    """Every other echo is read backwards; both say center_sample = N / 2."""
    kspace, mask = case(rows=8)
    found = lines(kspace, mask)
    bipolar = [
        line(
            kspace[a.idx.slice, a.idx.contrast, :, ::-1, a.idx.kspace_encode_step_1],
            step=a.idx.kspace_encode_step_1,
            echo=a.idx.contrast,
            slice_=a.idx.slice,
            flags=REVERSE,
        )
        if a.idx.contrast % 2
        else a
        for a in found
    ]
    for text, expected in (
        (header(full=8, te=MS), kspace),
        (vendor_header("SIEMENS"), kspace.conj()),
    ):
        opened = scan(tmp_path, bipolar, text)
        for z in range(2):
            np.testing.assert_array_equal(opened.read(z).kspace, expected[z])


def test_two_encoded_partitions_of_which_one_is_used(tmp_path):
    kspace, mask = case(rows=8)
    for step in (0, 1):
        acquisitions = lines(kspace, mask)
        for acquisition in acquisitions:
            acquisition.idx.kspace_encode_step_2 = step
        found = scan(tmp_path, acquisitions, header(full=8, te=MS, depth=2))
        assert found.num_slices == 2 and found.voxel_mm[2] == 5
        np.testing.assert_array_equal(found.read(1).kspace, kspace[1])


def test_calibration_lines_measured_apart_come_beside(tmp_path):
    kspace, mask = case(rows=8)
    whole, _, _ = make_scan(seed=4, slices=2)
    flag = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION]
    middle = np.zeros(12, bool)
    middle[3:9] = True
    apart = lines(whole[:, :1], middle[None], flags=flag)
    text = header(full=8, te=MS, mode="separate")
    found = scan(tmp_path, lines(kspace, mask) + apart, text).read(1)
    np.testing.assert_array_equal(found.kspace, kspace[1])
    np.testing.assert_array_equal(found.mask[:, 0], mask)
    np.testing.assert_array_equal(found.calibration, whole[1, :1] * middle)


def test_calibration_lines_outside_of_the_matrix_are_refused(tmp_path):
    """About another centre they wrapped to other columns, or raised an IndexError."""
    kspace, mask = case(rows=8)
    flag = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION]
    apart = lines(kspace[:, :1], np.ones((1, 12), bool), flags=flag)
    for acquisition in apart:
        acquisition.idx.kspace_encode_step_1 += 6
    text = header(full=8, te=MS, mode="separate")
    with pytest.raises(ValueError, match=r"h5: phase-encoding step 6 to 17 about"):
        scan(tmp_path, lines(kspace, mask) + apart, text)


def noise_lines(seed=7):
    data = np.random.default_rng(seed).normal(size=(2, 4, 32, 2)) @ [1, 1j]
    return data, [line(n, flags=NOISE, sample_time_us=20.0) for n in data]


def test_noise_of_another_group_or_file(tmp_path):
    kspace, mask = case(rows=8)
    data, noise = noise_lines()
    text = header(full=8, te=MS)
    path = write(tmp_path / "one.h5", noise, text)
    add(path, lines(kspace, mask), text, "dataset_1")
    expected = 2 * np.concatenate(data, 1)  # a quarter of the dwell time
    images = write(tmp_path / "images.h5", lines(kspace, mask), text)
    alone = write(tmp_path / "noise.h5", noise, text)
    other = write(tmp_path / "noise.mrd", noise, vendor_header("other"))
    for found in (
        open_scan(path),
        open_scan([images, alone]),
        open_scan(images, noise=alone),
        open_scan(images, noise=other),
    ):
        np.testing.assert_allclose(found.read(0).noise, expected, rtol=1e-6)
        np.testing.assert_array_equal(found.read(1).kspace, kspace[1])
    assert any("dataset_1; " in note for note in open_scan(path).notes)


@pytest.mark.parametrize("apart", ["files", "groups"])
def test_a_contrast_in_each_file_or_group(tmp_path, apart):
    kspace, mask = case(rows=8)
    paths = []
    for e, ms in enumerate(MS):
        text = header(full=8, te=(ms,))
        acquisitions = lines(kspace[:, e : e + 1], mask[e : e + 1])
        if apart == "files":
            paths.append(write(tmp_path / f"e{e}.h5", acquisitions, text))
        else:
            name = "dataset" if e == 0 else f"dataset_{e}"
            paths = [add(tmp_path / "all.h5", acquisitions, text, name)]
    found = open_scan(paths)
    np.testing.assert_allclose(found.times, TE)
    for z in range(2):
        np.testing.assert_array_equal(found.read(z).kspace, kspace[z])


def test_groups_that_are_no_series_are_named(tmp_path):
    kspace, mask = case(rows=8)
    text = header(full=8, te=MS)
    path = write(tmp_path / "a.h5", lines(kspace, mask), text)
    add(path, lines(kspace, mask), text, "dataset_1")
    with pytest.raises(ValueError, match=r"a.h5, dataset: .*'contrast': 3.*one contr"):
        open_scan(path)
    path = write(tmp_path / "b.h5", lines(kspace[:, :1], mask[:1]), text)
    wider = header(full=16, te=MS)
    add(path, lines(kspace[:, :1], mask[:1]), wider, "dataset_1")
    with pytest.raises(ValueError, match=r"dataset_1: matrix \(16, 12, 1\), but \(8,"):
        open_scan(path)


def test_groups_of_several_persons_are_refused(tmp_path):
    kspace, mask = case(rows=8)
    for e, ms in enumerate(MS):
        person = f"<subjectInformation><patientID>{e // 2}</patientID></subjectInf"
        text = header(full=8, te=(ms,)).replace("<exper", f"{person}ormation><exper")
        one = lines(kspace[:, e : e + 1], mask[e : e + 1])
        path = add(tmp_path / "a.h5", one, text, f"dataset_{e}")
    with pytest.raises(ValueError, match="dataset_2: its patient is not that of .*_0"):
        open_scan(path)


def test_siemens_own_centre_line(tmp_path):
    """The header's centre is a guess; the lines' user counter is the scanner's."""
    kspace, mask = case(rows=8)
    mask[:, :3] = False
    acquisitions = lines(kspace, mask)
    for acquisition in acquisitions:
        acquisition.idx.kspace_encode_step_1 -= 3
        acquisition.idx.user[5] = 3
    found = scan(tmp_path, acquisitions, vendor_header("SIEMENS", centre=4)).read(0)
    np.testing.assert_array_equal(found.mask[:, 0], mask)
    wrong = scan(tmp_path, acquisitions, vendor_header("other", centre=4)).read(0)
    assert not np.array_equal(wrong.mask[:, 0], mask)


def volume(kspace, mask, **how):
    """Acquisitions of [Z, E, C, R, W], transformed along the partitions."""
    shifted = np.fft.ifftshift(kspace, 0)
    encoded = np.fft.fftshift(np.fft.fft(shifted, axis=0, norm="ortho"), 0)
    found = lines(encoded, mask, **how)
    for acquisition in found:
        acquisition.idx.kspace_encode_step_2 = acquisition.idx.slice
        acquisition.idx.slice = 0
        acquisition.position[:] = (10, 20, 30)
    return found


@pytest.mark.parametrize(("depth", "vendor"), [(6, "GE"), (5, "GE"), (6, "SIEMENS")])
def test_three_dimensional_k_space_becomes_slices(tmp_path, depth, vendor):
    kspace, mask, _ = make_scan(slices=depth, shape=(8, 12))
    text = vendor_header(vendor, depth=depth)
    found = scan(tmp_path, volume(kspace, mask), text)
    assert found.num_slices == depth
    expected = kspace
    if vendor == "SIEMENS":  # all three axes are turned
        order = (2 * (depth // 2) - np.arange(depth)) % depth
        expected = kspace[order].conj()
    for z in range(depth):
        one = found.read(z)
        np.testing.assert_allclose(one.kspace, expected[z], atol=1e-5)
        np.testing.assert_array_equal(one.mask[:, 0], mask)
    centre = found.affine @ [4, 6, depth // 2, 1]
    np.testing.assert_allclose(centre, [-10, -20, 30, 1], atol=1e-6)
    # five mm of field of view for all partitions
    assert found.voxel_mm[2] == pytest.approx(5 / depth)


def test_missing_partitions_are_counted(tmp_path):
    kspace, mask, _ = make_scan(slices=6)
    found = volume(kspace, mask)
    text = header(full=8, te=MS, depth=6)
    with pytest.raises(ValueError, match="with 2 missing partitions, up to 1 of 6"):
        scan(tmp_path, [*found[1:5], *found[6:]], text)
    twice = found + found  # averages
    opened = scan(tmp_path, twice, text)
    np.testing.assert_allclose(opened.read(2).kspace, kspace[2], atol=1e-5)


def test_acquisitions_of_another_layout_are_named(tmp_path):
    path = tmp_path / "odd.h5"
    for head, lacking in (("f4", "flags"), ([("flags", "u8")], "number_of_samples")):
        with h5py.File(path, "w") as file:
            group = file.create_group("dataset")
            group["xml"] = [header(te=MS)]
            group["data"] = np.zeros(3, [("head", head), ("data", "f4")])
        with pytest.raises(ValueError, match=f"odd.h5, dataset: acq.*'{lacking}'"):
            open_scan(path)
    with h5py.File(path, "w") as file:
        file.create_group("dataset")["xml"] = [header(te=MS)]
    with pytest.raises(ValueError, match=r"odd.h5: holds \['dataset'\]"):
        open_scan(path)
