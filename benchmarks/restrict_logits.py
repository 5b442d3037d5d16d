"""Drawing from the likeliest tokens: `restrict_logits` beside one that sorts.

    python benchmarks/restrict_logits.py

4 rows of 151,936 normal logits in float32, the vocabulary of Qwen2.5. Both are
compiled and take turns; medians in ms, with the least and the largest. They keep the
same tokens, or the program ends with an error.
"""

import argparse
import pathlib
import statistics
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from medjax.rl.sampling import restrict_logits  # noqa: E402

OPTIONS = ({"top_k": 50}, {"top_p": 0.9}, {"top_k": 50, "top_p": 0.9})


def by_sorting(logits, *, top_k=None, top_p=None):
    """Which tokens are kept, by the order of the whole vocabulary."""
    if top_k is not None:
        logits = jnp.where(
            logits >= jax.lax.top_k(logits, top_k)[0][:, -1:], logits, -jnp.inf
        )
    if top_p is not None:
        ordered = jnp.sort(logits, axis=-1, descending=True)
        share = jax.nn.softmax(ordered)
        count = jnp.sum(jnp.cumsum(share, -1) - share < top_p, -1, keepdims=True)
        last = jnp.take_along_axis(ordered, count - 1, axis=-1)
        logits = jnp.where(logits >= last, logits, -jnp.inf)
    return jax.nn.log_softmax(logits)


def told(times):
    ordered = [1e3 * x for x in sorted(times)]
    return f"{statistics.median(ordered):8.2f} [{ordered[0]:.2f}, {ordered[-1]:.2f}]"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args(argv)
    logits = 3 * jax.random.normal(jax.random.key(0), (4, 151_936), jnp.float32)
    for options in OPTIONS:
        ways = [jax.jit(partial(f, **options)) for f in (by_sorting, restrict_logits)]
        kept = [np.asarray(way(logits)) > -1e29 for way in ways]
        if np.any(kept[0] != kept[1]):
            sys.exit(f"{options}: other tokens are kept")
        times = ([], [])
        for _ in range(args.rounds):
            for way, taken in zip(ways, times, strict=True):
                start = time.perf_counter()
                way(logits).block_until_ready()
                taken.append(time.perf_counter() - start)
        print(f"{options}: sorting {told(times[0])} ms, here {told(times[1])} ms")


if __name__ == "__main__":
    main()
