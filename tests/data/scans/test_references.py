"""Reference values of vials: read with their unit, or refused by line and column."""

import pytest

from medjax.data.scans.references import Reference, read_references


def write(tmp_path, text):
    path = tmp_path / "reference.tsv"
    path.write_text(text)
    return path


def test_units_become_seconds_and_an_sd_may_be_missing(tmp_path):
    path = write(
        tmp_path,
        "sd\tname\tunit\treference\tbatch\n"
        "2.9\tT2-1\tms\t581.3\tx\nn/a\tT2-2\ts\t0.4035\tx\n\tT2-3\tms\t278.1\tx\n",
    )
    assert read_references(path, "T2") == {
        "T2-1": Reference(pytest.approx(0.5813), pytest.approx(0.0029)),
        "T2-2": Reference(pytest.approx(0.4035), None),
        "T2-3": Reference(pytest.approx(0.2781), None),
    }
    path = write(tmp_path, "name\treference\tunit\na\t80\tms\n")
    assert read_references(path, "T2star") == {"a": Reference(0.08, None)}


def test_lines_of_other_maps_are_left_out(tmp_path):
    path = write(
        tmp_path,
        "name\tmap\treference\tunit\na\tT1\t2480\tms\na\tT2\t581\tms\n",
    )
    assert read_references(path, "T2")["a"].value == pytest.approx(0.581)
    assert read_references(path, "T1")["a"].value == pytest.approx(2.48)
    with pytest.raises(ValueError, match="T1, T2; expected at least one .* T2star"):
        read_references(path, "T2star")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\treference\na\t80\n", "unit is missing"),
        ("name,reference,unit\na,80,ms\n", "expected a table.* tabs"),
        ("", "columns none"),
        ("name\treference\tunit\n", "no lines; expected at least one"),
        ("name\treference\tunit\na\t80\t\n", "line 2, column unit: empty; .*ms or s"),
        ("name\treference\tunit\na\t80\tus\n", "column unit: us"),
        ("name\treference\tunit\na\t80\ts\n", "80 s; expected a time .*unit right"),
        ("name\treference\tunit\na\t0\tms\n", "column reference: 0 ms"),
        ("name\treference\tunit\na\tx\tms\n", "column reference: x; expected a number"),
        ("name\treference\tunit\na\tnan\tms\n", "column reference: nan"),
        ("name\treference\tunit\na\n", "column unit: empty"),
        ("name\treference\tunit\n\t80\tms\n", "line 2, column name: empty"),
        ("name\treference\tunit\na\t80\tms\na\t90\tms\n", "line 3, .*'a' stands"),
        ("name\treference\tunit\tsd\na\t80\tms\t90\n", "column sd: 90 ms; .*less"),
        ("name\treference\tunit\tsd\na\t80\tms\t-1\n", "column sd: -1 ms"),
        ("name\treference\tunit\tsd\na\t80\tms\tx\n", "column sd: x"),
        ("name\treference\tunit\tmap\na\t80\tms\tT3\n", "column map: 'T3'"),
    ],
)
def test_what_is_no_reference_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_references(write(tmp_path, text), "T2")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="predict.reference: .*no such file"):
        read_references(tmp_path / "none.tsv", "T2")
    (tmp_path / "a.tsv").write_bytes(b"name\treference\tunit\n\xff\t80\tms\n")
    with pytest.raises(ValueError, match="expected text in UTF-8"):
        read_references(tmp_path / "a.tsv", "T2")
