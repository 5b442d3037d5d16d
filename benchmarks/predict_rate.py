"""Questions a second: `--mode=predict` on files beside the evaluation of the same ones.

    python benchmarks/predict_rate.py                   512 questions, drawn shapes
    python benchmarks/predict_rate.py --rounds=5 --batch=32 --limit=1000

The shipped policy is evaluated on the config's test part; its pictures are written as
PNG files and its questions as a list, and the same policy is asked about them by
`--mode=predict`, at equal batch and length, in turn: E P E P .... A rate
counts from the moment that the first batch is done, so neither start nor compilation
is in it; what is done between batches is: of predict reading the files and writing the
answers. Overlays are drawn when all is answered. The shares are taken by rounds.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from importlib import import_module

import PIL.Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from configs import command_line  # noqa: E402
from configs.medloc import get_config  # noqa: E402
from medjax.data.pretraining.shipped import shipped_policy  # noqa: E402
from medjax.recipes.medloc import stages  # noqa: E402
from medjax.recipes.policy import predicting  # noqa: E402
from medjax.recipes.policy.opening import evaluate_chain  # noqa: E402
from medjax.runtime import loop  # noqa: E402
from medjax.sharding import make_mesh  # noqa: E402


class Clock:
    """`loop.evaluate`, which notes when each batch was done and what was asked."""

    def __init__(self):
        self.evaluate, self.times, self.asked = loop.evaluate, [], []

    def __call__(self, *args, **kwargs):
        self.times, self.asked = [], []
        for predictions, metrics, records in self.evaluate(*args, **kwargs):
            self.asked.append(records)
            self.times.append(time.perf_counter())
            yield predictions, metrics, records
        self.times.append(time.perf_counter())  # the last batch's answers are written

    def rate(self):
        questions = sum(map(len, self.asked[1:]))
        return questions / (self.times[-1] - self.times[0])


def write_questions(records, folder):
    """The pictures as PNG and a list of what is asked, as a user has them."""
    names, lines = {}, []
    for record in records:
        key = record.image.tobytes()
        if key not in names:
            names[key] = f"{len(names):04d}.png"
            PIL.Image.fromarray(record.image).save(folder / names[key])
        lines.append(json.dumps({"image": names[key], "query": record.query}))
    (folder / "ask.jsonl").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    return len(names)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="rows of a batch [16]")
    parser.add_argument("--questions", type=int, default=4, help="of a row [4]")
    parser.add_argument("--limit", type=int, default=512, help="questions [512]")
    shapes = "data=synthetic,model=tiny"
    parser.add_argument(
        "--arg", default=shapes, help=f"variants of configs/medloc.py [{shapes}]"
    )
    args = parser.parse_args(argv)
    config = get_config(args.arg).to_dict()
    config["evaluation"] |= {
        "no_image": False,
        "batch": args.batch,
        "questions": args.questions,
        "limit": args.limit,
    }
    config["predict"]["max_tokens"] = config["train"]["grpo"]["max_tokens"] = 64
    devices = {"mesh": make_mesh(config["mesh"]), "rules": config["rules"]}
    clock = Clock()
    loop.evaluate = predicting.evaluate = clock
    rates, texts = {"evaluation": [], "predict": []}, {}
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        pictures = root / "pictures"
        pictures.mkdir()
        for number in range(args.rounds + 1):  # the first writes the pictures
            place = {"seed": 0, "workdir": root / str(number)}
            told = command_line.sections("eval", config)
            told.pop("predict", None)
            evaluate_chain(
                stages(**told, **place), str(shipped_policy()), **place, **devices
            )
            if number:
                rates["evaluation"].append(clock.rate())
            else:
                count = write_questions(sum(clock.asked, []), pictures)
            import_module("medjax.recipes.predict.medloc").predict(
                str(pictures),
                ask=str(pictures / "ask.jsonl"),
                checkpoint=str(shipped_policy()),
                **place,
                **devices,
                **command_line.sections("predict", config),
            )
            if number:
                rates["predict"].append(clock.rate())
            for path in place["workdir"].rglob("answers.jsonl"):
                rows = map(json.loads, path.read_text().splitlines())
                kind = "predict" if path.parent.name == "predict" else "evaluation"
                texts[kind] = sorted((row["query"], row["text"]) for row in rows)
    same = sum(a == b for a, b in zip(*texts.values(), strict=True))
    print(f"{count} pictures, {len(texts['predict'])} questions, {same} texts equal")
    print(f"batch {args.batch} x {args.questions}, {os.cpu_count()} cores")
    for name, values in rates.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:10}  {middle:6.2f} questions/s  [{low:.2f}, {high:.2f}]")
    share = [b / a for a, b in zip(*rates.values(), strict=True)]
    print(
        f"predict / evaluation, median of {len(share)}: {statistics.median(share):.3f}"
    )


if __name__ == "__main__":
    main()
