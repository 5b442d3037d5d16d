"""The study's table: accuracy of every method, and its differences, with intervals."""

import numpy as np
from study.cells import (
    LOCATED,
    PLAIN,
    cell_config,
    cell_name,
    methods_of,
    read_cell,
)

from medjax.data.batches import STRIDE
from medjax.data.classes.batches import LabelRecord
from medjax.data.classes.built_in import TASKS
from medjax.data.classes.probe import majority_answers, probe_answers
from medjax.data.orders import evaluation_order
from medjax.recipes.classes.data import LabelData, load_labels
from medjax.recipes.policy.scoring import earlier_rows
from medjax.recipes.sections import read_section

WITHOUT = ("majority class", "linear probe")  # no policy, the same for every seed
EARLIER = ("warm start", "zero-shot")
SCORES = ("balanced accuracy", "kappa", "grade error", "parsed", "overlap", "length")
LEGEND = (
    "seeds and groups: how many; in brackets: 95 % over both; "
    '"2:" before a difference: over 2 seeds only'
)
# name of a score in a row: (head of its column, width)
SHOWN = {
    "kappa": ("kappa", 6),
    "grade error": ("error", 6),
    "overlap": ("overlap", 7),
    "parsed": ("parsed", 6),
}


def make_table(out, tasks, seeds, *, smoke=False):
    """Rows of every task of the finished cells in `out`."""
    return {
        task: {
            name: {"accuracy": summarise({0: answers})}
            for name, answers in baselines(task, smoke=smoke).items()
        }
        | policy_rows(task, find_cells(out, task, seeds, smoke=smoke))
        for task in tasks
    }


def find_cells(out, task, seeds, *, smoke):
    """Method -> seed -> (folder, record) of what is finished."""
    found = {}
    for method in methods_of(task):
        found[method] = {}
        for seed in seeds:
            folder = out / cell_name(task, method, seed)
            config = cell_config(task, method, seed, smoke=smoke)
            record = read_cell(folder, config)
            if record is not None:
                found[method][seed] = folder, record
    return found


def policy_rows(task, cells):
    """Rows of warm start, zero-shot and the methods, as far as there are cells.

    A method's "difference" is to plain V-RFT, its "own difference" to the warm start
    of the same cell. The row "warm start" is plain V-RFT's.
    """
    end = {method: answers_of(cells[method], "end") for method in cells}
    own = {method: answers_of(cells[method], "warm start") for method in cells}
    first = answers_of(cells.get(LOCATED, {}), "zero-shot")
    zero = {seed: ranked_as_answers(task, x) for seed, x in first.items()}
    earlier = (own[PLAIN], zero)
    rows = {
        name: {"accuracy": summarise(runs)}
        for name, runs in zip(EARLIER, earlier, strict=True)
        if runs
    }
    for name, runs in end.items():
        if not runs:
            continue
        rows[name] = {"accuracy": summarise(runs)}
        if name != PLAIN:
            rows[name]["difference"] = summarise(runs, end[PLAIN])
        rows[name]["own difference"] = summarise(runs, own[name])
        rows[name] |= mean_scores(
            [record["scores"] for _, record in cells[name].values()]
        )
    return rows


def answers_of(cells, which):
    """Seed -> rows of the answers that the cells' records call `which`."""
    return {
        seed: read_answers(folder, record["answers"][which])
        for seed, (folder, record) in cells.items()
    }


def read_answers(cell, place):
    """Rows of the last answers in an evaluation's folder, `place` in that of a cell."""
    rows = list(earlier_rows(cell / place))
    if not rows:
        raise FileNotFoundError(
            f"{cell / place}: expected answers.jsonl there or in a folder named by a "
            f"step; remove the cell {cell} and run it again"
        )
    return rows


def ranked_as_answers(task, rows):
    """The rows with the class that the policy holds most likely as the answer.

    A policy that knows boxes only writes boxes: none of its answers names a class.
    """
    classes = TASKS[task].classes
    return [row | {"answer": classes[row["ranked"]]} for row in rows]


def baselines(task, *, smoke=False):
    """Rows of the majority class and the linear probe, of a task's whole test."""
    config = cell_config(task, PLAIN, 0, smoke=smoke)
    found = load_labels(read_section(LabelData, "data", config["data"]), seed=0)
    about, known = found.wording.task, found.known
    limit, seed = config["evaluation"]["limit"] or None, config["evaluation"]["seed"]
    records = test_records(about, found.parts.test, seed=seed, limit=limit)
    guesses = (
        majority_answers(about, known, records),
        probe_answers(about, known, records, seed=0, **config["data"]["probe"]),
    )
    return {
        name: [
            {
                "sample_id": record.sample_id,
                "group": record.group,
                "target": record.name,
                "answer": about.classes[guess],
            }
            for record, guess in zip(records, guessed, strict=True)
        ]
        for name, guessed in zip(WITHOUT, guesses, strict=True)
    }


def test_records(about, test, *, seed, limit):
    """The questions of an evaluation, in its order; see `eval_label_batches`."""
    records = []
    for n in evaluation_order(test.count, seed=seed, limit=limit).tolist():
        picture = test.picture(n, np.random.default_rng((seed, n)))
        for m, question in enumerate(about.questions):
            label = int(test.labels[n, m])
            records.append(
                LabelRecord(
                    sample_id=n * STRIDE + m,
                    image=picture.image,
                    query="",
                    question=question.name,
                    labels=(label,),
                    name=about.classes[label],
                    slice_id=picture.origin,
                    group=picture.group,
                    plane=picture.plane,
                    columns={},
                )
            )
    return records[:limit]


def summarise(runs, other=None, *, samples=2000):
    """Share of right answers over seeds, or its paired difference, with an interval.

    The bootstrap resamples seeds and groups, which are crossed: a draw has the same
    groups for all of its seeds. A group is a block of neighbouring slices of one plane;
    without slices it is all pictures of one nucleus, or a drawn shape.

    A percentile interval over few blocks, or few seeds, is too narrow. Blocks count as
    independent but are not where they are of several planes: the planes of one volume
    cross. A single group adds no width, nor does a single seed: one of each gives an
    interval of width 0.

    Args:
        runs: rows of answers by seed, the same questions for all.
        other: rows to subtract, by seed; only seeds that both have count.
        samples: of the bootstrap.

    Returns:
        mean, low, high (95 %), groups: how many, and seeds: the value of each; None
        without a seed.

    Raises:
        ValueError: rows of different questions.
    """
    seeds = sorted(runs if other is None else runs.keys() & other.keys())
    if not seeds:
        return None
    first = runs[seeds[0]]
    value = np.stack([right_answers(runs[s], first, f"seed {s}") for s in seeds])
    if other is not None:
        value = value - np.stack(
            [right_answers(other[s], first, f"seed {s}, subtracted") for s in seeds]
        )
    names, member = np.unique([row["group"] for row in first], return_inverse=True)
    size = np.bincount(member)
    sums = np.stack(
        [np.bincount(member, weights=row) for row in value]
    )  # [seeds, groups]
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
        "groups": len(names),
        "seeds": {s: float(v) for s, v in zip(seeds, value.mean(axis=1), strict=True)},
    }


def right_answers(rows, first, name):
    """1 where an answer is right; refuses rows that are not about those of `first`."""
    asked, expected = ([row["sample_id"] for row in x] for x in (rows, first))
    if asked != expected:
        pairs = zip(asked, expected, strict=False)
        n = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
        where = f"{len(asked)} rows, expected {len(expected)}"
        if n is not None:
            where = f"row {n} has sample_id {asked[n]}, expected {expected[n]}"
        raise ValueError(
            f"answers of {name}: {where}; only answers to the same questions can be "
            "compared, remove the cell and run it again"
        )
    return np.array([row["answer"] == row["target"] for row in rows], np.float64)


def mean_scores(records):
    """Means over seeds of scores that the table shows beside accuracy."""
    found = {}
    for name in SCORES:
        values = [record[name] for record in records if record.get(name) is not None]
        if values:
            found[name] = sum(values) / len(values)
    return found


def print_table(table):
    """One part a task."""
    heads = " ".join(f"{head:>{width}}" for head, width in SHOWN.values())
    gains = f"{'minus V-RFT':>27}  {'minus own warm start':>27}"
    print(LEGEND)
    for task, rows in table.items():
        print(f"\n{task}")
        print(f"{'':20} {'seeds':>5} {'groups':>6}  {'accuracy':>22}  {gains}  {heads}")
        for name, row in rows.items():
            print(table_line(name, row))


def table_line(name, row):
    """A row as text, "-" where a number is missing."""
    score = row["accuracy"]

    def gain(value):
        if value is None:
            return "-"
        paired = len(value["seeds"])
        count = "" if paired == len(score["seeds"]) else f"{paired}: "
        low, high = value["low"], value["high"]
        return f"{count}{value['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"

    text = f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    count = "" if name in WITHOUT else str(len(score["seeds"]))
    tail = " ".join(
        f"{row[key]:{width}.3f}" if key in row else f"{'-':>{width}}"
        for key, (_, width) in SHOWN.items()
    )
    gains = (gain(row.get(key)) for key in ("difference", "own difference"))
    columns = "  ".join(f"{x:>27}" for x in gains)
    sizes = f"{count:>5} {score['groups']:>6}"
    return f"{name:20} {sizes}  {text:>22}  {columns}  {tail}"
