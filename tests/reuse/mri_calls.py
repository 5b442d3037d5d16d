"""Calls of `medjax.mri`."""

CALLS = []
