"""Boxes in pictures: views of volumes, drawn shapes, users' files, batches."""
