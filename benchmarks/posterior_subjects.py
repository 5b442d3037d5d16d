"""Simulated test subjects: joint TV and its posterior beside classical methods.

    python benchmarks/posterior_subjects.py                         24 subjects, T2, T1
    python benchmarks/posterior_subjects.py --subjects=6 --contrasts t2 --json=out.json

One slice of each subject of the test part at R = 4, 6, 8, 10: 96 x 96 pixels, 8 coils,
SNR 20 to 60. Means over slices; the interval of a difference to fit_map on the same
images resamples subjects. All subjects are warps of one template: this compares
methods, and predicts no error of a scanner.
"""

import argparse
import json
import pathlib
import sys
import time

import jax
import numpy as np
from posterior_slice import MODELS, make_methods, make_rows, score

from configs.puq import BOUNDS, get_config
from medjax.data.qmri.batches import Population, collate, draw_slice
from medjax.data.qmri.brains import load_template
from medjax.data.qmri.simulate import Acquisition, make_protocol
from medjax.data.qmri.subjects import subject_numbers
from medjax.mri import signal_model
from medjax.systems.puq.fits import fit_images
from medjax.systems.puq.network import Quantity

RATES = (4, 6, 8, 10)
POSITIONS = (8, 11, 14, 17)  # of the template's slices, in turn
SHOWN = ("nrmse", "tissue_ms", "csf_ms", "coverage", "tissue_coverage", "spearman",
         "tissue_spearman")  # fmt: skip
BATCH = 4


def measure(contrast, rate, subjects):
    """Batches of one slice a subject."""
    data = get_config(f"contrast={contrast}").data
    template = load_template("brains")
    population = Population(template, 0, data.size, data.field, data.lesion_share,
                            data.time_spread)  # fmt: skip
    protocol = make_protocol(contrast)
    acquisition = Acquisition(protocol, data.coils, data.mask, (float(rate),),
                              data.center_fraction, tuple(data.snr))  # fmt: skip
    rows = [
        draw_slice(
            population,
            acquisition,
            number=number,
            position=POSITIONS[i % len(POSITIONS)],
            draw=(7, i, int(rate)),
            acceleration=float(rate),
            sample_id=i,
        )
        for i, number in enumerate(subject_numbers("test", subjects))
    ]
    return [collate(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]


def ranked(x, y):
    """Spearman's correlation; NaN of fewer than 3 voxels."""
    from medjax.evals.calibration import spearman

    return spearman(x, y) if len(x) > 2 else float("nan")


def paired(new, old, *, seed=0, samples=2000):
    """The mean difference of subjects, and its 95 % interval by resampling them."""
    difference = np.array(new) - np.array(old)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(difference), size=(samples, len(difference)))
    low, high = np.quantile(difference[picks].mean(1), (0.025, 0.975))
    return [float(difference.mean()), float(low), float(high)]


def run(contrast, rates, subjects, keep):
    """Scores by rate, row and subject."""
    from configs.puq import TISSUE

    protocol = make_protocol(contrast)
    model, limit = signal_model(MODELS[contrast]), BOUNDS[contrast][1]
    quantity = Quantity(model, protocol.times, BOUNDS[contrast])
    center = round(96 * 0.08)
    methods = make_methods(contrast, quantity, center=center, draws=3)
    methods = {k: m for k, m in methods.items() if any(word in k for word in keep)}
    rows = make_rows(methods, quantity)
    truth = jax.jit(lambda x: fit_images(quantity, x).params[model.time_constant])
    found = {}
    for rate in rates:
        start, scores = time.perf_counter(), []
        for batch in measure(contrast, rate, subjects):
            maps = jax.device_get(rows(batch, jax.random.key(0)))
            reference = np.asarray(truth(batch.target), float)
            for i in range(len(batch.valid)):
                one = {k: tuple(x[i] for x in v) for k, v in maps.items()}
                roi = batch.roi[i] & np.isfinite(reference[i])
                each = score(one, reference[i], roi, contrast=contrast, limit=limit)
                tissue = roi & (reference[i] < TISSUE[contrast])
                for name, (value, sigma, *_) in one.items():
                    ok = tissue & np.isfinite(value) & np.isfinite(sigma)
                    error = np.abs(value - reference[i])[ok]
                    each[name]["tissue_spearman"] = ranked(sigma[ok], error)
                scores.append(each)
        found[rate] = scores
        show(f"{contrast.upper()}, R {rate:g}", scores, time.perf_counter() - start)
    return found


def show(title, scores, seconds):
    """A table of means, and differences to fit_map on the same images."""
    print(f"\n{title}: {len(scores)} subjects ({seconds:.0f} s)")
    print("| |" + "|".join(f" {name} " for name in SHOWN) + "| NRMSE less fit_map's |")
    print("| --- |" + " --- |" * (len(SHOWN) + 1))
    for name in scores[0]:
        cells = [f" {np.nanmean([s[name][k] for s in scores]):.4f} " for k in SHOWN]
        other = "-"
        if " + posterior" in name:
            plain = f"{name.split(' + posterior')[0]} + fit_map"
            mean, low, high = paired(
                [s[name]["nrmse"] for s in scores], [s[plain]["nrmse"] for s in scores]
            )
            other = f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
        print(f"| {name} |" + "|".join(cells) + f"| {other} |")
    sys.stdout.flush()


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--contrasts", nargs="*", default=["t2", "t1"])
    parser.add_argument("--rates", type=int, nargs="*", default=list(RATES))
    parser.add_argument("--methods", nargs="*", default=["joint TV", "wavelet"])
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args(arguments)
    tables = {}
    for contrast in options.contrasts:
        found = run(contrast, options.rates, options.subjects, options.methods)
        tables[contrast] = found
        if options.json:
            options.json.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
