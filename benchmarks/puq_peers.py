"""Seconds and error of reconstruction, calibration and fit beside other libraries, CPU.

    python benchmarks/puq_peers.py --install      once: MRpro in its own environment
    python benchmarks/puq_peers.py                the table

========  =============================================================================
cg        CG-SENSE, 30 iterations, damping 1e-3: 128 x 128, 8 coils, 32 of 128 columns
cg8       the same of 8 contrasts, each with columns of its own
wavelet   FISTA with Daubechies wavelets of 2 vanishing moments, threshold 1e-3, 100 it.
espirit   coil maps from the 12 x 12 centre, kernel 6
fit       T2 of 128 x 128 voxels from 8 echoes
========  =============================================================================

What fails or is not there is left out, by name: `bart` on the PATH, `pip install sigpy
scipy`, MRpro. The error is NRMSE after one complex factor for images, the share of the
true coil images that the maps cannot explain for espirit, and the median and 95th
percentile of the relative T2 error for fit. For cg it says that all solve one problem;
L1 is scaled by each library in its own way, so compare time and error there.

Every library runs in a process of its own and works when told to: A B C A B C .... The
first call (compilation, lazy loading) stands apart. BART is a command: its seconds
count process start and files. On Linux all run with huge memory pages and without, as
in `grpo_step.py`; take a peer's better row. `lm` is a batched Levenberg-Marquardt as
one would write it in JAX.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from peers.process import HUGE_PAGES, Worker, WorkerError, worker_env  # noqa: E402

TASKS = ("cg", "cg8", "wavelet", "espirit", "fit")
LIBRARIES = ("medjax", "bart", "sigpy", "mrpro", "scipy", "lm")
BUDGET = 40.0  # seconds that one library may take for the rounds of one task
# pip, one call after the other: torch first, and MRpro without the torchvision that
# only its phantom needs and that would replace torch by a build for CUDA.
MRPRO = (
    "torch==2.13.0",
    "--no-deps mrpro==0.261015 torchnd pytorch-finufft ptwt<1",
    "einops finufft cufinufft ismrmrd nibabel pydicom pypulseq platformdirs requests "
    "PyWavelets tqdm scipy",
)


def start_worker(library, python, problem, folder, env, threads=None):
    """A process of `puq_peers/worker.py` that does tasks on request."""
    command = [python, HERE / "puq_peers" / "worker.py", library, problem, folder]
    env = env | {"PYTHONPATH": str(HERE.parent)}
    if threads:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        env |= dict.fromkeys(names, str(threads))
        # XLA, which reads no variable, by its cores
        command = ["taskset", "-c", f"0-{threads - 1}", *command]
    return Worker(library, command, env)


# ---- the problem


def phantom(folder):
    """(image, normalised coil maps, maker): BART's, or a disc where BART is not."""
    if shutil.which("bart"):
        for command in ("phantom -x 128 image", "phantom -x 128 -S 8 sens"):
            subprocess.run(["bart", *command.split()], cwd=folder, check=True)
        image, sens = (
            np.fromfile(folder / f"{name}.cfl", np.complex64)
            for name in ("image", "sens")
        )
        image = image.reshape(128, 128, order="F")
        sens = np.moveaxis(sens.reshape(128, 128, 8, order="F"), -1, 0)
        maker = "bart phantom"
    else:
        y, x = np.meshgrid(
            *[np.linspace(-1, 1, 128, endpoint=False)] * 2, indexing="ij"
        )
        image = (np.hypot(x, y) < 0.8) * (1.0 - (np.hypot(x - 0.2, y) < 0.3) * 0.5)
        angles = np.arange(8)[:, None, None] * np.pi / 4
        far = (x - np.cos(angles)) ** 2 + (y - np.sin(angles)) ** 2
        sens = np.exp(-far / 1.5 + 1j * (angles + x * np.cos(angles)))
        maker = "disc"
    return image, sens / np.linalg.norm(sens, axis=0), maker


def make_problem(folder):
    """Arrays for the workers, the truth, and what made the phantom."""
    image, sens, maker = phantom(folder)
    te = np.arange(1, 9) * 0.015
    decay = np.exp(-te / 0.08)[:, None, None]
    images = image * np.concatenate([np.ones_like(decay[:1]), decay[1:]])
    shifted = np.fft.ifftshift(images[:, None] * sens, (-2, -1))
    kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), (-2, -1))
    mask = np.zeros((8, 128), bool)
    mask[:, 58:70] = True
    rest = np.flatnonzero(~mask[0])
    for e, lines in enumerate(mask):
        rng = np.random.default_rng(1 + e)
        lines[rng.choice(rest, 20, replace=False)] = True
        noise = rng.standard_normal((2, *kspace.shape[1:]))
        kspace[e] += 0.005 * (noise[0] + 1j * noise[1])
    rng = np.random.default_rng(0)
    t2 = rng.uniform(0.04, 0.2, (128, 128))
    decays = rng.uniform(0.6, 1.4, t2.shape) * np.exp(-te[:, None, None] / t2)
    decays = decays + 0.02 * rng.standard_normal(decays.shape)
    np.savez(
        folder / "problem.npz",
        kspace=(kspace * mask[:, None, None]).astype(np.complex64),
        sens=sens.astype(np.complex64),
        mask=mask,
        te=te,
        decays=decays.astype(np.float32),
        damping=1e-3,
        weight=2e-3,  # of total variation, see `tv_peers.py`
    )
    return {"images": images, "coils": image * sens, "t2": t2}, maker


def error_of(task, found, truth):
    """Numbers that tell whether two libraries did the same work equally well."""
    if task == "fit":
        relative = np.abs(found[0] - truth["t2"]) / truth["t2"]
        return {"median": np.median(relative), "p95": np.percentile(relative, 95)}
    if task == "espirit":
        norm = np.linalg.norm(found, axis=0)
        maps = found / np.where(norm > 0, norm, 1)
        coils = truth["coils"]
        rest = coils - maps * np.sum(maps.conj() * coils, axis=0)
        return {"unexplained": np.linalg.norm(rest) / np.linalg.norm(coils)}
    expected = truth["images"][: len(found)] if found.ndim == 3 else truth["images"][0]
    scale = np.vdot(found, expected) / np.vdot(found, found)
    return {
        "nrmse": np.linalg.norm(scale * found - expected) / np.linalg.norm(expected)
    }


# ---- the measurement


def measure(workers, tasks, *, rounds, folder, truth):
    """Rows of results, one call of each library in turn, a task after the other."""
    rows = []
    for task in tasks:
        running = []
        for worker, pages in workers:
            if task not in worker.about["tasks"]:
                continue
            print(f"  {task}: {worker.name}, {pages} pages", file=sys.stderr)
            row = {"task": task, "library": worker.name, "pages": pages, "calls": []}
            row["first"] = worker.do(f"prepare {task}")
            found = np.load(folder / f"{worker.name}-{task}.npy")
            row["error"] = {
                k: float(v) for k, v in error_of(task, found, truth).items()
            }
            row["versions"] = {k: v for k, v in worker.about.items() if k != "tasks"}
            running.append((worker, row))
        for _ in range(rounds):
            for worker, row in running:
                spent = sum(call["seconds"] for call in row["calls"])
                if len(row["calls"]) < 3 or spent < BUDGET:
                    row["calls"].append(worker.do(task))
                    time.sleep(0.02)  # let spinning threads of the one before settle
        for _, row in running:
            for name in ("seconds", "cpu"):
                values = [call[name] for call in row["calls"]]
                row[name] = {"median": statistics.median(values), "min": min(values)}
            rows.append(row)
    return rows


def print_table(rows):
    """Markdown, as it can stand in a README; ratios to our first row of the task."""
    names = "task library pages s fastest CPU first ratio error".split()
    print("\n| " + " | ".join(names) + " |\n" + "| --- " * len(names) + "|")
    for row in rows:
        same = [
            r for r in rows if r["task"] == row["task"] and r["library"] == "medjax"
        ]
        seconds = row["seconds"]
        ratio = (
            f"{seconds['median'] / same[0]['seconds']['median']:.2f}" if same else ""
        )
        error = ", ".join(f"{v:.4f}" for v in row["error"].values())
        print(
            f"| {row['task']} | {row['library']} | {row['pages']} | "
            f"{seconds['median']:.4f} | {seconds['min']:.4f} | "
            f"{row['cpu']['median']:.4f} | {row['first']['seconds']:.2f} | {ratio} | "
            f"{error} |"
        )


def machine():
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next(x.split(": ")[1] for x in lines if x.startswith("model name"))
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
    }


def install_mrpro(environment):
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
    for packages in MRPRO:
        subprocess.run([*pip, *packages.split()], check=True)


def start(libraries, pages, environment, folder, threads):
    """Workers of what is there; what is not is said and skipped."""
    workers = []
    for size in pages:
        for library in libraries:
            python = sys.executable
            if library == "mrpro":
                python = environment / "bin" / "python"
            missing = library == "bart" and not shutil.which("bart")
            if missing or not pathlib.Path(python).exists():
                print(f"{library}: skipped, not installed")
                continue
            env, problem = worker_env(size), folder / "problem.npz"
            try:
                worker = start_worker(library, python, problem, folder, env, threads)
                workers.append((worker, size))
            except WorkerError as error:
                if library == "medjax":
                    raise
                print(f"{library}: skipped, {error}")
    return workers


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peers", type=pathlib.Path, help="folder of MRpro's environment"
    )
    parser.add_argument("--install", action="store_true", help="MRpro, then stop")
    parser.add_argument("--only", nargs="+", choices=LIBRARIES, default=[*LIBRARIES])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[*TASKS])
    parser.add_argument("--rounds", type=int, default=15, help="timed calls of each")
    parser.add_argument("--threads", type=int, help="cores for each [all]")
    sizes = ["huge", "small"] if sys.platform == "linux" else ["small"]
    parser.add_argument("--pages", nargs="+", choices=sizes, default=sizes)
    parser.add_argument(
        "--json", type=pathlib.Path, help="[workdir/bench/puq_peers.json]"
    )
    args = parser.parse_args(argv)
    peers = args.peers or pathlib.Path("~/.cache/medjax/peers").expanduser()
    if args.install:
        print(f"installing MRpro into {peers / 'mrpro'} (minutes, 2 GB)")
        return install_mrpro(peers / "mrpro")
    before = machine()
    print(f"{before['cpu']}, {before['cores']} cores, load {before['load'][0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        truth, maker = make_problem(folder)
        workers = start(args.only, args.pages, peers / "mrpro", folder, args.threads)
        try:
            rows = measure(
                workers, args.tasks, rounds=args.rounds, folder=folder, truth=truth
            )
        finally:
            for worker, _ in workers:
                worker.close()
    print_table(rows)
    path = args.json or HERE.parent / "workdir" / "bench" / "puq_peers.json"
    document = {
        "command": shlex.join(["python", "benchmarks/puq_peers.py", *sys.argv[1:]]),
        "machine": before,
        "load_after": os.getloadavg(),
        "phantom": maker,
        "threads": args.threads,
        "huge_pages": f"GLIBC_TUNABLES={HUGE_PAGES}",
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1))
    partial.replace(path)
    print(f"\nload after {os.getloadavg()[0]:.1f}; every call and all versions: {path}")
    return None


if __name__ == "__main__":
    main()
