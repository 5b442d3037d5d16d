"""The measured slice: scores of joint TV and its posterior beside classical methods.

    python benchmarks/posterior_slice.py --slice=../shared/data/invivo_t2_slice.npz
    python benchmarks/posterior_slice.py --slice=... --only=6 --json=out.json

R = 6 with the file's own masks (those of the authors' test), then R = 4, 8, 10, and R =
6 with four other seeds. Nothing is chosen on the slice: methods, their weights and the
calibration of u are those of configs/puq.py. Tissue errors are not capped. Coverage is
that of nominal 95 % intervals: the posterior's own ends, 1.96 sigma of a fit.
"""

import argparse
import json
import pathlib
import sys
import time
from functools import partial

import jax
import numpy as np

REPO = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from configs.puq import BOUNDS, TISSUE, get_methods  # noqa: E402
from medjax.data.qmri.invivo import CENTER_FRACTION, invivo_batch  # noqa: E402
from medjax.data.qmri.simulate import sample_kspace  # noqa: E402
from medjax.evals.qmri import map_scores  # noqa: E402
from medjax.mri import signal_model, undersampling_mask  # noqa: E402
from medjax.recipes.qmri.calibrated import load_calibration  # noqa: E402
from medjax.recipes.qmri.methods import in_order, make_classical  # noqa: E402
from medjax.recipes.qmri.options import Method  # noqa: E402
from medjax.recipes.qmri.setup import make_basis  # noqa: E402
from medjax.recipes.sections import read_section  # noqa: E402
from medjax.systems.puq.fits import fit_images  # noqa: E402
from medjax.systems.puq.network import Quantity  # noqa: E402
from medjax.systems.puq.posterior_maps import image_posterior  # noqa: E402

PUBLISHED = {"nrmse": 0.3027, "ssim": 0.9752, "tissue_ms": 5.8}  # PUQ's authors, R = 6
SEEDS = (1, 2, 3, 4)  # added to the file's own
MODELS = {"t2": "t2", "t1": "t1_ir"}
SHOWN = ("nrmse", "ssim", "tissue_ms", "csf_ms", "coverage", "spearman")


def make_methods(contrast, quantity, *, center, draws):
    """Name -> (reconstruct, trusted or None), compiled, of configs/puq.py."""
    section = get_methods(contrast, draws=draws).to_dict()
    methods = {
        name: read_section(Method, f"methods.{name}", one)
        for name, one in section.items()
        if one["kind"] != "zero_filled"
    }
    made = make_classical(
        methods,
        partial(make_basis, contrast, quantity.times),
        center=center,
        calibration=load_calibration(contrast, "joint TV"),
    )
    return {name: made[name] for name in in_order(methods)}


def make_rows(methods, quantity):
    """A compiled function: batch -> name -> (map, sigma, low, high), [B, H, W] each."""
    name, times = quantity.model.time_constant, np.array(quantity.times, np.float32)

    @jax.jit
    def rows(batch, key):
        found = {}
        for title, method in methods.items():
            if method.trusted is None:
                images = method.reconstruct(batch, key)
            else:
                images, u = method.trusted(batch, key)
            fit = fit_images(quantity, images, rank=method.rank)
            value, sigma = fit.params[name], fit.sigma[name]
            low, high = value - 1.96 * sigma, value + 1.96 * sigma
            found[f"{title} + fit_map"] = (value, sigma, low, high)
            if method.trusted is None:
                continue
            posterior = image_posterior(
                images,
                u,
                times,
                model=quantity.model,
                bounds=quantity.bounds,
                quantiles=(0.025, 0.975),
            )
            ends = posterior.quantiles
            for kind in ("mean", "median"):
                value = getattr(posterior, kind)
                found[f"{title} + posterior {kind}"] = (value, posterior.sd, *ends)
        return found

    return rows


def score(found, reference, roi, *, contrast, limit):
    """The scores of one slice by row; coverage by the ends of the interval."""
    scores = {}
    judged = roi & np.isfinite(reference) & (reference < 0.999 * limit)
    for title, (value, sigma, low, high) in found.items():
        one = map_scores(
            np.asarray(value, float),
            np.asarray(sigma, float),
            reference,
            roi,
            limit=limit,
            tissue_below=TISSUE[contrast],
        )
        inside = (low <= reference) & (reference <= high)
        tissue = judged & (reference < TISSUE[contrast])
        one["coverage"] = float(inside[judged].mean())
        one["tissue_coverage"] = float(inside[tissue].mean())
        one["csf_coverage"] = float(inside[judged & ~tissue].mean())
        scores[title] = one
    return scores


def remasked(batch, *, acceleration, seed):
    """The slice sampled by masks of another seed."""
    target, sens = np.asarray(batch.target[0]), np.asarray(batch.sens[0])
    mask = undersampling_mask(
        "random",
        seed=seed,
        contrasts=len(target),
        size=target.shape[-2:],
        acceleration=acceleration,
        center_fraction=CENTER_FRACTION,
    )
    kspace = sample_kspace(target, sens, mask, 0.0, np.random.default_rng(0))
    return batch._replace(kspace=kspace[None], mask=np.asarray(mask)[None])


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slice", type=pathlib.Path, required=True)
    parser.add_argument("--only", type=float, nargs="*", default=[6, 4, 8, 10])
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args(arguments)
    batch, reference = invivo_batch(options.slice, acceleration=6.0)
    own = int(np.load(options.slice)["seed"])
    quantity = Quantity(signal_model("t2"), reference.times, BOUNDS["t2"])
    center = round(batch.kspace.shape[-1] * CENTER_FRACTION)
    rows = make_rows(make_methods("t2", quantity, center=center, draws=3), quantity)
    cases = [(f"R {r:g}", r, own) for r in options.only]
    cases += [(f"R 6, seed {own + s}", 6.0, own + s) for s in options.seeds]
    tables = {}
    for title, rate, seed in cases:
        start = time.perf_counter()
        measured = remasked(batch, acceleration=rate, seed=seed)
        found = jax.device_get(rows(measured, jax.random.key(0)))
        found = {k: tuple(x[0] for x in v) for k, v in found.items()}
        roi = np.asarray(batch.roi[0])
        scores = score(found, reference.t2, roi, contrast="t2", limit=BOUNDS["t2"][1])
        tables[title] = scores
        print(f"\n{title} ({time.perf_counter() - start:.0f} s)")
        print("| |" + "|".join(f" {name} " for name in SHOWN) + "|")
        print("| --- |" + " --- |" * len(SHOWN))
        if title == "R 6":
            cells = [f" {PUBLISHED[k]:g} " if k in PUBLISHED else " - " for k in SHOWN]
            print("| PUQ, published |" + "|".join(cells) + "|")
        for name, one in scores.items():
            print(f"| {name} |" + "|".join(f" {one[k]:.4f} " for k in SHOWN) + "|")
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
