"""What the API pages need beyond Sphinx: entries from `__all__`, plain docstrings."""
