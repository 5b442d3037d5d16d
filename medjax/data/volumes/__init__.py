"""Volumes that installed packages carry: packs, atlases, frames, splits."""
