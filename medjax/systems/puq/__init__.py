"""PUQ: the unrolled network, its training, the guided fit."""
