"""What the stages of a `puq` run and its predictions share, made from a config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from medjax.data.qmri.batches import Population, SliceRecord
from medjax.data.qmri.brains import load_template
from medjax.data.qmri.invivo import invivo_batch
from medjax.data.qmri.simulate import Acquisition, make_protocol
from medjax.models.denoiser import Regressor
from medjax.mri.signals import signal_model
from medjax.mri.subspace import exponential_basis, inversion_recovery_basis
from medjax.recipes.qmri.score import INVIVO
from medjax.systems.puq.maps import Quantity
from medjax.systems.puq.network import Design
from medjax.types import QmriBatch

# Fitted model and subspace of each contrast; `bounds` of a fit are the config's.
MODELS = {"t2": "t2", "t1": "t1_ir"}
BASES = {"t2": exponential_basis, "t1": inversion_recovery_basis}


class Setup(NamedTuple):
    """What both stages have in common."""

    population: Population
    acquisition: Acquisition
    quantity: Quantity
    design: Design
    basis: Float[np.ndarray, "E K"] | None
    subspace: Mapping[str, Any]  # the options that the basis was made with
    regressor: Regressor
    fit: Mapping[str, Any]
    data: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    seed: int
    workdir: Path


def make_setup(
    *,
    seed: int,
    workdir: Path,
    data: Mapping[str, Any],
    network: Mapping[str, Any],
    fit: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> Setup:
    """Load the template, and make everything that has no parameters."""
    protocol = make_protocol(data["contrast"], tuple(data["times"]) or None)
    population = Population(
        template=load_template(data["source"]),
        seed=seed,
        size=data["size"],
        field=data["field"],
        lesion_share=data["lesion_share"],
        time_spread=data["time_spread"],
    )
    acquisition = Acquisition(
        protocol=protocol,
        coils=data["coils"],
        mask=data["mask"],
        accelerations=tuple(data["accelerations"]),
        center_fraction=data["center_fraction"],
        snr=tuple(data["snr"]),
    )
    design, basis = make_design(network, data["contrast"], protocol.times)
    return Setup(
        population=population,
        acquisition=acquisition,
        quantity=make_quantity(data["contrast"], protocol.times, fit["bounds"]),
        design=design,
        basis=basis,
        subspace=network["subspace"],
        regressor=Regressor(fit["width"], fit["layers"]),
        fit=fit,
        data=data,
        evaluation=evaluation,
        seed=seed,
        workdir=workdir,
    )


def make_quantity(contrast: str, times: tuple[float, ...], bounds: Any) -> Quantity:
    """The model that is fitted."""
    low, high = bounds
    return Quantity(signal_model(MODELS[contrast]), times, (float(low), float(high)))


def make_basis(
    contrast: str, times: tuple[float, ...], options: Mapping[str, Any]
) -> Float[np.ndarray, "E K"]:
    """A subspace of the signal model; `options`: rank, low, high, atoms."""
    basis = BASES[contrast](np.array(times), **options)
    return basis.astype(np.float32)


def make_design(
    network: Mapping[str, Any], contrast: str, times: tuple[float, ...]
) -> tuple[Design, Float[np.ndarray, "E K"] | None]:
    """The network, and the subspace it works in where its rank is not 0."""
    options = dict(network)
    subspace = options.pop("subspace")
    if not subspace["rank"]:
        return Design(channels=len(times), **options), None
    return (
        Design(channels=subspace["rank"], **options),
        make_basis(contrast, times, subspace),
    )


def measured_batch(setup: Setup, path: str) -> tuple[QmriBatch, list[SliceRecord]]:
    """A measured slice, undersampled as the simulated ones first are; see `invivo`.

    Raises:
        ValueError: it was measured at other times than the network learns.
    """
    acceleration = float(setup.acquisition.accelerations[0])
    batch, reference = invivo_batch(path, acceleration=acceleration)
    if not np.allclose(reference.times, setup.quantity.times, rtol=0, atol=1e-6):
        raise ValueError(
            f"{path}: times {reference.times} s; expected those of the run, "
            f"{setup.quantity.times} s: --config.data.times"
        )
    rows = jax.device_count()  # a batch has to spread over the devices
    repeated = QmriBatch(*(np.repeat(array, rows, axis=0) for array in batch))
    roi = batch.roi[0]
    record = SliceRecord(
        sample_id=0,
        subject=INVIVO,
        slice=0,
        contrast=setup.data["contrast"],
        acceleration=acceleration,
        sampled=float(batch.mask.mean()),
        snr=float("nan"),
        noise=float("nan"),
        fractions=np.zeros((3, *roi.shape), np.float16),
        lesion=np.zeros_like(roi),
    )
    return repeated._replace(valid=np.arange(rows) == 0), [record]
