"""What tests of whole runs share: a cache of their own, and all devices."""

import pytest

from configs.common import get_rules
from medjax.sharding import make_mesh


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def devices():
    return {
        "mesh": make_mesh({"data": -1, "fsdp": 1, "model": 1}),
        "rules": get_rules(),
    }
