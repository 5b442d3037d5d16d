"""What sidecars say of a measurement, and contradictions in it."""

import math

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from tests.data.scans.scan_cases import write_nifti

TIMES = {
    "EchoTime": [0.01, 0.02, 0.04],
    "InversionTime": [0.1, 0.5, 2.0],
    "FlipAngle": [2, 10, 20],
}

TURBO = {"ScanningSequence": "SE", "SeriesNumber": (1, 2, 3)}
SEVERAL = {"SeriesNumber": (1, 2, 3)}
EPI = {"ScanningSequence": "EP"}


def series(folder, key="EchoTime", name="{}", **fields):
    """A file for each time; a list stands for a value a file."""
    for n, time in enumerate(TIMES[key]):
        own = {k: v[n] if isinstance(v, tuple) else v for k, v in fields.items()}
        write_nifti(
            folder / f"{name.format(n + 1)}.nii",
            np.full((4, 5, 3), n + 1, np.float32),
            {key: time, **own},
        )
    return folder


def test_what_the_fit_needs(tmp_path):
    found = open_scan(
        series(
            tmp_path,
            RepetitionTime=3.0,
            FlipAngle=90,
            RefocusingFlipAngle=120,
            Manufacturer="Siemens",
            ScanningSequence="SE",
        )  # fmt: skip
    ).protocol
    assert found.repetition == (3,) and found.echo_time == (0.01, 0.02, 0.04)
    assert found.flip_angle == (math.pi / 2,) and found.inversion_time == ()
    assert found.refocusing_angle == pytest.approx(math.radians(120), rel=1e-12)
    assert found.manufacturer == "Siemens" and found.sequence == "MESE"


@pytest.mark.parametrize(
    ("key", "name", "fields", "sequence"),
    [
        ("EchoTime", "sub-1_echo-{}_MESE", {}, "MESE"),
        ("EchoTime", "sub-1_echo-{}_MEGRE", {}, "MEGRE"),
        ("EchoTime", "e{}", {"ScanningSequence": "GR"}, "MEGRE"),
        ("EchoTime", "e{}", {"ScanningSequence": ["SE"], "SeriesNumber": 4}, "MESE"),
        ("EchoTime", "e{}", {"ScanningSequence": "SE", **SEVERAL}, "SE"),
        ("EchoTime", "e{}", {"ScanningSequence": "GR", **SEVERAL}, "GRE"),
        ("EchoTime", "e{}", {"ScanningSequence": ["SE", "GR"]}, "MESE"),
        ("EchoTime", "e{}", {"ProtocolName": "T2 CPMG"}, "MESE"),
        ("EchoTime", "e{}", {"SeriesDescription": "liver T2*"}, "MEGRE"),
        ("EchoTime", "e{}", {}, ""),
        ("InversionTime", "sub-1_inv-{}_IRT1", {}, "IR"),
        ("InversionTime", "e{}", {}, "IR"),
        ("InversionTime", "e{}", {"SeriesDescription": "ShMOLLI_192i"}, "MOLLI"),
        ("InversionTime", "e{}", {"ProtocolName": "Look-Locker 2D"}, "LL"),
        ("InversionTime", "e{}", {"ProtocolName": "IRLL"}, "LL"),
        ("InversionTime", "e{}", {"ProtocolName": "cell wall"}, "IR"),
        ("InversionTime", "e{}", {"SeriesDescription": "SASHA"}, "SR"),
        ("InversionTime", "e{}", {"ScanningSequence": "GR\\IR"}, "IRGRE"),
        ("FlipAngle", "e{}", {}, "VFA"),
    ],
)  # fmt: skip
def test_sequences(tmp_path, key, name, fields, sequence):
    scan = open_scan(series(tmp_path, key, name, **fields))
    assert scan.protocol.sequence == sequence and scan.notes == ()


@pytest.mark.parametrize(
    ("key", "fields", "message"),
    [
        ("InversionTime", {"SliceTiming": [0, 1], **EPI}, "by slice"),
        ("FlipAngle", {"RepetitionTime": 5}, "is it in milliseconds"),
        ("FlipAngle", {"ProtocolName": "TRUFI_15"}, "names say balanced"),
        ("EchoTime", {"EchoTrainLength": 8, **TURBO}, "effective ones"),
    ],
)  # fmt: skip
def test_doubts(tmp_path, key, fields, message):
    (note,) = open_scan(series(tmp_path, key, **fields)).notes
    assert note.startswith("doubt: ")
    assert message in note


@pytest.mark.parametrize(
    ("key", "fields", "message"),
    [
        ("EchoTime", {"RepetitionTime": 0.03}, "EchoTime 0.04 s is not below the rep"),
        ("EchoTime", {"RepetitionTime": 3000}, "RepetitionTime 3000; expected 0 to 60"),
        ("EchoTime", {"RepetitionTime": -1}, "RepetitionTime -1"),
        ("EchoTime", {"FlipAngle": 4000}, "expected 0 to 180"),
        ("EchoTime", {"RepetitionTime": "3"}, "RepetitionTime '3'; expected a number"),
        ("EchoTime", {"EchoNumber": (2, 1, 3)}, r"EchoNumber \[2, 1, 3\] in the order"),
        ("InversionTime", {"RepetitionTime": 1.5}, "InversionTime 2.0 s is not below"),
        ("InversionTime", {"EchoTime": 12}, "EchoTime 12.0; expected seconds"),
        ("FlipAngle", {"SpoilingState": False}, "SpoilingState false"),
        ("FlipAngle", {"ScanningSequence": "SE"}, "'SE' at several flip angles"),
        ("FlipAngle", {"FlipAngle": (0.03, 0.2, 0.4)}, "look like radians"),
        ("FlipAngle", {"FlipAngle": (-2, 10, 20)}, "none negative"),
        ("InversionTime", {"InversionTime": (50, 55, 59)}, "milliseconds: divide"),
    ],
)
def test_contradictions_are_refused(tmp_path, key, fields, message):
    with pytest.raises(ValueError, match=message):
        open_scan(series(tmp_path, key, **fields))


def test_the_time_between_inversions_is_not_that_of_excitations(tmp_path):
    fields = {"RepetitionTimePreparation": 6.0, "RepetitionTime": 0.008}
    scan = open_scan(series(tmp_path, "InversionTime", **fields))
    assert scan.repetition == 6


def test_echoes_named_out_of_order_are_doubtful(tmp_path):
    series(tmp_path, name="sub-1_echo-{}_MESE", EchoTime=(0.04, 0.01, 0.02))
    assert "do not rise with EchoTime" in open_scan(tmp_path).notes[0]


def test_inversion_times_by_slice(tmp_path):
    data = np.ones((4, 5, 3, 2), np.float32)
    table = [[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]]  # for each image, for each slice
    whole = write_nifti(tmp_path / "all.nii", data, {"InversionTime": table})
    scans = [open_scan(whole)]
    for n in (1, 0):
        write_nifti(tmp_path / f"{n}.nii", data[..., n], {"InversionTime": table[n]})
    scans.append(open_scan([tmp_path / "1.nii", tmp_path / "0.nii"]))
    for scan in scans:
        np.testing.assert_array_equal(scan.slice_times, np.transpose(table))
        assert scan.times.tolist() == [0.2, 1.2]
    assert open_scan(whole, times=[0.1, 1], contrast="t1").slice_times is None
    write_nifti(tmp_path / "0.nii", data[..., 0], {"InversionTime": table[0][:2]})
    with pytest.raises(ValueError, match="0.json: InversionTime has 2 values; exp.*3"):
        open_scan([tmp_path / "1.nii", tmp_path / "0.nii"])
