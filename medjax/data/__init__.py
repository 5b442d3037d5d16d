"""Host side: files, images, text and tokens to NumPy batches, deterministic in (seed, index)."""
