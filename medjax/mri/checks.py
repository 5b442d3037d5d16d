"""What k-space, mask and sensitivities must fulfil, checked on the host (NumPy)."""

import numpy as np
from jaxtyping import Bool, Complex

from medjax.checks import check_arrays

_UNIT = 0.01  # how far sum_c |S_c|^2 may be from 1: a percent of the signal
_STRAY = 0.01  # of the samples: so many may be exactly 0 by chance


def check_acquisition(
    kspace: Complex[np.ndarray, "*B E C H W"],
    mask: Bool[np.ndarray, "*B E #H #W"] | None = None,
    sens: Complex[np.ndarray, "*B C H W"] | None = None,
) -> None:
    """Refuse data from which a reconstruction would be silently wrong.

    Args:
        kspace: In any unit. Its origin stands at [H // 2, W // 2], and it is 0 where
            not sampled; at least one contrast and coil, all numbers finite.
        mask: 0 and 1 (or bool), the same for every coil, [.., E, 1, W] for whole
            columns. It may mark single points where k-space happens to be 0. None =
            every point that is not 0 (`sampled_points`).
        sens: sum_c |S_c|^2 is 1 within 0.01, 0 outside the object, less at its edge.
            None = yet to be estimated.

    Raises:
        ValueError: one message that says what was expected, what was found, and the way
            out. In this order: axes, numbers, samples, centring, sensitivities.
    """
    kspace = np.asarray(kspace)
    mask, sens = (None if x is None else np.asarray(x) for x in (mask, sens))
    try:
        check_arrays(
            "check_acquisition",
            kspace=(kspace, "*B E C H W", complex),
            sens=(sens, "*B C H W", complex),
            mask=(mask, "*B E #H #W", (bool, int, float)),
        )
    except ValueError as error:
        raise ValueError(f"{error}{_way_out(kspace, mask, sens)}") from None
    if 0 in kspace.shape:
        raise ValueError(
            f"expected k-space without an empty axis, found {kspace.shape}"
        )
    if mask is not None and not np.isin(mask, (0, 1)).all():
        raise ValueError(f"expected a mask of 0 and 1, found {np.unique(mask)[:5]} ..")
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

    A sample is one that any coil has: measured values may be exactly 0 now and then.

    Args:
        kspace: In any unit, exactly 0 where not sampled. Coils may differ at one of a
            hundred points; NaN counts as sampled.

    Raises:
        ValueError: a coil or a contrast without samples, coils that differ.
    """
    points = np.asarray(kspace) != 0
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


def _way_out(
    kspace: np.ndarray, mask: np.ndarray | None, sens: np.ndarray | None
) -> str:
    """What arrays of wrong axes look like, for the end of the message."""
    if kspace.ndim < 4:
        return "; axes are contrasts, coils, rows, columns: one contrast is E = 1"
    hint = ""
    if sens is not None:
        hint += _other_order(kspace.shape, sens.shape)
    if mask is not None and mask.shape == kspace.shape:
        differs = (mask != mask[..., :1, :, :]).any()
        hint += (
            "; the mask differs between coils, which must share one a contrast"
            if differs
            else "; all coils share one mask: pass mask[..., 0, :, :]"
        )
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
