"""Scans and maps on disk: readers by format, and the writer of maps."""
