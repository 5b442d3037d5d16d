"""`--mode=calibrate`: what turns features into u, found on simulated subjects."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from medjax.evals.calibration import spearman
from medjax.recipes.qmri.calibrated import document, file_name
from medjax.recipes.qmri.known_errors import (
    Regularisation,
    Slice,
    make_regularisation,
    network_maker,
    reconstructed,
    slice_batches,
    tv_maker,
)
from medjax.recipes.qmri.options import (
    Calibrate,
    Data,
    Evaluation,
    Fit,
    Network,
    Predict,
    define,
)
from medjax.recipes.qmri.population import Setup, make_setup
from medjax.recipes.qmri.summary import say
from medjax.recipes.qmri.trained import find_trained
from medjax.recipes.sections import plain, read_section
from medjax.runtime.checkpoint import restore_params
from medjax.runtime.progress import progress
from medjax.runtime.writer import write_atomic, write_manifest
from medjax.systems.puq.calibration import (
    Calibration,
    Protocol,
    Regression,
    calibrated_sd,
    covered,
    factor_for_coverage,
    regress_error,
)
from medjax.systems.puq.posterior_maps import image_posterior
from medjax.systems.puq.reconstruction import init_params
from medjax.systems.puq.scan_checks import check_slices
from medjax.types import Params, QmriBatch

FOLDER = "calibrate"  # in the workdir
_NEAR = 0.999  # of a map's limit: what is above was cut off and is not judged
_USUAL = 2.3  # deviations of a check's logarithm: 98 % of scans whose bars hold

Row = dict[str, float]


def calibrate(
    source: str | None,
    *,
    checkpoint: str | None,
    seed: int,
    workdir: Path,
    data: Mapping[str, Any],
    network: Mapping[str, Any],
    fit: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    predict: Mapping[str, Any],
    calibrate: Mapping[str, Any],
    **unused: Any,  # noqa: ANN401
) -> list[str]:
    """Regress u on training subjects, choose kappa on validation subjects, write both.

    Args:
        source: None or "": subjects are simulated.
        checkpoint: A run's folder: the calibration is then that of its network's
            images; None or "" calibrates joint total variation.
        seed: Decides subjects, masks, noise, and which lines are held out.
        workdir: calibrate/CONTRAST_RECONSTRUCTION.json is written there.
        data: Section of the config: subjects, and how they are measured; accelerations
            are those of `calibrate`.
        network: Section of the config; a checkpoint's own has to be the same.
        fit: Section of the config; the bounds are read.
        evaluation: Section of the config; passes with dropout are read.
        predict: Section of the config: the default method is calibrated.
        calibrate: Section of the config.
        unused: Sections and options of other modes.

    Returns:
        What makes the calibration doubtful, a line each.

    Raises:
        ValueError: A source is given, an option does not fit, the checkpoint is of
            another network or has no dropout, or no factor gives the coverage that was
            asked for.
    """
    del unused
    if source:
        raise ValueError(
            f"--input={source}: error bars are calibrated on simulated subjects, whose "
            "true maps are known; leave --input out"
        )
    options = read_section(Calibrate, "calibrate", calibrate)
    prediction = read_section(Predict, "predict", predict)
    section = read_section(Data, "data", data)
    setup = make_setup(
        seed=seed,
        data=section._replace(accelerations=options.accelerations),
        network=read_section(Network, "network", network),
        fit=read_section(Fit, "fit", fit),
        evaluation=read_section(Evaluation, "evaluation", evaluation),
    )
    how = make_regularisation(setup, prediction)
    make, features = tv_maker(setup, how)
    if checkpoint:
        params, setup = _trained(checkpoint, setup, fit, prediction)
        make, features = network_maker(setup, how, params)
    write_manifest(workdir / FOLDER, mode="calibrate", seed=seed, data=plain(section))
    taken = partial(reconstructed, setup, options, make)
    found = _regress(list(taken("train", options.slices)), features)
    say(f"exponents {_listed(features, found)}")
    slices = list(taken("validation", options.validation))
    bare = Calibration(
        reconstruction="network" if checkpoint else "joint TV",
        protocol=Protocol(
            section.contrast,
            setup.estimator.quantity.times,
            section.field / section.size,
            section.coils,
        ),
        features=features,
        exponents=tuple(found.exponents.tolist()),
        level=found.level,
        rate=found.rate,
        accelerations=(1.0,),
        kappa=(1.0,),
        coverage=options.coverage,
    )
    result, rows = _choose_kappa(bare, slices, setup, options)
    if not checkpoint:
        result, rows = _find_checks(result, rows, slices, setup, options, how)
    for row in rows:
        say(", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    start = json.loads((workdir / FOLDER / "manifest.json").read_text("utf-8"))[-1]
    written = document(
        result,
        validation=rows,
        command=["python", *start["command"][1:]],
        commit=start["git"],
        versions=start["versions"],
        time=start["time"],
        seed=seed,
        data=plain(section),
        method=plain(prediction.methods[prediction.default]),
        options=plain(options),
    )
    path = workdir / FOLDER / file_name(section.contrast, result.reconstruction)
    write_atomic(path, json.dumps(written, indent=1) + "\n")
    say(f"wrote {path}")
    return []


def _trained(
    checkpoint: str, setup: Setup, fit: Mapping[str, Any], predict: Predict
) -> tuple[Params, Setup]:
    """A checkpoint's parameters, and the setup with its network."""
    asked = define(setup.data, setup.network, read_section(Fit, "fit", fit))
    trained, lines = find_trained(checkpoint, asked, predict.usual, fit="plain")
    for line in lines:
        say(f"the network has {line}")
    abstract = jax.eval_shape(
        partial(init_params, trained.estimator), jax.random.key(0)
    )
    params = restore_params(trained.folder, abstract, part=True)
    return params, setup._replace(estimator=trained.estimator)


def _regress(slices: Sequence[Slice], features: tuple[str, ...]) -> Regression:
    """Over the voxels of all regions of interest."""
    values = [
        np.stack([s.made.features[name] for name in features])[:, s.roi] for s in slices
    ]
    errors = [np.asarray(s.made.error)[s.roi] for s in slices]
    rates = [np.full(s.roi.sum(), s.acceleration) for s in slices]
    return regress_error(
        np.concatenate(values, 1), np.concatenate(errors), np.concatenate(rates)
    )


def _choose_kappa(
    bare: Calibration, slices: Sequence[Slice], setup: Setup, options: Calibrate
) -> tuple[Calibration, list[Row]]:
    """kappa by nominal acceleration, and what it comes to there."""
    factors = options.factors
    covers, orders = [], []
    with progress("calibrate, kappa", first=0, total=len(slices), show=()) as report:
        for number, one in enumerate(slices, start=1):
            cover, order = _covered(bare, one, setup, options)
            covers.append(cover)
            orders.append(order)
            report.step(number, {})
    nominal = np.array([one.record.acceleration for one in slices])
    true = np.array([one.acceleration for one in slices])
    shares, order = np.array(covers), np.array(orders)
    groups = [nominal == rate for rate in np.unique(nominal)]
    choose = partial(factor_for_coverage, factors, coverage=options.coverage)
    means = [np.nanmean(shares[group], axis=0) for group in groups]
    common = choose(np.mean(means, axis=0).tolist())
    rows = []
    for group, mean in zip(groups, means, strict=True):
        own = choose(mean.tolist())
        kappa = common**options.pooling * own ** (1 - options.pooling)
        inside = [np.interp(np.log(kappa), np.log(factors), x) for x in shares[group]]
        rows.append(
            {
                "acceleration": float(nominal[group][0]),
                "slices": len(inside),
                "R": float(true[group].mean()),
                "kappa": kappa,
                "kappa alone": own,
                "coverage": float(np.nanmean(inside)),
                "least coverage": float(np.nanmin(inside)),
                "coverage of u": float(np.interp(0, np.log(factors), mean)),
                "spearman": float(np.nanmean(order[group])),
            }
        )
    rates = tuple(row["R"] for row in rows)
    kappas = tuple(row["kappa"] for row in rows)
    return bare._replace(accelerations=rates, kappa=kappas), rows


def _covered(
    bare: Calibration, one: Slice, setup: Setup, options: Calibrate
) -> tuple[list[float], float]:
    """The covered share at each factor; and how the sd at 1 orders the errors."""
    made, quantity = one.made, setup.estimator.quantity
    features = {k: jnp.asarray(x)[None] for k, x in made.features.items()}
    rate = jnp.full((1,), one.acceleration, jnp.float32)
    u = calibrated_sd(bare, features, rate, kappa=False)
    reference = np.asarray(made.reference)
    judged = one.roi & np.isfinite(reference) & (reference < _NEAR * quantity.longest)
    shares, order, tail = [], float("nan"), (1 - options.coverage) / 2
    nearest = int(np.argmin(np.abs(np.log(options.factors))))
    for number, factor in enumerate(options.factors):
        fit = image_posterior(
            jnp.asarray(made.images)[None],
            factor * u,
            np.array(quantity.times, np.float32),
            model=quantity.model,
            bounds=quantity.bounds,
            quantiles=(tail, 1 - tail),
        )
        fit = jax.device_get(fit)
        low, high = fit.quantiles[:, 0]
        shares.append(covered(reference, low, high, judged))
        if number == nearest:
            known = judged & np.isfinite(fit.sd[0])
            error = np.abs(fit.median[0] - reference)
            order = spearman(fit.sd[0][known], error[known])
    return shares, order


def _find_checks(
    found: Calibration,
    rows: Sequence[Row],
    slices: Sequence[Slice],
    setup: Setup,
    options: Calibrate,
    how: Regularisation,
) -> tuple[Calibration, list[Row]]:
    """What the checks without a reference give on the same slices."""
    quantity = setup.estimator.quantity
    step = jax.jit(
        partial(
            check_slices,
            **how._asdict(),
            calibration=found,
            times=np.array(quantity.times, np.float32),
            model=quantity.model,
            bounds=quantity.bounds,
        )
    )
    spreads: list[float] = []
    misfits: list[float] = []
    batches = slice_batches(setup, options, "validation", options.validation)
    for batch, records, key in batches:
        chosen = slices[len(spreads) : len(spreads) + len(records)]
        checks = jax.device_get(step(batch, key, _stacked(chosen, batch), batch.roi))
        spreads += checks.spread[: len(records)].tolist()
        misfits += checks.misfit[: len(records)].tolist()
    nominal = np.array([one.record.acceleration for one in slices])
    groups = [nominal == row["acceleration"] for row in rows]
    halves, model = (_usual(np.array(x), groups) for x in (spreads, misfits))
    told = [
        {**row, "low spread": a, "high spread": b, "low misfit": c, "high misfit": d}
        for row, (a, b), (c, d) in zip(rows, halves, model, strict=True)
    ]
    return found._replace(spreads=halves, misfits=model), told


def _usual(
    values: Float[np.ndarray, "N"], groups: Sequence[Bool[np.ndarray, "N"]]
) -> tuple[tuple[float, float], ...]:
    """Least and most of each group: mean -+ 2.3 deviations of all, in logarithms."""
    logs = [np.log(values[group]) for group in groups]
    middles = [float(np.nanmean(x)) for x in logs]
    left = np.concatenate([x - m for x, m in zip(logs, middles, strict=True)])
    wide = max(_USUAL * float(np.sqrt(np.nanmean(np.square(left)))), 1e-3)
    return tuple((float(np.exp(m - wide)), float(np.exp(m + wide))) for m in middles)


def _stacked(slices: Sequence[Slice], batch: QmriBatch) -> Any:  # noqa: ANN401
    """`TvImages` of a batch, its rows beyond the slices filled with the last."""
    size = len(batch.valid)
    rows = [one.made.found for one in slices]
    rows += [rows[-1]] * (size - len(rows))
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def _listed(features: Sequence[str], found: Regression) -> str:
    parts = [f"{n} {w:.3f}" for n, w in zip(features, found.exponents, strict=True)]
    return f"{', '.join(parts)}; level {found.level:.3f}, rate {found.rate:.3f}"
