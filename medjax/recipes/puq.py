"""The stages of a `puq` run: the reconstruction network, then the guided fit."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from medjax.data.brains import load_template
from medjax.data.invivo import invivo_batch
from medjax.data.packs import find_pack
from medjax.data.qmri_batches import (
    Population,
    SliceRecord,
    eval_batches,
    train_batches,
)
from medjax.data.simulate import Acquisition, make_protocol
from medjax.models.denoiser import Regressor
from medjax.mri.signal import signal_model
from medjax.mri.subspace import exponential_basis, inversion_recovery_basis
from medjax.recipes.puq_methods import in_order, make_classical
from medjax.recipes.puq_score import INVIVO, make_score
from medjax.runtime.stages import Stage
from medjax.systems import guided_fit, puq
from medjax.systems.optimizer import make_optimizer
from medjax.systems.quantification import (
    Quantity,
    make_evaluate,
    methods_of,
    reference_fit,
)
from medjax.systems.reconstructor import Design
from medjax.types import QmriBatch

# Fitted model and subspace of each contrast; `bounds` of a fit are the config's.
MODELS = {"t2": "t2", "t1": "t1_ir"}
BASES = {"t2": exponential_basis, "t1": inversion_recovery_basis}
_SCHEDULING = ("remat", "unroll")  # of a network; they bear on no number


class Setup(NamedTuple):
    """What both stages have in common."""

    population: Population
    acquisition: Acquisition
    quantity: Quantity
    design: Design
    basis: Float[np.ndarray, "E K"] | None
    regressor: Regressor
    fit: Mapping[str, Any]
    data: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    seed: int
    workdir: Path


def stages(
    *,
    seed: int,
    workdir: Path,
    data: Mapping[str, Any],
    network: Mapping[str, Any],
    train: Mapping[str, Any],
    fit: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    **unused: Mapping[str, Any],
) -> list[Stage]:
    """What `run_stages` runs for the sections of `configs/puq.py`.

    Args:
        seed: of subjects, masks and noise.
        workdir: of the run.
        data: simulated subjects and how they are measured.
        network: `Design`, and the rank and range of its subspace.
        train: of the network: `steps`, `batch`, `optim`.
        fit: of the guided fit: the same, passes, and the regressors' shape.
        evaluation: subjects, methods, intervals.
        unused: `predict` is another mode's.
    """
    del unused
    setup = make_setup(
        seed=seed,
        workdir=workdir,
        data=data,
        network=network,
        fit=fit,
        evaluation=evaluation,
    )
    return [reconstruction_stage(setup, train), fit_stage(setup, fit)]


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


def reconstruction_stage(setup: Setup, options: Mapping[str, Any]) -> Stage:
    """Train the network by its images' squared error."""
    system = puq.build(
        setup.design,
        setup.regressor,
        make_optimizer(steps=options["steps"], **options["optim"]),
        _evaluate(setup, guided=False),
        contrasts=len(setup.quantity.times),
        basis=_device(setup.basis),
    )
    return Stage(
        name="reconstruction",
        system=system,
        source=_training(setup, options, seed=setup.seed),
        steps=options["steps"],
        identity=identity(setup, options),
        show=("loss", "nrmse", "grad_norm"),
        evaluate_every=options["evaluate_every"],
        **_scoring(setup, "reconstruction", limit=options["evaluate_limit"]),
    )


def fit_stage(setup: Setup, options: Mapping[str, Any]) -> Stage:
    """Train the regressors on the frozen network's moments; evaluate every method."""
    system = guided_fit.build(
        setup.design,
        setup.regressor,
        make_optimizer(
            steps=options["steps"] * options["minibatches"], **options["optim"]
        ),
        _evaluate(setup, guided=True),
        partial(reference_fit, setup.quantity),
        contrasts=len(setup.quantity.times),
        basis=_device(setup.basis),
        passes=options["passes"],
        chunk=options["chunk"],
        normalisation=options["normalisation"],
        longest=setup.quantity.longest,
        minibatches=options["minibatches"],
        minibatch=options["minibatch"],
    )
    return Stage(
        name="fit",
        system=system,
        # other draws than the network was trained on
        source=_training(setup, options, seed=setup.seed + 1),
        steps=options["steps"],
        identity=identity(setup, options),
        show=("loss", "rmse_guided_ms", "rmse_plain_ms", "std"),
        **_scoring(setup, "fit", limit=setup.evaluation["limit"]),
    )


def identity(setup: Setup, options: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change when a run resumes."""
    pack = find_pack("nilearn").sha256 if setup.data["source"] == "brains" else None
    design = {k: x for k, x in setup.design._asdict().items() if k not in _SCHEDULING}
    return {
        "data": {**setup.data, "pack": pack},
        "times": list(setup.quantity.times),
        "network": design,
        "bounds": list(setup.quantity.bounds),
        "regressor": [setup.regressor.width, setup.regressor.layers],
        "options": dict(options),
    }


def _device(basis: Float[np.ndarray, "E K"] | None) -> jax.Array | None:
    return None if basis is None else jnp.asarray(basis)


def _training(setup: Setup, options: Mapping[str, Any], *, seed: int) -> Any:
    batch, processes = options["batch"], jax.process_count()
    if batch % processes:
        raise ValueError(f"batch {batch} is not divisible by {processes} processes")
    return train_batches(
        setup.population,
        setup.acquisition,
        subjects=setup.data["subjects"],
        batch=batch // processes,
        seed=seed,
        process_index=jax.process_index(),
        process_count=processes,
    )


def _evaluate(setup: Setup, *, guided: bool) -> Any:
    evaluation, contrast = setup.evaluation, setup.data["contrast"]
    methods = evaluation["methods"] if guided else {}
    return make_evaluate(
        setup.design,
        setup.regressor,
        setup.quantity,
        make_classical(methods, partial(make_basis, contrast, setup.quantity.times)),
        basis=_device(setup.basis),
        passes=evaluation["passes"],
        chunk=evaluation["chunk"],
        normalisation=setup.fit["normalisation"],
        guided=guided,
    )


def _scoring(setup: Setup, name: str, *, limit: int) -> dict[str, Any]:
    evaluation = setup.evaluation
    final = name == "fit"
    methods = in_order(evaluation["methods"]) if final else []

    def batches() -> Iterator[tuple[QmriBatch, list[SliceRecord]]]:
        yield from eval_batches(
            setup.population,
            setup.acquisition,
            part="test" if final else "validation",
            subjects=evaluation["subjects"],
            batch=evaluation["batch"],
            seed=evaluation["seed"],
            limit=limit or None,
        )
        if final and evaluation["invivo"]:
            yield measured_batch(setup, evaluation["invivo"])

    score = make_score(
        name,
        setup.quantity,
        methods_of(methods, guided=final),
        contrast=setup.data["contrast"],
        tissue_below=evaluation["tissue_below"],
        num_samples=evaluation["bootstrap"],
        level=evaluation["level"],
        seed=evaluation["seed"],
    )
    return {"eval_batches": batches, "score": score}


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
