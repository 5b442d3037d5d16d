"""What each part of VRFT-Aug is worth: tasks x methods x seeds, with intervals.

    python benchmarks/vrft_parts.py                      the whole study
    python benchmarks/vrft_parts.py --table              what there is of it by now

A cell is a run of `configs/vrft_aug.py`, smaller: the same tiny policy, warm start and
number of updates for every method of a task and seed. Its folder is kept: a study that
was stopped goes on with the cell it was in. Cells of a task and seed share their warm
start where it is the same. Seeds come one after the other, so what is there after a
stop is complete for the seeds before.

What the paper says, as far as it is public, and what the table can say to it:

    each part beats plain V-RFT                         rows "+ ..." against "V-RFT"
    the fuzzy reward beats 0/1 on ordinal tasks         "+ fuzzy, 0.25" and "0.5"
    negative recitation generalises better              "+ recite -" and "+ recite +"
    localisation first helps classification             "+ localisation", "zero-shot"
    the four were never run together                    "all four"

Intervals (95 %) resample seeds and, within them, the test's slices; differences are
paired: the same slices of the same seed for both. With three seeds they say little
about other seeds.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

PLAIN = "V-RFT"
GRADED = ("mr_level", "mr_ventricle", "ct_lung", "shape_size")
METHODS = {  # row: (argument of the config, for graded tasks only)
    "SFT, equal updates": ("parts=none,method=sft", False),
    PLAIN: ("parts=none", False),
    "+ prompt": ("parts=none,prompt=on", False),
    "+ localisation": ("parts=none,policy=on", False),
    "+ recite -": ("parts=none,recite=negative", False),
    "+ recite +": ("parts=none,recite=positive", False),
    "+ fuzzy, 0.25": ("parts=none,grade=fuzzy,mfrs=sixteenth", True),
    "+ fuzzy, 0.5": ("parts=none,grade=fuzzy,mfrs=gaussian", True),
    "all four": ("parts=all", False),
}
WITHOUT = ("majority class", "linear probe")  # no policy, the same for every seed
EARLIER = ("warm start", "zero-shot")
SIZES = {
    "warm_start.steps": 120,
    "warm_start.noise": 0.3,
    "train.grpo.steps": 150,
    "train.grpo.batch": 8,
    "train.sft.steps": 150,
    "train.sft.batch": 8,
    "localisation.warm_start.steps": 200,
    "localisation.train.grpo.steps": 40,
    "localisation.evaluation.limit": 64,
    "localisation.evaluation.bootstrap": 50,
    "evaluation.bootstrap": 50,
}


def cell_config(task, method, seed, sizes):
    """The config of a cell."""
    from configs.vrft_aug import get_config

    argument = METHODS[method][0]
    if argument == "parts=all" and not task.startswith("mr"):
        argument += ",policy=on"  # from MR to CT: another modality
    config = get_config(f"task={task},{argument},seed={seed}")
    with config.ignore_type():
        config.update_from_flattened_dict(sizes)
    return config.to_dict()


def share_stages(folder, siblings, config):
    """Copy finished first stages of a sibling with the same prompt and policy."""
    use, knowledge = config["localisation"]["use"], config["data"]["prompt_knowledge"]
    for sibling in siblings:
        marker = sibling / "cell.json"
        if sibling == folder or not marker.exists():
            continue
        cell = json.loads(marker.read_text())
        if (cell["localisation"], cell["knowledge"]) == (use, knowledge):
            for stage in ("boxes_warm_start", "boxes_grpo", "warm_start"):
                if (sibling / stage).is_dir() and not (folder / stage).exists():
                    shutil.copytree(sibling / stage, folder / stage)
            return


def run_cell(folder, config, siblings):
    """Train and evaluate a cell, or what is left of it; its record."""
    from medjax.recipes.vrft_aug import stages
    from medjax.runtime.stages import run_stages
    from medjax.sharding import make_mesh

    marker = folder / "cell.json"
    if marker.exists():
        return json.loads(marker.read_text())
    started = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    share_stages(folder, siblings, config)
    loop = ("system", "seed", "mesh", "rules", "checkpoint")
    sections = {name: x for name, x in config.items() if name not in loop}
    where = {"seed": config["seed"], "workdir": folder}
    chain = stages(**where, **sections)
    run_stages(
        chain,
        mesh=make_mesh(config["mesh"]),
        rules=config["rules"],
        checkpoint_every=50,
        keep=1,
        on_nonfinite="stop",
        facts={"config": config},
        **where,
    )
    last = chain[-1].name
    record = {
        "localisation": config["localisation"]["use"],
        "knowledge": config["data"]["prompt_knowledge"],
        "seconds": round(time.time() - started, 1),
        "answers": {"": f"{last}/eval"},
        "scores": json.loads((folder / last / "eval.jsonl").read_text().split("\n")[0]),
    }
    record["answers"]["warm start"] = "warm_start/eval"
    if config["localisation"]["use"]:
        record["answers"]["zero-shot"] = "warm_start/eval/0"
    write_json(marker, record)
    return record


def baselines(task, sizes):
    """Answers of the majority class and the linear probe to a task's test."""
    import numpy as np

    from medjax.data.class_batches import LabelRecord
    from medjax.data.probe import majority_answers, probe_answers
    from medjax.recipes.label_data import load_label_parts

    config = cell_config(task, PLAIN, 0, sizes)
    data = {k: x for k, x in config["data"].items() if k not in ("ramps", "probe")}
    found = load_label_parts(seed=0, **data)
    test, about = found.parts.test, found.wording.task
    records = []
    for n in range(test.count):
        rng = np.random.default_rng((config["evaluation"]["seed"], n))
        picture, label = test.picture(n, rng), int(test.labels[n, 0])
        records.append(
            LabelRecord(
                n,
                picture.image,
                "",
                about.questions[0].name,
                label,
                about.classes[label],
                picture.origin,
                picture.group,
                picture.plane,
                {},
            )
        )
    probe = config["data"]["probe"]
    train = found.parts.train
    guesses = (
        majority_answers(about, train, records),
        probe_answers(about, train, records, seed=0, **probe),
    )
    return {
        name: [
            {
                "group": record.group,
                "target": record.name,
                "label": int(guess),
                "answer": about.classes[guess],
            }
            for record, guess in zip(records, guessed, strict=True)
        ]
        for name, guessed in zip(WITHOUT, guesses, strict=True)
    }


def summarise(runs, plain, *, samples=2000):
    """Accuracy over seeds and the paired difference to `plain`, with intervals.

    Args:
        runs: rows of answers by seed.
        plain: those of plain V-RFT, by seed; None: no difference.
        samples: of the bootstrap.
    """
    import numpy as np

    def right(rows):
        return np.array([row["answer"] == row["target"] for row in rows], np.float64)

    seeds = sorted(runs if plain is None else runs.keys() & plain.keys())
    if not seeds:
        return None
    groups = [row["group"] for row in runs[seeds[0]]]
    names, member = np.unique(groups, return_inverse=True)
    value = np.stack([right(runs[s]) for s in seeds])
    if plain is not None:
        value = value - np.stack([right(plain[s]) for s in seeds])
    size = np.bincount(member)
    sums = np.stack([np.bincount(member, weights=row) for row in value])  # [seeds, S]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(samples):
        which = rng.integers(len(seeds), size=len(seeds))
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))
        draws.append(float((sums[which] @ counts).mean() / (size @ counts)))
    low, high = np.percentile(draws, [2.5, 97.5])
    return {
        "mean": float(value.mean()),
        "low": float(low),
        "high": float(high),
        "seeds": {s: float(v) for s, v in zip(seeds, value.mean(axis=1), strict=True)},
    }


def read_answers(folder):
    """Rows of an evaluation folder's last answers."""
    from medjax.recipes.scoring import earlier_rows

    return list(earlier_rows(folder))


def make_table(out, tasks, seeds, sizes):
    """Rows of every task: scores, differences, and what was measured beside."""
    table = {}
    for task in tasks:
        runs = {name: {} for name in (*METHODS, *EARLIER)}
        extra = {name: {} for name in METHODS}
        for seed in seeds:
            for method in METHODS:
                folder = out / cell_name(task, method, seed)
                if not (folder / "cell.json").exists():
                    continue
                record = json.loads((folder / "cell.json").read_text())
                runs[method][seed] = read_answers(folder / record["answers"][""])
                extra[method][seed] = record
                if method == PLAIN:
                    runs["warm start"][seed] = read_answers(
                        folder / record["answers"]["warm start"]
                    )
                if "zero-shot" in record["answers"] and method == "+ localisation":
                    runs["zero-shot"][seed] = read_answers(
                        folder / record["answers"]["zero-shot"]
                    )
        known = baselines(task, sizes)
        rows = {
            name: {"accuracy": summarise({0: answers}, None)}
            for name, answers in known.items()
        }
        for name in (*EARLIER, *METHODS):
            if not runs[name]:
                continue
            plain = runs[PLAIN] if name not in (PLAIN, *EARLIER) else None
            rows[name] = {"accuracy": summarise(runs[name], None)}
            if plain:
                rows[name]["difference"] = summarise(runs[name], plain)
            if name in extra:
                rows[name] |= mean_scores([r["scores"] for r in extra[name].values()])
        table[task] = rows
    return table


def mean_scores(records):
    """Means over seeds of scores that the tables show beside accuracy."""
    names = ("balanced accuracy", "kappa", "grade error", "parsed", "overlap", "length")
    found = {}
    for name in names:
        values = [r[name] for r in records if r.get(name) is not None]
        if values:
            found[name] = sum(values) / len(values)
    return found


def print_table(table):
    """One block a task."""

    def cell(value):
        if value is None:
            return "-"
        return f"{value['mean']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"

    for task, rows in table.items():
        print(f"\n{task}")
        header = f"{'':20} {'seeds':>5}  {'accuracy':>24}  {'minus V-RFT':>24}"
        print(f"{header}  {'kappa':>6} {'error':>6} {'overlap':>7} {'parsed':>6}")
        for name, row in rows.items():
            score = row["accuracy"]
            text = f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
            count = "" if name in WITHOUT else str(len(score["seeds"]))
            tail = " ".join(
                f"{row[k]:{w}.3f}" if k in row else " " * (w - 1) + "-"
                for k, w in zip(
                    ("kappa", "grade error", "overlap", "parsed"),
                    (6, 6, 7, 6),
                    strict=True,
                )
            )
            print(
                f"{name:20} {count:>5}  {text:>24}  {cell(row.get('difference')):>24}  "
                f"{tail}"
            )


def cell_name(task, method, seed):
    """Its folder."""
    words = method.replace("-", "minus" if method.endswith("-") else "")
    words = words.replace("+ ", "with ").replace("+", "plus")
    return f"{task}-{'_'.join(words.replace(',', '').split())}-{seed}"


def write_json(path, document):
    """Under a temporary name, then renamed."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1))
    partial.replace(path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tasks", nargs="+", default=["mr_level", "ct_lung", "mr_structure"]
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=0, help="start no cell after")
    parser.add_argument("--table", action="store_true", help="only show what there is")
    parser.add_argument("--smoke", action="store_true", help="tiny cells, for a test")
    folder = HERE.parent / "workdir" / "bench" / "vrft_parts"
    parser.add_argument("--out", type=pathlib.Path, default=folder)
    args = parser.parse_args(argv)
    import jax

    cache = os.path.expanduser("~/.cache/medjax/jax")
    jax.config.update("jax_compilation_cache_dir", cache)
    sizes = dict(SIZES)
    if args.smoke:
        steps = {name: 2 for name in SIZES if name.endswith("steps")}
        sizes |= steps | {"evaluation.limit": 16}
    started, done = time.time(), 0
    for seed in args.seeds if not args.table else ():
        for task in args.tasks:
            siblings = [args.out / cell_name(task, name, seed) for name in METHODS]
            for method in args.methods:
                if METHODS[method][1] and task not in GRADED:
                    continue
                if args.minutes and time.time() - started > 60 * args.minutes:
                    continue
                config = cell_config(task, method, seed, sizes)
                run_cell(args.out / cell_name(task, method, seed), config, siblings)
                done += 1
    table = make_table(args.out, args.tasks, args.seeds, sizes)
    print_table(table)
    document = {
        "command": " ".join(["python", "benchmarks/vrft_parts.py", *sys.argv[1:]]),
        "sizes": sizes,
        "methods": {name: argument for name, (argument, _) in METHODS.items()},
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "table": table,
    }
    write_json(args.out / "vrft_parts.json", document)
    print(f"\nevery seed: {args.out / 'vrft_parts.json'}")


if __name__ == "__main__":
    main()
