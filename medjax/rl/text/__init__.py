"""Completions read on the device, each reader beside its host definition."""
