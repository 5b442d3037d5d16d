"""Calls of `medjax.rl` that read tokens and text."""

CALLS = []
