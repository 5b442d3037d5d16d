"""u made to hold: exponents from subjects that were trained on, a factor from others.

The exponents of `error_sd` are a regression on simulated subjects of the training part,
where the true error of every voxel is known. Then kappa, a factor for each
acceleration, is chosen on subjects of the validation part so that the intervals of the
fit by kappa u cover as often as they say. A calibration holds for scans like those: see
`protocol_doubts`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.mri.uncertainty import error_sd

USUAL = 6.0  # R at which the level of a regression is given
_FAR_RATE, _FAR_SPAN, _FAR_PIXEL = 1.5, 1.5, 2.0  # factors that a scan may be off by
_FEWEST = 100  # voxels of a regression


class Protocol(NamedTuple):
    """What a calibration was made for, or what a scan is."""

    contrast: str  # "t2" or "t1"
    times: tuple[float, ...]  # s
    pixel: float  # mm a side
    coils: int


class Calibration(NamedTuple):
    """u = kappa(R) e^level (R / 6)^rate prod_f feature_f^exponent_f."""

    reconstruction: str  # "joint TV" or "network"
    protocol: Protocol  # of the simulated subjects
    features: tuple[str, ...]  # the order of the exponents
    exponents: tuple[float, ...]  # they sum to 1
    level: float
    rate: float
    accelerations: tuple[float, ...]  # R, 1 / sampled share, rising
    kappa: tuple[float, ...]  # at these; see `kappa_at`
    coverage: float  # that kappa was chosen for, above 0 and below 1
    # At the accelerations: what `scan_checks` finds least and most of scans whose error
    # bars hold; () where it was not looked for
    spreads: tuple[tuple[float, float], ...] = ()
    misfits: tuple[tuple[float, float], ...] = ()


class Regression(NamedTuple):
    """log error = sum_f exponent_f log feature_f + level + rate log(R / 6)."""

    exponents: Float[np.ndarray, "F"]  # they sum to 1
    level: float  # so that the mean square of u is that of the error
    rate: float


def regress_error(
    features: Float[np.ndarray, "F N"],
    error: Float[np.ndarray, "N"],
    acceleration: Float[np.ndarray, "N"],
) -> Regression:
    """The exponents that tell the errors of N voxels, by least squares of logarithms.

    Args:
        features: In the unit of the images; voxels where one is not above 0 or not
            finite are left out, as are those without an error.
        error: The true one of each voxel, sqrt(mean_e |x_e - target_e|^2).
        acceleration: R of each voxel's slice, above 0; where all are the same, the rate
            is 0.

    Raises:
        ValueError: Shapes do not fit, or fewer than 100 voxels are left.
    """
    features, error, acceleration = (
        np.asarray(x, np.float64) for x in (features, error, acceleration)
    )
    if (
        features.ndim != 2
        or not features.shape[1:] == error.shape == acceleration.shape
    ):
        raise ValueError(
            f"regress_error: features {features.shape}, error {error.shape}, "
            f"acceleration {acceleration.shape}; expected [F, N], [N], [N]"
        )
    known = np.isfinite(features).all(0) & (features > 0).all(0)
    known &= np.isfinite(error) & (error > 0)
    if known.sum() < _FEWEST:
        raise ValueError(
            f"regress_error: {known.sum()} voxels with an error and all features above "
            f"0; expected {_FEWEST} or more"
        )
    logs = np.log(features[:, known])
    wanted, rates = np.log(error[known]), np.log(acceleration[known] / USUAL)
    varied = np.ptp(rates) > 1e-6
    last, others = logs[-1], logs[:-1] - logs[-1]
    columns = [*others, np.ones_like(last), *([rates] if varied else [])]
    found = np.linalg.lstsq(np.stack(columns, 1), wanted - last, rcond=None)[0]
    exponents = np.append(found[: len(others)], 1 - found[: len(others)].sum())
    rate = float(found[-1]) if varied else 0.0
    left = wanted - exponents @ logs - rate * rates
    return Regression(exponents, 0.5 * float(np.log(np.mean(np.exp(2 * left)))), rate)


def factor_for_coverage(
    factors: Sequence[float], covered: Sequence[float], *, coverage: float
) -> float:
    """The factor on u at which intervals cover the share that was asked for.

    Args:
        factors: Rising ones that were tried, above 0.
        covered: The share of voxels inside their interval at each of them, 0 to 1.
        coverage: The share wanted, above 0 and below 1. Between two factors log factor
            is interpolated.

    Raises:
        ValueError: The share is not reached, or passed already by the least factor.
    """
    shares = np.maximum.accumulate(np.asarray(covered, np.float64))
    if not shares[0] <= coverage <= shares[-1]:
        raise ValueError(
            f"intervals cover {shares[0]:.3f} to {shares[-1]:.3f} of the voxels at "
            f"factors {min(factors):g} to {max(factors):g}; expected {coverage:g} in "
            "between: u is not related to the error, or factors have to go further"
        )
    above = int(np.argmax(shares >= coverage))
    if above == 0:
        return float(factors[0])
    part = (coverage - shares[above - 1]) / (shares[above] - shares[above - 1])
    low, high = np.log(factors[above - 1]), np.log(factors[above])
    return float(np.exp(low + part * (high - low)))


def kappa_at(calibration: Calibration, acceleration: float | Array) -> Array:
    """kappa of accelerations: log kappa interpolated over log R, constant beyond.

    Args:
        calibration: Its own accelerations are the places in between.
        acceleration: R = 1 / sampled share, above 0; any shape.
    """
    rate = jnp.asarray(acceleration)
    places = jnp.asarray(np.log(calibration.accelerations), rate.dtype)
    logs = jnp.asarray(np.log(calibration.kappa), rate.dtype)
    return jnp.exp(jnp.interp(jnp.log(rate), places, logs))


def calibrated_sd(
    calibration: Calibration,
    features: Mapping[str, Float[Array, "*B H W"]],
    acceleration: Float[Array, "*B"],
    *,
    kappa: bool = True,
) -> Float[Array, "*B H W"]:
    """u of a scan's voxels, in the unit of its images, for `fit_posterior`.

    Args:
        calibration: Made for the contrast and the reconstruction of these images.
        features: By the names of `Calibration.features`, in the images' unit, 0 or
            more; others are not read. Of a slice's single number every pixel is given.
        acceleration: R of each slice, 1 / sampled share, above 0.
        kappa: Whether the factor for coverage is applied; static.

    Returns:
        0 where a slice's feature is 0 all over it, NaN where one is NaN: a fit flags
        these voxels.

    Raises:
        ValueError: A feature of the calibration is missing.
    """
    missing = [name for name in calibration.features if name not in features]
    if missing:
        raise ValueError(
            f"calibrated_sd: features: the calibration of {calibration.reconstruction} "
            f"has {', '.join(calibration.features)}; {', '.join(missing)} missing, "
            f"found {', '.join(features) or 'none'}"
        )
    stacked = jnp.stack([features[name] for name in calibration.features])
    rate = jnp.asarray(acceleration, stacked.dtype)
    level = calibration.level + calibration.rate * jnp.log(rate / USUAL)
    if kappa:
        level = level + jnp.log(kappa_at(calibration, rate))
    exponents = np.asarray(calibration.exponents, np.float64)
    return error_sd(stacked, exponents=exponents, level=level)


def protocol_doubts(
    calibration: Calibration, scan: Protocol, *, acceleration: float
) -> list[str]:
    """Where a scan is far from what error bars were calibrated on; empty if it is not.

    The calibration is used all the same: a line says what its error bars are then worth
    less for.

    Args:
        calibration: The one in use.
        scan: Its times in s, its pixels in mm; a pixel that is not finite or not above
            0 is not known and not compared.
        acceleration: R of the scan, 1 / sampled share.

    Raises:
        ValueError: The calibration is of another contrast.
    """
    made = calibration.protocol
    if scan.contrast != made.contrast:
        raise ValueError(
            f"calibration of {made.contrast}, scan of {scan.contrast}: expected one of "
            "the scan's contrast; make it by --mode=calibrate"
        )
    doubts = []
    low, high = calibration.accelerations[0], calibration.accelerations[-1]
    if not low / _FAR_RATE <= acceleration <= high * _FAR_RATE:
        doubts.append(
            f"the scan's acceleration is {acceleration:.2g}, error bars were "
            f"calibrated at {low:.2g} to {high:.2g}"
        )
    ours, theirs = len(scan.times), len(made.times)
    if not theirs / 2 <= ours <= theirs * 2:
        doubts.append(
            f"the scan has {ours} contrasts, error bars were calibrated with {theirs}"
        )
    ours, theirs = max(scan.times), max(made.times)
    if not theirs / _FAR_SPAN <= ours <= theirs * _FAR_SPAN:
        doubts.append(
            f"the scan's longest time is {1e3 * ours:.4g} ms, error bars were "
            f"calibrated with {1e3 * theirs:.4g} ms"
        )
    known = np.isfinite(scan.pixel) and scan.pixel > 0
    if known and not 1 / _FAR_PIXEL <= scan.pixel / made.pixel <= _FAR_PIXEL:
        doubts.append(
            f"the scan's pixels are {scan.pixel:.2g} mm wide, error bars were "
            f"calibrated with {made.pixel:.2g} mm"
        )
    return doubts


def covered(
    value: Float[np.ndarray, "*N"],
    low: Float[np.ndarray, "*N"],
    high: Float[np.ndarray, "*N"],
    where: Bool[np.ndarray, "*N"],
) -> float:
    """The share of marked voxels whose value lies in its interval, both ends included.

    Args:
        value: The true one.
        low: The lower end; a NaN at either end counts as not inside.
        high: The upper end.
        where: The voxels that count; none of them gives NaN.
    """
    inside = (value >= low) & (value <= high)
    return float(inside[where].mean()) if where.any() else float("nan")
