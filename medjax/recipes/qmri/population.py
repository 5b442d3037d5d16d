"""The simulated subjects of a `puq` run, their measurement, and a measured slice."""

from typing import NamedTuple

import jax
import numpy as np

from medjax.data.qmri.batches import Population, SliceRecord
from medjax.data.qmri.brains import load_template
from medjax.data.qmri.invivo import INVIVO, invivo_batch
from medjax.data.qmri.simulate import Acquisition, make_protocol
from medjax.recipes.qmri.calibrated import load_calibration, shipped
from medjax.recipes.qmri.options import Data, Evaluation, Fit, Network, define
from medjax.recipes.qmri.setup import make_estimator
from medjax.systems.puq.calibration import Calibration
from medjax.systems.puq.categorical import FEWEST_BINS
from medjax.systems.puq.network import Estimator, Extras
from medjax.types import QmriBatch


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
        estimator=make_estimator(define(data, network, fit))._replace(
            extras=_make_extras(fit)
        ),
    )


def _make_extras(fit: Fit) -> Extras:
    density, factor = fit.categorical, fit.calibration
    if density.bins and (
        density.bins < FEWEST_BINS or density.width < 1 or not density.pace > 0
    ):
        raise ValueError(
            f"fit.categorical: bins {density.bins}, width {density.width}, pace "
            f"{density.pace}: expected {FEWEST_BINS} bins or more (0 for none), of a "
            "width of 1 or more and a pace above 0"
        )
    return Extras(density.bins, density.width, factor.factors if factor.slices else ())


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


def known_calibration(setup: Setup) -> Calibration | None:
    """What is shipped of joint TV's uncertainty for the contrast; None for nothing."""
    contrast = setup.data.contrast
    if not shipped(contrast, "joint TV").is_file():
        return None
    return load_calibration(contrast, "joint TV")
