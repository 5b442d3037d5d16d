"""Why greedy answers about several classes may get worse while samples get better.

    python benchmarks/label_mix.py                  four seeds, seconds
    python benchmarks/label_mix.py --seeds=1 --reward=exact

GRPO trains on balanced pictures and is scored on pictures as they come. Here a linear
softmax policy over the 32 sets of five classes learns both ways, in NumPy alone, so
that neither a network nor decoding has a part in it. A picture is a cue for each class:
1 where it is shown and else 0, plus noise of 0.8. A share of the pictures shows
nothing, the others one class and each further one with probability 0.15.

The warm start is supervised, on answers of which 30 % lack a class or name one where
there is none; then 8 answers each of 16 pictures a step are drawn, paid by F1 or as a
whole, and weighed by (r - mean) / (std + 1e-4). "balanced" draws pictures so that each
rarest class, and none, comes equally often, as `data.balance` does.
"""

import argparse
import itertools
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from medjax.data.classes.label_sets import rarest_labels

CLASSES, GROUP, BATCH, RATE = 5, 8, 16, 0.1
SETS = np.array(list(itertools.product([False, True], repeat=CLASSES)))
SCORES = ("greedy F1", "greedy F1, balanced", "sampled F1", "sampled F1, balanced")


def draw_pictures(rng, count, nothing):
    """Cues with a constant behind them, and the classes that are shown."""
    shown = rng.random((count, CLASSES)) < 0.15
    shown[np.arange(count), rng.integers(0, CLASSES, count)] = True
    shown[rng.random(count) < nothing] = False
    cues = shown + 0.8 * rng.standard_normal((count, CLASSES))
    return np.c_[cues, np.ones(count)], shown


def evenly(shown):
    """Weights by which each rarest class, and none, comes equally often."""
    kinds = rarest_labels(shown)
    weights = 1 / np.bincount(kinds, minlength=CLASSES + 1)[kinds]
    return weights / weights.sum()


def set_f1(named, shown):
    sizes = named.sum(-1) + shown.sum(-1)
    return np.where(sizes, 2 * (named & shown).sum(-1) / np.maximum(sizes, 1), 1.0)


def probabilities(policy, cues):
    scores = np.exp(cues @ policy - (cues @ policy).max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def spoil(rng, shown):
    """Answers of which 30 % lack a class, or name one where there is none."""
    answers = shown.copy()
    for row in np.flatnonzero(rng.random(len(shown)) < 0.3):
        there = np.flatnonzero(answers[row])
        if len(there):
            answers[row, rng.choice(there)] = False
        else:
            answers[row, rng.integers(CLASSES)] = True
    return answers


def score(policy, cues, shown):
    """`SCORES` of a part; "balanced" weighs its pictures as balanced training does."""
    chances, weights = probabilities(policy, cues), evenly(shown)
    greedy = set_f1(SETS[chances.argmax(axis=1)], shown)
    sampled = (chances * set_f1(SETS[None], shown[:, None])).sum(axis=1)
    return [x for one in (greedy, sampled) for x in (one.mean(), one @ weights)]


def train(seed, *, balanced, reward="f1", nothing=0.4, steps=400):
    """`SCORES` of the test part after the warm start, and after GRPO."""
    rng = np.random.default_rng(seed)
    cues, shown = draw_pictures(rng, 3000, nothing)
    tested = draw_pictures(rng, 2000, nothing)
    chance = evenly(shown) if balanced else None
    policy = np.zeros((CLASSES + 1, len(SETS)))
    number = 1 << np.arange(CLASSES - 1, -1, -1)  # of a set in SETS
    for _ in range(steps):
        rows = rng.choice(len(shown), 8 * BATCH, p=chance)
        wanted = np.eye(len(SETS))[spoil(rng, shown[rows]) @ number]
        error = wanted - probabilities(policy, cues[rows])
        policy += 2 * RATE * cues[rows].T @ error / len(rows)
    found = [score(policy, *tested)]
    for _ in range(steps):
        rows = rng.choice(len(shown), BATCH, p=chance)
        chances = probabilities(policy, cues[rows])
        drawn = np.array([rng.choice(len(SETS), GROUP, p=x) for x in chances])
        paid = set_f1(SETS[drawn], shown[rows][:, None])
        if reward == "exact":
            paid = (SETS[drawn] == shown[rows][:, None]).all(-1).astype(np.float64)
        spread = paid.std(axis=1, ddof=1, keepdims=True)
        gain = (paid - paid.mean(axis=1, keepdims=True)) / (spread + 1e-4)
        slope = np.einsum("bg,bgs->bs", gain, np.eye(len(SETS))[drawn])
        slope -= gain.sum(axis=1, keepdims=True) * chances
        policy += 2 * RATE * cues[rows].T @ slope / paid.size
    return [*found, score(policy, *tested)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--reward", choices=("f1", "exact"), default="f1")
    parser.add_argument("--steps", type=int, default=400)
    asked = parser.parse_args()
    width = max(map(len, SCORES))
    for balanced, nothing in ((True, 0.4), (False, 0.4), (True, 1 / 6)):
        runs = [
            train(
                seed,
                balanced=balanced,
                reward=asked.reward,
                nothing=nothing,
                steps=asked.steps,
            )
            for seed in range(asked.seeds)
        ]
        how = "balanced" if balanced else "as they come"
        print(f"trained {how}; {nothing:.0%} of the pictures show nothing")
        means, spread = np.mean(runs, axis=0), np.std(runs, axis=0)
        for n, name in enumerate(SCORES):
            cells = (f"{means[m, n]:.3f} +- {spread[m, n]:.3f}" for m in range(2))
            print(f"  {name:{width}}  warm start {next(cells)}  GRPO {next(cells)}")


if __name__ == "__main__":
    main()
