"""What `from medjax.models.qwen25vl import ...` gives."""

import pkgutil

from medjax.models import qwen25vl


def test_every_exported_name_is_there_and_documented():
    undocumented = [n for n in qwen25vl.__all__ if not getattr(qwen25vl, n).__doc__]
    assert not undocumented


def test_no_exported_name_hides_a_module():
    modules = {module.name for module in pkgutil.iter_modules(qwen25vl.__path__)}
    assert not modules & set(qwen25vl.__all__)
