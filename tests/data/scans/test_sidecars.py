"""What counts as a sidecar, and what is refused in one."""

import json

import pytest

from medjax.data.scans.sidecars import numbers, parse_name, read_sidecars


def put(path, **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))
    return path


def test_names(tmp_path):
    found = parse_name(tmp_path / "sub-01_echo-2_MESE.nii.gz")
    assert found.pairs == {"sub": "01", "echo": "2"} and found.suffix == "MESE"
    assert parse_name(tmp_path / "MESE.json").suffix == "MESE"
    for other in ("T2_e1.nii", "a_part-phase.nii", "my scan.nii.gz"):
        assert not parse_name(tmp_path / other).pairs


def test_inheritance(tmp_path):
    put(tmp_path / "dataset_description.json", Name="a")
    put(tmp_path / "MESE.json", RepetitionTime=3, EchoTime=9, FlipAngle=90)
    put(tmp_path / "VFA.json", RepetitionTime=7)
    put(tmp_path / "sub-1" / "sub-1_MESE.json", FlipAngle=80)
    anat = tmp_path / "sub-1" / "ses-2" / "anat"
    put(anat / "sub-1_ses-2_MESE.json", NumberOfAverages=2)
    put(anat / "sub-1_ses-2_echo-2_MESE.json", EchoTime=0.02)
    put(anat / "sub-1_ses-2_echo-1_MESE.json", EchoTime=0.01)
    put(tmp_path.parent / "MESE.json", RepetitionTime=1)  # above the root
    image = anat / "sub-1_ses-2_echo-2_part-mag_MESE.nii.gz"
    (found,) = read_sidecars([image])
    assert found.fields == {
        "RepetitionTime": 3, "FlipAngle": 80, "EchoTime": 0.02, "NumberOfAverages": 2
    }  # fmt: skip
    assert found.files[-1].name == "sub-1_ses-2_echo-2_MESE.json"
    (tmp_path.parent / "MESE.json").unlink()


def test_other_names_have_one_sidecar(tmp_path):
    put(tmp_path / "MESE.json", EchoTime=1)
    put(tmp_path / "T2_e1.json", EchoTime=0.01)
    one, other = read_sidecars([tmp_path / "T2_e1.nii.gz", tmp_path / "T2_e2.nii"])
    assert one.fields == {"EchoTime": 0.01} and other.fields == {}


def test_two_equally_specific_sidecars(tmp_path):
    image = tmp_path / "echo-1_flip-2_VFA.nii"
    put(tmp_path / "echo-1_VFA.json", FlipAngle=5, EchoTime=0.002)
    put(tmp_path / "flip-2_VFA.json", FlipAngle=5)
    assert read_sidecars([image])[0].fields == {"FlipAngle": 5, "EchoTime": 0.002}
    put(tmp_path / "flip-2_VFA.json", FlipAngle=6)
    with pytest.raises(ValueError, match=r"echo-1_VFA.json and flip-2.* FlipAngle: 5"):
        read_sidecars([image])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"a": "\xe9"}', "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"EchoTime": 0.01, "EchoTime": 0.02}', "'EchoTime' twice, as 0.01 and 0.02"),
        (b'{"EchoTime": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"EchoTime": ' + b"9" * 400 + b"}", "not JSON .* has 400 digits"),
    ],
)
def test_damaged_sidecars_are_named(tmp_path, text, message):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(ValueError, match=f"a.json: .*{message}"):
        read_sidecars([tmp_path / "a.nii.gz"])


def test_a_byte_order_mark_and_a_key_repeated_alike(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"EchoTime": 1, "EchoTime": 1}')
    assert read_sidecars([tmp_path / "a.nii"])[0].fields == {"EchoTime": 1}


@pytest.mark.parametrize(
    "text",
    ['"15 ms"', "true", "NaN", "Infinity", "{}", "[]", "[[1], null]"],
)
def test_what_is_no_number(tmp_path, text):
    (tmp_path / "a.json").write_text(f'{{"EchoTime": {text}, "FlipAngle": null}}')
    (sidecar,) = read_sidecars([tmp_path / "a.nii"])
    with pytest.raises(ValueError, match="a.json: EchoTime .*expected a number"):
        numbers(sidecar, "EchoTime")
    assert numbers(sidecar, "FlipAngle") is None
    assert numbers(sidecar, "InversionTime") is None
