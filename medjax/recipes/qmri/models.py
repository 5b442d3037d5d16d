"""Which signal model a scan is fitted with, and why; and the subspace that it needs."""

import math

import numpy as np
from jaxtyping import Float

from medjax.data.scans.formats import Scan
from medjax.mri.catalogue import signal_model
from medjax.mri.subspace import inversion_recovery_basis
from medjax.recipes.qmri.choice import Choice
from medjax.recipes.qmri.options import Predict, Subspace
from medjax.recipes.qmri.t1_models import (
    READOUTS,
    any_inversion,
    flip_angles,
    full_inversion,
    one_readout,
    saturation,
    several_readouts,
    trained_inversion,
)
from medjax.recipes.qmri.t2_models import echo_times, echo_train

CONSTANTS = {"t2": ("t2", "t2star"), "t1": ("t1", "t1star")}  # by contrast
FEW = 4  # different inversion times: fewer leave three parameters no misfit to show
# f of 1 - (1 + f) exp(-TI / T1): from a saturation, or a TR far below T1, to a full
# inversion. Other f are sums of these curves.
EFFICIENCIES = (0.0, 0.5, 1.0)
BENDS = 0.01  # of T1, at most, by the subspace alone


def choose_model(scan: Scan, options: Predict, *, trained: bool = False) -> Choice:
    """The model asked for; else the least strict that the scan's facts determine.

    After an inversion that is t1_ir3, whose three parameters take an imperfect
    inversion and any TR, or its form with TR where that differs by image. Of fewer than
    four inversion times it is t1_ir, which takes the inversion to be full; with the
    term of TR where one is known, also where t1_ir is asked for.

        s0 (1 - (1 + c) exp(-t/T1) + c exp(-TR/T1)),   c = 1 for t1_ir

    Of a spin-echo train it is t2_epg, of gradient echoes t2star, of other echo times
    t2, see `t2_models`.
    Of several readouts after one inversion (Look-Locker, MOLLI) it is t1_look_locker;
    after a saturation t1_ir3 that does not cross 0, or t1_sr.
    Of flip angles it is t1_vfa, with one TR or the TR of each angle.

    Args:
        scan: Its contrast, times and protocol are read.
        options: Their `model` is what is asked for; empty leaves it open.
        trained: Whether images come from a network: it learnt full inversions, and
            after an inversion its model is t1_ir as it is.

    Raises:
        ValueError: The model is none of the scan's contrast; or flip angles come
            without a repetition time.
    """
    name = options.model
    if scan.contrast == "vfa" and name in ("", "t1_vfa"):
        return flip_angles(scan, mapped=bool(options.b1))
    if trained and scan.contrast == "t1" and name in ("", "t1_ir"):
        return one_readout(scan, trained_inversion(scan))
    if name == "t2_epg" and scan.contrast == "t2":
        return echo_train(scan, "predict.model asks for it", mapped=bool(options.b1))
    if name:
        model = signal_model(name)
        if model.time_constant not in CONSTANTS.get(scan.contrast, ()):
            raise ValueError(
                f"{scan.path}: predict.model {name!r} is none of a {scan.contrast} scan"
            )
        why = "predict.model asks for it"
        if not trained and name in ("t1_ir", "t1_ir3"):
            choose = full_inversion if name == "t1_ir" else any_inversion
            return one_readout(scan, choose(scan, why), named=True)
        if len(scan.protocol.repetition) > 1 and name != "t1_sr":  # which has no TR
            raise ValueError(
                f"{scan.path}: repetition times {scan.protocol.repetition} s, which "
                f"predict.model {name!r} does not take. Name images that have the same"
            )
        return one_readout(scan, Choice(model, why), named=True)
    if scan.contrast == "t2":
        return echo_times(scan, mapped=bool(options.b1))
    if scan.protocol.sequence in READOUTS:
        return several_readouts(scan)
    if scan.protocol.sequence == "SR":
        return saturation(scan, few=FEW)
    lists = [scan.times] if scan.slice_times is None else scan.slice_times
    count = min(len(np.unique(times)) for times in lists)
    if count < FEW:
        why = f"{count} inversion times are too few for t1_ir3"
        return one_readout(scan, full_inversion(scan, why))
    why = "three parameters take an imperfect inversion and any TR"
    return one_readout(scan, any_inversion(scan, why))


def widest_subspace(times: tuple[float, ...], subspace: Subspace) -> Subspace | None:
    """The subspace with the rank that imperfect inversions need; None where none does.

    The least rank, at least the given one, that moves T1 of noise-free signals by at
    most 1 % over the subspace's range and all `EFFICIENCIES`: to first order that of a
    three-parameter fit, -(J^+ (s - P s)), J the signal's derivatives.

    Args:
        times: Inversion times in seconds; of fewer than five there is no subspace.
        subspace: The range of T1, and the rank from which to look on.
    """
    count = len(set(times))
    if count < 5:
        return None
    for rank in range(subspace.rank, count):
        wider = subspace._replace(rank=rank)
        if _worst_error(times, wider, widest_basis(times, wider)) <= BENDS:
            return wider
    return None


def widest_basis(
    times: tuple[float, ...], subspace: Subspace
) -> Float[np.ndarray, "E K"]:
    """An orthonormal basis of recoveries of all `EFFICIENCIES`, as float32."""
    options = subspace._asdict() | {"efficiencies": EFFICIENCIES}
    return inversion_recovery_basis(np.array(times), **options).astype(np.float32)


def _worst_error(
    times: tuple[float, ...], subspace: Subspace, basis: Float[np.ndarray, "E K"]
) -> float:
    """The largest share by which noise-free T1 is moved by `basis`."""
    t, basis = np.array(times), basis.astype(np.float64)
    worst = 0.0
    for t1 in np.geomspace(subspace.low, subspace.high, 60):
        decay = np.exp(-t / t1)
        for f in np.linspace(min(EFFICIENCIES), max(EFFICIENCIES), 5):
            signal = 1 - (1 + f) * decay
            moved = basis @ (basis.T @ signal) - signal
            slopes = [np.ones_like(t), decay, -(1 + f) * decay * t / t1]
            step = np.linalg.lstsq(np.stack(slopes, 1), moved, rcond=None)[0]
            worst = max(worst, abs(step[2]))
    return worst if math.isfinite(worst) else math.inf
