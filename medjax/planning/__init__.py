"""What a compiled program costs on chips that are not there."""
