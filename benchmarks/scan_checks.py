"""Does a scan tell by itself whether its error bars hold? Simulated shifts.

    python benchmarks/scan_checks.py --scans 4                the table
    python benchmarks/scan_checks.py --contrast t1 --rate 8 --shifts "none,motion 1"
    python benchmarks/scan_checks.py --part validation        what limits are chosen on

Scans are single slices of simulated subjects, 96 x 96, 8 coils, each measured as
`configs/puq.py` says but for one shift. A scan is sound where its 95 % intervals cover
0.90 to 0.99 of the region of interest (the reference is a fit of the noiseless images
of the same slice, values at the map's limit left out). It is warned of where a check of
`judge_scan` says that error bars may be too narrow, or where edges of its images lie
apart by what `--mode=predict` warns of.

==============  ======================================================================
none            as calibrated: SNR 20 to 60, random lines, true sensitivities
T2 x 1.4        all T2 (of t1: all T1) of every subject
SNR 10, 100     of all subjects
coils 4, 16     in place of 8
ESPIRiT         sensitivities estimated from the centre of k-space
equispaced      lines in place of random ones
poisson         points in place of lines
biexponential   15 % of the tissue's first signal decays with 20 ms (of t1: 15 % with a
                third of the tissue's T1, as a share of its late signal)
motion 1        the later half of the contrasts lies 1 pixel further right
drift 1         contrasts lie 0 to 1 pixel further right, one more than the other
one 1           one contrast lies 1 pixel off, in any direction
turn 1          the later half of the contrasts is turned by 1 degree
slice 1         the later half of the contrasts is of the next slice, 4 mm away
==============  ======================================================================
"""

import argparse
import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from configs.puq import get_config
from medjax import mri
from medjax.data.qmri.batches import draw_slice
from medjax.data.qmri.simulate import sample_kspace
from medjax.data.qmri.subjects import subject_numbers
from medjax.recipes.qmri.calibrated import load_calibration
from medjax.recipes.qmri.joint_tv import tv_images
from medjax.recipes.qmri.known_errors import make_regularisation
from medjax.recipes.qmri.moved import distances, noticeable
from medjax.recipes.qmri.options import Data, Evaluation, Fit, Network, Predict
from medjax.recipes.qmri.population import make_setup
from medjax.recipes.sections import read_section
from medjax.systems.puq.calibration import calibrated_sd, covered
from medjax.systems.puq.fits import fit_images
from medjax.systems.puq.joint_tv import tv_features
from medjax.systems.puq.posterior_maps import image_posterior
from medjax.systems.puq.scan_checks import check_slices, judge_scan

SHIFTS = (
    *("none", "T2 x 1.4", "SNR 10", "SNR 100", "coils 4", "coils 16", "ESPIRiT"),
    *("equispaced", "poisson", "biexponential", "motion 0.5", "motion 1", "motion 2"),
    *("drift 1", "one 1", "one 2", "turn 1", "turn 2", "slice 1"),
)
BATCH = 4
SOUND = (0.90, 0.99)


def changed(setup, shift):
    """The setup of a shift that is one of subjects or of the measurement."""
    population, acquisition = setup.population, setup.acquisition
    if shift.startswith("SNR"):
        level = float(shift.split()[1])
        acquisition = acquisition._replace(snr=(level, level))
    elif shift.startswith("coils"):
        acquisition = acquisition._replace(coils=int(shift.split()[1]))
    elif shift in ("equispaced", "poisson"):
        acquisition = acquisition._replace(mask=shift)
    return setup._replace(population=population, acquisition=acquisition)


def measured(setup, shift, rate, index, number):
    """One scan; a shift of the object changes images before sampling."""
    position = (7 * index + 3) % len(setup.population.template.slices)
    draw = partial(
        draw_slice,
        setup.population,
        setup.acquisition,
        number=number,
        draw=(21, index),
        acceleration=rate,
        sample_id=index,
    )
    drawn = draw(position=position)
    row, record = drawn.row, drawn.records[0]
    images = still = row.target
    times = np.array(setup.acquisition.protocol.times)[:, None, None]
    if shift == "T2 x 1.4":
        images = still = slower(setup, row.target)
    elif shift == "biexponential":
        tissue = 1 - record.fractions[2].astype(np.float32)
        images = still = two_pools(setup, row.target, times, tissue)
    elif shift.startswith(("motion", "drift", "one", "turn")):
        images = moved(images, shift, index)
    elif shift.startswith("slice"):
        step, half = int(shift.split()[1]), len(images) // 2
        step = (
            step if position + step < len(setup.population.template.slices) else -step
        )
        other = draw(position=position + step).row.target
        images = np.concatenate([images[:half], other[half:]])
    if images is not row.target:
        rng = np.random.default_rng((22, index))
        kspace = sample_kspace(images, row.sens, row.mask, record.noise, rng)
        row = row._replace(kspace=kspace, target=still)
    if shift == "ESPIRiT":
        row = row._replace(sens=estimated(setup, row))
    return row


def moved(images, shift, index):
    """Contrasts of which some lie elsewhere."""
    kind, size = shift.split()
    count = len(images)
    places, angles = np.zeros((count, 2), np.float32), np.zeros(count, np.float32)
    if kind == "drift":
        places[:, 1] = np.linspace(0, 1, count)
    elif kind == "turn":
        angles[count // 2 :] = np.deg2rad(float(size))
    elif kind == "one":
        direction = 2 * np.pi * np.random.default_rng((23, index)).random()
        places[1 + index % (count - 1)] = np.cos(direction), np.sin(direction)
    else:
        places[count // 2 :, 1] = 1
    return np.asarray(mri.move_rigid(jnp.asarray(images), float(size) * places, angles))


def slower(setup, images):
    """The images of the same tissues at 1.4 times their time constant."""
    quantity = setup.estimator.quantity
    fit = fit_images(quantity, jnp.asarray(images)[None])
    name = quantity.model.time_constant
    params = fit.params | {name: 1.4 * fit.params[name]}
    made = mri.signal(quantity.model, params, quantity.times)
    made = np.asarray(made)[:, 0]
    return np.where(np.isfinite(made), made, images).astype(np.float32)


def two_pools(setup, images, times, tissue):
    """15 % of the tissue's signal in a fast pool, which the model does not know."""
    if setup.data.contrast == "t2":
        fast = images[:1] * np.exp(-times / 0.02)
        return (images + 0.15 * tissue * (fast - images)).astype(np.float32)
    late = np.abs(images[-1:])
    fast = late * (1 - 2 * np.exp(-times / 0.35))
    return (images + 0.15 * tissue * (fast - images)).astype(np.float32)


def estimated(setup, row):
    """ESPIRiT's maps, turned to the phase of the true ones: real images stay real."""
    columns = round(setup.data.center_fraction * setup.data.size)
    maps = mri.estimate_sensitivities(
        jnp.asarray(row.kspace),
        calibration=(setup.data.size // 4, columns),
        kernel=min(5, columns),
        threshold=0.02,
        crop=0.0,
    )
    maps = np.asarray(maps)
    phase = np.sum(row.sens * maps.conj(), axis=0)
    phase = phase / np.maximum(np.abs(phase), 1e-9)
    return (maps * phase).astype(np.complex64)


def judge(setup, how, calibration, batch, key):
    """The interval, the reference, the checks without one, and where edges lie."""
    quantity = setup.estimator.quantity
    found = tv_images(batch, key, **how._asdict())
    features = tv_features(found, coils=batch.kspace.shape[2])
    sampled = jnp.broadcast_to(batch.mask, found.images.shape)
    u = calibrated_sd(calibration, features, 1 / sampled.mean((1, 2, 3)))
    times = jnp.asarray(quantity.times, jnp.float32)
    fit = {"model": quantity.model, "bounds": quantity.bounds}
    posterior = image_posterior(found.images, u, times, quantiles=(0.025, 0.975), **fit)
    checks = check_slices(
        batch,
        jax.random.fold_in(key, 1),
        found,
        batch.roi,
        **how._asdict(),
        calibration=calibration,
        times=times,
        **fit,
    )
    reference = fit_images(quantity, batch.target)
    time = reference.params[quantity.model.time_constant]
    edges = mri.contrast_motion(jnp.moveaxis(found.images, 1, 0)).shift
    return posterior.quantiles, time, checks, jnp.moveaxis(edges, 1, 0)


def table(setup, calibration, how, args):
    """One row a shift: coverage, how many are not sound, how many are warned of."""
    numbers = subject_numbers(args.part, args.scans)
    rows, every = [], []
    program = jax.jit(partial(judge, setup, how, calibration))
    model = setup.estimator.quantity.model
    far = noticeable((setup.data.size, setup.data.size), model)
    for shift in args.shifts.split(",") if args.shifts else SHIFTS:
        ours = changed(setup, shift)
        scanned = [
            measured(ours, shift, args.rate, i, n) for i, n in enumerate(numbers)
        ]
        points = []
        for start in range(0, args.scans, BATCH):
            part = scanned[start : start + BATCH]
            filled = part + [part[-1]] * (BATCH - len(part))
            batch = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *filled)
            made = jax.device_get(program(batch, jax.random.key(start)))
            ends, time, checks, edges = made
            for i, row in enumerate(part):
                limit = 0.999 * setup.estimator.quantity.longest
                judged = row.roi & np.isfinite(time[i]) & (time[i] < limit)
                point = {"coverage": covered(time[i], ends[0, i], ends[1, i], judged)}
                verdicts = judge_scan(
                    calibration,
                    type(checks)(*(x[i : i + 1] for x in checks)),
                    acceleration=1 / float(row.mask.mean()),
                )
                for verdict in verdicts:
                    point[verdict.check] = verdict.value
                    point["by " + verdict.check] = not verdict.holds
                point["edges"] = float(distances([edges[i]]).max())
                point["by edges"] = point["edges"] > far
                point["warned"] = point["by edges"] or any(v.narrow for v in verdicts)
                points.append(point)
        rows.append({"shift": shift, **summed(points)})
        every += [{"shift": shift, **point} for point in points]
        print(
            ", ".join(
                f"{k} {v:.3g}" if k != "shift" else v for k, v in rows[-1].items()
            ),
            flush=True,
        )
    return rows, every


def summed(points):
    """What the scans of one shift come to."""
    columns = {k: np.array([p[k] for p in points]) for k in points[0]}
    shares, warned = columns["coverage"], columns["warned"]
    sound = (shares >= SOUND[0]) & (shares <= SOUND[1])
    told = {"coverage": float(shares.mean()), "least": float(shares.min())}
    told["most"] = float(shares.max())
    for name, values in columns.items():
        if name.startswith("by "):
            told[name] = int(values.sum())
        elif name not in ("coverage", "warned"):
            told[name] = float(np.median(values))
    return told | {
        "unsound": int((~sound).sum()),
        "detected": int((warned & ~sound).sum()),
        "sound": int(sound.sum()),
        "false warnings": int((warned & sound).sum()),
    }


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contrast", default="t2", choices=("t2", "t1"))
    parser.add_argument("--rate", type=float, default=6.0)
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--shifts", default="", help="'': all of the table")
    parser.add_argument("--part", default="test", choices=("test", "validation"))
    parser.add_argument("--calibration", default="", help="a file; '': as shipped")
    parser.add_argument("--out", default="", help="a JSON file for all scans")
    args = parser.parse_args()
    config = get_config(f"contrast={args.contrast}").to_dict()
    records = {"data": Data, "network": Network, "fit": Fit, "evaluation": Evaluation}
    made = {k: read_section(kind, k, config[k]) for k, kind in records.items()}
    made["data"] = made["data"]._replace(accelerations=(args.rate,))
    setup = make_setup(seed=0, **made)
    predict = read_section(Predict, "predict", config["predict"])
    calibration = load_calibration(args.contrast, "joint TV", file=args.calibration)
    how = make_regularisation(setup, predict)
    rows, every = table(setup, calibration, how, args)
    total = {
        k: sum(row[k] for row in rows)
        for k in ("unsound", "detected", "sound", "false warnings")
    }
    print(
        f"all: {total['detected']} of {total['unsound']} scans that are not sound are "
        f"warned of, {total['false warnings']} of {total['sound']} that are"
    )
    if args.out:
        text = json.dumps({"args": vars(args), "rows": rows, "scans": every}, indent=1)
        pathlib.Path(args.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
