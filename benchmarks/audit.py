"""What an audit costs: steps of GRPO with `train.grpo.audit` on and off, interleaved.

    python benchmarks/audit.py                      the demo's step, on drawn shapes
    python benchmarks/audit.py --steps=40 --arg=smoke

The policy, its batches and its step are those of the config; drawn shapes need no
download. Both programs are compiled first. Then they take steps in turn, off
and on, each as the loop does: the step is dispatched, the metrics of the one before are
fetched and written, with the audit its trace too. Printed are the medians of wall and
of CPU seconds (of all threads; other programs on the machine disturb it less) and their
differences by pairs, and what the lines alone take on the host.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax  # noqa: E402

from configs.medloc import get_config  # noqa: E402
from medjax.recipes.medloc import stages  # noqa: E402
from medjax.runtime.audit import audit_writer  # noqa: E402
from medjax.runtime.program import judged  # noqa: E402
from medjax.runtime.writer import metrics_writer  # noqa: E402

LOOP = ("system", "seed", "mesh", "rules", "checkpoint", "predict")


def make_stage(arg, audit, workdir):
    """The stage of GRPO of the config, with or without an audit."""
    config = get_config(arg)
    config.train.grpo.audit = audit
    sections = {k: x for k, x in config.to_dict().items() if k not in LOOP}
    return stages(seed=0, workdir=workdir, **sections)[-1]


class Runner:
    """Steps of one stage, as the loop takes them."""

    def __init__(self, stage, folder, stack):
        self.batches, self.pending, self.lines = iter(stage.source), None, []
        key = jax.random.key(0)
        self.state = jax.jit(stage.system.init)(key)
        self.key = key
        step = judged(stage.system.update, skip=False)
        self.update = jax.jit(step, donate_argnums=0)
        self.write = stack(metrics_writer(folder, name="metrics", restored_step=0))
        self.audit = stage.audit
        self.put = stack(audit_writer(folder, stage.audit, restored_step=0))
        self.number = 0

    def take(self):
        """(wall, CPU) seconds of a step, fetching and writing the one before."""
        batch = jax.device_put(next(self.batches))
        jax.block_until_ready((batch, self.state))
        wall, cpu = time.perf_counter(), time.process_time()
        self.state, metrics = self.update(self.state, batch, self.key)
        trace = metrics.pop("trace", None)
        if self.pending is not None:
            number, values, old = self.pending
            values, old = jax.device_get((values, old))
            self.write(number, values)
            if self.audit is not None:
                start = time.perf_counter(), time.process_time()
                self.put(number, old, values)
                self.lines.append(time.process_time() - start[1])
        jax.block_until_ready(self.state)
        taken = time.perf_counter() - wall, time.process_time() - cpu
        self.number += 1
        self.pending = self.number, metrics, trace
        return taken


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="pairs that are timed")
    parser.add_argument("--warm", type=int, default=3, help="pairs that are not")
    demo = "data=synthetic,model=tiny"
    parser.add_argument(
        "--arg", default=demo, help=f"variants of configs/medloc.py [{demo}]"
    )
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runners = {
            audit: Runner(
                make_stage(args.arg, audit, folder / audit),
                folder / audit,
                stack.enter_context,
            )
            for audit in ("off", "on")
        }
        times = {audit: [] for audit in runners}
        for index in range(args.warm + args.steps):
            for audit, runner in runners.items():
                taken = runner.take()
                if index >= args.warm:
                    times[audit].append(taken)
        size = sum(x.stat().st_size for x in (folder / "on/audit").iterdir())
        lines = statistics.median(runners["on"].lines[args.warm :])
        rounds = runners["on"].number - 1
    print(
        f"{args.steps} pairs, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    found = {}
    for place, name in enumerate(("wall", "CPU")):
        off, on = ([x[place] for x in times[audit]] for audit in ("off", "on"))
        ratios = [b / a - 1 for a, b in zip(off, on, strict=True)]
        found[name] = {
            "off": statistics.median(off),
            "on": statistics.median(on),
            "more": statistics.median(ratios),
        }
        print(
            f"{name}: off {found[name]['off']:.4f} s, on {found[name]['on']:.4f} s, "
            f"{100 * found[name]['more']:+.2f} % by pairs"
        )
    share = lines / found["CPU"]["off"]
    print(
        f"lines: {1000 * lines:.1f} ms of CPU a step, {100 * share:.2f} % of its own; "
        f"{size / rounds / 1e3:.0f} kB a step"
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
