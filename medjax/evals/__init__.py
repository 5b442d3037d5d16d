"""Scores of predictions: plain NumPy in, named numbers and tables out."""
