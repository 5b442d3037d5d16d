"""What `medjax.rl` names: everything public, under names that nothing shadows."""

import ast
import pathlib
import pkgutil
import subprocess
import sys
import types

import pytest

import medjax.rl

REPO = pathlib.Path(__file__).resolve().parents[2]
ROOM = REPO / "medjax" / "rl"
# Public in its module and no part of the library's face: building blocks of tables.
INNER = {"box_automaton", "box_set_automaton", "label_automaton", "words"}


def test_names_are_whole():
    for name in medjax.rl.__all__:
        assert not isinstance(getattr(medjax.rl, name), types.ModuleType), name
    assert len(set(medjax.rl.__all__)) == len(medjax.rl.__all__)


def test_no_name_is_a_module():
    modules = {m.name.split(".")[-1] for m in pkgutil.walk_packages([str(ROOM)])}
    modules |= {m.stem for m in ROOM.rglob("*.py")}
    public = {
        node.name
        for path in ROOM.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert not modules & (public | set(medjax.rl.__all__))


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(ROOM.rglob("*.py")) if p.stem not in INNER],
    ids=lambda p: p.stem,
)
def test_every_public_function_is_named_with_its_records(path):
    named = {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
    }
    own = {
        "encode",
        "grams",
        "zero_rows",
        "check_kl",
        "check_length",
        "check_reduction",
        "check_rows",
        "push_step",
        "has_right_tags",
        "read_number",
        "Numbers",
        "no_numbers",
        "update_numbers",
        "number_values",
        "box_span",
        "check_set_forms",
        "check_words",
    }  # of other modules
    assert named - own <= set(medjax.rl.__all__)


def test_import_pulls_no_network_and_no_tokenizer():
    """With a bare `medjax` in the place of the package, whatever that imports."""
    code = (
        "import sys, types\n"
        "package = sys.modules['medjax'] = types.ModuleType('medjax')\n"
        "package.__path__ = ['medjax']\n"
        "import medjax.rl\n"
        "print(*{'flax', 'transformers', 'torch', 'optax'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
