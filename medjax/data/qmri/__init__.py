"""Simulated subjects of quantitative MRI, and one measured slice."""
