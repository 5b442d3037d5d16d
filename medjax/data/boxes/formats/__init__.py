"""The formats of lists of boxes: a path in, entries out."""
