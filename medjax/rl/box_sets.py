"""How good a set of boxes is: every target matched with one box at most, exactly."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from medjax.checks import FLAGS, check_arrays
from medjax.rl.boxes import box_iou

MOST_BOXES = 8  # of a set: an exact matching walks the 2^8 subsets of the targets


def box_set_quality(
    boxes: Float[Array, "*batch P 4"],
    box_valid: Bool[Array, "*batch P"],
    targets: Float[Array, "*#batch K 4"],
    target_valid: Bool[Array, "*#batch K"],
) -> Float[Array, "*batch"]:
    """Q = (sum of the IoU of matched pairs) / max(boxes, targets), from 0 to 1.

    The pairs are those of the largest sum: no box and no target is in two of them. Two
    empty sets have Q 1, one empty set has Q 0, and two sets of one box their IoU. A box
    too many, a box too few and a duplicate each cost as much as a wrong place.

    Args:
        boxes: Corners (x1, y1, x2, y2) of P boxes a set, in any frame, integers or
            floats; P may be 0. An empty or inverted box is counted and overlaps
            nothing; a NaN corner of a box that counts gives NaN.
        box_valid: True (or an integer that is not 0) where a box counts; what stands
            elsewhere is not read.
        targets: Corners of K true boxes, 0 to 8, in the same frame, of which empty ones
            and NaN do what they do in `boxes`; a leading axis of length 1 stands for
            all of the boxes', as [B, 1, K, 4] for G answers each.
        target_valid: The same of the targets.

    Returns:
        Float32 at least. Dynamic programming over the subsets of the targets: best[S],
        the largest sum that the boxes so far have with targets in S, in P K 2^K steps.

    Raises:
        ValueError: more than 8 targets, or shapes or dtypes that do not fit.
    """
    check_arrays(
        "box_set_quality",
        boxes=(boxes, "*N P 4", (float, int)),
        box_valid=(box_valid, "*N P", FLAGS),
        targets=(targets, "*#N K 4", (float, int)),
        target_valid=(target_valid, "*#N K", FLAGS),
    )
    most = targets.shape[-2]
    if most > MOST_BOXES:
        raise ValueError(
            f"box_set_quality: targets: expected 0 to {MOST_BOXES} boxes a set, which "
            f"are matched exactly; found {most}"
        )
    mine, theirs = box_valid.astype(bool), target_valid.astype(bool)
    pairs = mine[..., :, None] & theirs[..., None, :]
    # before the overlap, so that what does not count is not read
    boxes = jnp.where(mine[..., None], boxes, 0)
    targets = jnp.where(theirs[..., None], targets, 0)
    iou = box_iou(boxes[..., :, None, :], targets[..., None, :, :])
    total = _largest_sum(jnp.where(pairs, iou, 0))
    counts = [jnp.sum(x, axis=-1, dtype=iou.dtype) for x in (mine, theirs)]
    larger = jnp.maximum(*counts)
    return jnp.where(larger > 0, total / jnp.maximum(larger, 1), jnp.ones_like(total))


def _largest_sum(iou: Float[Array, "*N P K"]) -> Float[Array, "*N"]:
    """The largest sum of entries of which no two share a row or a column."""
    *lead, _, columns = iou.shape
    zero = jnp.zeros_like(jnp.sum(iou, axis=(-2, -1)))
    best = jnp.broadcast_to(zero[..., None], (*lead, 2**columns))

    def add_row(best: Array, row: Array) -> tuple[Array, None]:
        after = best
        for column in range(columns):
            # Subsets by [higher bits, this column out or in, lower bits].
            split = best.reshape(*lead, -1, 2, 2**column)
            without = split[..., :1, :]
            taken = without + row[..., column, None, None, None]
            with_it = jnp.concatenate([without, taken], axis=-2)
            after = jnp.maximum(after, with_it.reshape(best.shape))
        return after, None

    best, _ = lax.scan(add_row, best, jnp.moveaxis(iou, -2, 0))
    return best[..., -1]
