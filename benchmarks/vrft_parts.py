"""What each part of VRFT-Aug is worth: tasks x methods x seeds, with intervals.

    python benchmarks/vrft_parts.py                      the whole study
    python benchmarks/vrft_parts.py --table              what there is of it by now

A cell is a run of `configs/vrft_aug.py`, smaller. All cells of a task and seed have the
same tiny policy, untrained, and the same number of updates in the warm start and after
it; those with localisation have updates on boxes before: 200 supervised, 40 of GRPO.
Every cell is kept: a study that was stopped goes on with the cell it was in, and one
that was made with another config is refused. First stages that would be the same are
copied from a cell that has them. Seeds come one after the other, so what is there after
a stop is complete for the seeds before.

What the paper says, as far as it is public, and what the table can say to it:

    each part beats plain V-RFT                         rows "+ ..." against "V-RFT"
    the fuzzy reward beats 0/1 on ordinal tasks         "+ fuzzy, 0.25" and "0.5"
    negative recitation generalises better              "+ recite -" and "+ recite +"
    localisation first helps classification             "+ localisation", "zero-shot"
    the parts were never run together                   "all parts"

"+ fuzzy" has two rows because the paper does not say what a grade that is off by one
earns: 0.25 or 0.5. "all parts" is three of them where classes are no grades, and where
a task has no volume to localise in (nuclei_size): there is no "+ localisation" either.

Warm starts differ where prompts or the stages before differ, so each row has two
differences: to plain V-RFT, and to the warm start of its own cell. The row "warm start"
is plain V-RFT's. "zero-shot" is the policy that knows boxes only, which cannot write a
class: counted is the class that it holds most likely.

Intervals (95 %) resample seeds and the test's groups, crossed: a draw has the same
groups for all of its seeds. A group is a block of neighbouring slices of a plane, or
one nucleus or drawn shape. Differences are paired: the same questions of the same seed
for both; where fewer seeds have both, their number is before it. With three seeds they
say little about other seeds, and few groups make them too narrow: a test has few
blocks, and those of different planes cross in the one volume.
"""

import argparse
import os
import pathlib
import sys
import time

import jax

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from study.cells import (  # noqa: E402
    METHODS,
    SIZES,
    cell_config,
    cell_name,
    commits_of,
    methods_of,
    read_cell,
    run_cell,
    write_json,
)
from study.table import find_cells, make_table, print_table  # noqa: E402

from medjax.data.classes.built_in import TASKS  # noqa: E402


def run_study(out, tasks, methods, seeds, *, minutes=0.0, smoke=False):
    """Run the cells that are not finished; start none after `minutes`, if not 0."""
    plan = [
        (task, method, seed)
        for seed in seeds
        for task in tasks
        for method in methods_of(task)
        if method in methods
    ]
    configs = {cell: cell_config(*cell, smoke=smoke) for cell in plan}
    left = [x for x in plan if read_cell(out / cell_name(*x), configs[x]) is None]
    print(f"{len(plan)} cells, {len(plan) - len(left)} of them finished before")
    started = time.time()
    for done, cell in enumerate(left):
        if minutes and time.time() - started > 60 * minutes:
            print(
                f"{len(left) - done} of {len(plan)} cells left out: --minutes "
                f"{minutes:g} are over; the same command goes on with them"
            )
            return
        task, method, seed = cell
        siblings = [out / cell_name(task, other, seed) for other in METHODS]
        record = run_cell(out / cell_name(*cell), configs[cell], siblings)
        rest = (time.time() - started) / (done + 1) * (len(left) - done - 1)
        number = len(plan) - len(left) + done + 1
        print(
            f"cell {number} of {len(plan)}: {task}, {method}, seed {seed}: "
            f"{record['seconds']:.0f} s; about {rest / 60:.0f} min to go",
            flush=True,
        )


def cell_commits(out, tasks, seeds, *, smoke):
    """Finished cell -> commits of the code that its stages were made with."""
    cells = [find_cells(out, task, seeds, smoke=smoke) for task in tasks]
    records = [x for found in cells for seeds in found.values() for x in seeds.values()]
    return {folder.name: commits_of(folder) for folder, _ in records}


def parse_args(argv):
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    usual = ["mr_level", "ct_lung", "mr_structure"]
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=usual)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=0, help="start no cell after")
    parser.add_argument("--table", action="store_true", help="only show what there is")
    parser.add_argument("--smoke", action="store_true", help="tiny cells, for a test")
    where = "of the cells; default: workdir/bench/vrft_parts, or vrft_parts_smoke"
    parser.add_argument("--out", type=pathlib.Path, help=where)
    args = parser.parse_args(argv)
    folder = "vrft_parts_smoke" if args.smoke else "vrft_parts"
    args.out = args.out or HERE.parent / "workdir" / "bench" / folder
    return args


def main(argv=None):
    args = parse_args(argv)
    cells = {"out": args.out, "tasks": args.tasks, "seeds": args.seeds}
    cells |= {"smoke": args.smoke}
    if not args.table:
        cache = os.path.expanduser("~/.cache/medjax/jax")
        jax.config.update("jax_compilation_cache_dir", cache)
        run_study(methods=args.methods, minutes=args.minutes, **cells)
    table = make_table(**cells)
    print_table(table)
    made = cell_commits(**cells)
    options = sys.argv[1:] if argv is None else argv
    document = {
        "command": " ".join(["python", "benchmarks/vrft_parts.py", *options]),
        "sizes": "smoke" if args.smoke else SIZES,
        "methods": {name: argument for name, (argument, _) in METHODS.items()},
        "commits": sorted({commit for found in made.values() for commit in found}),
        "cells": made,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "table": table,
    }
    write_json(args.out / "vrft_parts.json", document)
    print(f"\nevery seed: {args.out / 'vrft_parts.json'}")


if __name__ == "__main__":
    main()
