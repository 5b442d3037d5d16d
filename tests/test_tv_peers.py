"""The objective by which libraries of total variation are held against each other."""

import importlib.util
import pathlib

import numpy as np
import pytest

REPO = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def peers():
    path = REPO / "benchmarks" / "tv_peers.py"
    spec = importlib.util.spec_from_file_location("tv_peers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(
            np.complex64
        )

    mask = np.array([[True, False, True, True]])
    problem = {"kspace": draw(1, 2, 3, 4), "sens": draw(2, 3, 4), "mask": mask}
    return draw(3, 4), problem | {"weight": np.array(0.3)}


def dft(image):
    """By its definition, the middle of k-space at index n // 2."""
    for axis, n in enumerate(image.shape):
        place = np.arange(n) - n // 2
        matrix = np.exp(-2j * np.pi * np.outer(place, place) / n) / n**0.5
        image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
    return image


@pytest.mark.parametrize("isotropic", [True, False])
def test_the_objective_is_its_definition(peers, isotropic):
    image, problem = tiny()
    expected = 0.0
    for coil in range(2):
        spectrum = dft(image * problem["sens"][coil]) * problem["mask"]
        # k-space of the problem has samples beside the mask, which count
        expected += 0.5 * np.sum(np.abs(spectrum - problem["kspace"][0, coil]) ** 2)
    height, width = image.shape
    for row in range(height):
        for column in range(width):
            down = image[(row + 1) % height, column] - image[row, column]
            right = image[row, (column + 1) % width] - image[row, column]
            if isotropic:
                expected += 0.3 * (abs(down) ** 2 + abs(right) ** 2) ** 0.5
            else:
                parts = (down.real, down.imag, right.real, right.imag)
                expected += 0.3 * sum(map(abs, parts))
    found = peers.objective(image, problem, isotropic=isotropic)
    assert found == pytest.approx(expected, rel=1e-6)


def test_gaps_are_above_the_least_of_all(peers, tmp_path, capsys):
    image, problem = tiny()
    rows = []
    for library, factor in (("medjax", 1.0), ("mrpro", 2.0)):
        np.save(tmp_path / f"{library}-tv25.npy", factor * image)
        seconds = {"median": 0.1, "min": 0.1}
        row = {"library": library, "task": "tv25", "steps": 25}
        rows.append(row | {"seconds": seconds, "cpu": seconds})
    found = peers.with_gaps(rows, tmp_path, problem)
    gaps = [row["objective gap"] for row in found]
    assert min(gaps) == 0 and max(gaps) > 0
    assert found[1]["objective"] == peers.objective(2 * image, problem)
    peers.print_table(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("| medjax | 25 |") and lines[-2].endswith("|  |")
    assert lines[-1].startswith("| mrpro | 25 |") and "e" in lines[-1].split("|")[-2]
