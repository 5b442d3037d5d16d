"""The same short runs with an earlier commit and with this tree: are results the same?

    python tests/golden/runs.py --base=48e6ee2
    python tests/golden/runs.py --only=medloc_fixed,predict_trained
    python tests/golden/runs.py --tolerance-step1=1e-5
    python tests/golden/runs.py --record

Base is checked out into a temporary folder. Both trees get the same command lines on
this machine, and one line a run says "same" or names the first difference: file, step
and name, what base has and what this tree (HEAD) has. Exit code 1 where a run differs
or fails. See `compare.py` for what is compared, `probe.py` for the batches.

`--tolerance-step1` is for a commit that changes a compiled program: one rounding forks
the sampled tokens, and later steps cannot agree. HEAD then takes one step of each stage
from the parameters that base began it with, and those metrics agree to the tolerance;
so do evaluations of base's checkpoints and maps predicted from them.

Where HEAD's default is another method, `Run.on_head` names base's, so that the same is
compared with the same; `Run.more` lists the files that HEAD writes besides.

`--record` writes `runs.json`: what of base's batches, parameters and metrics is the
same on every CPU, which `tests/test_golden_runs.py` compares on each.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
from typing import NamedTuple

import scans
from compare import RIGHT, first_difference
from trees import Done, Tree, checkout, programs, share_programs

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]

BASE = "48e6ee2"
RECORD = HERE / "runs.json"
SYSTEMS = ("medloc", "vrft_aug", "puq")
# The policy has learnt its answers' form when GRPO begins: without it every reward is 0
# and so is every gradient, whatever the reward. Fewer checkpoints write less.
WARM = (
    "--config.warm_start.steps=250",
    "--config.train.grpo.sampling.temperature=0.5",
    "--config.checkpoint.every=1000",
)
WARM_LABELS = ("--config.warm_start.steps=200", "--config.checkpoint.every=1000")
LETTERS = "vrft_aug.py:smoke,task=shapes,policy=off,recite=positive"
KSPACE = ("--input={inputs}/scan.npz", "--config.predict.passes=4")
GUIDED = (*KSPACE, "--config.predict.fit=puq")
IMAGES = ("--input={inputs}/echoes.nii.gz",)
# What HEAD does otherwise by default, by the name of what base does.
OLD_PLAIN = (
    "--config.predict.method=subspace + wavelet",
    "--config.predict.fit=plain",
)
OLD_TRAINED = ("--config.predict.fit=weighted",)
REWARD = """
def short(completions, **columns):
    return [1 / (1 + len(text)) for text in completions]
"""


def old_puq(low: float = 0.03, high: float = 2.5) -> tuple[str, ...]:
    """Options of HEAD for base's evaluation: weights that were chosen by hand, and
    nothing beside PUQ's own parts."""
    basis = {"rank": 3, "low": low, "high": high, "atoms": 400}
    wavelet, low_rank = {"kind": "wavelet"}, {"kind": "low_rank"}
    methods = {
        "zero-filled": {"kind": "zero_filled"},
        "CG-SENSE": {"kind": "cg_sense", "damping": 2e-2},
        "subspace": {"kind": "subspace", "subspace": {**basis, "rank": 2}},
        "subspace + wavelet": wavelet | {"subspace": basis, "threshold": 4e-3},
        "locally low rank": low_rank | {"threshold": 2e-2},
    }
    methods["subspace"] |= {"damping": 3e-2}
    for name in list(methods)[1:]:
        methods[name] |= {"iterations": 4}  # as `smoke` has it
    return (
        f"--config.evaluation.methods={json.dumps(methods)}",
        "--config.fit.categorical.bins=0",
        "--config.fit.calibration.slices=0",
    )


OLD_PUQ = old_puq()
# Of files that base does not write: the tables of every evaluation once more as JSON,
TABLES = "*/tables.json"
PAGE = "predict/*/report.html"  # of a prediction
NARROW = "*/figures/*.narrow.png"  # for phones
# and those of the intervals of "unrolled, posterior".
INTERVALS = (
    "fit/eval/*/intervals.txt",
    "fit/figures/intervals.png",
    "fit/figures/trust_*.png",
)


class Run(NamedTuple):
    """One command line; `{inputs}` stands for the folder of scans and rewards."""

    name: str
    config: str  # after `configs/`
    arguments: tuple[str, ...] = ()
    mode: str = "train"  # or eval, predict, or batches: the probe
    needs: str = ""  # a run whose workdir, as base has left it, is read
    warmed: str = ""  # a run of the same tree whose finished warm start is taken over
    on_head: tuple[str, ...] = ()  # arguments by which HEAD does what base does
    more: tuple[str, ...] = ()  # patterns of files that HEAD alone may write
    counted: str = ""  # an expression of numbers that HEAD counts otherwise


FIRST = "medloc_curriculum"  # its warm start is the other rewards' too
# Evaluations are asked about blank pictures too.
SEEN = ("--config.evaluation.no_image=False",)
SEEN_BY_BOTH = (*SEEN, "--config.localisation.evaluation.no_image=False")


def medloc(name: str, variant: str = "", warmed: str = FIRST) -> Run:
    """A run of `medloc` by what stands behind its `smoke`."""
    return Run(name, f"medloc.py:smoke{variant}", WARM, warmed=warmed, on_head=SEEN)


RUNS = (
    medloc(FIRST, warmed=""),
    medloc("medloc_fixed", ",reward=fixed"),
    medloc("medloc_raw_iou", ",reward=raw_iou")._replace(counted=RIGHT),
    medloc("medloc_progress", ",reward=progress"),
    medloc("medloc_python", ",python_reward={inputs}/reward.py:short"),
    medloc("medloc_sft", ",method=sft"),
    Run(
        "vrft_aug_parts",
        "vrft_aug.py:smoke,parts=all,policy=on",
        WARM_LABELS,
        on_head=SEEN_BY_BOTH,
    ),
    Run("vrft_aug_letters", LETTERS, WARM_LABELS, on_head=SEEN_BY_BOTH),
    Run("puq_subspace", "puq.py:smoke,form=subspace", on_head=OLD_PUQ, more=INTERVALS),
    Run("puq_puq", "puq.py:smoke,form=puq", on_head=OLD_PUQ, more=INTERVALS),
    Run(
        "puq_modl",
        "puq.py:smoke,form=modl,contrast=t1",
        on_head=old_puq(0.2, 5.0),
        more=INTERVALS,
    ),
    Run("eval_medloc", "medloc.py:smoke", mode="eval", needs=FIRST, on_head=SEEN),
    Run(
        "eval_vrft_aug",
        "vrft_aug.py:smoke",
        mode="eval",
        needs="vrft_aug_parts",
        on_head=SEEN_BY_BOTH,
    ),
    Run(
        "eval_puq",
        "puq.py:smoke",
        mode="eval",
        needs="puq_subspace",
        on_head=OLD_PUQ,
        more=INTERVALS,
    ),
    Run("predict_plain", "puq.py:smoke", KSPACE, mode="predict", on_head=OLD_PLAIN),
    Run("predict_images", "puq.py:smoke", IMAGES, mode="predict"),
    Run(
        "predict_trained",
        "puq.py",
        KSPACE,
        mode="predict",
        needs="puq_subspace",
        on_head=OLD_TRAINED,
    ),
    Run("predict_guided", "puq.py", GUIDED, mode="predict", needs="puq_puq"),
    Run("batches_medloc", "medloc.py:smoke", mode="batches", on_head=SEEN),
    Run("batches_vrft_aug", "vrft_aug.py:smoke", mode="batches", on_head=SEEN_BY_BOTH),
    Run("batches_puq", "puq.py:smoke", mode="batches", on_head=OLD_PUQ),
)


def train_or_use(
    tree: Tree, run: Run, base: pathlib.Path, inputs: pathlib.Path
) -> Done:
    """One run as a user starts it; `base` is where base's runs are."""
    workdir = tree.folder / run.name
    warm_start = tree.folder / run.warmed / "warm_start"
    if run.warmed and warm_start.exists():
        shutil.copytree(warm_start, workdir / "warm_start")
    arguments = [
        f"--config=configs/{run.config}",
        *run.arguments,
        *(run.on_head if tree.folder != base else ()),
        f"--mode={run.mode}",
        f"--workdir={workdir}",
        f"--compilation_cache={tree.cache}",
    ]
    if run.needs:
        arguments.append(f"--checkpoint={base / run.needs}")
    arguments = [text.replace("{inputs}", str(inputs)) for text in arguments]
    return tree.execute(run.name, "run.py", arguments)


def probe(tree: Tree, run: Run, inputs: pathlib.Path, *more: str) -> Done:
    """What `probe.py` says about a run, as a JSON file."""
    out = tree.folder / f"{run.name}.json"
    config = run.config.replace("{inputs}", str(inputs))
    own = run.on_head if tree.folder.name == "head" else ()
    arguments = [f"--config=configs/{config}", *run.arguments, *own]
    arguments += [f"--out={out}", *more]
    done = tree.execute(run.name, str(HERE / "probe.py"), arguments)
    return done._replace(workdir=out)


DOUBTFUL = 3  # maps are there; HEAD warns of more than an older base


def compare(run: Run, base: Done, head: Done, tolerance: float) -> str:
    """What differs, or that nothing does."""
    for tree, done in (("base", base), ("HEAD", head)):
        if done.code not in (0, DOUBTFUL):
            return f"FAILED in {tree} (exit code {done.code}): {done.last_words()}"
    if tolerance and run.mode == "train":
        difference = differing_first_step(
            base.workdir, head.workdir, tolerance, counted=run.counted
        )
    else:
        difference = first_difference(
            base.workdir,
            head.workdir,
            tolerance=tolerance,
            more=(TABLES, PAGE, NARROW, *run.more),
            counted=run.counted,
        )
    return f"DIFFERS in {difference}" if difference else "same"


def differing_first_step(
    workdir: pathlib.Path, answer: pathlib.Path, tolerance: float, *, counted: str
) -> str | None:
    """HEAD's first steps beside the first rows of base's metrics."""
    rows = {}
    for stage in json.loads(answer.read_text()):
        with (workdir / stage / "metrics.jsonl").open() as lines:
            row = json.loads(lines.readline())
        rows[stage] = {k: x for k, x in row.items() if k not in ("step", "skipped")}
    base = answer.with_name(f"{answer.stem}.first_steps.json")
    base.write_text(json.dumps(rows))
    return first_difference(base, answer, tolerance=tolerance, counted=counted)


def chosen_runs(only: str) -> list[Run]:
    known = {run.name: run for run in RUNS}
    names = only.split(",") if only else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"--only: no run {unknown[0]!r}; expected some of {', '.join(known)}")
    return [run for run in RUNS if run.name in names]


def run_all(
    chosen: list[Run], base: Tree, head: Tree, inputs: pathlib.Path, tolerance: float
) -> bool:
    """Run and compare; whether all are the same.

    HEAD follows base by one run: each of two cores has something to do, and HEAD finds
    what base has compiled and trained.
    """
    read = {run.needs for run in chosen}
    needed = [run for run in RUNS if run in chosen or run.name in read]

    def first(run: Run) -> tuple[Done, set[str]]:
        if run.mode == "batches":
            done = probe(base, run, inputs)
        else:
            done = train_or_use(base, run, base.folder, inputs)
        return done, programs(base)  # whole files: nothing runs in base just now

    def second(run: Run) -> tuple[Done, set[str]]:
        _, compiled = firsts[run.name].result()
        if tolerance and run.mode == "train":
            begun = f"--first_steps={base.folder / run.name}"
            return probe(head, run, inputs, begun), set()
        share_programs(base, head, compiled)
        known = programs(head)
        if run.mode == "batches":
            done = probe(head, run, inputs)
        else:
            done = train_or_use(head, run, base.folder, inputs)
        return done, programs(head) - known - programs(base)

    width = max(len(run.name) for run in chosen)
    well = True
    with (
        concurrent.futures.ThreadPoolExecutor(1) as one,
        concurrent.futures.ThreadPoolExecutor(1) as other,
    ):
        firsts = {run.name: one.submit(first, run) for run in needed}
        seconds = {run.name: other.submit(second, run) for run in chosen}
        for run in chosen:
            head_done, own = seconds[run.name].result()
            base_done, _ = firsts[run.name].result()
            verdict = compare(run, base_done, head_done, tolerance)
            well &= verdict == "same"
            times = f"base {base_done.seconds:.0f} s, HEAD {head_done.seconds:.0f} s"
            names = ", ".join(sorted({name.rsplit("-", 2)[0] for name in own}))
            own_text = f"; HEAD compiled for itself: {names}" if own else ""
            print(f"{run.name:{width}}  {verdict}  ({times}{own_text})", flush=True)
    return well


def record(base: Tree, inputs: pathlib.Path) -> None:
    """Write what is the same on every CPU."""
    facts = {}
    for system in SYSTEMS:
        run = Run(system, f"{system}.py:smoke")
        done = probe(base, run, inputs, "--exact")
        if done.code:
            sys.exit(f"{system}: {done.last_words()}")
        facts[system] = json.loads(done.workdir.read_text())
    RECORD.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"recorded {RECORD}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--base", default=BASE, help="commit to compare with [%(default)s]")
    add("--base-folder", type=pathlib.Path, help="a checkout of it, only read")
    add("--only", default="", help="names of runs, joined by commas [all]")
    add("--tolerance-step1", type=float, default=0.0, help="see above [0: bitwise]")
    add("--record", action="store_true", help="write runs.json from base, compare none")
    add("--keep", type=pathlib.Path, help="a new folder for the runs [removed]")
    options = parser.parse_args()
    chosen = chosen_runs(options.only)
    os.environ["JAX_PLATFORMS"] = "cpu"  # checkpoints are read here
    with contextlib.ExitStack() as stack:
        temporary = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = options.keep.absolute() if options.keep else temporary / "runs"
        tree = options.base_folder and options.base_folder.absolute()
        if tree is None:
            tree = stack.enter_context(checkout(REPO, options.base, temporary / "base"))
        inputs = folder / "inputs"
        inputs.mkdir(parents=True)
        scans.write_kspace(inputs / "scan.npz")
        scans.write_images(inputs / "echoes.nii.gz")
        (inputs / "reward.py").write_text(REWARD)
        base = stack.enter_context(Tree(tree, folder / "base"))
        if options.record:
            record(base, inputs)
            return 0
        head = stack.enter_context(Tree(REPO, folder / "head"))
        well = run_all(chosen, base, head, inputs, options.tolerance_step1)
        return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
