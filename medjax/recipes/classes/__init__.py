"""Classes: the task of a run, its rewards, and how answers are scored."""
