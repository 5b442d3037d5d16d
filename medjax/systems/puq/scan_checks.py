"""Do error bars hold on this scan? What its samples, their halves and its fit say.

How far k-space has a contrast from where the images have it; how far maps of two halves
of the lines differ, in units of what their intervals allow; and how far images are from
the signal model, in units of u. The last two are held against those of simulated slices
whose error bars are known to hold.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.mri.halves import half_lines, half_scores
from medjax.mri.model import SignalModel
from medjax.mri.motion import move_rigid
from medjax.mri.offsets import contrast_offsets
from medjax.systems.puq.calibration import Calibration, calibrated_sd
from medjax.systems.puq.fits import fit_slices
from medjax.systems.puq.joint_tv import Search, TvImages, joint_tv_at, tv_features
from medjax.systems.puq.posterior_maps import image_posterior
from medjax.systems.puq.reconstruction import slice_keys
from medjax.types import Key, QmriBatch

_ENDS = (0.025, 0.5, 0.975)
_FEWEST = 50  # voxels of a slice, below which it is not judged
# Of u, that the offsets of contrasts change images by. On validation subjects intervals
# covered 0.91 or more at 0.107 and less, 0.88 or less at 0.113 and more.
_MOVED = 0.11
# Of that change in the power: above, one contrast alone lies elsewhere. On validation
# subjects it had 0.80 or more there, 0.66 or less where several moved together.
_ALONE = 0.75
_SURE = 5.0  # deviations that noise makes of an offset: below, it is none
_MANY = 0.9  # quantile over slices: motion in fewer than a tenth of them is not told


class Checks(NamedTuple):
    """What tells without a reference whether a slice's error bars hold."""

    spread: Float[Array, "B"]  # of two halves, see `half_scores`
    misfit: Float[Array, "B"]  # median of what the model leaves, over u
    count: Float[Array, "B"]  # voxels with an interval in both halves
    # Of `contrast_offsets`, pixels: along rows, along columns, and along a circle about
    # the centre whose radius is a quarter of the longer side; and what noise makes
    offset: Float[Array, "B E 3"]
    offset_sd: Float[Array, "B E 3"]
    moved: Float[Array, "B E"]  # what offsets change images by, over u; its RMS


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
    """What halves of the lines differ by, what the model leaves, where contrasts lie.

    Either half is reconstructed at the weight of the whole scan, and its u is that of
    its own features and acceleration, with the held-out level of the whole scan. The
    spread is that of `half_scores` of their medians. The misfit is the residual of a
    least-squares fit over u, both of the whole scan. Offsets are those of the samples
    against the images of the whole scan; those of 5 deviations and more move them, and
    what changes is held against u.

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
    u = error(found, batch.mask)
    ratio = fit.residual / u
    ratio = jnp.where(where & jnp.isfinite(ratio), ratio, jnp.nan)
    middle = jnp.nanmedian(ratio.reshape(len(ratio), -1), axis=-1)
    offsets = contrast_offsets(batch.kspace, found.images, batch.sens, batch.mask)
    radius = max(size[-2:]) / 4
    offset, offset_sd = (
        jnp.concatenate([shift, radius * angle[..., None]], -1)
        for shift, angle in (
            (offsets.shift, offsets.angle),
            (offsets.shift_sd, offsets.angle_sd),
        )
    )
    sure = (jnp.abs(offset) > _SURE * offset_sd).any(-1, keepdims=True)
    taken = jnp.where(sure, offset, 0)
    there = move_rigid(found.images, taken[..., :2], taken[..., 2] / radius)
    change = jnp.square((there - found.images) / u[:, None])
    counted = where[:, None] & jnp.isfinite(change)
    total = jnp.sum(jnp.where(counted, change, 0), axis=(-2, -1))
    moved = jnp.sqrt(total / counted.sum((-2, -1), dtype=total.dtype))
    return Checks(scores.spread, middle, scores.count, offset, offset_sd, moved)


class Verdict(NamedTuple):
    """What one check says of a scan."""

    check: str  # "motion", "halves" or "model"
    value: float  # of the scan; NaN: no slice could be judged
    low: float  # what scans have whose error bars hold
    high: float
    what: str = ""  # of motion: which contrast lies where
    alone: bool = False  # of motion: whether that contrast makes nearly all of it

    @property
    def holds(self) -> bool:
        """Whether the value is not above what is usual, or none is known.

        One below is no warning: noise that both halves' regulariser takes out makes
        small spreads of scans whose error bars hold.
        """
        return bool(np.isnan(self.value)) or self.value <= self.high

    @property
    def narrow(self) -> bool:
        """Whether it says that error bars are too narrow.

        A misfit of the model does not: intervals hold the time constant of the model's
        fit all the same, as with a second pool of the tissue. Nor does one contrast
        that lies elsewhere alone: what it costs shows in u.
        """
        return not self.holds and self.check != "model" and not self.alone


def judge_scan(
    calibration: Calibration, checks: Checks, *, acceleration: float
) -> tuple[Verdict, ...]:
    """Hold a scan's slices against simulated ones whose error bars hold.

    Args:
        calibration: Its `spreads` and `misfits` are what is usual; without them halves
            and model are not judged.
        checks: NumPy arrays of all slices, those of `check_slices` one behind the
            other; slices with a count below 50 are left out.
        acceleration: R of the whole scan, 1 / sampled share; beyond the calibration's
            the ends are those of the nearest.

    Returns:
        The verdict of motion: the 90 % quantile over slices of what offsets of
        contrasts change images by, root mean square of all contrasts, usual up to 0.11
        of u. Then those of halves and model, medians over slices, as far as the
        calibration has what is usual.
    """
    usable = np.asarray(checks.count) >= _FEWEST
    verdicts = [_motion(checks, usable)]
    places = np.log(calibration.accelerations)
    for check, values, usual in (
        ("halves", checks.spread, calibration.spreads),
        ("model", checks.misfit, calibration.misfits),
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


def _motion(checks: Checks, usable: Bool[np.ndarray, "Z"]) -> Verdict:
    """Of the slice that is at the quantile, with its farthest contrast."""
    power = np.square(np.asarray(checks.moved, np.float64))
    moved = np.sqrt(power.mean(-1))
    places = np.flatnonzero(usable & np.isfinite(moved))
    if not places.size:
        return Verdict("motion", float("nan"), 0.0, _MOVED)
    value = float(np.quantile(moved[places], _MANY, method="higher"))
    z = int(places[np.flatnonzero(moved[places] == value)[0]])
    offset = np.asarray(checks.offset, np.float64)[z]
    far = np.sqrt(np.square(offset).sum(-1))
    e = int(np.where(np.isnan(far), 0, far).argmax())
    rows, columns, turn = offset[e]
    what = (
        f"contrast {e}: {rows:+.2f} pixel along rows, {columns:+.2f} along columns, "
        f"{turn:+.2f} by a turn, at a quarter of the side from the centre"
    )
    alone = bool(power[z].max() > _ALONE * power[z].sum())
    return Verdict("motion", value, 0.0, _MOVED, what, alone)


def verdict_text(verdict: Verdict) -> str:
    """One line for a person: what a check says, and what is usual.

    Args:
        verdict: Of a scan.
    """
    what = {
        "motion": "samples have contrasts elsewhere than the images of all of them, "
        "which changes these by {} of their uncertainty",
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
    if verdict.check == "model":
        return (
            f"the signal model does not hold on this scan: {found}. Error bars are of "
            "its time constant, and of nothing beside it, such as a second pool"
        )
    if verdict.alone:
        return (
            f"one contrast moved: {found}. It is {verdict.what}. Error bars have grown "
            "with it; without that contrast they would be narrower"
        )
    if verdict.check == "motion":
        found += (
            f". The farthest is {verdict.what}. Contrasts moved by more than that: "
            "images that are tied together take up most of it"
        )
    return f"error bars may be too narrow on this scan: {found}"
