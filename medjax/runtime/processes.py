"""What the processes of a run tell each other, beside arrays."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def gather_texts(text: str) -> list[str]:
    """The texts of all processes, in the order of their index; each must call this.

    Args:
        text: What this process gives, of any length, the empty text included.
    """
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(data.size, np.int32))
    padded = np.pad(data, (0, int(sizes.max()) - data.size))
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def rows_per_process(batch: int) -> int:
    """How many rows of a batch of all processes each of them makes.

    Args:
        batch: How many rows all processes make together, a multiple of their number.

    Raises:
        ValueError: The processes cannot share the batch equally.
    """
    processes = jax.process_count()
    if batch % processes:
        raise ValueError(f"batch {batch} is not divisible by {processes} processes")
    return batch // processes
