"""All side effects of a run: the loop, checkpoints, logs and the manifest."""
