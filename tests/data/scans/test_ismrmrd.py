"""ISMRMRD files written by the ismrmrd package."""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.data.scans.header import crop_readout
from tests.data.scans.scan_cases import TE, header, make_scan

ismrmrd = pytest.importorskip("ismrmrd")
MS = tuple(1e3 * t for t in TE)


def line(data, *, step=0, echo=0, slice_=0, flags=(), axis="contrast", **head):
    """An acquisition [C, R]."""
    acquisition = ismrmrd.Acquisition.from_array(data.astype(np.complex64))
    head = {"center_sample": data.shape[1] // 2, "sample_time_us": 5.0, **head}
    head |= {"read_dir": (1, 0, 0), "phase_dir": (0, 1, 0), "slice_dir": (0, 0, 1)}
    for name, value in head.items():
        setattr(acquisition, name, value)
    acquisition.position[:] = (10, 20, 5.0 * slice_)
    acquisition.idx.kspace_encode_step_1 = step
    acquisition.idx.slice = slice_
    setattr(acquisition.idx, axis, echo)
    for flag in flags:
        acquisition.set_flag(flag)
    return acquisition


def lines(kspace, mask, **options):
    """Every sampled line of [Z, E, C, R, W], slice by slice."""
    return [
        line(kspace[z, e, :, :, w], step=w, echo=e, slice_=z, **options)
        for z in range(kspace.shape[0])
        for e in range(kspace.shape[1])
        for w in np.flatnonzero(mask[e])
    ]


def write(path, acquisitions, text=None):
    with ismrmrd.Dataset(str(path), "dataset", mode="w") as file:
        file.write_xml_header((text or header(te=MS)).encode())
        for acquisition in acquisitions:
            file.append_acquisition(acquisition)
    return path


def scan(tmp_path, acquisitions, text=None, **options):
    return open_scan(write(tmp_path / "a.h5", acquisitions, text), **options)


def case(rows=16):
    kspace, mask, _ = make_scan(slices=2, shape=(rows, 12))
    return kspace, mask


@pytest.mark.parametrize("axis", ["contrast", "set", "repetition", "phase"])
def test_a_volume_comes_back(tmp_path, axis):
    kspace, mask = case()
    found = scan(tmp_path, lines(kspace, mask, axis=axis))
    assert found.contrast == "t2" and found.num_slices == 2
    np.testing.assert_allclose(found.times, TE)
    assert found.shape == (8, 12) and found.repetition == 2
    assert found.voxel_mm == (10, 20, 5)
    for z in range(2):
        part = found.read(z)
        # Oversampling of two is gone; single precision.
        expected = crop_readout(kspace[z], rows=8)
        np.testing.assert_allclose(part.kspace, expected, atol=1e-6)
        np.testing.assert_array_equal(part.mask[:, 0], mask)
        assert part.noise is None


@pytest.mark.parametrize("axis", ["contrast", "set"])
def test_a_counter_may_begin_at_one(tmp_path, axis):
    kspace, mask = case()
    acquisitions = lines(kspace, mask, axis=axis)
    found = scan(tmp_path, acquisitions)
    for one in acquisitions:
        setattr(one.idx, axis, getattr(one.idx, axis) + 1)
    later = scan(tmp_path, acquisitions)
    for z in range(2):
        np.testing.assert_array_equal(later.read(z).kspace, found.read(z).kspace)
    less = [one for one in acquisitions if getattr(one.idx, axis) > 1]
    with pytest.raises(ValueError, match="no times for its 2 images"):
        scan(tmp_path, less)


def test_no_oversampling_is_bitwise(tmp_path):
    kspace, mask = case(rows=8)
    found = scan(tmp_path, lines(kspace, mask), header(full=8, te=MS))
    np.testing.assert_array_equal(found.read(1).kspace, kspace[1])


def test_inversion_times(tmp_path):
    kspace, mask = case()
    text = header(te=(3,), ti=(100, 500, 2000))
    found = scan(tmp_path, lines(kspace, mask), text)
    assert found.contrast == "t1"
    np.testing.assert_allclose(found.times, [0.1, 0.5, 2])


def test_affine_is_the_patient_s(tmp_path):
    kspace, mask = case()
    found = scan(tmp_path, lines(kspace, mask))
    # The matrix' centre is the line's position; LPS -> RAS turns two axes.
    np.testing.assert_allclose(found.affine @ [4, 6, 0, 1], [-10, -20, 0, 1])
    np.testing.assert_allclose(found.affine @ [5, 6, 1, 1], [-20, -20, 5, 1])
    np.testing.assert_allclose(found.affine @ [4, 7, 0, 1], [-10, -40, 0, 1])


def test_slices_come_in_the_order_of_their_positions(tmp_path):
    kspace, mask = case(rows=8)
    acquisitions = lines(kspace, mask)
    for acquisition in acquisitions:  # stored the other way round
        acquisition.idx.slice = 1 - acquisition.idx.slice
    found = scan(tmp_path, acquisitions, header(full=8, te=MS))
    np.testing.assert_array_equal(found.read(0).kspace, kspace[0])


def test_noise_is_scaled_to_the_bandwidth_of_the_lines(tmp_path):
    kspace, mask = case()
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((2, 4, 32, 2)) @ [1, 1j]
    flag = [ismrmrd.ACQ_IS_NOISE_MEASUREMENT]
    scans = [line(n, flags=flag, sample_time_us=20.0) for n in noise]
    found = scan(tmp_path, scans + lines(kspace, mask)).read(0)
    # Four times the dwell time, a quarter of the variance.
    expected = 2 * np.concatenate(noise, axis=1)
    np.testing.assert_allclose(found.noise, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.mask[:, 0], mask)


def test_lines_that_are_no_image_are_left_out(tmp_path):
    kspace, mask = case(rows=8)
    wrong = 1e3 * np.ones((4, 8))
    flags = [
        ismrmrd.ACQ_IS_NAVIGATION_DATA, ismrmrd.ACQ_IS_PHASECORR_DATA,
        ismrmrd.ACQ_IS_HPFEEDBACK_DATA, ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
        ismrmrd.ACQ_IS_RTFEEDBACK_DATA, ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION_REFERENCE,
    ]  # fmt: skip
    extra = [line(wrong, step=6, flags=[flag]) for flag in flags]
    found = scan(tmp_path, extra + lines(kspace, mask), header(full=8, te=MS))
    np.testing.assert_array_equal(found.read(0).kspace, kspace[0])


@pytest.mark.parametrize("mode", ["embedded", "separate", None])
def test_calibration_lines_count_where_they_are_embedded(tmp_path, mode):
    kspace, mask = case(rows=8)
    free = int(np.flatnonzero(~mask[0])[0])
    rng = np.random.default_rng(2)
    data = rng.standard_normal((4, 8))
    flag = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION]
    extra = [line(data, step=free, flags=flag)]
    text = header(full=8, te=MS, mode=mode)
    found = scan(tmp_path, lines(kspace, mask) + extra, text).read(0)
    assert found.mask[0, 0, free] == (mode == "embedded")
    both = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING]
    extra = [line(data, step=free, flags=both)]
    found = scan(tmp_path, lines(kspace, mask) + extra, text).read(0)
    np.testing.assert_allclose(found.kspace[0, :, :, free], data, rtol=1e-6)


def test_averages(tmp_path):
    kspace, mask = case(rows=8)
    twice = lines(kspace * 0.5, mask) + lines(kspace * 1.5, mask)
    for acquisition in twice[len(twice) // 2 :]:
        acquisition.idx.average = 1
    found = scan(tmp_path, twice, header(full=8, te=MS))
    np.testing.assert_allclose(found.read(0).kspace, kspace[0], rtol=1e-6)


def test_partial_reversed_and_discarded_samples(tmp_path):
    kspace, mask = case(rows=8)
    text = header(full=8, te=MS)
    short = lines(kspace[:, :, :, 3:], mask, center_sample=1)
    found = scan(tmp_path, short, text).read(0)
    rows = np.arange(8) >= 3
    np.testing.assert_array_equal(found.mask, mask[:, None] & rows[:, None])
    np.testing.assert_array_equal(found.kspace, kspace[0] * rows[:, None])
    # Two samples before and one after are no data; then read from the other end.
    padded = np.pad(kspace, [*[(0, 0)] * 3, (2, 1), (0, 0)], constant_values=99)
    cut = {"discard_pre": 2, "discard_post": 1}
    found = scan(tmp_path, lines(padded, mask, center_sample=6, **cut), text).read(1)
    np.testing.assert_array_equal(found.kspace, kspace[1])
    cut = {"discard_pre": 1, "discard_post": 2, "flags": [ismrmrd.ACQ_IS_REVERSE]}
    turned = lines(padded[:, :, :, ::-1], mask, center_sample=4, **cut)
    np.testing.assert_array_equal(
        scan(tmp_path, turned, text).read(1).kspace, kspace[1]
    )


def test_a_partial_echo_stays_partial_without_oversampling(tmp_path):
    kspace, mask = case()
    short = lines(kspace[:, :, :, 4:], mask, center_sample=4)
    found = scan(tmp_path, short).read(0)
    rows = np.arange(8) >= 2
    np.testing.assert_array_equal(found.mask, mask[:, None] & rows[:, None])


def test_the_header_s_centre(tmp_path):
    """Zero-filled on one side: step 3 of 9 lines is the middle of 12."""
    kspace, mask = case(rows=8)
    mask[:, :3] = False
    acquisitions = lines(kspace, mask)
    for acquisition in acquisitions:
        acquisition.idx.kspace_encode_step_1 -= 3
    found = scan(tmp_path, acquisitions, header(full=8, te=MS, centre=3)).read(0)
    np.testing.assert_array_equal(found.mask[:, 0], mask)


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        ({}, header(te=MS, trajectory="radial"), "'radial'; expected 'cartesian'"),
        ({}, header(te=MS, depth=4), "three-dimensional k-space"),
        ({}, header(te=MS, width=6), "phase-encoding step -3 to 8"),
        ({}, header(te=MS, full=8), "lines reach from sample -4 to 12"),
        ({}, header(te=(15,)), "no times for its 3.*'echo times': 1"),
        ({}, header(te=MS, ti=MS), "say which with contrast="),
        ({"flags": [ismrmrd.ACQ_IS_DUMMYSCAN_DATA]}, header(te=MS), "none of its"),
        ({"discard_pre": 17}, header(te=MS), "lines reach from sample 17 to 16"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, options, text, message):
    kspace, mask = case()
    with pytest.raises(ValueError, match=message):
        scan(tmp_path, lines(kspace, mask, **options), text)


def test_two_counters_and_two_sizes(tmp_path):
    kspace, mask = case()
    acquisitions = lines(kspace, mask)
    acquisitions[3].idx.repetition = 1
    message = "vary in {'contrast': 3, 'repetition': 2}"
    with pytest.raises(ValueError, match=message):
        scan(tmp_path, acquisitions)
    with pytest.raises(ValueError, match=r"a.h5: lines with \[3, 4\] coils"):
        scan(tmp_path, lines(kspace, mask) + [line(kspace[0, 0, :3, :, 0])])


def test_a_phase_without_lines_and_a_damaged_file(tmp_path):
    kspace, mask = case()
    first = [a for a in lines(kspace, mask) if a.idx.contrast != 1 or a.idx.slice]
    found = scan(tmp_path, first)
    found.read(1)
    with pytest.raises(ValueError, match="a.h5, slice 0: contrast 1 has no samples"):
        found.read(0)
    data = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="a.h5.*cut short or damaged"):
        open_scan(tmp_path / "a.h5")
