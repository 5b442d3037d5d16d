"""Whether a scan gets joint TV and a posterior, and what is said where it does not."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.data.scans.formats import Scan, ScanSlice
from medjax.recipes.qmri.calibrated import load_calibration, shipped
from medjax.recipes.qmri.methods import tv_scales, tv_search
from medjax.recipes.qmri.options import Method, Predict
from medjax.recipes.qmri.slabs import full_centre
from medjax.recipes.qmri.trusted import Trusting, line_mask
from medjax.systems.puq.calibration import Protocol, protocol_doubts
from medjax.systems.puq.network import Quantity
from medjax.systems.puq.posterior_maps import HIGH, LOW
from medjax.systems.puq.scan_checks import Checks, Verdict, judge_scan

FITS = ("posterior", "plain", "weighted", "puq")
OF_NETWORKS = ("weighted", "puq")
KIND = "joint_tv"


class Joint(NamedTuple):
    """How a scan becomes maps by joint TV and a posterior."""

    trusting: Trusting
    calibration: str  # where u comes from: a file, or the one that is shipped
    doubts: tuple[str, ...]  # where the scan is far from what u was calibrated on
    acceleration: float  # 1 / sampled share


def check_posterior_options(options: Predict) -> None:
    """Refuse by name what makes no interval and no table.

    Raises:
        ValueError: Quantiles outside (0, 1) or not one on each side of the median, an
            unknown fit, too few replicas, or names without labels.
    """
    low, high = options.quantiles
    if not 0 < low < 0.5 < high < 1:
        raise ValueError(
            f"predict.quantiles {options.quantiles}: expected two between 0 and 1, one "
            "on each side of 0.5, such as 0.025,0.975"
        )
    if options.fit not in ("", *FITS):
        raise ValueError(
            f"predict.fit {options.fit!r}: expected one of {', '.join(FITS)}, or '' "
            "for what suits the scan"
        )
    if options.label_names and not options.labels:
        raise ValueError(
            f"predict.label_names {options.label_names}: names of what? Expected "
            "predict.labels beside it"
        )
    if options.labels and options.replicas < 8:
        raise ValueError(
            f"predict.replicas {options.replicas}: expected at least 8, of which the "
            "correlation within a region is known to a third"
        )


def centre_lines(one: ScanSlice) -> int:
    """How many lines in the middle of a slice's k-space all contrasts have.

    Args:
        one: Of k-space. Its mask has columns that are sampled as a whole, or points; of
            points it is the smaller side of the block.
    """
    mask, size = line_mask(np.asarray(one.mask)), np.asarray(one.kspace).shape
    rows, columns = full_centre(mask, size, limit=max(size[-2:]))
    return columns if mask.shape[-2] == 1 else min(rows, columns)


def too_few_lines(one: ScanSlice, center: int) -> str:
    """Why no lines of a slice can be held out, in words; "" where they can.

    Args:
        one: Of k-space.
        center: Lines in the middle that are kept.
    """
    mask = line_mask(np.asarray(one.mask))
    rows = np.any(mask, axis=-1, keepdims=True)
    columns = np.any(mask, axis=-2, keepdims=True)
    if mask.shape[-2] > 1 and np.array_equal(rows & columns, mask):
        return "lines are sampled in part, as with a partial echo"
    width, kept = mask.shape[-1], np.zeros(mask.shape[-1], bool)
    start = (width - center + 1) // 2
    kept[start : start + center] = True
    outer = np.sum(columns[..., 0, :] & ~kept, axis=-1)
    worst = int(outer.argmin())
    if outer[worst] >= 2:
        return ""
    return (
        f"contrast {worst} has {int(outer[worst])} lines outside the centre of "
        f"{center}, and 2 are needed to hold one out"
    )


def make_joint(
    scan: Scan,
    first: ScanSlice,
    quantity: Quantity,
    name: str,
    method: Method,
    options: Predict,
    *,
    of: str = "joint TV",
) -> Joint:
    """How a scan goes through joint TV to a posterior.

    Args:
        scan: Its contrast decides which calibration is used.
        first: A slice with signal; its centre is never held out.
        quantity: What is fitted.
        name: Of the method.
        method: Of the kind "joint_tv", its subspace as wide as the model needs.
        options: Quantiles, calibration, replicas.
        of: Whose images the posterior is of, "joint TV" or "network"; of a network's no
            region's correlation is found, and no halves are held against each other.

    Raises:
        ValueError: The calibration is of another contrast, or no calibration.
        FileNotFoundError: There is no such calibration.
    """
    file = options.calibration
    calibration = load_calibration(scan.contrast, of, file=file)
    own = of == "joint TV"
    trusting = Trusting(
        quantity.model,
        quantity.bounds,
        tv_search(name, method, centre_lines(first)),
        tv_scales(method),
        calibration,
        options.quantiles,
        options.replicas if options.labels and own else 0,
        options.self_check,
    )
    measured = Protocol(
        scan.contrast,
        tuple(scan.times.tolist()),
        float(np.mean(scan.voxel_mm[:2])),
        np.asarray(first.kspace).shape[1],
    )
    rate = 1 / float(np.mean(np.asarray(first.mask)))
    doubts = protocol_doubts(calibration, measured, acceleration=rate)
    where = file or f"as shipped, {shipped(scan.contrast, of).name}"
    return Joint(trusting, where, tuple(doubts), rate)


def posterior_fields(joint: Joint) -> dict[str, Any]:
    """What a sidecar and the summary say of a posterior, as JSON has it.

    Args:
        joint: Of the scan.
    """
    how, calibration = joint.trusting, joint.trusting.calibration
    low, high = how.bounds
    return {
        "Prior": f"flat in log T, {LOW * low:g} to {HIGH * high:g} s",
        "Quantiles": list(how.quantiles),
        "Uncertainty": {
            "Calibration": joint.calibration,
            "Reconstruction": calibration.reconstruction,
            "Features": list(calibration.features),
            "Exponents": list(calibration.exponents),
            "Level": calibration.level,
            "Accelerations": list(calibration.accelerations),
            "Kappa": list(calibration.kappa),
            "Coverage": calibration.coverage,
            "FarFrom": list(joint.doubts),
        },
    }


def regularisation_fields(
    weights: Float[np.ndarray, "Z"], interior: np.ndarray, how: Trusting
) -> dict[str, Any]:
    """What a sidecar says of the weights that were chosen, as JSON has it.

    Args:
        weights: Of each slice, for images of about 1; NaN of one without signal.
        interior: Whether weights on both sides of it predicted worse.
        how: Of the scan.
    """
    kept = np.isfinite(weights)
    shown = [round(x, 8) if math.isfinite(x) else None for x in weights.tolist()]
    return {
        "Method": "joint total variation of subspace coefficients",
        "Weights": shown,
        "ChosenBy": f"{100 * how.search.share:g} % of the lines outside the middle "
        f"{how.search.center}, held out {how.search.draws} times: the weight that "
        "predicts them best",
        "AtEndOfRange": int((kept & ~np.asarray(interior, bool)).sum()),
    }


def self_check(joint: Joint, checks: Sequence[Checks]) -> tuple[Verdict, ...]:
    """What a scan's samples, two halves of its lines, and its fit say of error bars.

    Args:
        joint: How the scan was reconstructed.
        checks: Of each slice with signal; without any nothing is judged.
    """
    if not checks:
        return ()
    stacked = Checks(*(np.stack(x) for x in zip(*checks, strict=True)))
    calibration = joint.trusting.calibration
    return judge_scan(calibration, stacked, acceleration=joint.acceleration)
