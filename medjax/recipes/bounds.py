r"""Print the smallest sigma a protocol allows, for a list of echo or inversion times.

    python -m medjax.recipes.bounds --model t2 --times 0.015,0.03,0.06,0.12 \
        --t2 0.06,0.08,0.1 --snr 50

All times are seconds, flip angles degrees. SNR is s0 / noise sd of one sample of weight
1. A weight is a number of averages: compare protocols of equal duration with it.
"""

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np

from medjax.mri.bounds import cramer_rao_bound
from medjax.mri.catalogue import MODELS, signal_model
from medjax.mri.model import SignalModel


def _numbers(text: str) -> list[float]:
    try:
        return [float(x) for x in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected numbers separated by commas, such as 0.02,0.04"
        ) from None


def bound_table(
    times: Sequence[float],
    *,
    model: SignalModel,
    values: Sequence[float],
    snr: float,
    others: dict[str, float | np.ndarray],
    weights: Sequence[float] | None = None,
) -> str:
    """A table of the bounds, a row for each value of the time constant.

    Args:
        times: When each contrast is sampled, in seconds; for t1_vfa its flip angle, in
            radians.
        model: The signal model that is fitted, from `signal_model`.
        values: The time constant of each row of the table, in seconds.
        snr: s0 over the standard deviation of one sample of weight 1; above 0.
        others: The model's other parameters but s0, which is 1; an offset is in units
            of s0, a second time in seconds, one for all rows or one for each.
        weights: How often each contrast is averaged; None stands for once each.

    Returns:
        Aligned text without a line end; sigma of the time constant is in milliseconds
        and in percent of it.
    """
    name = model.time_constant
    truth = {"s0": 1.0, name: np.asarray(values, float), **others}
    bound = cramer_rao_bound(
        np.asarray(times, float),
        model=model,
        params=truth,
        noise_sd=1 / snr,
        weights=None if weights is None else np.asarray(weights, float),
    )
    sigma = {key: np.asarray(value) for key, value in bound.items()}
    rest = [key for key in model.parameters if key != name]
    head = [f"{name} [ms]", "sigma [ms]", "sigma [%]", *(f"sigma {k}" for k in rest)]
    rows = [
        [
            f"{1e3 * value:.1f}",
            f"{1e3 * sigma[name][i]:.2f}",
            f"{100 * sigma[name][i] / value:.2f}",
            *(f"{sigma[key][i]:.4f}" for key in rest),
        ]
        for i, value in enumerate(values)
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in [head, *rows]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and print the table of `bound_table`.

    Args:
        argv: The words behind the program's name; None takes those of this process. A
            wrong one ends the process with its message.
    """
    parser = argparse.ArgumentParser(
        prog="python -m medjax.recipes.bounds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", choices=[*MODELS, "t1_vfa"], required=True, help="signal model")
    add("--times", type=_numbers, metavar="S,S,...", help="echo or inversion times [s]")
    add("--angles", type=_numbers, metavar="DEG,...", help="flip angles, for t1_vfa")
    for name in ("t2", "t2star", "t1", "t1star"):
        add(f"--{name}", type=_numbers, metavar="S,...", help=f"{name} of tissues [s]")
    add("--snr", type=float, required=True, help="s0 / noise sd of a single average")
    add("--weights", type=_numbers, metavar="N,...", help="averages a contrast [1]")
    add("--offset", type=float, help="in units of s0, for t2_offset [0]")
    add("--efficiency", type=float, help="of the inversion, for t1_ir3 [1]")
    add("--angle", type=float, metavar="DEG", help="of refocusing, for t2_epg [180]")
    add("--repetition-time", type=_numbers, metavar="S,...", help="for t1_vfa")
    args = parser.parse_args(argv)
    try:
        times = args.repetition_time  # one, or one an angle
        repetition = times[0] if times and len(times) == 1 else times
        model = signal_model(args.model, repetition_time=repetition)
        _check_flags(args, model)
        defaults = {"offset": 0.0, "efficiency": 1.0, "angle": 180.0}
        others = {
            key: value if getattr(args, key) is None else getattr(args, key)
            for key, value in defaults.items()
            if key in model.parameters
        }
        if "angle" in others:
            others["angle"] = math.radians(others["angle"])
        others |= {key: np.asarray(vars(args)[key]) for key in _times(model)[1:]}
        angles = args.angles is not None
        table = bound_table(
            np.deg2rad(args.angles) if angles else args.times,
            model=model,
            values=getattr(args, model.time_constant),
            snr=args.snr,
            others=others,
            weights=args.weights,
        )
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(
        f"Cramer-Rao bound, {args.model}, SNR {args.snr:g}, s0 = 1\n{table}\n"
    )


def _times(model: SignalModel) -> list[str]:
    """The parameters in seconds, the time constant first."""
    units = zip(model.parameters, model.units, strict=True)
    return [name for name, unit in units if unit == "s"]


def _check_flags(args: argparse.Namespace, model: SignalModel) -> None:
    """Refuse what the model needs and lacks, and what it has no use for."""
    sampling = "angles" if model.name == "t1_vfa" else "times"
    needed = {sampling, *_times(model)}
    useful = needed | set(model.parameters)
    tissues = ("t2", "t2star", "t1", "t1star")
    for name in ("times", "angles", *tissues, "offset", "efficiency", "angle"):
        given = vars(args)[name] is not None
        if given != (name in needed) and (given and name not in useful or not given):
            raise ValueError(
                f"model {model.name} {'has no use for' if given else 'needs'} --{name}"
            )
    if not args.snr > 0:
        raise ValueError(f"--snr {args.snr}: expected a positive number")


if __name__ == "__main__":
    main()
