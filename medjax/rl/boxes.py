"""Boxes: overlap, the frames they are written in, and the size an image is shown at.

A box is (x1, y1, x2, y2) with continuous, exclusive ends: its width is x2 - x1, with no
extra pixel. Sizes are (height, width), as arrays have them.

==========  ==========================================================
original    pixels of the image as it came, upright: after its orientation is obeyed
resized     pixels of the image the policy sees; what Qwen2.5-VL writes
unit        0 to 1
thousand    0 to 1000; what Qwen2-VL and Qwen3-VL write
==========  ==========================================================
"""

import math
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from medjax.checks import check_arrays, check_integers
from medjax.masked import at_least_float32

FRAMES = ("original", "resized", "unit", "thousand")

Size = tuple[int, int] | Shaped[Array | np.ndarray, "*batch 2"]  # (height, width)


def box_iou(
    boxes: Float[Array, "*#batch 4"], targets: Float[Array, "*#batch 4"]
) -> Float[Array, "*batch"]:
    """Intersection over union of boxes paired along the leading axes.

    The first box with the first target, the second with the second; `pairwise_box_iou`
    gives every pair, as torchvision's `box_iou` does. Unlike VLM-R1, no pixel is added
    to or taken from an end, so a box has IoU 1 with itself in every frame.

    Args:
        boxes: Corners (x1, y1, x2, y2) in any frame, integers or floats. An empty or
            inverted box (x2 <= x1 or y2 <= y1) overlaps nothing: 0. A NaN corner gives
            NaN, and so may an infinite one and an area that float32 does not hold
            (sides above 1e19, or below 1e-19).
        targets: Corners in the same frame, with as many leading axes; an empty one and
            a NaN do what they do in `boxes`. An axis of length 1 stands for all of the
            other's, as [B, 1, 4] for G answers each.

    Returns:
        A number from 0 to 1 for every pair, float32 at least.

    Raises:
        ValueError: shapes that do not fit each other, or booleans.
    """
    _check_boxes("box_iou", boxes, targets, "*#N 4", "*#N 4")
    return _overlap(boxes, targets)[0]


def generalized_box_iou(
    boxes: Float[Array, "*#batch 4"], targets: Float[Array, "*#batch 4"]
) -> Float[Array, "*batch"]:
    """GIoU = IoU - (hull - union) / hull, in [-1, 1] (Rezatofighi et al. 2019, alg. 1).

    Of boxes paired along the leading axes; `pairwise_generalized_box_iou` gives every
    pair. An empty or inverted box gets -1, the infimum, so that it never beats a box
    that is merely in the wrong place.

    Args:
        boxes: Corners (x1, y1, x2, y2) in any frame, integers or floats. A NaN corner
            gives NaN, and so may an infinite one.
        targets: Corners in the same frame, paired with `boxes` as in `box_iou`; a NaN
            and an empty box do what they do there.

    Returns:
        A number from -1 to 1 for every pair, float32 at least.

    Raises:
        ValueError: shapes that do not fit each other, or booleans.
    """
    _check_boxes("generalized_box_iou", boxes, targets, "*#N 4", "*#N 4")
    return _generalized(boxes, targets)


def pairwise_box_iou(
    boxes: Float[Array, "N 4"], targets: Float[Array, "M 4"]
) -> Float[Array, "N M"]:
    """Intersection over union of every box with every target, as torchvision has it.

    Args:
        boxes: N corners (x1, y1, x2, y2) in any frame, as in `box_iou`; N may be 0.
        targets: M corners in the same frame; M may be 0.

    Returns:
        Row n, column m: `box_iou` of box n and target m, 0 to 1, float32 at least; 0
            where either is empty or inverted, NaN for a NaN corner and perhaps for an
            infinite one.

    Raises:
        ValueError: boxes that are not [N, 4] and [M, 4], or booleans.
    """
    _check_boxes("pairwise_box_iou", boxes, targets, "N 4", "M 4")
    return _overlap(boxes[:, None], targets[None])[0]


def pairwise_generalized_box_iou(
    boxes: Float[Array, "N 4"], targets: Float[Array, "M 4"]
) -> Float[Array, "N M"]:
    """GIoU of every box with every target, as torchvision has it.

    Args:
        boxes: N corners (x1, y1, x2, y2) in any frame, as in `box_iou`; N may be 0.
        targets: M corners in the same frame; M may be 0.

    Returns:
        Row n, column m: the GIoU of box n and target m, -1 to 1, float32 at least; -1
            where either is empty or inverted (a point is empty), NaN for a corner that
            is NaN or infinite.

    Raises:
        ValueError: boxes that are not [N, 4] and [M, 4], or booleans.
    """
    _check_boxes("pairwise_generalized_box_iou", boxes, targets, "N 4", "M 4")
    return _generalized(boxes[:, None], targets[None])


def convert_boxes(
    boxes: Shaped[Array | np.ndarray, "*batch 4"],
    from_frame: str,
    to_frame: str,
    *,
    size: Size | None,
    resized: Size | None,
) -> Float[Array | np.ndarray, "*batch 4"]:
    """Boxes of one frame written in another: x * extent(to) / extent(from).

    NumPy in, NumPy out; JAX if any argument is an array of JAX. Integers become
    float32. Nothing is rounded or clipped, and equal extents return the box unchanged.

    Args:
        boxes: Corners (x1, y1, x2, y2) in the unit of `from_frame`. Broken ones
            (swapped, outside the image, NaN) are converted like any other.
        from_frame: The frame the boxes are written in: "original" (pixels of the image
            as it came), "resized" (pixels of the image that the policy saw), "unit" (0
            to 1) or "thousand" (0 to 1000, whatever the sides); static.
        to_frame: The frame they are wanted in, of the same four.
        size: (height, width) of the original image in pixels, above 0 and finite; one
            pair for all boxes, or an array with one a box and as many axes as `boxes`.
            Only the frame "original" needs it; with other frames it is not read. Other
            numbers and arrays of NumPy are refused. The values of an array of JAX are
            not looked at: a side of 0 gives inf or NaN, a negative one turns the box
            round, an infinite one gives 0 or NaN.
        resized: (height, width) of the image that the policy saw, likewise, for the
            frame "resized".

    Returns:
        Corners in the unit of `to_frame`, of the shape of `boxes`, float32 at least.

    Raises:
        ValueError: an unknown frame, a size that a frame needs and nobody gave or that
            is not finite and above 0, shapes that do not fit, or booleans.
    """
    check_arrays("convert_boxes", boxes=(boxes, "*N 4", (float, int)))
    xp = _namespace(boxes, size, resized)
    boxes = _floating(boxes, xp)
    sizes = {"original": size, "resized": resized}
    source = _extent("convert_boxes", from_frame, sizes, boxes, xp)
    target = _extent("convert_boxes", to_frame, sizes, boxes, xp)
    return xp.where(source == target, boxes, boxes * target / source)


def clip_boxes(
    boxes: Shaped[Array | np.ndarray, "*batch 4"], *, size: Size
) -> Float[Array | np.ndarray, "*batch 4"]:
    """Boxes cut at the borders of an image.

    Args:
        boxes: Corners (x1, y1, x2, y2) in pixels of the image. One wholly outside
            becomes empty, which `box_iou` scores 0; NaN stays NaN.
        size: (height, width) of the image in pixels, above 0 and finite: one pair for
            all boxes, or an array with one a box and as many axes as `boxes`. Other
            numbers and arrays of NumPy are refused; those of JAX are not looked at: 0
            or less cuts every box to nothing, NaN gives NaN.

    Returns:
        Of the shape of `boxes`, float32 at least; NumPy's if all arguments are.

    Raises:
        ValueError: shapes that do not fit each other, booleans, or a size that is not
            finite and above 0.
    """
    check_arrays("clip_boxes", boxes=(boxes, "*N 4", (float, int)))
    xp = _namespace(boxes, size)
    boxes = _floating(boxes, xp)
    extent = _extent("clip_boxes", "original", {"original": size}, boxes, xp)
    return xp.clip(boxes, xp.zeros_like(extent), extent)


def smart_resize(
    height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """Size at which Qwen2.5-VL shows an image: multiples of `factor`, area in bounds.

    Sides are rounded to the nearest multiple (half to even, as Python rounds); if the
    area leaves [min_pixels, max_pixels], both are scaled by its square root and rounded
    inwards. A side is at least `factor`, so a thin image may exceed max_pixels.

    Args:
        height: Rows of the image as it came, in pixels; like the other four a Python
            integer of 1 or more.
        width: Its columns. Neither side may be over 200 times the other.
        factor: Pixels of a side that become one token: 28 for Qwen2.5-VL, a patch of 14
            twice.
        min_pixels: The smallest area that the image is shown at, in pixels.
        max_pixels: The largest area, not below `min_pixels`.

    Returns:
        (height, width) in pixels. Where no multiple lies between the bounds, as for two
            that are close, the area is over the smaller one and may exceed the larger.

    Raises:
        ValueError: a number below 1, no integer or traced, an aspect ratio over 200, or
            bounds out of order.
    """
    least = {"height": height, "width": width, "factor": factor}
    check_integers("smart_resize", **{k: (v, 1, None) for k, v in least.items()})
    check_integers(
        "smart_resize",
        min_pixels=(min_pixels, 1, None),
        max_pixels=(max_pixels, min_pixels, None),
    )
    if max(height, width) > 200 * min(height, width):
        raise ValueError(
            f"image size {height} x {width}: aspect ratio must be at most 200; "
            "crop the image first"
        )
    rows, columns = round(height / factor), round(width / factor)
    area = rows * columns * factor**2
    if area > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows = max(1, math.floor(height / shrink / factor))
        columns = max(1, math.floor(width / shrink / factor))
    elif area < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows = math.ceil(height * grow / factor)
        columns = math.ceil(width * grow / factor)
    return rows * factor, columns * factor


def _check_boxes(
    function: str,
    boxes: Float[Array, "*batch 4"],
    targets: Float[Array, "*batch 4"],
    *axes: str,
) -> None:
    kinds = (float, int)
    check_arrays(
        function, boxes=(boxes, axes[0], kinds), targets=(targets, axes[1], kinds)
    )


def _generalized(
    boxes: Float[Array, "*batch 4"], targets: Float[Array, "*batch 4"]
) -> Float[Array, "*batch"]:
    iou, union, empty = _overlap(boxes, targets)
    boxes, targets = at_least_float32(boxes), at_least_float32(targets)
    low = jnp.minimum(boxes[..., :2], targets[..., :2])
    high = jnp.maximum(boxes[..., 2:], targets[..., 2:])
    hull = jnp.prod(high - low, axis=-1)
    hull = jnp.where(empty, 1, hull)
    return jnp.where(empty, -1, iou - (hull - union) / hull)


def _overlap(
    boxes: Float[Array, "*batch 4"], targets: Float[Array, "*batch 4"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"], Bool[Array, "*batch"]]:
    """IoU, union and whether either box is empty (then IoU 0 and union 1)."""
    boxes, targets = at_least_float32(boxes), at_least_float32(targets)
    sides = boxes[..., 2:] - boxes[..., :2]
    target_sides = targets[..., 2:] - targets[..., :2]
    # "<= 0" and not "~(> 0)": a NaN side is no empty box, it must reach the result.
    empty = jnp.any(sides <= 0, axis=-1) | jnp.any(target_sides <= 0, axis=-1)
    empty &= ~jnp.any(jnp.isnan(sides + target_sides), axis=-1)  # nor beside an empty
    low = jnp.maximum(boxes[..., :2], targets[..., :2])
    high = jnp.minimum(boxes[..., 2:], targets[..., 2:])
    intersection = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    union = jnp.prod(sides, axis=-1) + jnp.prod(target_sides, axis=-1) - intersection
    union = jnp.where(empty, 1, union)  # before the division: its gradient stays finite
    return jnp.where(empty, 0, intersection / union), union, empty


def _namespace(*arrays: Size | None) -> ModuleType:
    return jnp if any(isinstance(x, jax.Array) for x in arrays) else np


def _floating(
    boxes: Shaped[Array | np.ndarray, "*batch 4"], xp: ModuleType
) -> Float[Array | np.ndarray, "*batch 4"]:
    wide = jnp.issubdtype(boxes.dtype, jnp.floating) and boxes.dtype.itemsize >= 4
    return xp.asarray(boxes) if wide else xp.asarray(boxes).astype(xp.float32)


def _extent(
    function: str,
    frame: str,
    sizes: dict[str, Size | None],
    boxes: Float[Array | np.ndarray, "*batch 4"],
    xp: ModuleType,
) -> Float[Array | np.ndarray, "*batch 4"]:
    """(width, height, width, height) of a frame, of the rank of `boxes`."""
    if frame not in FRAMES:
        raise ValueError(f"box frame {frame!r} is not declared: one of {FRAMES}")
    if frame in ("unit", "thousand"):
        return xp.full_like(boxes, 1.0 if frame == "unit" else 1000.0)
    size = sizes[frame]
    if size is None:
        raise ValueError(f"frame {frame!r} needs the (height, width) of that image")
    pair = xp.asarray(size)
    # one (height, width), or one for every box
    axes = "2" if pair.ndim == 1 else "*#N 2"
    name = "size" if frame == "original" else frame
    kinds = (float, int)
    check_arrays(function, boxes=(boxes, "*N 4", float), **{name: (pair, axes, kinds)})
    leaves = jax.tree.leaves(size)
    known = not any(isinstance(x, jax.Array) for x in leaves)
    values = np.asarray(pair) if known else np.ones(1)
    if not np.all((values > 0) & np.isfinite(values)) or any(
        isinstance(x, bool | np.bool_) for x in leaves
    ):
        raise ValueError(
            f"{function}: {name} {size}: height and width must be positive and finite"
        )
    pair = pair.astype(boxes.dtype)
    pair = pair.reshape((1,) * (boxes.ndim - pair.ndim) + pair.shape)
    height, width = pair[..., 0], pair[..., 1]
    return xp.stack([width, height, width, height], axis=-1)
