"""The API pages without building them: every public name, docstrings as they stand."""

import importlib.util
import pathlib
import subprocess
import sys
from typing import NamedTuple

import pytest

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"


def load(name):
    path = DOCS / "extension" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"docs_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


names, plain_text = load("names"), load("plain_text")


@pytest.mark.parametrize("module", names.MODULES)
def test_every_public_name_has_an_entry_or_a_link_to_it(module):
    """What no page asks for by name goes to the one request without names."""
    public = names.public_names(module)
    requests = [
        (page.name, body.split())
        for page in sorted(DOCS.glob("*.md"))
        for name, body in names.REQUEST.findall(page.read_text())
        if name == module
    ]
    chosen = names.matching(names.requests(DOCS).get(module, []), public)
    assert public
    assert set(chosen) <= set(public)
    assert sum(not body for _, body in requests) == 1, requests
    by_request = [set(names.matching(body, public)) for _, body in requests]
    assert sum(map(len, by_request)) == len(set().union(*by_request)), requests
    assert all(names.home(name, module) in names.MODULES for name in public)


def test_a_request_for_a_name_that_is_gone_is_refused():
    with pytest.raises(ValueError, match="'lost' is none of kept"):
        names.matching(["lost"], ["kept"])


def test_requests_are_kept_in_order_and_each_name_once():
    public = ["a_loss", "b_loss", "mean"]
    assert names.matching(["mean", "*_loss", "a_*"], public) == [
        "mean",
        "a_loss",
        "b_loss",
    ]


def test_docstrings_become_markup_that_reads_the_same():
    docstring = """|S|^2 of `order`s, *all* of x_ and
    *some* of [*B E].

    With A x = y,

        x = argmin |A x - y|^2

    Args:
        a_: of `<a>`.

    Returns:
        The loss: a number.

    ==  ===
    a   |b|
    ==  ===
    """
    assert plain_text.restructured(docstring).split("\n") == [
        r"\|S\|^2 of `order`\ s, *all* of x\_ and",
        r"*some* of [\*B E].",
        "",
        "With A x = y,",
        "",
        "::",
        "",
        "        x = argmin |A x - y|^2",
        "",
        "Args:",
        r"    a\_: of ``<a>``.",
        "",
        ":returns:",
        "    The loss: a number.",
        "",
        "==  ===",
        "a   |b|",
        "==  ===",
    ]


def test_tables_keep_their_columns_inside_a_section_too():
    docstring = """f.

    Args:
        name: One of these:

            ===  ====
            a    T1*
            ===  ====
    """
    assert plain_text.restructured(docstring).split("\n")[-3:] == [
        "        ===  ====",
        "        a    T1*",
        "        ===  ====",
    ]


class Record(NamedTuple):
    """A record."""

    first: int  # beside *N
    # above,
    # in two lines
    second: tuple[str, ...] = ("a",)
    third: int = 3


def test_fields_have_their_comments():
    assert [tuple(field) for field in plain_text.record_fields(Record)] == [
        ("first: int", r"beside \*N"),
        ("second: tuple[str, ...] = ('a',)", "above, in two lines"),
        ("third: int = 3", ""),
    ]


def test_signatures_keep_the_annotations_as_written():
    def f(x: "Float[Array, 'B G']", *, eps: float = 1e-4) -> tuple[int, str]: ...

    assert plain_text.signature(f) == (
        "(x: \"Float[Array, 'B G']\", *, eps: float=0.0001)",
        "tuple[int, str]",
    )


class Caller:
    def __call__(self, x: int) -> str: ...


def test_signatures_of_methods_leave_self_out():
    assert plain_text.signature(Caller.__call__) == ("(x: int)", "str")


def test_the_package_needs_no_documentation_tool():
    tools = "{'sphinx', 'docutils', 'myst_parser', 'furo', 'ziamath'}"
    code = f"import sys, medjax.rl, medjax.mri; print(*({tools} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=DOCS.parent, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
