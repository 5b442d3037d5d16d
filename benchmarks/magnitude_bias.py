"""T2 of magnitudes that lie on the noise floor: a plain fit, and one with the floor.

    python benchmarks/magnitude_bias.py

4,000 voxels of 8 echoes, 15 to 120 ms, by SNR (s0 over the noise of a real part), of
one channel (Rician) and of a root of the sum of 8 squares. Medians in ms: the mean over
five draws, with a 95 % t interval.
"""

import argparse
import pathlib
import sys

import jax
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from study.gains import seed_interval  # noqa: E402

from medjax.mri.catalogue import signal_model  # noqa: E402
from medjax.mri.fit import fit_map  # noqa: E402
from medjax.mri.magnitude import fit_magnitudes  # noqa: E402

MODEL = signal_model("t2")
TIMES = 0.015 * np.arange(1, 9)


def magnitudes(t2, snr, coils, count, rng):
    """[8, count]: |signal + noise| of each channel, squares summed; s0 is 1."""
    clean = np.exp(-TIMES / t2)[:, None, None] / np.sqrt(coils)
    shape = (len(TIMES), coils, count)
    noise = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    squares = np.abs(clean + noise / snr) ** 2
    return np.sqrt(squares.sum(1)).astype(np.float32)


def medians(fits, t2, snr, coils, count, seed):
    """Median T2 in ms of each fit, of voxels of one draw."""
    rng = np.random.default_rng(seed)
    images = magnitudes(t2, snr, coils, count, rng)
    found = (np.asarray(fit(images, np.float32(1 / snr))) for fit in fits)
    return [1e3 * float(np.nanmedian(x)) for x in found]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=4000, help="voxels of a draw")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args(argv)
    print("| channels | T2 | SNR | decay | with the floor |")
    print("| --- | --- | --- | --- | --- |")
    for coils in (1, 8):

        @jax.jit
        def plain(images, noise):
            del noise
            return fit_map(images, TIMES, model=MODEL, magnitude=True).params["t2"]

        @jax.jit
        def floored(images, noise, coils=coils):
            return fit_magnitudes(
                images, TIMES, model=MODEL, noise=noise, coils=coils
            ).params["t2"]

        for t2 in (0.04, 0.08):
            for snr in (3, 5, 10, 20):
                found = [
                    medians((plain, floored), t2, snr, coils, args.count, seed)
                    for seed in range(args.seeds)
                ]
                cells = map(seed_interval, zip(*found, strict=True))
                told = [
                    f"{x['mean']:.1f} [{x['low']:.1f}, {x['high']:.1f}]" for x in cells
                ]
                print(f"| {coils} | {1e3 * t2:.0f} | {snr} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
