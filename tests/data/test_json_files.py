"""JSON files: what is read, and what is refused with the file's name."""

import pytest

from medjax.data.json_files import read_json


def read(tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_json(path, expected="a list of names")


def test_any_json_is_read(tmp_path):
    content = {"b": [1, None], "c": "\xe4"}
    assert read(tmp_path, '["a", {"b": [1, null], "c": "\xe4"}]') == ["a", content]


def test_a_byte_order_mark_is_let_pass(tmp_path):
    assert read(tmp_path, '["\xe4"]'.encode("utf-8-sig")) == ["\xe4"]
    with pytest.raises(ValueError, match="the file is empty"):
        read(tmp_path, "".encode("utf-8-sig"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("{", "not JSON"),
        ('["a",]', "not JSON"),
        ('["M\xe4"]'.encode("latin-1"), "not text in UTF-8"),
        ('["a"]'.encode("utf-16"), "not text in UTF-8"),
        ('{"a": 1, "b": 2, "a": 1}', "key 'a' is there twice"),
        ('{"a": {"b": 1, "b": 2}}', "key 'b' is there twice"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, message):
    expected = f"mine.json: {message}.*expected a list of names"
    with pytest.raises(ValueError, match=expected):
        read(tmp_path, content)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.json"):
        read_json(tmp_path / "no.json", expected="a list")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_what_python_cannot_hold_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"a\.json: (not JSON .*|nested too deeply); expected numbers"
    ):
        read_json(tmp_path / "a.json", expected="numbers")
