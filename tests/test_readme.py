"""Code of the README and of pages prints what it says; what the README names exists."""

import contextlib
import io
import pathlib
import re

import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text()


EXECUTED = (
    "README.md",
    "docs/howto/new_dataset.md",
    "docs/systems/medloc.md",
    "docs/systems/puq.md",
)


def blocks(text):
    """The Python of a page, as a reader would paste it, in order."""
    return "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))


@pytest.mark.parametrize("page", EXECUTED)
def test_code_prints_what_its_comments_say(page):
    code = blocks((REPO / page).read_text())
    said = io.StringIO()
    names = {}
    with contextlib.redirect_stdout(said):
        exec(compile(code, page, "exec"), names)
    comment = r"^print\(.*\)  # (\[[^\]]*\]|[\d.]+)"
    expected = re.findall(comment, code, flags=re.MULTILINE)
    assert expected
    assert said.getvalue().split("\n")[:-1] == expected
    if "rewards" in names:
        assert names["rewards"].tolist() == [[1.0, 1.0, 0.0]]


def test_pages_are_executed_where_their_code_prints():
    pages = [
        str(path.relative_to(REPO))
        for path in sorted(REPO.glob("docs/*/*.md"))
        if "print(" in blocks(path.read_text())
    ]
    assert ["README.md", *pages] == list(EXECUTED)


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
