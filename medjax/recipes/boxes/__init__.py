"""Boxes: the task of a run, and how its answers are scored."""
