"""What k-space, mask and sensitivities must fulfil, checked on the host (NumPy)."""

import numpy as np
from jaxtyping import Bool, Complex

from medjax.checks import check_arrays

_UNIT = 0.01  # how far sum_c |S_c|^2 may be from 1: a percent of the signal
_STRAY = 0.01  # of the samples: so many may be exactly 0 by chance


def check_acquisition(
    kspace: Complex[np.ndarray, "*B E C H W"],
    sens: Complex[np.ndarray, "*B C H W"] | None = None,
    mask: Bool[np.ndarray, "*B E #H #W"] | None = None,
) -> None:
    """Refuse data from which a reconstruction would be silently wrong.

    A host function: it reads the values (NumPy or JAX arrays), so it can't be traced.

    Args:
        kspace: k-space in any unit. Its origin stands at [H // 2, W // 2], and it is 0
            where not sampled; no axis is empty, all numbers are finite, and every
            contrast and every coil has a value that is not 0.
        sens: Maps with sum_c |S_c|^2 = 1, or 0 outside the object: no pixel is above
            1.01, and the median of those that are not 0 is within 0.01 of 1, because
            maps may fade out at the object's edge. A slice that is 0 everywhere is
            refused. None = yet to be estimated, nothing is checked.
        mask: Booleans, or integers 0 and 1: 1 where k-space is sampled, the same for
            every coil, [.., E, 1, W] for whole columns. Every contrast has a sample,
            and at most one of a hundred of its samples is 0 in k-space in all coils.
            k-space outside the mask may be anything finite: reconstructions do not
            read it. None = every point that is not 0 (`sampled_points`).

    Raises:
        ValueError: one message that says what was expected, what was found, and the way
            out. In this order: axes and dtypes; numbers that are not finite; samples,
            as `sampled_points` and `mask` ask for; centring, which is refused where
            both sides have 8 points or more and the largest energy of k-space stands
            within 1 + side / 32 points of index [0, 0], as without fftshift; and
            sensitivities.
    """
    kspace = np.asarray(kspace)
    sens, mask = (None if x is None else np.asarray(x) for x in (sens, mask))
    try:
        check_arrays(
            "check_acquisition",
            kspace=(kspace, "*B E C H W", complex),
            sens=(sens, "*B C H W", complex),
            mask=(mask, "*B E #H #W", (bool, int)),
        )
    except ValueError as error:
        raise ValueError(f"{error}{_way_out(kspace, sens, mask)}") from None
    _check_not_empty("check_acquisition", kspace)
    if mask is not None and not np.isin(mask, (0, 1)).all():
        raise ValueError(
            "check_acquisition: mask: expected 0 and 1, found "
            f"{np.unique(mask)[:5].tolist()} .."
        )
    _check_finite("k-space", kspace)
    sampled = sampled_points(kspace)
    if mask is not None:
        _check_samples(mask.astype(bool), sampled)
    _check_centred(kspace)
    if sens is not None:
        _check_sensitivities(sens)


def sampled_points(
    kspace: Complex[np.ndarray, "*B E C H W"],
) -> Bool[np.ndarray, "*B E #H W"]:
    """The mask k-space implies: where it is not 0; [.., E, 1, W] for whole columns.

    A host function. A sample is one that any coil has: measured values may be exactly 0
    now and then.

    Args:
        kspace: k-space in any unit, exactly 0 where not sampled. Coils may differ at
            one of a hundred points of a contrast; a number that is not finite counts as
            sampled.

    Returns:
        Booleans, [.., E, 1, W] where all rows of every slice and contrast are sampled
        alike, [.., E, H, W] otherwise.

    Raises:
        ValueError: fewer than four axes, an empty axis, numbers that are not complex, a
            coil or a contrast without samples, coils that differ.
    """
    kspace = np.asarray(kspace)
    check_arrays("sampled_points", kspace=(kspace, "*B E C H W", complex))
    _check_not_empty("sampled_points", kspace)
    points = kspace != 0
    dead = ~points.any(
        axis=tuple(i for i in range(points.ndim) if i != points.ndim - 3)
    )
    if dead.all():
        raise ValueError("k-space is 0 everywhere")
    if dead.any():
        raise ValueError(
            f"coil {_first(dead)} is 0 everywhere: remove it from k-space and sens"
        )
    mask = points.any(axis=-3)
    _check_phases(mask)
    stray = (points != mask[..., None, :, :]).sum(axis=(-2, -1))
    differing = stray > _STRAY * mask.sum(axis=(-2, -1))[..., None]
    if differing.any():
        *lead, coil = np.argwhere(differing)[0]
        raise ValueError(
            f"the mask differs between coils: coil {coil} of contrast "
            f"{_name(lead)} has {points[(*lead, coil)].sum()} samples, all together "
            f"{mask[tuple(lead)].sum()}; all coils must share one mask a contrast"
        )
    whole = mask.any(axis=-2, keepdims=True)
    return whole if np.array_equal(mask, np.broadcast_to(whole, mask.shape)) else mask


def _check_not_empty(function: str, kspace: np.ndarray) -> None:
    if 0 in kspace.shape:
        raise ValueError(
            f"{function}: kspace: expected no empty axis, found {kspace.shape}"
        )


def _way_out(
    kspace: np.ndarray, sens: np.ndarray | None, mask: np.ndarray | None
) -> str:
    """What arrays of wrong axes look like, for the end of the message."""
    if kspace.ndim < 4:
        return "; axes are contrasts, coils, rows, columns: one contrast is E = 1"
    hint = ""
    exchanged = sens is not None and sens.dtype.kind in "biu"
    if exchanged or (mask is not None and np.iscomplexobj(mask)):
        return "; sens and mask look exchanged: the order is kspace, sens, mask"
    if sens is not None:
        hint += _other_order(kspace.shape, sens.shape)
    if mask is not None and mask.shape == kspace.shape:
        differs = (mask != mask[..., :1, :, :]).any()
        hint += (
            "; the mask differs between coils, which must share one a contrast"
            if differs
            else "; all coils share one mask: pass mask[..., 0, :, :]"
        )
    if mask is not None and mask.dtype.kind == "f":
        hint += "; weights are no mask: pass mask != 0, or mask == 1"
    return hint


def _other_order(kspace: tuple[int, ...], sens: tuple[int, ...]) -> str:
    *batch, contrasts, coils, rows, cols = kspace
    expected = (*batch, coils, rows, cols)
    if sens == expected:
        return ""
    if sens == (*batch, contrasts, rows, cols):
        return "; k-space looks like [.., C, E, H, W]: swap its axes -4 and -3"
    if sens == (*batch, coils, cols, rows):
        return "; rows and columns are swapped in one of them"
    if sorted(sens) == sorted(expected):
        return "; the axes of sens are in another order"
    return ""


def _check_finite(name: str, values: np.ndarray) -> None:
    broken = ~np.isfinite(values)
    if broken.any():
        raise ValueError(
            f"{name} holds NaN or Inf at {broken.sum()} of {broken.size} points, the "
            f"first at {_name(np.argwhere(broken)[0])}"
        )


def _check_phases(mask: np.ndarray) -> None:
    empty = ~mask.any(axis=(-2, -1))
    if empty.any():
        raise ValueError(
            f"contrast {_name(np.argwhere(empty)[0])} has no samples: leave it out of "
            "k-space, mask and times"
        )


def _check_samples(mask: np.ndarray, sampled: np.ndarray) -> None:
    _check_phases(mask)
    missing = mask & ~sampled
    if missing.sum() > _STRAY * mask.sum():
        raise ValueError(
            f"the mask marks {missing.sum()} points as sampled where k-space is 0 in "
            f"all coils, the first at {_name(np.argwhere(missing)[0])}: it belongs to "
            "other data or is not centred (numpy.fft.fftshift)"
        )


def _check_centred(kspace: np.ndarray) -> None:
    """The largest energy of an image with a smooth phase is near the centre."""
    *lead, height, width = kspace.shape
    size = np.abs(kspace)
    power = (size / size.max()) ** 2  # of any unit, without overflow
    peak = np.unravel_index(
        power.sum(axis=tuple(range(len(lead)))).argmax(), (height, width)
    )
    sizes = np.array([height, width])
    corner = np.minimum(peak, sizes - peak)  # cyclic distance to [0, 0]
    if (sizes >= 8).all() and (corner <= sizes // 32 + 1).all():
        raise ValueError(
            f"the largest value of k-space stands at {_name(peak)}, expected near its "
            f"centre ({height // 2}, {width // 2}): apply numpy.fft.fftshift over the "
            "last two axes"
        )


def _check_sensitivities(sens: np.ndarray) -> None:
    _check_finite("sens", sens)
    power = np.sum(np.abs(sens) ** 2, axis=-3)
    if not power.any(axis=(-2, -1)).all():
        raise ValueError("sens is 0 everywhere: estimate it (estimate_sensitivities)")
    inside = power[power > 0]
    # Median: maps may fade out softly at the object's edge.
    if inside.max() > 1 + _UNIT or abs(np.median(inside) - 1) > _UNIT:
        raise ValueError(
            "expected sens with sum_c |S_c|^2 = 1 (or less at edges, 0 outside), found "
            f"{inside.min():.3g} to {inside.max():.3g}: normalize_sensitivities"
        )


def _first(flags: np.ndarray) -> int:
    return int(np.flatnonzero(flags)[0])


def _name(index) -> str:
    """`3`, or `(0, 3)`, without NumPy's types."""
    plain = tuple(int(i) for i in index)
    return str(plain[0] if len(plain) == 1 else plain)
