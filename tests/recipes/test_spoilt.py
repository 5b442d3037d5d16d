"""A spoilt data set: one check names every planted fault."""

import json
import re

import pytest

from medjax.recipes import medloc
from tests.recipes import smoke, spoilt


def test_one_check_names_every_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDJAX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    faults = spoilt.plant(folder)
    assert len(faults) >= 30
    sections = smoke.sections(f"data={folder / 'boxes.jsonl'}")
    with pytest.raises(ValueError) as error:
        medloc.check(seed=0, workdir=tmp_path, **sections)
    # the terminal has twenty lines, each of another kind, and says where all are
    told = str(error.value)
    assert sum(bool(re.search(x.told, told)) for x in faults) >= 20
    assert re.search(r"lines that cannot be used: \d\d\n", told)
    assert re.search(r"and \d+ more, of \d+ other kinds", told)
    assert told.endswith(f"every line is in {tmp_path / 'check.json'}")
    assert len(told.splitlines()) < 40
    hidden = every_line(tmp_path)
    assert len(hidden) >= len(faults)
    sections["data"]["identify"] = True  # values in quotes are no longer hidden
    with pytest.raises(ValueError, match="would stop a run"):
        medloc.check(seed=0, workdir=tmp_path, **sections)
    lines = "\n".join(every_line(tmp_path))
    missed = [f"{x.name}: {x.told}" for x in faults if not re.search(x.told, lines)]
    assert not missed, "\n".join([*missed, lines])


def every_line(workdir):
    document = json.loads((workdir / "check.json").read_text("utf-8"))
    return [line for finding in document["found"] for line in finding["lines"]]
