"""What the stages of a `puq` run and its predictions share, made from a config."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from medjax.data.qmri.batches import Population, SliceRecord
from medjax.data.qmri.brains import load_template
from medjax.data.qmri.invivo import INVIVO, invivo_batch
from medjax.data.qmri.simulate import Acquisition, make_protocol
from medjax.mri.signals import signal_model
from medjax.mri.subspace import exponential_basis, inversion_recovery_basis
from medjax.recipes.qmri.options import (
    Data,
    Definition,
    Evaluation,
    Fit,
    Network,
    Subspace,
    define,
)
from medjax.systems.puq.network import Design, Estimator, Quantity, Regressor
from medjax.types import QmriBatch

# Fitted model and subspace of each contrast; `bounds` of a fit are the config's.
MODELS = {"t2": "t2", "t1": "t1_ir"}
BASES = {"t2": exponential_basis, "t1": inversion_recovery_basis}


class Setup(NamedTuple):
    """What both stages of a run have in common."""

    data: Data
    network: Network
    evaluation: Evaluation
    seed: int  # of subjects, masks and noise
    population: Population
    acquisition: Acquisition
    estimator: Estimator


def make_setup(
    *, seed: int, data: Data, network: Network, fit: Fit, evaluation: Evaluation
) -> Setup:
    """Load the template, and make everything that has no parameters.

    Args:
        seed: Decides the subjects, their masks and noise, 0 or more.
        data: Where the template comes from, and how subjects are measured.
        network: The network that both stages share.
        fit: The regressors, and the bounds of the fit.
        evaluation: It is handed on as it is.

    Raises:
        ValueError: The source is unknown, or what `make_protocol` and `make_estimator`
            raise.
    """
    population = Population(
        template=load_template(data.source),
        seed=seed,
        size=data.size,
        field=data.field,
        lesion_share=data.lesion_share,
        time_spread=data.time_spread,
    )
    acquisition = Acquisition(
        protocol=make_protocol(data.contrast, data.times or None),
        coils=data.coils,
        mask=data.mask,
        accelerations=data.accelerations,
        center_fraction=data.center_fraction,
        snr=data.snr,
    )
    return Setup(
        data=data,
        network=network,
        evaluation=evaluation,
        seed=seed,
        population=population,
        acquisition=acquisition,
        estimator=make_estimator(define(data, network, fit)),
    )


def make_estimator(definition: Definition) -> Estimator:
    """The network in its subspace, the regressors, and the quantity they are for.

    Raises:
        ValueError: The times are no protocol of the contrast, or the range or rank of
            the subspace makes no basis.
    """
    (contrast, times), network, fit = definition
    times = make_protocol(contrast, times or None).times
    options = network._asdict()
    subspace = options.pop("subspace")
    basis = make_basis(contrast, times, subspace) if subspace.rank else None
    low, high = fit.bounds
    return Estimator(
        design=Design(channels=subspace.rank or len(times), **options),
        basis=None if basis is None else jnp.asarray(basis),
        regressor=Regressor(fit.width, fit.layers),
        normalisation=fit.normalisation,
        quantity=Quantity(
            signal_model(MODELS[contrast]), times, (float(low), float(high))
        ),
    )


def make_basis(
    contrast: str, times: tuple[float, ...], subspace: Subspace
) -> Float[np.ndarray, "E K"]:
    """An orthonormal basis of the contrast's signal curves, as float32.

    Args:
        contrast: One of "t2" and "t1".
        times: The E echo or inversion times in seconds.
        subspace: The range of the curves' time constants, and K, its rank, 1 or more.

    Raises:
        ValueError: The times, the range or the rank make no basis.
    """
    basis = BASES[contrast](np.array(times), **subspace._asdict())
    return basis.astype(np.float32)


def measured_batch(setup: Setup, path: str) -> tuple[QmriBatch, list[SliceRecord]]:
    """A measured slice, undersampled as the simulated ones first are; see `invivo`.

    Args:
        setup: Its first acceleration is that of the masks.
        path: The npz file of the slice.

    Returns:
        A batch with a row for each device, of which the first alone is valid, and the
        record of that row.

    Raises:
        ValueError: The slice was measured at other times than the network learns.
    """
    acceleration = float(setup.acquisition.accelerations[0])
    batch, reference = invivo_batch(path, acceleration=acceleration)
    times = setup.estimator.quantity.times
    if not np.allclose(reference.times, times, rtol=0, atol=1e-6):
        raise ValueError(
            f"{path}: times {reference.times} s; expected those of the run, "
            f"{times} s: --config.data.times"
        )
    rows = jax.device_count()  # a batch has to spread over the devices
    repeated = QmriBatch(*(np.repeat(array, rows, axis=0) for array in batch))
    roi = batch.roi[0]
    record = SliceRecord(
        sample_id=0,
        subject=INVIVO,
        slice=0,
        contrast=setup.data.contrast,
        acceleration=acceleration,
        sampled=float(batch.mask.mean()),
        snr=float("nan"),
        noise=float("nan"),
        fractions=np.zeros((3, *roi.shape), np.float16),
        lesion=np.zeros_like(roi),
    )
    return repeated._replace(valid=np.arange(rows) == 0), [record]
