"""The weight of a penalty without a reference: lines held out, and predicted."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Complex, Float, Inexact

from medjax.checks import (
    FLAGS,
    check_arrays,
    check_integers,
    check_key,
    check_ranges,
    check_static,
)
from medjax.mri.promotion import promoted
from medjax.mri.sense import check_operands, sense_forward
from medjax.mri.weight_search import HeldOutWeight, least_misfit
from medjax.types import Key


class Held(NamedTuple):
    """What of a mask a reconstruction gets, and what it has to predict."""

    kept: Bool[Array, "*B E #H #W"]
    held: Bool[Array, "*B E #H #W"]


def hold_out_lines(
    mask: Bool[Array, "*B E #H #W"], key: Key, *, share: float = 0.25, center: int
) -> Held:
    """A random share of each contrast's outer lines, and the mask without them.

    Of n sampled lines outside the middle `center` ones round(share n) are held out, at
    least 1 and at most n - 1, each contrast drawing for itself.

    Args:
        mask: bool or integers, not 0 where centred k-space is sampled. Of whole
            columns, [.., E, 1, W], columns are held out, of whole rows rows. Of [.., E,
            H, W] points are, outside the middle `center` rows and columns: give whole
            lines as such, or a line's other points foretell it.
        key: One typed key, which the whole batch shares. Do not use it again.
        share: Of the outer lines, above 0 and below 1; a quarter is usual. Static.
        center: How many lines in the middle are kept, at least 0: those of fully
            sampled calibration, from (W - center + 1) // 2 on, as `undersampling_mask`
            has them. Static.

    Returns:
        `Held(kept, held)`, of bool and of the mask's shape: `held` are the lines that
        were drawn, `kept` is the mask without them.

    Raises:
        ValueError: a contrast with fewer than 2 sampled lines outside the centre, as
            one to hold out and one to keep are needed. Where the mask is traced this
            cannot be seen: a contrast without an outer line then holds nothing, and
            `held_out_misfit` of a slice that holds nothing is NaN. Also a share or a
            centre out of its range, a mask of floats, and several keys.
    """
    name = "hold_out_lines"
    check_arrays(name, mask=(mask, "*B E _ _", FLAGS))
    check_key(name, key=key)
    check_integers(name, center=(center, 0, None))
    check_static(name, share=share)
    if not 0 < share < 1:
        raise ValueError(
            f"{name}: share: expected a number above 0 and below 1; found {share!r}"
        )
    lead = mask.ndim - 2
    middle = _middle(mask.shape[-2:], center)
    if not isinstance(mask, Tracer):
        outer = np.asarray(mask).astype(bool) & ~middle
        _check_enough(name, outer.sum(axis=(-2, -1)), center)
    outer = jnp.asarray(mask).astype(bool) & ~jnp.asarray(middle)[(None,) * lead]
    flat = outer.reshape(*outer.shape[:-2], math.prod(outer.shape[-2:]))
    count = jnp.sum(flat, axis=-1, keepdims=True, dtype=jnp.int32)
    wanted = jnp.round(share * count.astype(jnp.float32)).astype(jnp.int32)
    wanted = jnp.maximum(jnp.minimum(wanted, count - 1), jnp.minimum(count, 1))
    draw = jax.random.uniform(key, flat.shape, jnp.float32)
    order = jnp.argsort(jnp.where(flat, draw, 2), axis=-1)
    rank = jnp.argsort(order, axis=-1).astype(jnp.int32)
    held = (flat & (rank < wanted)).reshape(outer.shape)
    return Held(jnp.asarray(mask).astype(bool) & ~held, held)


def held_out_misfit(
    images: Inexact[Array, "*B E H W"],
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    held: Bool[Array, "*B E #H #W"],
    *,
    phase: Float[Array, "*B #E H W"] | None = None,
) -> Float[Array, "*B"]:
    """Mean of |y - A x|^2 over the samples that were held out, of all coils.

    Of images without an error it is the noise power E |n|^2 of a sample; what it is
    more is the error of the images at the held-out points.

    Args:
        images: x, made without the held-out samples; real or complex. A pixel that is
            not finite makes its slice NaN.
        kspace: y, all of it, its origin at [H // 2, W // 2], in the unit of the images;
            read at the held-out points.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object; of any other sum A x is that
            of `sense_forward`. A number that is not finite makes its slice NaN, as one
            of `phase`.
        held: bool or integers, not 0 at the points that were held out.
        phase: In rad, of the images of a reconstruction with `constraint="phase"`,
            which are real factors; None for images as they are.

    Returns:
        Of each slice, real, at least 0, in the unit of k-space squared; NaN where a
        slice holds nothing, and where its images or held-out samples are not finite.

    Raises:
        ValueError: shapes or dtypes that do not fit each other.
    """
    check_operands(
        "held_out_misfit",
        sens,
        held,
        images=(images, "*B E H W", (float, complex)),
        kspace=(kspace, "*B E C H W", complex),
        phase=(phase, "*B #E H W", float),
        shared=False,
    )
    if phase is not None:
        phase = jnp.asarray(phase, jnp.real(images).dtype)
        turn = jnp.exp(jax.lax.complex(jnp.zeros_like(phase), phase))
        images = images.astype(turn.dtype) * turn
    held = jnp.asarray(held).astype(bool)
    predicted = sense_forward(images, sens, held)
    kspace, predicted = promoted(kspace, predicted)
    rest = jnp.where(held[..., :, None, :, :], kspace - predicted, 0)
    power = jnp.real(rest) ** 2 + jnp.imag(rest) ** 2
    every = tuple(range(-4, 0))
    held = jnp.broadcast_to(held[..., :, None, :, :], kspace.shape)
    count = jnp.sum(held, axis=every, dtype=power.dtype)
    return jnp.sum(power, axis=every) / jnp.where(count > 0, count, jnp.nan)


def held_out_weight(
    reconstruct_fn: Callable[[Array], Inexact[Array, "*B E H W"]],
    kspace: Complex[Array, "*B E C H W"],
    sens: Complex[Array, "*B C H W"],
    held: Bool[Array, "*B E #H #W"],
    *,
    weights: Float[Array, "L"],
    extensions: int = 3,
    phase: Float[Array, "*B #E H W"] | None = None,
) -> HeldOutWeight:
    """The weight with which the held-out samples are predicted best, slice by slice.

    All `weights` are tried, one after another. Where the least misfit stands at an end
    the slice tries the next weight beyond it, until all slices have their least misfit
    between two others or as many were tried as `extensions` says. The weight is then
    where the parabola through the least and its two neighbours, over log weight, is
    least.

    No reference is needed, and any regularised method will do. The samples that are
    held out are missing from the reconstruction, so that the weight is one for slightly
    fewer samples than there are.

    Args:
        reconstruct_fn: From weights [*B], one for each slice, to the images of a
            reconstruction of `Held.kept` alone: k-space or mask must lack what is held
            out, which is not checked. Pure; it may close over traced arrays.
        kspace: All of it, in the unit of the images, its origin at [H // 2, W // 2];
            read at the held-out points, where a number that is not finite makes the
            slice's weight NaN.
        sens: Maps with sum_c |S_c|^2 = 1, or 0 outside the object, which is not
            checked: those that the reconstruction takes.
        held: `Held.held`: bool or integers, not 0 at the points to predict.
        weights: At least 3, ascending, above 0, in the unit that `reconstruct_fn`
            takes, evenly spaced in their logarithm: factors of 2 to 3 suit. Values of
            an array of JAX are not checked.
        extensions: How many times L - 2 more weights may be tried, at least 0, beyond
            an end, L the number of `weights`. Slices that need none keep theirs.
            Static.
        phase: In rad, one for all contrasts or one for each, of a reconstruction with
            `constraint="phase"`, whose images are real factors; None for images as they
            are.

    Returns:
        `HeldOutWeight`. Where no extension sufficed, `interior` is False and the weight
        is the end with the least misfit: for such data a larger or smaller weight
        predicts better still. A misfit that is not finite counts as the largest; where
        all are, the weight is NaN.

    Raises:
        ValueError: fewer than three weights, weights that are not above 0 and
            ascending, a reconstruction of another shape, shapes that do not fit.
    """
    name = "held_out_weight"
    check_arrays(
        name, kspace=(kspace, "*B E C H W", complex), weights=(weights, "L", float)
    )
    check_integers(name, extensions=(extensions, 0, None))
    _check_weights(name, weights)
    batch = jnp.shape(kspace)[:-4]
    dtype = jnp.real(kspace).dtype
    first = jnp.asarray(weights, dtype).reshape(-1, *(1,) * len(batch))
    first = jnp.broadcast_to(first, (first.shape[0], *batch))

    def misfit(weight):
        images = reconstruct_fn(weight)
        check_arrays(
            name,
            kspace=(kspace, "*B E C H W", None),
            reconstruct_fn=(images, "*B E H W", (float, complex)),
        )
        return held_out_misfit(images, kspace, sens, held, phase=phase)

    return least_misfit(misfit, first, extensions=extensions)


def _middle(size: tuple[int, int], center: int) -> Bool[np.ndarray, "#H #W"]:
    """Of every axis that is not constant, the middle `center` lines."""
    inside = np.ones((1, 1), bool)
    for axis, points in enumerate(size):
        if points > 1:
            start = (points - center + 1) // 2
            index = np.arange(points)
            line = (index >= start) & (index < start + center)
            inside = inside & np.expand_dims(line, 1 - axis)
    return inside if max(size, default=1) > 1 else ~inside


def _check_enough(function: str, count: np.ndarray, center: int) -> None:
    if count.size and count.min() < 2:
        where = np.unravel_index(int(count.argmin()), count.shape)
        *slices, contrast = (int(n) for n in where)
        of = f" of slice {slices}" if slices else ""
        raise ValueError(
            f"{function}: mask: expected at least 2 sampled lines outside the middle "
            f"{center} of every contrast, one to hold out and one to keep; found "
            f"{int(count.min())} of contrast {contrast}{of}: take a smaller center, or "
            "give the weight yourself"
        )


def _check_weights(function: str, weights: Array) -> None:
    if np.shape(weights)[0] < 3:
        raise ValueError(
            f"{function}: weights: expected at least 3, so that one may lie between "
            f"two others; found {np.shape(weights)[0]}"
        )
    if isinstance(weights, jax.Array):
        return
    values = np.asarray(weights, np.float64)
    check_ranges(function, weights=(float(values.min()), 0, math.inf))
    if not (values[0] > 0 and np.all(np.diff(values) > 0) and values[-1] < math.inf):
        raise ValueError(
            f"{function}: weights: expected finite numbers above 0 that ascend; found "
            f"{values.tolist()}"
        )
