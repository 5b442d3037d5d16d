"""The pretrained policy that medjax carries."""

from pathlib import Path

SHIPPED = "tiny"
"""What a config calls it; a folder of this name is meant by `./tiny`."""


def shipped_policy() -> Path:
    """The Hugging Face folder of the shipped policy; its README.md is its card."""
    return Path(__file__).parent / SHIPPED
