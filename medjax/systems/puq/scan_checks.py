"""Do error bars hold on this scan? What two halves of its lines and its fit say.

Both are numbers of a slice that are held against those of simulated slices whose error
bars are known to hold: how far maps of two halves of the lines differ, in units of what
their intervals allow, and how far images are from the signal model, in units of u.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.mri.halves import half_lines, half_scores
from medjax.mri.model import SignalModel
from medjax.systems.puq.calibration import Calibration, calibrated_sd
from medjax.systems.puq.joint_tv import Search, TvImages, joint_tv_at, tv_features
from medjax.systems.puq.maps import fit_slices
from medjax.systems.puq.posterior_maps import image_posterior
from medjax.systems.puq.reconstruction import slice_keys
from medjax.types import Key, QmriBatch

_ENDS = (0.025, 0.5, 0.975)
_FEWEST = 50  # voxels of a slice, below which it is not judged


class Checks(NamedTuple):
    """What tells without a reference whether a slice's error bars hold."""

    spread: Float[Array, "B"]  # of two halves, see `half_scores`
    misfit: Float[Array, "B"]  # median of what the model leaves, over u
    count: Float[Array, "B"]  # voxels with an interval in both halves


def check_slices(
    batch: QmriBatch,
    key: Key,
    found: TvImages,
    where: Bool[Array, "B H W"],
    *,
    basis: Float[Array, "E K"],
    scales: Float[Array, "K"],
    search: Search,
    calibration: Calibration,
    times: Float[Array, "E *#N"],
    model: SignalModel,
    bounds: tuple[float, float],
) -> Checks:
    """The spread of two halves of the lines, and the misfit of the signal model.

    Either half is reconstructed at the weight of the whole scan, and its u is that of
    its own features and acceleration, with the held-out level of the whole scan. The
    spread is that of `half_scores` of their medians. The misfit is the residual of a
    least-squares fit over u, both of the whole scan.

    Args:
        batch: k-space that is ready, in any unit.
        key: One typed key; a slice's lines are dealt by its `sample_id`.
        found: Of `joint_tv_images` on the same slices.
        where: The voxels that count, such as bright ones.
        basis: Of the contrasts' subspace.
        scales: Of its coefficients.
        search: The center of it is kept by both halves; static.
        calibration: Of joint TV; static.
        times: Of `fit_posterior`, beside images [E, B, H, W].
        model: Static.
        bounds: (low, high) of a map in s; static.
    """
    halves = jax.vmap(lambda mask, k: half_lines(mask, k, center=search.center))(
        batch.mask, slice_keys(key, batch.sample_id)
    )
    coils, size = batch.kspace.shape[2], found.images.shape

    def error(made: TvImages, mask: Bool[Array, "B E #H W"]) -> Float[Array, "B H W"]:
        sampled = jnp.broadcast_to(mask, size).mean((1, 2, 3), dtype=jnp.float32)
        features = tv_features(made, coils=coils)
        return calibrated_sd(calibration, features, 1 / sampled)

    def ends(mask: Bool[Array, "B E #H W"]) -> Float[Array, "3 B H W"]:
        images, doubled = joint_tv_at(
            batch.kspace,
            batch.sens,
            mask,
            weight=found.weight,
            basis=basis,
            scales=scales,
            search=search,
        )
        u = error(found._replace(images=images, doubled=doubled), mask)
        return image_posterior(
            images, u, times, model=model, bounds=bounds, quantiles=_ENDS
        ).quantiles

    scores = half_scores(ends(halves.first), ends(halves.second), where)
    fit = fit_slices(found.images, times, model=model, bounds=bounds)
    ratio = fit.residual / error(found, batch.mask)
    ratio = jnp.where(where & jnp.isfinite(ratio), ratio, jnp.nan)
    middle = jnp.nanmedian(ratio.reshape(len(ratio), -1), axis=-1)
    return Checks(scores.spread, middle, scores.count)


class Verdict(NamedTuple):
    """What one check says of a scan."""

    check: str  # "halves" or "model"
    value: float  # of the scan: the median over its slices; NaN: none could be judged
    low: float  # what scans have whose error bars hold
    high: float

    @property
    def holds(self) -> bool:
        """Whether the value is not above what is usual, or none is known.

        One below is no warning: noise that both halves' regulariser takes out makes
        small spreads of scans whose error bars hold.
        """
        return bool(np.isnan(self.value)) or self.value <= self.high


def judge_scan(
    calibration: Calibration,
    spread: Float[np.ndarray, "Z"],
    misfit: Float[np.ndarray, "Z"],
    count: Float[np.ndarray, "Z"],
    *,
    acceleration: float,
) -> tuple[Verdict, ...]:
    """Hold a scan's slices against the simulated ones of the calibration.

    Args:
        calibration: One with `spreads`, `misfits` or both.
        spread: `Checks.spread` of each slice.
        misfit: `Checks.misfit` of each.
        count: `Checks.count` of each; slices with fewer than 50 are left out.
        acceleration: R of the whole scan, 1 / sampled share; beyond the calibration's
            the ends are those of the nearest.

    Returns:
        The verdict of the halves, and that of the model, as far as the calibration
        has what is usual.

    Raises:
        ValueError: The calibration has nothing to hold a scan against.
    """
    if not calibration.spreads and not calibration.misfits:
        raise ValueError(
            "judge_scan: calibration: expected one with the spreads of two halves or "
            "the misfits of the model; make it by --mode=calibrate"
        )
    places = np.log(calibration.accelerations)
    usable = np.asarray(count) >= _FEWEST
    verdicts = []
    for check, values, usual in (
        ("halves", spread, calibration.spreads),
        ("model", misfit, calibration.misfits),
    ):
        if not usual:
            continue
        low, high = (
            float(np.exp(np.interp(np.log(acceleration), places, np.log(ends))))
            for ends in zip(*usual, strict=True)
        )
        values = np.asarray(values, np.float64)
        kept = values[usable & np.isfinite(values)]
        middle = float(np.median(kept)) if kept.size else float("nan")
        verdicts.append(Verdict(check, middle, low, high))
    return tuple(verdicts)


def verdict_text(verdict: Verdict) -> str:
    """One line for a person: what a check says, and what is usual.

    Args:
        verdict: Of a scan.
    """
    what = {
        "halves": "maps of two halves of the lines differ by {} of what their error "
        "bars allow",
        "model": "contrasts are {} of their uncertainty away from the signal model",
    }[verdict.check]
    if np.isnan(verdict.value):
        return (
            f"error bars could not be checked ({verdict.check}): no slice has 50 "
            "voxels with an interval in both halves of its lines"
        )
    found = (
        f"{what.format(f'{verdict.value:.2f}')}; {verdict.low:.2f} to "
        f"{verdict.high:.2f} is usual where these hold"
    )
    if verdict.holds:
        return f"error bars pass a check without a reference: {found}"
    return f"error bars may be too narrow on this scan: {found}"
