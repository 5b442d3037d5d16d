"""Host side: files, images, text, tokens -> NumPy batches, fixed by (seed, index)."""
