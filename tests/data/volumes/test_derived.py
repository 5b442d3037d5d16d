"""Derived arrays are made once, and anew when what they depend on changes."""

import numpy as np

from medjax.data.volumes.derived import derived


def test_made_once_for_each_recipe(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"a": np.arange(3), "names": np.array(["x", "yy"])}

    first = derived("toy", (1, "v"), make, cache=tmp_path)
    again = derived("toy", (1, "v"), make, cache=tmp_path)
    assert len(calls) == 1
    assert all(np.array_equal(first[k], again[k]) for k in ("a", "names"))
    derived("toy", (2, "v"), make, cache=tmp_path)
    assert len(calls) == 2
    files = sorted(path.name for path in (tmp_path / "derived").iterdir())
    assert len(files) == 2 and all(name.startswith("toy-") for name in files)


def test_a_failure_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("no")

    try:
        derived("toy", 1, fail, cache=tmp_path)
    except RuntimeError:
        pass
    assert not list(tmp_path.rglob("*.npz"))
