"""The README's code runs and prints what it says; what it names exists."""

import contextlib
import io
import pathlib
import re

import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text()


def test_code_prints_what_its_comments_say():
    """The blocks run in order, as a reader would paste them."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
    said = io.StringIO()
    names = {}
    with contextlib.redirect_stdout(said):
        exec(compile(code, "README.md", "exec"), names)
    comment = r"^print\(.*?\)  # (\[[^\]]*\]|[\d.]+)"
    expected = re.findall(comment, code, flags=re.MULTILINE)
    assert said.getvalue().split("\n")[:-1] == expected
    assert names["rewards"].tolist() == [[1.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`([\w./]+(?:/|\.py))`", README)))
)
def test_paths_exist(path):
    if path == "test_architecture.py":
        path = f"tests/{path}"
    assert (REPO / path).exists()


def test_commands_are_targets():
    makefile = (REPO / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.M)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
