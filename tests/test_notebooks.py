"""The notebooks of the pages: stored as they ran, small, and of public names alone.

The slow test runs each afresh, without a kernel: cells are code that prints and draws.
"""

import ast
import base64
import importlib
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((REPO / "docs" / "notebooks").glob("*.ipynb"))
PUBLIC = ("medjax", "medjax.mri", "medjax.rl")
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
# A path of a machine, an address of an object, how long something took.
PRIVATE = re.compile(
    r"/(?:home|tmp|work|root|usr|opt|Users|private)/|\b0x[0-9a-f]{6,}|"
    r"\d\s*(?:ms|minutes|seconds) (?:per|elapsed)|it/s"
)

# How far a number of the outputs may lie from the stored one: by a share of it, or by
# so much, and why.
TOLERANCE = {
    # Another processor has other last bits, which in a training change what is sampled,
    # and then everything: seeds differed by up to 0.16 of a share.
    "grpo_on_your_model": (0.0, 0.25),
    # Sums of floats in another order: the last digit printed may turn, that of 35 ms or
    # of an error of 0.012.
    "one_scan_to_maps": (0.03, 0.002),
    # No sum is long enough to be rounded differently.
    "rewards_by_hand": (0.0, 0.0),
    # Trainings too: means of 16 seeds, whose intervals are up to 0.09 to each side.
    "scheduler": (0.0, 0.1),
}

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text())


def code_cells(path):
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def printed(cell):
    outputs = [o for o in cell["outputs"] if o["output_type"] == "stream"]
    return "".join("".join(output["text"]) for output in outputs)


def figures(cell):
    data = [output.get("data", {}) for output in cell["outputs"]]
    return [base64.b64decode(d["image/png"]) for d in data if "image/png" in d]


def test_there_are_notebooks_and_each_is_on_the_pages():
    assert NOTEBOOKS
    index = (REPO / "docs" / "index.md").read_text()
    assert [path.stem for path in NOTEBOOKS if path.stem not in index] == []


@notebooks
def test_it_is_stored_as_it_ran_from_top_to_bottom(path):
    notebook, cells = read(path), code_cells(path)
    assert (notebook["nbformat"], len(cells) > 5) == (4, True)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    assert sum(bool(printed(cell)) for cell in cells) >= 2


@notebooks
def test_it_is_small_and_says_nothing_of_a_machine(path):
    assert path.stat().st_size <= 250_000
    sizes = [len(figure) for cell in code_cells(path) for figure in figures(cell)]
    assert max(sizes, default=0) <= 60_000
    text = path.read_text()
    pictures = {p for p in re.findall(r'"image/png": "(.*?)"', text)}
    for picture in pictures:
        text = text.replace(picture, "")
    assert PRIVATE.findall(text) == []


@notebooks
def test_it_imports_public_names_alone(path):
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code_cells(path)))
    named = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not [a.name for a in node.names if a.name.startswith("medjax.")]
        if isinstance(node, ast.ImportFrom) and node.module.startswith("medjax"):
            assert node.module in PUBLIC
            public = importlib.import_module(node.module)
            names = {alias.name for alias in node.names}
            assert names <= {*public.__all__}
            named += len(names)
    assert named


@pytest.mark.parametrize(
    "text", ["/home/a/b.py:3: UserWarning", "<f at 0x7f00aa12>", "3.1 it/s"]
)
def test_what_betrays_a_machine_is_found(text):
    assert PRIVATE.search(text)


# What `make notebooks` does, without a kernel: one namespace, cell after cell.
RUNNER = """
import contextlib, io, json, sys
import matplotlib.pyplot as plt

cells = json.load(open(sys.argv[1]))["cells"]
names, results = {"__name__": "__main__"}, []
for cell in cells:
    if cell["cell_type"] == "code":
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        results.append([text.getvalue(), len(plt.get_fignums())])
        plt.close("all")
print(json.dumps(results))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@notebooks
def test_run_afresh_it_prints_what_is_stored(path):
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNNER, str(path)],
        cwd=REPO,
        env={**kept, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    results = json.loads(run.stdout)
    cells = code_cells(path)
    assert len(results) == len(cells)
    for cell, (text, drawn) in zip(cells, results, strict=True):
        assert drawn == len(figures(cell)), cell["id"]
        found, stored = NUMBER.split(text), NUMBER.split(printed(cell))
        assert [words.split() for words in found] == [words.split() for words in stored]
        share, least = TOLERANCE[path.stem]
        far = [
            (new, old)
            for new, old in zip(
                NUMBER.findall(text), NUMBER.findall(printed(cell)), strict=True
            )
            if not math.isclose(float(new), float(old), rel_tol=share, abs_tol=least)
        ]
        assert far == [], cell["id"]
