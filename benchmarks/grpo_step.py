"""Seconds of one GRPO step, ours beside Hugging Face TRL and google-tunix, on the CPU.

    python benchmarks/grpo_step.py --install      once: TRL and tunix, 3 GB of wheels
    python benchmarks/grpo_step.py                the table

Text only, the same work for each: a Qwen2 of 4 layers, 4 prompts with 8 completions
each, none ending early, reward = share of even tokens, KL to a reference, one AdamW
update a rollout, float32. Random weights; each library has its own sampler.

Every library runs in a process and a virtual environment of its own and takes a step
when told to: A B C A B C ..., so that whatever else the machine does hits all alike.
The first step (compilation, lazy loading) stands apart. On Linux each library has two
rows in the same rounds, with huge memory pages, as `run.py` sets them, and without:
what helps one hurts another, so take a peer's better row. Ratios are to our first row.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from peers.process import HUGE_PAGES, Worker, WorkerError, worker_env  # noqa: E402

WORKLOAD = {
    "vocab": 512,
    "width": 128,
    "mlp": 256,
    "layers": 4,
    "heads": 4,
    "kv_heads": 2,
    "prompts": 4,
    "group": 8,
    "beta": 0.04,
    "lr": 1e-4,
}
WORKLOADS = {
    "short": WORKLOAD | {"prompt_tokens": 32, "new_tokens": 32},
    "long": WORKLOAD | {"prompt_tokens": 512, "new_tokens": 64},
}
# What pip installs, one call after the other: torch first, or TRL picks another.
PEERS = {
    "trl": ("torch==2.13.0", "trl==1.16.0"),
    "tunix": ("google-tunix==0.1.7",),
}


def start_worker(name, python, workload, env):
    """A process of `benchmarks/peers/` that takes steps on request."""
    script = HERE / "peers" / f"grpo_{name}.py"
    return Worker(name, [python, script, json.dumps(workload)], env)


def peer_python(folder, name):
    """The interpreter of an installed peer; None where it is not what we compare to."""
    package = PEERS[name][-1].replace("==", "-").replace("google-", "google_")
    if not any(folder.glob(f"{name}/lib/python*/site-packages/{package}.dist-info")):
        return None
    return folder / name / "bin" / "python"


def install_peer(folder, name):
    subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
    for package in PEERS[name]:
        pip = [folder / name / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, package], check=True)


def start(name, python, pages, workload):
    """A worker and its first step; None for a peer that does not get there."""
    env = worker_env(pages)
    if name == "medjax":
        env["PYTHONPATH"] = str(HERE.parent)
    print(f"  {name}, {pages} pages: first step", file=sys.stderr)
    try:
        worker = start_worker(name, python, workload, env)
        return worker, worker.do("step")
    except WorkerError as error:
        if name == "medjax":
            raise
        print(f"  left out: {error}", file=sys.stderr)
        return None


def measure(pythons, workload, *, pages, steps, warm):
    """Rows of results, one step of each in turn; a peer that fails is left out."""
    workers, rows = [], []
    try:
        for size in pages:
            for name, python in pythons.items():
                started = start(name, python, size, workload)
                if started is not None:
                    worker, first = started
                    workers.append(worker)
                    row = {"library": name, "pages": size, "first": first, "steps": []}
                    rows.append(row | {"versions": worker.about})
        for index in range(warm + steps):
            print(f"  round {index + 1}/{warm + steps}", end="\r", file=sys.stderr)
            for worker, row in zip(workers, rows, strict=True):
                taken = worker.do("step")
                time.sleep(0.05)  # let spinning threads of the one before settle
                if index >= warm:
                    row["steps"].append(taken)
    finally:
        for worker in workers:
            worker.close()
    for row in rows:
        for name in ("seconds", "cpu"):
            values = [taken[name] for taken in row["steps"]]
            row[name] = {"median": statistics.median(values), "min": min(values)}
    return rows


def print_table(name, workload, rows):
    """Markdown, as it can stand in a README."""
    lengths = f"{workload['prompt_tokens']} + {workload['new_tokens']} tokens"
    print(f"\n{name}: {workload['prompts']} x {workload['group']}, {lengths}\n")
    print("| library | pages | step, s | fastest, s | CPU, s | first step, s | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ours = [r["seconds"]["median"] for r in rows if r["library"] == "medjax"]
    for row in rows:
        seconds, cpu, first = row["seconds"], row["cpu"], row["first"]["seconds"]
        ratio = f"{seconds['median'] / ours[0]:.2f}" if ours else ""
        print(
            f"| {row['library']} | {row['pages']} | {seconds['median']:.3f} | "
            f"{seconds['min']:.3f} | {cpu['median']:.3f} | {first:.1f} | {ratio} |"
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


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peers", type=pathlib.Path, help="folder of their environments"
    )
    parser.add_argument(
        "--install", action="store_true", help="install peers, then stop"
    )
    parser.add_argument("--only", nargs="+", choices=["medjax", *PEERS])
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=[*WORKLOADS]
    )
    parser.add_argument("--steps", type=int, default=10, help="timed, of each")
    parser.add_argument(
        "--warm", type=int, default=3, help="not timed, after the first"
    )
    sizes = ["huge", "small"] if sys.platform == "linux" else ["small"]
    parser.add_argument("--pages", nargs="+", choices=sizes, default=sizes)
    parser.add_argument(
        "--json", type=pathlib.Path, help="[workdir/bench/grpo_step.json]"
    )
    args = parser.parse_args(argv)
    wanted = args.only or ["medjax", *PEERS]
    folder = args.peers or pathlib.Path("~/.cache/medjax/peers").expanduser()
    if args.install:
        for name in [name for name in wanted if name in PEERS]:
            print(f"installing {', '.join(PEERS[name])} into {folder / name} (minutes)")
            install_peer(folder, name)
        return
    pythons = {"medjax": sys.executable} if "medjax" in wanted else {}
    for name in [name for name in wanted if name in PEERS]:
        python = peer_python(folder, name)
        if python is None:
            print(
                f"{name}: skipped, no {PEERS[name][-1]} in {folder / name}; --install"
            )
        else:
            pythons[name] = python
    before, tables = machine(), {}
    print(f"{before['cpu']}, {before['cores']} cores, load {before['load'][0]:.1f}")
    for name in args.workloads:
        print(f"{name}", file=sys.stderr)
        rows = measure(
            pythons,
            WORKLOADS[name],
            pages=args.pages,
            steps=args.steps,
            warm=args.warm,
        )
        tables[name] = {"workload": WORKLOADS[name], "rows": rows}
        print_table(name, WORKLOADS[name], rows)
    path = args.json or HERE.parent / "workdir" / "bench" / "grpo_step.json"
    document = {
        "command": shlex.join(["python", "benchmarks/grpo_step.py", *sys.argv[1:]]),
        "machine": before,
        "load_after": os.getloadavg(),
        "huge_pages": f"GLIBC_TUNABLES={HUGE_PAGES}",
        "tables": tables,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1))
    partial.replace(path)
    print(f"\nload after {os.getloadavg()[0]:.1f}; every step and all versions: {path}")


if __name__ == "__main__":
    main()
