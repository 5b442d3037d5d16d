"""MR physics and inverse problems, on arrays."""
