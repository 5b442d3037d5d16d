"""Which files and volumes are fitted together: one axis, all else equal."""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import write_nifti

TE = [0.01, 0.02, 0.04]


def image(value):
    return np.full((4, 5, 2), value, np.float32)


def put(folder, name, value=1.0, **fields):
    folder.mkdir(exist_ok=True)
    return write_nifti(folder / f"{name}.nii", image(value), fields or None)


def echoes(folder, name="sub-1_echo-{}_MESE", **fields):
    return [
        put(folder, name.format(n + 1), n + 1, EchoTime=te, **fields)
        for n, te in enumerate(TE)
    ]


def used(scan):
    return [path.name for path in scan.files]


def test_files_are_in_the_order_of_the_times(tmp_path):
    paths = echoes(tmp_path)
    scan = open_scan(paths[::-1])
    assert used(scan) == [path.name for path in paths] and scan.notes == ()
    assert scan.read(0).images[:, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "fields", "word"),
    [
        ("map", {"ImageType": ["DERIVED", "PRIMARY", "T2 MAP"]}, "derived"),
        ("sub-1_T2map", {}, "derived"),
        ("sub-1_echo-1_part-phase_MESE", {}, "phase"),
        ("e1_ph", {}, "phase"),
        ("x", {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE"]}, "phase"),
        ("x", {"ImageType": "ORIGINAL\\PRIMARY\\P"}, "phase"),
        ("x", {"ComplexImageComponent": "IMAGINARY"}, "imaginary"),
    ],
)
def test_what_is_no_measured_magnitude(tmp_path, name, fields, word):
    paths = echoes(tmp_path)
    odd = put(tmp_path, name, 9, EchoTime=TE[0], **fields)
    scan = open_scan(tmp_path)
    assert used(scan) == [path.name for path in paths]
    assert scan.notes == (f"left out, {word}: {odd.name}",)
    with pytest.raises(ValueError, match=f"{odd.name}: {word} images; expected"):
        open_scan([*paths, odd])


def test_a_series_that_is_all_derived_is_fitted(tmp_path):
    echoes(tmp_path, ImageType=["DERIVED", "PRIMARY", "M"])
    assert len(open_scan(tmp_path).files) == 3


def test_one_suffix_a_series(tmp_path):
    paths = echoes(tmp_path)
    other = put(tmp_path, "sub-1_T2w", 9, EchoTime=0.09)
    scan = open_scan(tmp_path)
    assert used(scan) == [path.name for path in paths]
    assert scan.notes == ("left out, of another kind: sub-1_T2w.nii",)
    with pytest.raises(ValueError, match=r"several kinds: MESE .* and T2w"):
        open_scan([*paths, other])
    for n, angle in enumerate((2, 10, 20)):
        put(tmp_path, f"sub-1_flip-{n}_VFA", FlipAngle=angle, RepetitionTime=0.02)
    with pytest.raises(ValueError, match=r"2 of its kinds.*MESE: 3 files.*VFA: 3"):
        open_scan(tmp_path)
    assert open_scan(tmp_path, contrast="vfa").num_slices == 2
    assert open_scan(tmp_path, contrast="t2").times.tolist() == TE


def grid(folder, angles=(5, 20), **fields):
    """Angles times echoes: the value is 10 a + e + 1."""
    return [
        put(
            folder, f"sub-1_flip-{a}_echo-{e}_VFA", 10 * a + e + 1, EchoTime=te,
            FlipAngle=angle, RepetitionTimeExcitation=0.1, **fields,
        )
        for a, angle in enumerate(angles)
        for e, te in enumerate(TE)
    ]  # fmt: skip


def test_several_angles_at_several_echoes(tmp_path):
    paths = grid(tmp_path)
    for source in (tmp_path, paths):
        with pytest.raises(ValueError, match=r"6 images of 3 EchoTime and 2 FlipAngle"):
            open_scan(source)
        scan = open_scan(source, contrast="vfa")  # at the shortest echo time
        assert scan.read(0).images[:, 0, 0].tolist() == [1, 11]
        assert scan.protocol.echo_time == (0.01,) and "left out" in scan.notes[0]
        with pytest.raises(ValueError, match=r"Name the files.*flip-0_echo-0.*FlipAng"):
            open_scan(source, contrast="t2")
    assert open_scan(paths[3:]).times.tolist() == TE


def test_transfer_pulses_are_no_flip_angle(tmp_path):
    for name, angle, on in (("PDw", 6, False), ("T1w", 21, False), ("MTw", 6, True)):
        put(
            tmp_path, name, angle + on, FlipAngle=angle, MTState=on, EchoTime=0.002,
            RepetitionTime=0.025,
        )  # fmt: skip
    scan = open_scan(tmp_path)
    assert scan.read(0).images[:, 0, 0].tolist() == [6, 21]
    assert scan.notes == ("left out, measured in another way: MTw.nii",)


def test_volumes_of_one_file_are_grouped_too(tmp_path):
    data = np.arange(6, dtype=np.float32) * np.ones((4, 5, 2, 1), np.float32) + 1
    fields = {"EchoTime": TE * 2, "FlipAngle": [5] * 3 + [20] * 3}
    path = write_nifti(tmp_path / "a.nii", data, fields | {"RepetitionTime": 0.05})
    with pytest.raises(ValueError, match="6 images of 3 EchoTime and 2 FlipAngle"):
        open_scan(path)
    assert open_scan(path, contrast="vfa").read(0).images[:, 0, 0].tolist() == [1, 4]


def test_two_things_that_differ_together(tmp_path):
    for n, (te, angle) in enumerate([(0.01, 5), (0.02, 10), (0.04, 20)]):
        put(tmp_path, f"{n}", EchoTime=te, FlipAngle=angle)
    for contrast in (None, "t2", "vfa"):
        with pytest.raises(ValueError, match="EchoTime and FlipAngle differ together"):
            open_scan(tmp_path, contrast=contrast)


def test_repetition_times(tmp_path):
    for n, te in enumerate(TE):
        put(tmp_path / "t2", f"{n}", EchoTime=te, RepetitionTime=1 + n)
        put(tmp_path / "t1", f"{n}", InversionTime=10 * te, RepetitionTime=1 + n)
    with pytest.raises(ValueError, match="EchoTime and RepetitionTime differ together"):
        open_scan(tmp_path / "t2")
    scan = open_scan(tmp_path / "t1")
    assert scan.protocol.repetition == (1, 2, 3) and scan.repetition is None
    for n, (angle, tr) in enumerate([(20, 0.03), (5, 0.015)]):
        put(tmp_path / "vfa", f"{n}", FlipAngle=angle, RepetitionTime=tr)
    scan = open_scan(tmp_path / "vfa")  # in the order of the angles
    assert scan.protocol.repetition == (0.015, 0.03) and scan.repetition is None


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("NumberOfAverages", 1, 4),
        ("FlipAngle", 90, 60),
        ("InversionTime", 0.1, 0.2),
        ("MTState", False, True),
        ("EchoTrainLength", 8, 16),
        ("ScanningSequence", "SE", "GR"),
        ("SequenceName", "*se2d8", "*tse2d8"),
        ("MagneticFieldStrength", 1.5, 3),
        ("ReceiverGain", 20, 40),
        ("RxGain", 1, 2),
        ("AnalogReceiverGain", 1, 2),
        ("CoilCombinationMethod", "Sum of Squares", "Adaptive Combine"),
        ("ReceiveCoilName", "Head_32", "Body"),
        ("PartialFourier", 1, 0.75),
        ("SliceThickness", 3, 5),
        ("SpacingBetweenSlices", 3, 3.6),
        ("ParallelReductionFactorInPlane", 1, 2),
        ("ContrastBolusIngredient", "none", "GADOLINIUM"),
        ("RefocusingFlipAngle", 180, 120),
        ("ImageType", ["ORIGINAL", "M", "ND"], ["ORIGINAL", "M", "NORM"]),
    ],
)  # fmt: skip
def test_what_must_be_equal_is_named(tmp_path, key, one, other):
    for n, te in enumerate(TE):
        put(tmp_path, f"{n}", EchoTime=te, **{key: other if n == 1 else one})
    paths = [tmp_path / f"{n}.nii" for n in range(3)]
    pattern = rf"{key}|differ together|of 2 {key}|another way"
    with pytest.raises(ValueError, match=pattern):
        open_scan(paths)
    with pytest.raises(ValueError, match=key):
        open_scan(paths, times=TE, contrast="t2")


@pytest.mark.parametrize("key", ["PatientID", "DeviceSerialNumber"])
def test_several_persons_or_scanners_are_refused_without_their_values(tmp_path, key):
    paths = [
        put(tmp_path, f"{n}", EchoTime=te, **{key: "one" if n < 2 else "another"})
        for n, te in enumerate(TE)
    ]
    with pytest.raises(ValueError, match=f"2.nii: {key} is not that of 0") as error:
        open_scan(paths)
    assert "another" not in str(error.value)


def test_several_subjects_by_their_names(tmp_path):
    paths = [
        put(tmp_path, f"sub-{1 + n // 2}_echo-{n}_MEGRE", EchoTime=te)
        for n, te in enumerate(TE)
    ]
    with pytest.raises(ValueError, match="sub- in the name is not that of sub-1_echo"):
        open_scan(paths)


def test_what_may_differ(tmp_path):
    for n, te in enumerate(TE):
        put(
            tmp_path, f"{n}", EchoTime=te, FlipAngle=90 + 0.1 * n, SeriesNumber=n,
            AcquisitionTime=f"10:0{n}:00", ImageType=["ORIGINAL", "M", f"TE{n}"],
            EchoNumber=n + 1,
        )  # fmt: skip
    assert open_scan(tmp_path).notes == ()
    for n, te in enumerate(TE):
        put(tmp_path, f"{n}", EchoTime=te, PixelBandwidth=100 * (n + 1))
    assert "PixelBandwidth differs" in open_scan(tmp_path).notes[0]


def test_a_time_that_is_there_twice(tmp_path):
    paths = echoes(tmp_path, "run-1_echo-{}_MESE")
    odd = put(tmp_path, "run-2_echo-1_MESE", 8, EchoTime=TE[0])
    with pytest.raises(ValueError, match=r"one EchoTime: run-1_echo-1.*run-2_echo-1"):
        open_scan(tmp_path)
    assert "up to 2 times" in open_scan([*paths, odd]).notes[0]
    echoes(tmp_path, "run-2_echo-{}_MESE")
    scan = open_scan(tmp_path)
    assert len(scan.times) == 6 and "up to 2 times" in scan.notes[0]
