"""The stages of a `puq` run: the network, its uncertainty's size, the guided fit."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
import optax

from medjax.data.qmri.batches import SliceRecord, eval_batches, train_batches
from medjax.data.volumes.atlas import TEMPLATE
from medjax.recipes.policy.live import live_page
from medjax.recipes.policy.training_story import supervised_story
from medjax.recipes.qmri.joint import KIND
from medjax.recipes.qmri.methods import in_order, make_classical
from medjax.recipes.qmri.options import (
    SCHEDULING,
    Adam,
    Data,
    Evaluation,
    Fit,
    Muon,
    Network,
    Train,
)
from medjax.recipes.qmri.population import (
    Setup,
    known_calibration,
    make_setup,
    measured_batch,
)
from medjax.recipes.qmri.score import score_stage
from medjax.recipes.qmri.score_trust import PROBABILITIES
from medjax.recipes.qmri.setup import make_basis
from medjax.recipes.sections import plain, read_section
from medjax.runtime.naming import differences
from medjax.runtime.processes import rows_per_process
from medjax.runtime.stages import Stage
from medjax.systems.optimizer import make_optimizer
from medjax.systems.puq import dropout_factor, guided_fit, reconstruction
from medjax.systems.puq.fits import reference_fit
from medjax.systems.puq.maps import evaluate_maps, methods_of
from medjax.systems.puq.network import Extras
from medjax.types import QmriBatch


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
        seed: Decides subjects, masks and noise; the guided fit draws from `seed` + 1,
            the slices that size its uncertainty from `seed` + 2.
        workdir: Not read here: what a stage writes goes where `run_stages` says.
        data: Section of the config: subjects, and how they are measured.
        network: Section of the config: the network that both stages share.
        train: Section of the config: how the network is trained.
        fit: Section of the config: the regressors, and how they are trained.
        evaluation: Section of the config: the subjects held out, and the methods
            compared.
        unused: Sections of the config that another mode reads.

    Raises:
        ValueError: An option is unknown, missing, or of a value that does not fit.
    """
    del workdir, unused
    regressors = read_section(Fit, "fit", fit)
    setup = make_setup(
        seed=seed,
        data=read_section(Data, "data", data),
        network=read_section(Network, "network", network),
        fit=regressors,
        evaluation=read_section(Evaluation, "evaluation", evaluation),
    )
    training = read_section(Train, "train", train)
    chain = [reconstruction_stage(setup, training)]
    if regressors.calibration.slices:
        chain.append(calibration_stage(setup, regressors))
    return [*chain, fit_stage(setup, regressors)]


def reconstruction_stage(setup: Setup, options: Train) -> Stage:
    """The stage that trains the network by its images' squared error.

    It is evaluated on subjects of the validation part.

    Args:
        setup: What both stages have in common.
        options: Steps, batch and optimiser.
    """
    system = reconstruction.build(
        setup.estimator,
        _optimizer(options.optim, steps=options.steps),
        _evaluate(setup, guided=False),
    )
    stage = Stage(
        name="reconstruction",
        system=system,
        source=_training(setup, batch=options.batch, seed=setup.seed),
        steps=options.steps,
        identity=identity(setup, options),
        show=("loss", "nrmse", "grad_norm"),
        evaluate_every=options.evaluate_every,
    )
    return _scored(
        stage, setup, part="validation", limit=options.evaluate_limit, methods=[]
    )


def calibration_stage(setup: Setup, options: Fit) -> Stage:
    """The stage that finds by what factor dropout's deviation falls short.

    It counts on slices of the validation part how many voxels lie in the posterior's
    interval, with the evaluation's passes, and trains nothing.

    Args:
        setup: What all stages have in common.
        options: `calibration` says how many slices, which coverage and which factors.

    Raises:
        ValueError: The slices, the coverage or the factors are out of their range.
    """
    chosen, evaluation = options.calibration, setup.evaluation
    factors = chosen.factors
    rising = all(a < b for a, b in zip(factors, factors[1:], strict=False))
    if len(factors) < 2 or not rising or not factors[0] > 0:
        raise ValueError(
            f"fit.calibration.factors {factors}: expected 2 or more that rise from "
            "above 0"
        )
    if chosen.slices < 0 or not 0 < chosen.coverage < 1:
        raise ValueError(
            f"fit.calibration: slices {chosen.slices}, coverage {chosen.coverage}: "
            "expected 1 or more slices (0 for none) and a coverage between 0 and 1"
        )
    system = dropout_factor.build(
        setup.estimator,
        _evaluate(setup, guided=False),
        partial(reference_fit, setup.estimator.quantity),
        dropout_factor.Counting(chosen.coverage, evaluation.passes, evaluation.chunk),
    )
    source = train_batches(
        setup.population,
        setup.acquisition,
        subjects=evaluation.subjects,
        batch=rows_per_process(evaluation.batch),
        seed=setup.seed + 2,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        part="validation",
    )
    return Stage(
        name="calibration",
        system=system,
        source=source,
        steps=-(-chosen.slices // evaluation.batch),
        identity=identity(setup, options),
        show=("factor", "coverage"),
    )


def fit_stage(setup: Setup, options: Fit) -> Stage:
    """The stage that trains the regressors on the frozen network's moments.

    It is evaluated on subjects of the test part, by every method, and on a measured
    slice where the config names one.

    Args:
        setup: What both stages have in common.
        options: The regressors' steps, passes with dropout, and optimiser.
    """
    system = guided_fit.build(
        setup.estimator,
        _optimizer(options.optim, steps=options.steps * options.minibatches),
        _evaluate(setup, guided=True),
        partial(reference_fit, setup.estimator.quantity),
        guided_fit.Schedule(
            passes=options.passes,
            chunk=options.chunk,
            minibatches=options.minibatches,
            minibatch=options.minibatch,
            pace=options.categorical.pace,
        ),
    )
    stage = Stage(
        name="fit",
        system=system,
        # other draws than the network was trained on
        source=_training(setup, batch=options.batch, seed=setup.seed + 1),
        steps=options.steps,
        identity=identity(setup, options),
        show=("loss", "rmse_guided_ms", "rmse_plain_ms", "std"),
        accepts=partial(_accept, setup),
    )
    evaluation = setup.evaluation
    return _scored(
        stage,
        setup,
        part="test",
        limit=evaluation.limit,
        methods=in_order(evaluation.methods),
        invivo=evaluation.invivo,
        factor=_factor_origin(setup, options),
    )


def _factor_origin(setup: Setup, options: Fit) -> str:
    slices, batch = options.calibration.slices, setup.evaluation.batch
    if not slices:
        return "that of the demo's network: none was found for this one"
    return (
        f"with which {100 * options.calibration.coverage:g} % intervals on "
        f"{-(-slices // batch) * batch} slices of validation subjects"
    )


def identity(setup: Setup, options: Train | Fit) -> dict[str, Any]:
    """What must not change when a run resumes, as a JSON document.

    Args:
        setup: Data, network and quantity of the run.
        options: Those of the stage that bear on numbers.
    """
    data, estimator = setup.data, setup.estimator
    pack = TEMPLATE.sha256 if data.source == "brains" else None
    design = estimator.design._asdict()
    return {
        "data": {**data._asdict(), "pack": pack},
        "times": list(estimator.quantity.times),
        "network": {k: design[k] for k in design if k not in SCHEDULING},
        "subspace": setup.network.subspace._asdict(),
        "bounds": list(estimator.quantity.bounds),
        "regressor": [estimator.regressor.width, estimator.regressor.layers],
        **_extras(setup),
        "options": plain(options),
    }


def _extras(setup: Setup) -> dict[str, Any]:
    """Of an identity; nothing for a run without, as runs of older versions are."""
    extras = setup.estimator.extras
    none = extras == Extras(width=extras.width)
    return {} if none else {"extras": plain(extras)}


def _accept(setup: Setup, stored: Mapping[str, Any]) -> None:
    """Refuse a checkpoint to evaluate that has other parts beside PUQ's."""
    here, there = _extras(setup), {k: stored[k] for k in stored if k == "extras"}
    if differences(there, here):
        raise ValueError(
            f"the checkpoint was trained with {there or 'no extras'}, the config has "
            f"{here or 'none'}: expected the same fit.categorical and factors of "
            "fit.calibration; of a run of an older version evaluate with "
            "--config.fit.categorical.bins=0 --config.fit.calibration.slices=0"
        )


def _optimizer(options: Adam | Muon, *, steps: int) -> optax.GradientTransformation:
    return make_optimizer(steps=steps, **options._asdict())


def _training(setup: Setup, *, batch: int, seed: int) -> grain.IterDataset:
    return train_batches(
        setup.population,
        setup.acquisition,
        subjects=setup.data.subjects,
        batch=rows_per_process(batch),
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _evaluate(setup: Setup, *, guided: bool) -> reconstruction.Evaluate:
    evaluation, estimator = setup.evaluation, setup.estimator
    basis = partial(make_basis, setup.data.contrast, estimator.quantity.times)
    return partial(
        evaluate_maps,
        estimator,
        make_classical(
            evaluation.methods if guided else {},
            basis,
            center=setup.data.center_fraction,
            calibration=known_calibration(setup),
        ),
        passes=evaluation.passes,
        chunk=evaluation.chunk,
        guided=guided,
        probabilities=PROBABILITIES,
    )


def _scored(
    stage: Stage,
    setup: Setup,
    *,
    part: str,
    limit: int,
    methods: list[str],
    invivo: str = "",
    factor: str = "",
) -> Stage:
    """A stage with its evaluation: on subjects of a part, and on a measured slice.

    Args:
        stage: "fit" is compared by all of PUQ's maps, another one by its own images'.
        setup: Gives the subjects, and the quantity that is judged.
        part: "validation" or "test": of the subjects.
        limit: Slices at most; 0 takes all.
        methods: Names of classical methods, in the order of the table.
        invivo: Path of a measured slice, evaluated after the others; "" for none.
        factor: Where that on dropout's deviation comes from, in words.
    """
    evaluation = setup.evaluation
    slices = len(setup.population.template.slices)
    rows = evaluation.subjects * slices * len(setup.acquisition.accelerations)
    return stage._replace(
        eval_batches=partial(_batches, setup, part, limit, invivo),
        eval_total=-(-min(rows, limit or rows) // evaluation.batch) + bool(invivo),
        live=live_page(stage.name, words=partial(supervised_story, stage.steps)),
        score=partial(
            score_stage,
            stage=stage.name,
            contrast=setup.data.contrast,
            quantity=setup.estimator.quantity,
            methods=methods_of(
                methods,
                guided=stage.name == "fit",
                density=setup.estimator.extras.bins > 0,
                trusted=[
                    name
                    for name in methods
                    if evaluation.methods[name].kind == KIND
                    and known_calibration(setup) is not None
                ],
            ),
            evaluation=evaluation,
            factor=factor,
        ),
    )


def _batches(
    setup: Setup, part: str, limit: int, invivo: str
) -> Iterator[tuple[QmriBatch, list[SliceRecord]]]:
    evaluation = setup.evaluation
    yield from eval_batches(
        setup.population,
        setup.acquisition,
        part=part,
        subjects=evaluation.subjects,
        batch=evaluation.batch,
        seed=evaluation.seed,
        limit=limit or None,
    )
    if invivo:
        yield measured_batch(setup, invivo)
