"""Blocks of neighbouring slices: which are trained on, which are tested."""

import numpy as np
from jaxtyping import Int

PARTS = ("train", "test")
TESTED = ("test", "val")  # what a part "test" may be; see `split_slices`
BLOCK, EVERY, GAP = 8, 4, 2  # slices a block, blocks a test block, slices dropped


def part_index(part: str) -> int:
    """The code of a part in what `split_slices` gives.

    Args:
        part: "train" is 0, "test" 1.

    Raises:
        ValueError: another part.
    """
    if part not in PARTS:
        raise ValueError(f"part={part!r}: expected one of {PARTS}")
    return PARTS.index(part)


def check_tested(tested: str) -> None:
    """Refuse a part that cannot be tested on.

    Args:
        tested: "test", or "val" to choose settings by.

    Raises:
        ValueError: another word.
    """
    if tested not in TESTED:
        raise ValueError(f"tested={tested!r}: expected one of {TESTED}")


def split_slices(
    position: Int[np.ndarray, "M"], *, tested: str = "test"
) -> Int[np.ndarray, "M"]:
    """0 train, 1 test, -1 dropped, by the slice's index across its plane.

    Blocks of 8 slices, every fourth is test; 2 slices on each side of a border between
    train and test are dropped.

    Args:
        position: The index of each slice, counted from 0 within its own plane.
        tested: "test", or "val" to choose settings by: the second of each four blocks
            is tested instead, and the fourth is dropped, so that nothing is learnt from
            it or chosen by it.
    """
    check_tested(tested)
    block, within = position // BLOCK, position % BLOCK
    part = _block_parts(block, tested)
    # The first block of all has no block before it.
    before = np.where(block > 0, _block_parts(block - 1, tested), part)
    border = (within < GAP) & (before != part)
    border |= (within >= BLOCK - GAP) & (_block_parts(block + 1, tested) != part)
    return np.where(border, -1, part).astype(np.int32)


def _block_parts(block: Int[np.ndarray, "M"], tested: str) -> Int[np.ndarray, "M"]:
    """Part of whole blocks, coded as in `split_slices`."""
    turn = block % EVERY
    if tested == "test":
        return np.where(turn == EVERY - 1, 1, 0)
    return np.where(turn == EVERY - 1, -1, np.where(turn == 1, 1, 0))
