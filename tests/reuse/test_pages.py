"""The code on the pages runs as one program, and prints what its comments say."""

import contextlib
import io
import pathlib
import re

import pytest

from medjax import types

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"

pytestmark = pytest.mark.usefixtures("plain_jax")


@pytest.mark.parametrize("page", ["index.md", "reuse.md"])
def test_code_prints_what_its_comments_say(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert blocks
    printed, names = io.StringIO(), {"__name__": page}
    code = "\n".join(blocks)
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), names)
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert printed.getvalue().splitlines() == expected


def test_the_library_has_one_table_of_letters():
    """The page holds the letters of `medjax.types`, and no others."""
    page = (DOCS / "reuse.md").read_text()
    rows = re.findall(r"^\| ([*A-Z, ]+) \| (.*) \|$", page, re.MULTILINE)
    tables = re.findall(r"^=+  =+\n(.*?)\n=+  =+$", types.__doc__, re.M | re.S)
    letters = set(re.findall(r"\b[A-Z]\b", " ".join(row[0] for row in rows)))
    assert letters == set(re.findall(r"\b[A-Z]\b", " ".join(tables)))
