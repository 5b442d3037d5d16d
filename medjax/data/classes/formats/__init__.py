"""The formats of lists of labelled images: a path in, entries out."""
