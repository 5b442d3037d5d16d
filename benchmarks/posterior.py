"""Milliseconds of `fit_posterior` beside `fit_map` on the same images, in one process.

    python benchmarks/posterior.py                a table, half a minute

160 x 160 voxels, 8 echoes 12..120 ms, T2 log-uniform in 30..300 ms, s0 0.5..1.5, sd of
the noise 0.02, seed 0, float32. `fit_posterior`: 96 points from 0.02 to 2.5 s, mean,
median, sd and quantiles; `fit_map`: s0 and T2, sigma, residual, R^2 and status. Calls
take turns: A B C A B C .... Wall time stands beside the process's CPU time, as other
programs lengthen the first more. The first call (compilation) stands apart.
"""

import argparse
import json
import pathlib
import shlex
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from grpo_step import machine

from medjax import fit_map, fit_posterior, signal_model

TIMES = np.linspace(0.012, 0.12, 8)
NOISE = 0.02
LIMIT = 4.0  # times fit_map


def simulate(size):
    rng = np.random.default_rng(0)
    t2 = np.exp(rng.uniform(np.log(0.03), np.log(0.3), (size, size)))
    clean = rng.uniform(0.5, 1.5, t2.shape) * np.exp(-TIMES[:, None, None] / t2)
    images = clean + NOISE * rng.standard_normal(clean.shape)
    return images.astype(np.float32), t2


def contenders(images):
    model = signal_model("t2")
    u = jnp.full(images.shape[1:], NOISE, jnp.float32)
    posterior = {"model": model, "low": 0.02, "high": 2.5}
    return {
        "fit_map": lambda: fit_map(images, TIMES, model=model, bounds=(0.01, 2.0)),
        "fit_posterior": lambda: fit_posterior(images, TIMES, u, **posterior),
        "marginalised": lambda: fit_posterior(
            images, TIMES, u, amplitude="marginalised", **posterior
        ),
        "one block": lambda: fit_posterior(images, TIMES, u, block=None, **posterior),
    }


def measure(size, rounds):
    images, t2 = simulate(size)
    images = jnp.asarray(images)
    calls = contenders(images)
    rows = {name: {"wall": [], "cpu": []} for name in calls}
    for name, call in calls.items():
        start = time.perf_counter()
        found = jax.block_until_ready(call())
        rows[name]["first"] = time.perf_counter() - start
        value = found.params["t2"] if name == "fit_map" else found.median
        rows[name]["error"] = float(np.median(np.abs(value / t2 - 1)))
    for _ in range(rounds):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            rows[name]["wall"].append(time.perf_counter() - wall)
            rows[name]["cpu"].append(time.process_time() - cpu)
    return rows


def print_table(rows):
    print("| call | wall ms, median | least | CPU ms, least | first s | error % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        wall, cpu = row["wall"], row["cpu"]
        numbers = (
            f"{1e3 * statistics.median(wall):.2f} | {1e3 * min(wall):.2f} | "
            f"{1e3 * min(cpu):.2f} | {row['first']:.1f} | {100 * row['error']:.2f}"
        )
        print(f"| {name} | {numbers} |")
    ours, theirs = rows["fit_posterior"], rows["fit_map"]
    for kind in ("wall", "cpu"):
        ratio = min(ours[kind]) / min(theirs[kind])
        print(f"least {kind} time: {ratio:.2f} times fit_map (limit {LIMIT:g})")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Posteriors beside fits.")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args(argv)
    rows = measure(options.size, options.rounds)
    print_table(rows)
    if options.json:
        command = shlex.join(sys.argv)
        found = {"command": command, "machine": machine(), "rows": rows}
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
