"""Which signal model a scan is fitted with, and why; and the subspace that it needs."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from medjax.data.scans.formats import Scan
from medjax.mri.signals import SignalModel, signal_model
from medjax.mri.subspace import inversion_recovery_basis
from medjax.recipes.qmri.options import Predict, Subspace

CONSTANTS = {"t2": ("t2", "t2star"), "t1": ("t1",)}  # by contrast: of its models
FEW = 4  # different inversion times: fewer leave three parameters no misfit to show
# f of 1 - (1 + f) exp(-TI / T1): from a saturation, or a TR far below T1, to a full
# inversion. Other f are sums of these curves.
EFFICIENCIES = (0.0, 0.5, 1.0)
BENDS = 0.01  # of T1, at most, by the subspace alone


class Choice(NamedTuple):
    """A signal model, and the reason in words."""

    model: SignalModel
    reason: str


def choose_model(scan: Scan, options: Predict, *, trained: bool = False) -> Choice:
    """The model asked for; else the least strict that the scan's facts determine.

    After an inversion that is t1_ir3, whose three parameters take an imperfect
    inversion and any TR. Of fewer than four inversion times it is t1_ir, which takes
    the inversion to be full; with the term of TR where one is known, also where t1_ir
    is asked for.

        s0 (1 - 2 exp(-t/T1) + exp(-TR/T1))

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
    if scan.contrast == "vfa":
        if scan.repetition is None:
            raise ValueError(
                f"{scan.path}: flip angles without a repetition time; expected 'tr' in "
                "the file, or RepetitionTime in its sidecar, in seconds"
            )
        if name in ("", "t1_vfa"):
            model = signal_model("t1_vfa", repetition_time=scan.repetition)
            return Choice(model, "flip angles at one repetition time")
    if name:
        model = signal_model(name)
        if model.time_constant not in CONSTANTS.get(scan.contrast, ()):
            raise ValueError(
                f"{scan.path}: predict.model {name!r} is none of a {scan.contrast} scan"
            )
        if name == "t1_ir" and not trained:
            return _full_inversion(scan, "predict.model asks for it")
        return Choice(model, "predict.model asks for it")
    if scan.contrast == "t2":
        return Choice(signal_model("t2"), "echo times: one decay")
    if trained:
        return Choice(signal_model("t1_ir"), "the network was trained on its signals")
    count = len(np.unique(scan.times))
    if count < FEW:
        return _full_inversion(scan, f"{count} inversion times are too few for t1_ir3")
    reason = "three parameters take an imperfect inversion and any TR"
    return Choice(signal_model("t1_ir3"), reason)


def _full_inversion(scan: Scan, why: str) -> Choice:
    """t1_ir, with the term of TR where the scan knows one."""
    model, known = signal_model("t1_ir"), scan.protocol.repetition
    repetition = known[0] if len(known) == 1 else scan.repetition
    if repetition is None:
        return Choice(model, f"{why}; TR is not known, and taken to be long")
    if repetition <= scan.times.max():  # a readout's, and not that of the inversions
        return Choice(
            model,
            f"{why}; TR {repetition:g} s is not above the longest inversion time, so "
            "not that of the inversions, which is taken to be long",
        )
    model = model._replace(basis=_recovery_after, constants=(float(repetition),))
    return Choice(model, f"{why}; with exp(-TR/T1) of TR {repetition:g} s")


def _recovery_after(rate, time, repetition):
    return (1 - 2 * jnp.exp(-time * rate) + jnp.exp(-repetition * rate),)


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
