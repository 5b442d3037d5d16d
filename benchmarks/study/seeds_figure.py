"""A figure of a claim over seeds: each seed's start and end, and the rows beside them.

python benchmarks/study/seeds_figure.py docs/claims/vrft_aug.json docs/vrft_seeds.png
"""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

METRIC = "accuracy"
BESIDE = ("linear probe", "majority class", "no image: grpo")
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"


def main(claim: pathlib.Path, picture: pathlib.Path) -> None:
    held = json.loads(claim.read_text(encoding="utf-8"))
    found, stages = held["metrics"][METRIC], held["stages"]
    names = [stages["start"], stages["end"], "SFT, as many steps", *BESIDE]
    of = {name: row[METRIC] for name, row in held["contenders"].items()}
    rows = [of[stages["start"]], of[stages["end"]]]
    rows += [held["against"]["metrics"][METRIC]["start"], *map(of.get, BESIDE)]
    figure, axes = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
    for each in found["each"].values():
        axes.plot((0, 1), (each["start"], each["end"]), color=BLUE, alpha=0.45, lw=1)
    for place, row in enumerate(rows):
        colour = BLUE if place == 1 else ORANGE if place == 2 else GREY
        ends = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
        axes.errorbar(place, row["mean"], ends, fmt="o", color=colour, capsize=4)
        axes.annotate(
            f"{row['mean']:.3f}", (place, row["mean"]), (8, -3 if place else -14),
            textcoords="offset points", color=colour,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=18, ha="right")
    axes.set_xlim(-0.4, len(names) - 0.3)
    axes.set_ylim(0, 1)
    axes.set_ylabel(METRIC)
    axes.set_title(
        f"{len(held['seeds'])} seeds: means, 95 % t intervals; lines are single seeds",
        fontsize="medium",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
