"""Quantitative MRI: methods, training, scoring, prediction from scans."""
