"""Files of lists: encodings, lines, keys; every fault has its line."""

import pytest

from medjax.data.lists.files import csv_table, decode_list, find_list, json_lines
from medjax.data.lists.reading import Bad

TEXT = "image,label\na.png,结节\n"


def write(tmp_path, content, name="a.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_say_how_a_file_is_read(tmp_path, encoding):
    assert decode_list(write(tmp_path, TEXT.encode(encoding))) == TEXT


def test_other_encodings_are_named_not_guessed(tmp_path):
    message = r"a\.csv, line 2: not text in UTF-8 .*perhaps GBK .*iconv"
    with pytest.raises(ValueError, match=message):
        decode_list(write(tmp_path, TEXT.encode("gbk")))
    with pytest.raises(ValueError, match="line 1: not text in UTF-8"):
        decode_list(write(tmp_path, b"\x81"))


def test_lines_of_json(tmp_path):
    lines = [
        '{"query": "one\u2028line\u0085"}',
        "",
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        "[1]",
        '{"a": ',
        "[" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
    ]
    found = list(json_lines(write(tmp_path, "\r\n".join(lines), "a.jsonl")))
    assert found[0].cells == {"query": "one\u2028line\u0085"}
    assert [line.origin for line in found[:2]] == ["a.jsonl, line 1", "a.jsonl, line 3"]
    expected = ("'a' is there twice", "NaN is not JSON", "expected a JSON object")
    expected += ("not JSON", "nested too deeply", "not JSON")
    for bad, message in zip(found[1:], expected, strict=True):
        assert isinstance(bad, Bad) and message in bad.message
        assert bad.message.startswith(bad.origin)


def test_lines_of_csv(tmp_path):
    path = write(tmp_path, 'image,label\n a.png ,"x, y"\n\nb.png\nc.png,x,y\n')
    table = csv_table(path)
    assert table.header == ("image", "label")
    first, fewer, more = table.lines
    assert first.cells == {"image": "a.png", "label": "x, y"}
    assert fewer.message.startswith("a.csv, line 4: fewer cells than the header has, 1")
    assert more.message.startswith("a.csv, line 5: more cells")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a,b\n\n", "a.csv: no lines below the header"),
        ("image;label\na;b", "expected cells parted by commas"),
        ("a,a\n", "each once"),
        ("a, b\n", "without blanks"),
        ("a,\n", "without blanks"),
        ('a,b\n"x,y\n', "line 2: not CSV"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        list(csv_table(write(tmp_path, text)).lines)


def test_a_list_is_a_file_or_the_only_one_in_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"one \.csv file in the folder, found 0"):
        find_list(tmp_path, ".csv")
    (tmp_path / "a.csv").write_text("")
    assert find_list(tmp_path, ".csv") == tmp_path / "a.csv"
    assert find_list(str(tmp_path / "a.csv"), ".csv") == tmp_path / "a.csv"
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(ValueError, match="found 2; name the file itself"):
        find_list(tmp_path, ".csv")
    with pytest.raises(FileNotFoundError, match=r"gone.csv: no such file; expected a"):
        find_list(tmp_path / "gone.csv", ".csv")


def test_a_file_without_lines(tmp_path):
    with pytest.raises(ValueError, match=r"a\.jsonl: no lines; expected one JSON"):
        list(json_lines(write(tmp_path, "\n \r\n", "a.jsonl")))
