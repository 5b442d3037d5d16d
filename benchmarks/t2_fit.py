"""Milliseconds of a per-voxel fit with sigma, every model, beside scipy and plain JAX.

    python benchmarks/t2_fit.py                   the table, a minute

128 x 128 voxels, 8 echoes 15..120 ms, T2 40..200 ms (20..60 ms beside an offset), or 8
inversion times 50 ms..4 s, T1 0.4..2 s; s0 0.6..1.4, noise sd 0.02, seed 0, float32.
One process, one call of each in turn: A B C A B C .... The first call (compilation)
stands apart. The error is the median and 95th percentile of |T / truth - 1|.

==================  ===================================================================
medjax              `fit_map`: parameters, sigma, residual, R^2 and status
jax-lm              damped Gauss-Newton, 20 iterations, 2 x 2 solves and covariance, as
                    one would write it with vmap
log-linear          weighted line through log |y|, NumPy; no sigma
scipy               `curve_fit` voxel by voxel, in --slow-rounds of the rounds only
==================  ===================================================================

`puq_peers.py` compares with other libraries.
"""

import argparse
import json
import os
import pathlib
import shlex
import statistics
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from grpo_step import machine
from scipy.optimize import OptimizeWarning, curve_fit

from medjax.mri import catalogue, signals
from medjax.mri.fit import fit_map

HERE = pathlib.Path(__file__).resolve().parent
TE, TI = np.linspace(0.015, 0.12, 8), np.geomspace(0.05, 4.0, 8)
NOISE = 0.02


def simulate(model, times, size, low, high):
    rng = np.random.default_rng(0)
    t, s0 = rng.uniform(low, high, size**2), rng.uniform(0.6, 1.4, size**2)
    params = {"s0": s0, model.time_constant: t}
    params |= {
        k: v
        for k, v in {"offset": 0.2, "efficiency": 0.95}.items()
        if k in model.parameters
    }
    clean = np.asarray(signals.signal(model, params, times))
    images = clean + NOISE * rng.standard_normal(clean.shape)
    return images.astype(np.float32), t


def plain_lm(images, times):
    """Batched Levenberg-Marquardt for (s0, R2), not the library's way."""

    def voxel(y):
        w = y**2
        mean_t, mean_l = jnp.sum(w * times) / w.sum(), jnp.sum(w * _log(y)) / w.sum()
        slope = jnp.sum(w * (times - mean_t) * (_log(y) - mean_l))
        rate = jnp.clip(-slope / jnp.sum(w * (times - mean_t) ** 2), 0.5, 200.0)
        x = jnp.stack([jnp.exp(mean_l + rate * mean_t), rate])

        def parts(x):
            decay = jnp.exp(-times * x[1])
            return y - x[0] * decay, jnp.stack([decay, -times * x[0] * decay], -1)

        def step(_, carry):
            x, damping, cost = carry
            r, j = parts(x)
            h, g = j.T @ j, j.T @ r
            a, b = h[0, 0] * (1 + damping), h[1, 1] * (1 + damping)
            d = jnp.stack([b * g[0] - h[0, 1] * g[1], a * g[1] - h[0, 1] * g[0]])
            new = x + d / (a * b - h[0, 1] ** 2)
            new_cost = jnp.sum(parts(new)[0] ** 2)
            better = new_cost < cost
            damping = jnp.where(better, damping * 0.3, damping * 4)
            return jnp.where(better, new, x), damping, jnp.minimum(cost, new_cost)

        start = (x, jnp.asarray(1e-3, y.dtype), jnp.sum(parts(x)[0] ** 2))
        x, _, cost = jax.lax.fori_loop(0, 20, step, start)
        _, j = parts(x)
        h = j.T @ j
        determinant = h[0, 0] * h[1, 1] - h[0, 1] ** 2
        variance = cost / (len(times) - 2) * h[0, 0] / determinant
        return 1 / x[1], jnp.sqrt(variance) / x[1] ** 2

    return jax.vmap(voxel, in_axes=1)(images)


def _log(y):
    return jnp.log(jnp.maximum(jnp.abs(y), 1e-6))


def log_linear(images, times):
    w, logs = images**2, np.log(np.maximum(np.abs(images), 1e-6))
    total, t = w.sum(0), times[:, None]
    centred = t - (w * t).sum(0) / total
    slope = (w * centred * logs).sum(0) / (w * centred**2).sum(0)
    return -1 / slope


def scipy_fit(images, times):
    def model(t, s0, rate):
        return s0 * np.exp(-t * rate)

    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        for y in images.T.astype(float):
            x, cov = curve_fit(model, times, y, p0=(y[0], 12.0))
            found.append((1 / x[1], np.sqrt(cov[1, 1]) / x[1] ** 2))
    return np.array(found).T


def contenders(size):
    """Name -> (call without arguments giving T, truth)."""
    spin, t2 = simulate(catalogue.T2, TE, size, 0.04, 0.2)
    calls = {}

    def ours(name, model, images, times, truth, **options):
        images = jax.device_put(images)

        def call():
            found = fit_map(images, times, model=model, **options)
            return jax.block_until_ready(found).params[model.time_constant]

        calls[f"medjax {name}"] = (call, truth)

    ours("t2", catalogue.T2, spin, TE, t2)
    ours("t2 log-linear start", catalogue.T2, spin, TE, t2, start="log-linear")
    weights = np.random.default_rng(1).uniform(0.5, 2, spin.shape).astype(np.float32)
    ours("t2 weights", catalogue.T2, spin, TE, t2, weights=jax.device_put(weights))
    ours("t2 complex", catalogue.T2, spin.astype(np.complex64), TE, t2)
    short, short_t2 = simulate(catalogue.T2_OFFSET, TE, size, 0.02, 0.06)
    ours("t2_offset", catalogue.T2_OFFSET, short, TE, short_t2)
    for model in (catalogue.T1_IR, catalogue.T1_IR3):
        images, t1 = simulate(model, TI, size, 0.4, 2.0)
        ours(model.name, model, images, TI, t1)
        absolute = np.abs(images)
        ours(f"{model.name} magnitude", model, absolute, TI, t1, magnitude=True)
    program, on_device = jax.jit(plain_lm), jax.device_put(spin)
    times = jnp.asarray(TE, jnp.float32)
    calls["jax-lm t2"] = (
        lambda: jax.block_until_ready(program(on_device, times))[0],
        t2,
    )
    calls["log-linear t2"] = (lambda: log_linear(spin, TE), t2)
    calls["scipy t2"] = (lambda: scipy_fit(spin, TE)[0], t2)
    return calls


def measure(calls, *, rounds, slow_rounds):
    rows = []
    for name, (call, truth) in calls.items():
        print(f"  {name}: first call", file=sys.stderr)
        started = time.perf_counter()
        found = np.asarray(call()).ravel()
        first = time.perf_counter() - started
        error = np.abs(found / truth - 1)
        error = np.percentile(error[np.isfinite(error)], (50, 95))
        rows.append({"name": name, "first": first, "seconds": [], "cpu": []})
        rows[-1]["error"] = [float(e) for e in error]
    for index in range(rounds):
        for row in rows:
            if row["name"].startswith("scipy") and index >= slow_rounds:
                continue
            started, cpu = time.perf_counter(), time.process_time()
            calls[row["name"]][0]()
            row["seconds"].append(time.perf_counter() - started)
            row["cpu"].append(time.process_time() - cpu)
    return rows


def print_table(rows):
    print("| fit | ms | fastest, ms | CPU, ms | first call, s | error, % | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ours = statistics.median(rows[0]["seconds"])
    for row in rows:
        median, cpu = (statistics.median(row[key]) for key in ("seconds", "cpu"))
        half, most = (100 * e for e in row["error"])
        print(
            f"| {row['name']} | {1e3 * median:.2f} | {1e3 * min(row['seconds']):.2f} | "
            f"{1e3 * cpu:.2f} | {row['first']:.2f} | {half:.2f} / {most:.2f} | "
            f"{median / ours:.2f} |"
        )


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="voxels a side")
    parser.add_argument("--rounds", type=int, default=30, help="timed, of each")
    parser.add_argument("--slow-rounds", type=int, default=3, help="of scipy")
    parser.add_argument("--json", type=pathlib.Path, help="[workdir/bench/t2_fit.json]")
    args = parser.parse_args(argv)
    before = machine()
    print(f"{before['cpu']}, {before['cores']} cores, load {before['load'][0]:.1f}")
    rows = measure(
        contenders(args.size), rounds=args.rounds, slow_rounds=args.slow_rounds
    )
    print_table(rows)
    path = args.json or HERE.parent / "workdir" / "bench" / "t2_fit.json"
    document = {
        "command": shlex.join(["python", "benchmarks/t2_fit.py", *sys.argv[1:]]),
        "machine": before,
        "load_after": os.getloadavg(),
        "versions": {m.__name__: m.__version__ for m in (jax, np, scipy)},
        "size": args.size,
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1))
    partial.replace(path)
    print(f"\nload after {os.getloadavg()[0]:.1f}; every call: {path}")


if __name__ == "__main__":
    main()
