"""What other code imports by name: all of it is there, and costs only what it needs."""

import ast
import importlib
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import medjax

REPO = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("medjax", "medjax.rl", "medjax.mri", "medjax.models.qwen25vl")


def stub_imports():
    """{name: module} of what type checkers see of the top level."""
    tree = ast.parse((REPO / "medjax" / "__init__.py").read_text())
    (stub,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {
        alias.asname or alias.name: node.module
        for node in stub.body
        for alias in node.names
    }


def in_a_new_process(code):
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_table_all_and_stub_agree():
    stub = stub_imports()
    rooms = {name: stub.pop(name) for name in medjax.ROOMS}
    assert set(rooms.values()) == {"medjax"}
    assert stub == medjax.NAMES
    assert medjax.__all__ == sorted(medjax.NAMES)


@pytest.mark.parametrize("name", medjax.__all__)
def test_name_is_what_its_module_holds(name):
    module = importlib.import_module(medjax.NAMES[name])
    assert getattr(medjax, name) is getattr(module, name)
    assert callable(getattr(medjax, name))


def test_from_import_and_dir():
    from medjax import fit_map
    from medjax.mri import fit_map as same

    assert fit_map is same
    assert {*medjax.__all__, *medjax.ROOMS, "__version__"} <= set(dir(medjax))


def test_rooms_are_reached_by_attribute():
    code = "import medjax; print(medjax.mri.fit_map.__module__, medjax.rl.__name__)"
    assert in_a_new_process(code) == ["medjax.mri.fit", "medjax.rl"]


def test_unknown_name_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="module 'medjax' has no attribute 'nons"):
        medjax.nonsense  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from medjax import nonsense  # noqa: F401


@pytest.mark.parametrize(
    "name", ["fit_map", "unrolled_reconstruction", "group_advantages"]
)
def test_arrays_alone_need_no_network_library(name):
    code = f"import medjax, sys; medjax.{name}; print(*sys.modules)"
    loaded = set(in_a_new_process(code))
    assert "jax" in loaded
    heavy = {"chex", "flax", "grain", "optax", "orbax", "scipy", "transformers"}
    assert not loaded & heavy
    assert not {module for module in loaded if module.startswith("medjax.models")}


def test_nothing_is_imported_before_it_is_asked_for():
    loaded = in_a_new_process("import medjax, sys; print(*sys.modules)")
    assert [module for module in loaded if module.startswith("medjax")] == ["medjax"]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_exported_name_is_a_submodule(package):
    module = importlib.import_module(package)
    submodules = {info.name for info in pkgutil.iter_modules(module.__path__)}
    exported = getattr(module, "__all__", ())
    assert not submodules & set(exported)
    for name in exported:
        assert hasattr(module, name), name


PROGRAMS = sorted((REPO / "tests" / "reuse").glob("test_*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_outside_programs_import_public_names_alone(program):
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("medjax"):
            assert node.module in (*PACKAGES, "medjax.models", "medjax.types")
            module = importlib.import_module(node.module)
            public = {*getattr(module, "__all__", dir(module)), *medjax.ROOMS, "types"}
            assert {alias.name for alias in node.names} <= public
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert not [name for name in names if name.startswith("medjax.")]


@pytest.mark.bench
def test_rl_and_mri_add_little_to_the_import_of_jax():
    """CPU seconds, as other programs on the machine do not lengthen them."""
    code = (
        "import jax.numpy, time; start = time.process_time(); import medjax; "
        "medjax.fit_map; medjax.grpo_loss; print(time.process_time() - start)"
    )
    seconds = [float(*in_a_new_process(code)) for _ in range(9)]
    assert sorted(seconds)[4] <= 0.15, seconds  # 0.08 s on two CPU cores
