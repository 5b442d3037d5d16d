"""The stages of a `puq` run: the reconstruction network, then the guided fit."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from medjax.data.qmri.batches import SliceRecord, eval_batches, train_batches
from medjax.data.volumes.atlas import TEMPLATE
from medjax.recipes.qmri.methods import in_order, make_classical
from medjax.recipes.qmri.score import make_score
from medjax.recipes.qmri.setup import Setup, make_basis, make_setup, measured_batch
from medjax.runtime.stages import Stage
from medjax.systems.optimizer import make_optimizer
from medjax.systems.puq import guided_fit, reconstruction
from medjax.systems.puq.maps import make_evaluate, methods_of, reference_fit
from medjax.types import QmriBatch

_SCHEDULING = ("remat", "unroll")  # of a network; they bear on no number


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


def reconstruction_stage(setup: Setup, options: Mapping[str, Any]) -> Stage:
    """Train the network by its images' squared error."""
    system = reconstruction.build(
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
    pack = TEMPLATE.sha256 if setup.data["source"] == "brains" else None
    design = {k: x for k, x in setup.design._asdict().items() if k not in _SCHEDULING}
    return {
        "data": {**setup.data, "pack": pack},
        "times": list(setup.quantity.times),
        "network": design,
        "subspace": dict(setup.subspace),
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
    people, slices = evaluation["subjects"], len(setup.population.template.slices)
    rows = people * slices * len(setup.acquisition.accelerations)
    total = -(-min(rows, limit or rows) // evaluation["batch"])
    total += bool(final and evaluation["invivo"])
    return {"eval_batches": batches, "eval_total": total, "score": score}
