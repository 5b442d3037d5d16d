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
    told = str(error.value)
    missed = [f"{x.name}: {x.told}" for x in faults if not re.search(x.told, told)]
    assert not missed, "\n".join([*missed, told])
    # all of them are in the document too, values hidden
    document = json.loads((tmp_path / "check.json").read_text("utf-8"))
    lines = [line for finding in document["found"] for line in finding["lines"]]
    assert len(lines) >= len(faults)
