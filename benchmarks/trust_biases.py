"""What no interval holds: biases of T2 and T1 by value, and the coverage they leave.

    python benchmarks/trust_biases.py                    tables as text
    python benchmarks/trust_biases.py --json=out.json    and as JSON

Signals of the fourteen vials of the T2 array of the ISMRM/NIST system phantom (3 T;
T1 and T2 of Stupic et al., Magn. Reson. Med. 86 (2021)) are made with one fault at a
time and fitted as if there were none: `fit_posterior`, flat in log T, u the true noise.
A spin-echo train of 16 echoes, 10 to 160 ms, and flip angles 3, 6, 9, 15, 25 degrees at
TR 15 ms; noise of 1/100 of the amplitude; 2,000 voxels a vial. Bias is that of the
mean of the medians, coverage that of nominal 95 % intervals.
"""

import argparse
import json
import math
import pathlib
import sys

import jax
import numpy as np

REPO = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from medjax.mri import (  # noqa: E402
    fit_magnitudes,
    fit_map,
    fit_posterior,
    signal_model,
    signal_t2,
    signal_t2_epg,
    signal_vfa,
    vfa_model,
)

T2 = np.array([581.3, 403.5, 278.1, 190.94, 133.27, 96.89, 64.07,
               46.42, 31.97, 22.56, 15.81, 11.24, 7.91, 5.59]) / 1e3  # fmt: skip
T1 = np.array([2480, 2173, 1907, 1604, 1332, 1044, 801.7,
               608.6, 458.4, 336.5, 244.2, 176.9, 126.9, 90.9]) / 1e3  # fmt: skip
TE = 0.010 * np.arange(1, 17)  # s
ANGLES, TR = np.deg2rad([3.0, 6, 9, 15, 25]), 0.015  # radians, s
NOISE, VOXELS = 0.01, 2000
FLUID = 1.0  # s: T2 of what shares a voxel
BOUNDS = (0.002, 3.0)  # s


def train(b1=1.0):
    """[E, vial]: echoes at refocusing angles of b1 x 180 degrees."""
    return np.stack(
        [
            np.asarray(signal_t2_epg(1.0, t2, b1 * math.pi, TE, t1=float(t1)))
            for t2, t1 in zip(T2, T1, strict=True)
        ],
        axis=1,
    )


def faults():
    """Name -> (clean signals [E, vial], whether magnitudes are taken)."""
    decay = np.asarray(signal_t2(1.0, T2, TE))
    fluid = np.asarray(signal_t2(1.0, FLUID, TE))[:, None]
    return {
        "none": (decay, False),
        "B1 0.95 (refocusing 171 deg)": (train(0.95), False),
        "B1 0.90 (refocusing 162 deg)": (train(0.90), False),
        "B1 0.80 (refocusing 144 deg)": (train(0.80), False),
        "magnitudes, one coil": (decay, True),
        "5 % fluid in the voxel": (0.95 * decay + 0.05 * fluid, False),
        "20 % fluid in the voxel": (0.8 * decay + 0.2 * fluid, False),
    }


def noisy(clean, rng, *, magnitude, noise=NOISE):
    """[E, vial, voxel]."""
    shape = (*clean.shape, VOXELS)
    found = clean[..., None] + noise * rng.standard_normal(shape)
    if magnitude:
        found = np.hypot(found, noise * rng.standard_normal(shape))
    return found.astype(np.float32)


def judge(fit, truth):
    """Bias in per cent of the mean and of the median, spread, and coverage, by vial."""
    value = np.asarray(fit.median)
    low, _, high = np.asarray(fit.quantiles)
    inside = (low <= truth[:, None]) & (truth[:, None] <= high)
    return {
        "bias_percent": (100 * (np.nanmean(value, 1) / truth - 1)).tolist(),
        "sd_percent": (100 * np.nanstd(value, 1) / truth).tolist(),
        "coverage": inside.mean(1).tolist(),
    }


def plain(fit, name, truth):
    """The same of a fit with a sigma."""
    value, sigma = np.asarray(fit.params[name]), np.asarray(fit.sigma[name])
    inside = np.abs(value - truth[:, None]) <= 1.96 * sigma
    return {
        "bias_percent": (100 * (np.nanmean(value, 1) / truth - 1)).tolist(),
        "sd_percent": (100 * np.nanstd(value, 1) / truth).tolist(),
        "coverage": inside.mean(1).tolist(),
    }


def decays():
    """T2 with each fault, and what mends two of them."""
    rng, tables = np.random.default_rng(0), {}
    model, epg = signal_model("t2"), signal_model("t2_epg")
    u = np.full((len(T2), VOXELS), NOISE, np.float32)
    te = TE.astype(np.float32)
    low, high = BOUNDS
    posterior = jax.jit(
        lambda y: fit_posterior(y, te, u, model=model, low=low, high=high)
    )
    for name, (clean, magnitude) in faults().items():
        images = noisy(clean, rng, magnitude=magnitude)
        tables[name] = judge(posterior(images), T2)
        if name.startswith("B1 0.80"):
            fit = fit_map(images, te, model=epg, bounds=BOUNDS)
            tables[f"{name}, fitted as t2_epg"] = plain(fit, "t2", T2)
        if magnitude:
            fit = fit_magnitudes(images, te, model=model, noise=NOISE, bounds=BOUNDS)
            tables[f"{name}, floor fitted"] = plain(fit, "t2", T2)
    return tables


def angles():
    """T1 of flip angles that B1 scales, fitted as if they were nominal."""
    rng, tables = np.random.default_rng(1), {}
    model = vfa_model(TR)
    clean_at = {
        b1: np.asarray(signal_vfa(1.0, T1, b1 * ANGLES, repetition_time=TR))
        for b1 in (1.0, 0.95, 0.9, 1.1)
    }
    noise = NOISE * float(clean_at[1.0].max())
    u = np.full((len(T1), VOXELS), noise, np.float32)
    nominal = ANGLES.astype(np.float32)
    for b1, clean in clean_at.items():
        images = noisy(clean, rng, magnitude=False, noise=noise)
        fit = fit_posterior(images, nominal, u, model=model, low=0.02, high=10.0)
        tables[f"flip angles, B1 {b1:g}"] = judge(fit, T1)
    return tables


def show(title, truth, tables):
    """A line a fault, a column a vial: bias in per cent / coverage."""
    print(f"\n{title}: bias in % / coverage of 95 % intervals")
    print("| |" + "|".join(f" {1e3 * x:.4g} " for x in truth) + "|")
    print("| --- |" + " --- |" * len(truth))
    for name, rows in tables.items():
        cells = [
            f" {b:+.1f} / {c:.2f} "
            for b, c in zip(rows["bias_percent"], rows["coverage"], strict=True)
        ]
        print(f"| {name} |" + "|".join(cells) + "|")


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args(arguments)
    found = {"t2": decays(), "t1": angles()}
    show("T2, vials in ms", T2, found["t2"])
    show("T1, vials in ms", T1, found["t1"])
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
