"""Simulated slices, reconstructed, with the true error of every voxel."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.data.qmri.batches import SliceRecord, eval_batches
from medjax.recipes.qmri.joint_tv import tv_images
from medjax.recipes.qmri.methods import tv_scales, tv_search
from medjax.recipes.qmri.options import Calibrate, Predict
from medjax.recipes.qmri.population import Setup
from medjax.recipes.qmri.setup import make_basis
from medjax.runtime.progress import progress
from medjax.systems.puq.fits import fit_images
from medjax.systems.puq.joint_tv import (
    NETWORK_FEATURES,
    TV_FEATURES,
    Search,
    TvImages,
    network_features,
    tv_features,
)
from medjax.systems.puq.network import check_dropout
from medjax.systems.puq.reconstruction import image_moments
from medjax.types import Key, Params, QmriBatch


class Images(NamedTuple):
    """Reconstructed slices, what tells their errors, and the errors."""

    found: TvImages  # of joint TV, also where a network's images are judged
    images: Float[Array, "B E H W"]
    features: dict[str, Float[Array, "B H W"]]
    error: Float[Array, "B H W"]  # sqrt(mean_e |x_e - target_e|^2)
    reference: Float[Array, "B H W"]  # s: of a fit of the noiseless images


class Slice(NamedTuple):
    """One slice of `Images` on the host, and what it was made from."""

    made: Images  # without B
    roi: Bool[np.ndarray, "H W"]
    record: SliceRecord

    @property
    def acceleration(self) -> float:
        """1 / sampled share."""
        return 1 / self.record.sampled


class Regularisation(NamedTuple):
    """How joint TV is made."""

    basis: Float[Array, "E K"]
    scales: Float[Array, "K"]
    search: Search


Make = Callable[[QmriBatch, Key], Images]


def make_regularisation(setup: Setup, options: Predict) -> Regularisation:
    """Joint TV as `predict.default` names it, for simulated subjects.

    Args:
        setup: The contrast, its times, and the centre of k-space that is kept.
        options: The method, its subspace and weights.

    Raises:
        ValueError: The default is another kind of method, or has no subspace.
    """
    name, data = options.default, setup.data
    method = options.methods.get(name)
    if method is None or method.kind != "joint_tv" or not method.subspace:
        raise ValueError(
            f"predict.default {name!r}: expected a method of the kind 'joint_tv' with "
            "a subspace, whose error bars are calibrated"
        )
    times = setup.estimator.quantity.times
    basis = jnp.asarray(make_basis(data.contrast, times, method.subspace))
    search = tv_search(name, method, round(data.size * data.center_fraction))
    return Regularisation(basis, jnp.asarray(tv_scales(method), basis.dtype), search)


def tv_maker(setup: Setup, how: Regularisation) -> tuple[Make, tuple[str, ...]]:
    """Images and features of joint TV, and the features' names in order.

    Args:
        setup: The coils, and the quantity whose reference is fitted.
        how: The reconstruction.
    """
    joint_tv = partial(tv_images, **how._asdict())

    @jax.jit
    def make(batch: QmriBatch, key: Key) -> Images:
        found = joint_tv(batch, key)
        features = tv_features(found, coils=setup.data.coils)
        return _judged(setup, found, found.images, features, batch)

    return make, TV_FEATURES


def network_maker(
    setup: Setup, how: Regularisation, params: Params
) -> tuple[Make, tuple[str, ...]]:
    """Images and features of a network, and the features' names in order.

    Args:
        setup: The network, and the passes with dropout of its evaluation.
        how: Of joint TV, whose difference to the network's images is a feature.
        params: Of the network.

    Raises:
        ValueError: The network has no dropout, or fewer than 2 passes are asked for.
    """
    evaluation = setup.evaluation
    check_dropout(setup.estimator.design, passes=evaluation.passes)
    joint_tv = partial(tv_images, **how._asdict())

    @jax.jit
    def make(batch: QmriBatch, key: Key) -> Images:
        lines, draws = jax.random.split(key)
        found = joint_tv(batch, lines)
        passes = {"passes": evaluation.passes, "chunk": evaluation.chunk}
        network = params["network"]
        mean, std = image_moments(setup.estimator, network, batch, draws, **passes)
        features = network_features(mean, std, found, coils=setup.data.coils)
        return _judged(setup, found, mean, features, batch)

    return make, NETWORK_FEATURES


def slice_batches(
    setup: Setup, options: Calibrate, part: str, limit: int
) -> Iterator[tuple[QmriBatch, list[SliceRecord], Key]]:
    """Batches of a part's slices, with records and a key each; a line tells how far.

    Args:
        setup: The population, and how it is measured.
        options: Subjects, slices a batch, and signal-to-noise ratios.
        part: "train", an equal share of it at each of the ratios, or "validation",
            measured as the setup says.
        limit: Slices in all, up to one more for each ratio.
    """
    levels = options.snr if part == "train" else ()
    parts = [setup.acquisition._replace(snr=(x, x)) for x in levels]
    parts = parts or [setup.acquisition]
    each = -(-limit // len(parts))
    total, key = len(parts) * -(-each // options.batch), jax.random.key(setup.seed)
    step = 0
    with progress(f"calibrate, {part}", first=0, total=total, show=()) as report:
        for number, acquisition in enumerate(parts):
            batches = eval_batches(
                setup.population,
                acquisition,
                part=part,
                subjects=options.subjects,
                batch=options.batch,
                seed=setup.seed + number,
                limit=each,
            )
            for batch, records in batches:
                yield batch, records, jax.random.fold_in(key, step)
                step += 1
                report.step(step, {})


def reconstructed(
    setup: Setup, options: Calibrate, make: Make, part: str, limit: int
) -> Iterator[Slice]:
    """The slices of `slice_batches`, one by one.

    Args:
        setup: Likewise.
        options: Likewise.
        make: Reconstructs a batch.
        part: Likewise.
        limit: Likewise.
    """
    for batch, records, key in slice_batches(setup, options, part, limit):
        made = jax.device_get(make(batch, key))
        for row, record in enumerate(records):  # rows that fill up come last
            one = jax.tree.map(lambda x, row=row: x[row], made)
            yield Slice(one, np.asarray(batch.roi[row]), record)


def _judged(
    setup: Setup,
    found: TvImages,
    images: Float[Array, "B E H W"],
    features: dict[str, Array],
    batch: QmriBatch,
) -> Images:
    quantity = setup.estimator.quantity
    error = jnp.sqrt(jnp.square(images - batch.target).mean(1))
    reference = fit_images(quantity, batch.target)
    time = reference.params[quantity.model.time_constant]
    return Images(found, images, features, error, time)
