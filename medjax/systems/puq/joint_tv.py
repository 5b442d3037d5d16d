"""Joint total variation at the weight that held-out lines choose, and its features."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from medjax.mri.far_samples import far_noise
from medjax.mri.held_out import Held, held_out_misfit, hold_out_lines
from medjax.mri.readout import middle_third, readout_rows
from medjax.mri.total_variation import joint_tv_sense
from medjax.mri.uncertainty import (
    change_level,
    gradient_level,
    held_out_level,
    rms_level,
)
from medjax.mri.weight_search import least_misfit
from medjax.systems.puq.network import image_scale
from medjax.types import Key

TV_FEATURES = ("gradient", "doubling", "held_out")
NETWORK_FEATURES = ("gradient", "dropout", "difference", "held_out")


EXTENSIONS = 5  # times more weights may be tried, see `held_out_weight`


class Search(NamedTuple):
    """How the weight of a scan is found, and its images; all but `weights` static."""

    weights: tuple[float, ...]  # rising, for images of about 1
    share: float  # of the outer lines, held out
    center: int  # lines in the middle that are never held out
    iterations: int
    inner: int
    draws: int = 1  # of lines; the weight is that which predicts all of them best
    part: bool = False  # whether weights are tried on the `middle_third` of the rows


class TvImages(NamedTuple):
    """What a fit guided by its own error needs."""

    images: Float[Array, "B E H W"]  # at the weight, real, in the unit of k-space
    doubled: Float[Array, "B E H W"]  # at twice the weight
    weight: Float[Array, "B"]  # for images of about 1
    misfit: Float[Array, "B"]  # of held-out samples, in the unit of k-space squared
    interior: Bool[Array, "B"]  # False: the weight is the last that was tried
    noise: Float[Array, "B"]  # of k-space, see `far_noise`


@partial(jax.jit, static_argnames=("search", "constraint"))
def joint_tv_images(
    kspace: Complex[Array, "B E C H W"],
    sens: Complex[Array, "B C H W"],
    mask: Bool[Array, "B E #H W"],
    key: Key,
    *,
    basis: Float[Array, "E K"] | None,
    scales: Float[Array, "K"] | None,
    search: Search,
    constraint: str = "real",
    phase: Float[Array, "B #E H W"] | None = None,
) -> TvImages:
    """Images of `joint_tv_sense` at the weight of `held_out_weight`, and at twice that.

    Args:
        kspace: In any unit; 0 where not sampled.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object.
        mask: Where k-space is sampled. A contrast with one line outside the centre
            holds it out; a slice in which no contrast has one gets NaN.
        key: One typed key; decides which lines are held out, the same for all slices.
        basis: Of a subspace, or None for contrasts as they are.
        scales: Of its components; None for 1.
        search: The weights, and how images are made; static.
        constraint: "real" or "phase", see `joint_tv_sense`; static.
        phase: In radians, for "phase" alone.

    Returns:
        Images, weight and misfit; those of each slice are its own.
    """
    scale = image_scale(kspace, sens)
    scaled = kspace / scale[:, None].astype(kspace.dtype)
    reconstruct = partial(
        joint_tv_sense,
        iterations=search.iterations,
        inner=search.inner,
        basis=basis,
        scales=scales,
        constraint=constraint,
    )
    keys = key[None] if search.draws == 1 else jax.random.split(key, search.draws)
    hold = partial(hold_out_lines, mask, share=search.share, center=search.center)
    drawn = jax.vmap(hold)(keys)
    part, maps, angles = scaled, sens, phase
    start, rows = middle_third(mask, kspace.shape[-2]) if search.part else (0, None)
    if rows is not None and rows < kspace.shape[-2]:
        part = readout_rows(scaled, start=start, rows=rows)
        maps = sens[..., start : start + rows, :]
        angles = None if phase is None else phase[..., start : start + rows, :]

    def misfit(weight: Array) -> Array:
        def of_draw(lines: Held) -> Array:
            images = reconstruct(part, maps, lines.kept, weight=weight, phase=angles)
            return held_out_misfit(images, part, maps, lines.held, phase=angles)

        return jax.lax.map(of_draw, drawn).mean(0)

    tried = jnp.asarray(search.weights, jnp.real(kspace).dtype)
    tried = jnp.broadcast_to(tried[:, None], (len(tried), len(kspace)))
    found = least_misfit(misfit, tried, extensions=EXTENSIONS)
    images, doubled = (
        scale
        * reconstruct(scaled, sens, mask, weight=factor * found.weight, phase=phase)
        for factor in (1, 2)
    )
    power = found.misfit.min(0) * jnp.square(scale.reshape(-1))
    noise = far_noise(kspace, mask)
    return TvImages(images, doubled, found.weight, power, found.interior, noise)


def joint_tv_at(
    kspace: Complex[Array, "B E C H W"],
    sens: Complex[Array, "B C H W"],
    mask: Bool[Array, "B E #H W"],
    *,
    weight: Float[Array, "B"],
    basis: Float[Array, "E K"] | None,
    scales: Float[Array, "K"] | None,
    search: Search,
) -> tuple[Float[Array, "B E H W"], Float[Array, "B E H W"]]:
    """Real images of some of a scan's lines, at a weight that is known and at twice it.

    Args:
        kspace: Of the whole scan, whose scale that of the weight is; in any unit.
        sens: sum_c |S_c|^2 = 1, or 0 outside the object.
        mask: The lines to use, of those that are sampled.
        weight: Of each slice, for images of about 1, as `joint_tv_images` gives it.
        basis: As there.
        scales: As there.
        search: How images are made; weights and share are not read. Static.

    Returns:
        Two times real images, in the unit of k-space.
    """
    scale = image_scale(kspace, sens).reshape(-1)
    images, doubled = (
        joint_tv_sense(
            kspace,
            sens,
            mask,
            weight=factor * weight * scale,
            iterations=search.iterations,
            inner=search.inner,
            basis=basis,
            scales=scales,
            constraint="real",
        )
        for factor in (1, 2)
    )
    return images, doubled


def tv_features(found: TvImages, *, coils: int) -> dict[str, Float[Array, "B H W"]]:
    """The features of `TV_FEATURES`, in the unit of the images, for `calibrated_sd`.

    Noise as the farthest samples show it is taken off the held-out level: what is left
    is the images' own error at any noise.

    Args:
        found: Of `joint_tv_images`.
        coils: C, the number of coils with sum_c |S_c|^2 = 1.
    """
    gradient = gradient_level(found.images)
    held = held_out_level(found.misfit, noise=found.noise, coils=coils)
    return {
        "gradient": gradient,
        "doubling": change_level(found.images, found.doubled),
        "held_out": jnp.broadcast_to(held[:, None, None], gradient.shape),
    }


def network_features(
    mean: Float[Array, "B E H W"],
    std: Float[Array, "B E H W"],
    found: TvImages,
    *,
    coils: int,
) -> dict[str, Float[Array, "B H W"]]:
    """The features of `NETWORK_FEATURES`, of a network's images, for `calibrated_sd`.

    Args:
        mean: Of the passes with dropout, in the unit of k-space.
        std: Their deviation; 0 all over a slice if there was no dropout: u is then 0.
        found: Of `joint_tv_images` on the same slices; the difference to its images is
            a feature, and the level that its held-out lines show.
        coils: C, the number of coils with sum_c |S_c|^2 = 1.
    """
    features = tv_features(found, coils=coils)
    return {
        "gradient": gradient_level(mean),
        "dropout": rms_level(std),
        "difference": change_level(mean, found.images),
        "held_out": features["held_out"],
    }
