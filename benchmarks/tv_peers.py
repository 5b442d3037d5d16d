"""Seconds to the same objective of total variation beside other libraries, CPU.

    python benchmarks/puq_peers.py --install      once: MRpro in its own environment
    python benchmarks/tv_peers.py                 the table

One 128 x 128 image, 8 coils, 32 of 128 columns, weight 2e-3:

    1/2 |A x - y|^2 + 2e-3 sum_r sqrt(|dx(r)|^2 + |dy(r)|^2), periodic differences

Each library takes so many iterations, several numbers of them. What it returns goes
into this objective, computed by one function in float64 for all; `gap` is how much that
lies above the least of the table, relative. Compare seconds in rows of about the same
gap. What a library's own penalty is, where it is another:

========  =============================================================================
medjax    this one (`joint_tv_sense`: FISTA with a dual that is carried on)
bart      this one (`pics -R T:3:0:L -e -w1`: ADMM)
sigpy     this one, by a proximal operator of ours (its app has each axis apart)
mrpro     |Re| and |Im| of each difference (PDHG): `own` is the gap in that objective
========  =============================================================================

What is not there is left out, by name: `bart` on the PATH, `pip install sigpy`, MRpro.
Each library runs in a process of its own, and they take turns. BART's seconds count the
start of its process and files.
"""

import argparse
import json
import os
import pathlib
import shlex
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import puq_peers  # noqa: E402

LIBRARIES = ("medjax", "bart", "sigpy", "mrpro")
STEPS = (25, 50, 75, 100, 150, 400)


def objective(image, problem, *, isotropic=True):
    """Of one image [H, W], in float64; the other penalty is MRpro's."""
    x = np.asarray(image, np.complex128)
    coils = np.fft.ifftshift(x * problem["sens"].astype(np.complex128), (-2, -1))
    spectrum = np.fft.fftshift(np.fft.fft2(coils, norm="ortho"), (-2, -1))
    misfit = spectrum * problem["mask"][0] - problem["kspace"][0]
    steps = [np.roll(x, -1, axis) - x for axis in (0, 1)]
    if isotropic:
        penalty = np.sqrt(sum(np.abs(step) ** 2 for step in steps)).sum()
    else:
        penalty = sum(np.abs(s.real).sum() + np.abs(s.imag).sum() for s in steps)
    return 0.5 * np.sum(np.abs(misfit) ** 2) + float(problem["weight"]) * penalty


def with_gaps(rows, folder, problem):
    """Rows with how far above the least objective of all each image lies."""
    for row in rows:
        image = np.load(folder / f"{row['library']}-{row['task']}.npy")
        for name, isotropic in (("objective", True), ("own", False)):
            row[name] = objective(image, problem, isotropic=isotropic)
    for name in ("objective", "own"):
        least = min(row[name] for row in rows)
        for row in rows:
            row[f"{name} gap"] = row[name] / least - 1
    return rows


def print_table(rows):
    names = ("library", "iterations", "s", "fastest", "CPU", "objective", "gap", "own")
    print("\n| " + " | ".join(names) + " |\n" + "| --- " * len(names) + "|")
    for row in sorted(rows, key=lambda r: (LIBRARIES.index(r["library"]), r["steps"])):
        own = f"{row['own gap']:.1e}" if row["library"] == "mrpro" else ""
        print(
            f"| {row['library']} | {row['steps']} | {row['seconds']['median']:.3f} | "
            f"{row['seconds']['min']:.3f} | {row['cpu']['median']:.3f} | "
            f"{row['objective']:.4f} | {row['objective gap']:.1e} | {own} |"
        )


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--peers", type=pathlib.Path, help="folder of MRpro's environment")
    add("--only", nargs="+", choices=LIBRARIES, default=[*LIBRARIES])
    add("--steps", nargs="+", type=int, choices=STEPS, default=[*STEPS])
    add("--rounds", type=int, default=5, help="timed calls of each")
    add("--threads", type=int, help="cores for each [all]")
    add("--json", type=pathlib.Path, help="[workdir/bench/tv_peers.json]")
    args = parser.parse_args(argv)
    peers = args.peers or pathlib.Path("~/.cache/medjax/peers").expanduser()
    before = puq_peers.machine()
    print(f"{before['cpu']}, {before['cores']} cores, load {before['load'][0]:.1f}")
    pages = ["huge" if sys.platform == "linux" else "small"]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        truth, maker = puq_peers.make_problem(folder)
        with np.load(folder / "problem.npz") as arrays:
            problem = dict(arrays)
        workers = puq_peers.start(
            args.only, pages, peers / "mrpro", folder, args.threads
        )
        tasks = [f"tv{n}" for n in args.steps]
        try:
            rows = puq_peers.measure(
                workers, tasks, rounds=args.rounds, folder=folder, truth=truth
            )
        finally:
            for worker, _ in workers:
                worker.close()
        for row in rows:
            row["steps"] = int(row["task"].removeprefix("tv"))
        rows = with_gaps(rows, folder, problem)
    print_table(rows)
    path = args.json or HERE.parent / "workdir" / "bench" / "tv_peers.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "command": shlex.join(["python", "benchmarks/tv_peers.py", *sys.argv[1:]]),
        "machine": before,
        "load_after": os.getloadavg(),
        "phantom": maker,
        "threads": args.threads,
        "rows": rows,
    }
    path.write_text(json.dumps(document, indent=1))
    print(f"\nload after {os.getloadavg()[0]:.1f}; every call and all versions: {path}")


if __name__ == "__main__":
    main()
