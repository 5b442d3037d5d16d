"""Calls of `medjax.models.qwen25vl`, `medjax.types` and the sampler."""

CALLS = []
