"""Rerun a config over seeds: what training gains on each, with two kinds of intervals.

    python benchmarks/seeds.py --config=configs/vrft_aug.py --seeds=0,1,2,3,4
    python benchmarks/seeds.py --config=configs/medloc.py --path=sse
    python benchmarks/seeds.py --against=configs/vrft_aug.py:method=sft
    python benchmarks/seeds.py --config=configs/medloc.py -- --config.train.grpo.batch=4

Each seed is a run of `run.py` in a folder of its own, one after the other. A command
that was stopped goes on where it ended, a seed that has ended is not run again, and
one more seed is added by naming it. What stands behind `--` is given to every run.

The table has for each metric start and end of each seed, the mean gain with a t
interval over seeds (what would another seed give?) and a bootstrap over blocks of
slices, or patients (what would another test give?), of each seed and of the mean over
seeds. The JSON has all of it with command, commits, versions and processor.

A single run is an anecdote: last bits differ between processors, and reinforcement
makes much of them. `--path=sse` gives other last bits on the same machine (no fused
multiply-add, 128-bit vectors), by XLA_FLAGS=--xla_cpu_max_isa=SSE4_2.

Of `puq`, whose methods are compared on maps, there is one table: each method's mean
over seeds with its t interval.

The seeds do not share one program. `vmap` over seeds would save the compilation (a
seventh of the default's five minutes) and need the memory of all of them; on two
cores a step would take as many times as long as there are seeds, and checkpoints,
batches and early ends, which belong to a run, would have to be told apart.
"""

import argparse
import json
import os
import pathlib
import platform
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from study import gains  # noqa: E402
from study.reruns import (  # noqa: E402
    PATHS,
    RunError,
    environment,
    facts_of,
    processor,
    read_ends,
    read_record,
    run_name,
    run_seed,
    seeded,
    terminated_as_exit,
)

from medjax.evals.tables import Table, render_text  # noqa: E402
from medjax.runtime.naming import differences  # noqa: E402
from medjax.runtime.writer import write_atomic  # noqa: E402

ALLOWED = ("--config.", "--compilation_cache=")  # options that runs may be given


def run_all(out, config, seeds, *, path, options):
    """Run the seeds that have not ended; seed -> its folder."""
    folders = {seed: out / f"seed-{seed}" for seed in seeds}
    asked = {"config": config, "path": path, "options": list(options)}
    left = [s for s in seeds if read_record(folders[s], asked | {"seed": s}) is None]
    print(f"{config}: {len(seeds)} seeds, {len(seeds) - len(left)} ended before")
    started = time.time()
    for done, seed in enumerate(left):
        folder = folders[seed]
        number = len(seeds) - len(left) + done + 1
        print(f"seed {seed} ({number} of {len(seeds)}): {folder}/run.log", flush=True)
        record = run_seed(folder, config, seed, path=path, options=options)
        rest = (time.time() - started) / (done + 1) * (len(left) - done - 1)
        print(
            f"seed {seed}: {record['seconds']:.0f} s"
            + (", with warnings" if record["exit"] else "")
            + f"; about {rest / 60:.0f} min to go",
            flush=True,
        )
    return folders


def measure(folders, *, start=None, end=None):
    """What the runs in `folders` (by seed) were at both ends, and what made them.

    Raises:
        RunError: Their configs differ in more than the seed, or in their stages.
    """
    ends = {s: read_ends(folder, start=start, end=end) for s, folder in folders.items()}
    facts = {seed: facts_of(folder) for seed, folder in folders.items()}
    first = next(iter(folders))
    for seed in folders:
        configs = [facts[s]["config"] | {"seed": None} for s in (first, seed)]
        changed = differences(*configs)
        if changed:
            raise RunError(
                f"seeds {first} and {seed} are of different configs:\n  "
                + "\n  ".join(changed)
            )
        stages = [{p: ends[s][p]["stage"] for p in ends[s]} for s in (first, seed)]
        if stages[0] != stages[1]:
            raise RunError(f"seed {seed} ended in other stages: {stages}")
    return ends, facts


def as_runs(first, last):
    """Seed -> what `gains.summarise` takes, of the answers at two ends."""
    return {
        seed: {
            "start": first[seed]["scores"],
            "end": last[seed]["scores"],
            "gains": gains.gained(first[seed]["answers"], last[seed]["answers"]),
            "questions": gains.questions_of(last[seed]["answers"]),
            "groups": gains.groups_of(last[seed]["answers"]),
        }
        for seed in last
    }


class Printed(float):
    """A number that knows with how many digits behind the point it was printed."""

    digits = 3

    @classmethod
    def of(cls, text):
        found = cls(text)
        found.digits = len(text.partition(".")[2])
        return found


def contenders(last):
    """Row of the first table -> column -> its number at each seed, where it has one.

    The rows beside the policy's: baselines, and what earlier stages answered.
    """
    found = {}
    for end in last.values():
        for table in end["tables"][:1]:
            for name, *cells in table["rows"]:
                for column, cell in zip(table["header"][1:], cells, strict=True):
                    if column != "n" and not column.startswith("minus "):
                        value = cell.split(" ")[0]
                        row = found.setdefault(name, {}).setdefault(column, [])
                        row.append(None if value == "-" else Printed.of(value))
    return {
        name: {column: x for column, x in row.items() if len(x) == len(last)}
        for name, row in found.items()
    }


def over_seeds(last):
    """`contenders` with means and t intervals, and what the policy is better by."""
    policy = next(iter(last.values()))["stage"]
    rows = contenders(last)
    found = {}
    for name, row in rows.items():
        found[name] = {}
        for column, values in row.items():
            if None in values:
                continue
            ours = rows.get(policy, {}).get(column, [None])
            better = None
            if name != policy and None not in ours:
                pairs = zip(ours, values, strict=True)
                better = gains.seed_interval([round(a - b, 6) for a, b in pairs])
            digits = max(value.digits for value in values)
            found[name][column] = {
                **gains.seed_interval(values),
                "behind": better,
                "digits": digits,
            }
    return found


def number(value, *, signed=False, digits=3):
    return "-" if value is None else f"{value:{'+' if signed else ''}.{digits}f}"


def between(one, *, signed=False, digits=3):
    """`0.512 [0.498, 0.530]`, without the ends where there is no interval."""
    if one is None:
        return "-"
    mean = one.get("mean", one.get("value"))
    text = number(mean, signed=signed, digits=digits)
    if one["low"] is None:
        return text
    ends = (number(one[x], signed=signed, digits=digits) for x in ("low", "high"))
    return f"{text} [{', '.join(ends)}]"


def gain_table(title, found):
    """A row a metric: mean start and end, mean gain with both intervals."""
    header = (
        "",
        "start",
        "end",
        "gain, t over seeds",
        "over blocks",
        "seeds that gain",
    )
    rows = [
        (
            name,
            number(row["start"]["mean"]),
            number(row["end"]["mean"]),
            between(row["gain"], signed=True),
            between(row["blocks"], signed=True),
            f"{row['gain']['positive']} of {row['gain']['seeds']}",
        )
        for name, row in found.items()
    ]
    return Table(title, header, tuple(rows))


def seed_table(metric, row):
    """A row a seed: start, end and gain of a metric."""
    rows = [
        (
            f"seed {seed}",
            number(x["start"]),
            number(x["end"]),
            number(x["gain"], signed=True),
            between(x["blocks"], signed=True),
        )
        for seed, x in row["each"].items()
    ]
    header = ("", "start", "end", "gain", "over blocks")
    return Table(metric, header, tuple(rows))


def contender_table(title, found, columns, *, lead):
    """A row a contender: its means with t intervals, and with `lead` the policy's."""
    rows = []
    for name, row in found.items():
        cells = [
            between(row[x], digits=row[x]["digits"]) if x in row else "-"
            for x in columns
        ]
        ahead = row.get(columns[0], {}).get("behind")
        rows.append((name, *cells, *([between(ahead, signed=True)] * lead)))
    header = ("", *columns, *([f"{columns[0]}, policy minus it"] * lead))
    return Table(title, header, tuple(rows))


def make_tables(document):
    """All tables of a document, the shortest first."""
    path, seeds = document["path"], document["seeds"]
    stages = document["stages"]
    title = f"{document['config']}, {len(seeds)} seeds, path {path}: {stages['end']}"
    metrics, rows = document["metrics"], document["contenders"]
    told = f"{title}, means and t intervals over seeds"
    if not metrics:
        columns = list(dict.fromkeys(x for row in rows.values() for x in row))
        return [contender_table(told, rows, columns, lead=False)]
    main = [x for x, row in metrics.items() if row["blocks"]] or list(metrics)[:1]
    tables = [gain_table(f"{title} after {stages['start']}", metrics)]
    tables += [seed_table(name, metrics[name]) for name in main]
    if rows:
        columns = list(next(iter(rows.values())))[:4]
        tables.append(contender_table(told, rows, columns, lead=True))
    if document["against"]:
        other = document["against"]
        tables.append(
            gain_table(f"{stages['end']} minus {other['config']}", other["metrics"])
        )
    return tables


def made_by(facts):
    """Commits, versions and devices of runs, each once."""
    last = list(facts.values())[-1]
    return {
        "commits": sorted({x for fact in facts.values() for x in fact["commits"]}),
        "versions": last["versions"],
        "python": last["python"],
        "devices": last["devices"],
    }


def main(argv=None):
    args = parse_args(argv)
    with terminated_as_exit():
        how = {"path": args.path, "options": args.options}
        folders = run_all(folder_of(args, args.config), args.config, args.seeds, **how)
        ends, facts = measure(folders, start=args.start, end=args.end)
        last = {seed: x["end"] for seed, x in ends.items()}
        first = {seed: x["start"] for seed, x in ends.items() if "start" in x}
        against = None
        if args.against and not first:
            raise RunError(
                f"--against: {args.config} has maps, and what is paired by seed are "
                "answers: rerun each config alone"
            )
        if args.against:
            others = run_all(
                folder_of(args, args.against), args.against, args.seeds, **how
            )
            rival, their_facts = measure(others, end=args.end_against)
            theirs = {seed: x["end"] for seed, x in rival.items()}
            against = {"config": args.against, **made_by(their_facts)}
            against["metrics"] = gains.summarise(as_runs(theirs, last))
    one = ends[args.seeds[0]]
    document = {
        "command": " ".join(["python", "benchmarks/seeds.py", *args.argv]),
        "config": args.config,
        "options": args.options,
        "seeds": args.seeds,
        "path": args.path,
        "xla_flags": environment(args.path, os.environ, machine=platform.machine()).get(
            "XLA_FLAGS", ""
        ),
        **made_by(facts),
        "processor": processor(),
        "stages": {name: end["stage"] for name, end in one.items()},
        "seconds": {
            str(seed): json.loads((folder / "seed.json").read_text())["seconds"]
            for seed, folder in folders.items()
        },
        "metrics": gains.summarise(as_runs(first, last)) if first else {},
        "contenders": over_seeds(last),
        "against": against,
    }
    tables = make_tables(document)
    document["tables"] = [table._asdict() for table in tables]
    path = args.json or folder_of(args, args.config) / "seeds.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(document, indent=1) + "\n")
    print("\n" + "\n\n".join(map(render_text, tables)))
    print(f"\nall of it, with commits and versions: {path}")


def folder_of(args, config):
    return args.out / run_name(config) / args.path


def parse_args(argv):
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--config", default="configs/vrft_aug.py", help="with variants")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="by commas")
    parser.add_argument("--path", choices=PATHS, default="native", help="of the sums")
    parser.add_argument("--against", help="another config, paired by seed, at its end")
    parser.add_argument("--start", help="stage before [the one before the last]")
    parser.add_argument("--end", help="stage at whose end it is trained [the last]")
    parser.add_argument("--end_against", help="likewise of --against")
    where = HERE.parent / "workdir" / "seeds"
    parser.add_argument("--out", type=pathlib.Path, default=where, help=f"[{where}]")
    parser.add_argument(
        "--json", type=pathlib.Path, help="[OUT/CONFIG/PATH/seeds.json]"
    )
    parser.add_argument("options", nargs="*", help="of every run, behind --")
    given = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(given)
    try:
        args.seeds = [int(word) for word in args.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds={args.seeds}: expected whole numbers by commas")
    if len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
        parser.error(f"--seeds: expected each once, from 0 on; found {args.seeds}")
    for option in args.options:
        if not option.startswith(ALLOWED) or option.startswith("--config.seed"):
            parser.error(
                f"{option}: a run may be given {' and '.join(ALLOWED)}...; seeds and "
                "folders are those of this command"
            )
    for config in filter(None, (args.config, args.against)):
        try:
            seeded(config, 0)
        except ValueError as error:
            parser.error(str(error))
    args.out, args.argv = args.out.resolve(), given
    return args


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"seeds: {error}")
