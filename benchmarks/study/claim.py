"""What a run found, as a small JSON that stands in the repository beside its claim.

    python benchmarks/study/claim.py workdir/medloc docs/claims/medloc.json

Run it on the machine that made the run: the processor's name is of now. Where a run was
evaluated again by --mode=eval, from the same commit as this command, say --evaluated:
training and tables are then of two commits.
"""

import argparse
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
from study.reruns import (  # noqa: E402
    RunError,
    facts_of,
    manifest_of,
    processor,
    read_rows,
    stages_of,
)

from medjax.runtime.writer import write_atomic  # noqa: E402


def run_claim(folder, *, evaluated=False):
    """Command, seed, commits, versions, last scores and tables of a run's folder.

    Raises:
        RunError: It has no stage that was evaluated, or is of a version that wrote no
            tables.json.
    """
    names = stages_of(folder)
    if not names:
        raise RunError(f"{folder}: no stage with an eval.jsonl")
    last = folder / names[-1]
    row = read_rows(last / "eval.jsonl")[-1]
    tables = last / "eval" / str(row["step"]) / "tables.json"
    if not tables.exists():
        raise RunError(f"{tables} is missing: evaluate the run again, --mode=eval")
    facts = facts_of(folder)
    return {
        "command": command_of(manifest_of(last)[-1]["command"]),
        "seeds": [facts["config"]["seed"]],
        "commits": facts["commits"],
        "versions": facts["versions"],
        "python": facts["python"],
        "devices": facts["devices"],
        "processor": processor(),
        "stage": names[-1],
        "scores": row,
        "tables": json.loads(tables.read_text("utf-8")),
    } | ({"evaluated": this_commit()} if evaluated else {})


def this_commit():
    """The commit of this source tree.

    Raises:
        RunError: It has local changes, so no commit says what it is.
    """
    git = ["git", "-C", str(HERE)]
    changes = [*git, "status", "--porcelain", "--untracked-files=no"]
    if subprocess.check_output(changes):
        raise RunError("--evaluated: the source tree has changes that no commit has")
    return subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()


def command_of(words):
    """The command of a manifest as one would type it: no paths of a machine."""
    named = [pathlib.Path(words[1]).name, *words[2:]]
    places = ("--workdir", "--compilation_cache", "--checkpoint")
    return " ".join(["python", *(x for x in named if not x.startswith(places))])


def main(argv=None):
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="a run's folder")
    parser.add_argument("json", type=pathlib.Path, help="the file to write")
    parser.add_argument(
        "--evaluated", action="store_true", help="again, by this commit"
    )
    args = parser.parse_args(argv)
    document = run_claim(args.run, evaluated=args.evaluated)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(args.json, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"claim: {error}")
