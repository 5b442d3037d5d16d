"""The published systems, one file each, as records of pure functions."""
