"""Signal models of T1 for a protocol: flip angles, inversions and their readouts."""

import jax.numpy as jnp
import numpy as np

from medjax.data.scans.formats import Scan
from medjax.mri.catalogue import signal_model
from medjax.recipes.qmri.choice import Choice

READOUTS = ("LL", "MOLLI")  # sequences with several readouts after one inversion
_LONG = 2.0  # s: a long T1 of tissue, at which a wrong TR is judged
_WRONG = 0.01  # of T1


def flip_angles(scan: Scan, *, mapped: bool) -> Choice:
    """t1_vfa at one repetition time, or at that of each angle.

    Args:
        scan: Its repetition times are read.
        mapped: Whether there is a map of B1+.

    Raises:
        ValueError: The scan has no repetition time, or one beyond the model's range.
    """
    known = scan.protocol.repetition
    what = "flip angles times B1+" if mapped else "nominal flip angles (no predict.b1)"
    if len(known) <= 1 and scan.repetition is None:
        raise ValueError(
            f"{scan.path}: flip angles without a repetition time; expected 'tr' in "
            "the file, or RepetitionTime in its sidecar, in seconds"
        )
    several = len(known) > 1
    try:
        model = signal_model(
            "t1_vfa", repetition_time=known if several else scan.repetition
        )
    except ValueError as error:
        raise ValueError(f"{scan.path}: {error}") from error
    each = f", each at its own TR: {_list(known)} s"
    return Choice(model, what + (each if several else " at one repetition time"))


def several_readouts(scan: Scan) -> Choice:
    """t1_look_locker, for what follows one inversion."""
    return Choice(
        signal_model("t1_look_locker"),
        f"{scan.protocol.sequence}: several readouts after one inversion, so T1* and "
        "T1 = T1* (B/A - 1), for a full inversion and small flip angles",
    )


def saturation(scan: Scan, *, few: int) -> Choice:
    """t1_ir3 that does not cross 0, or t1_sr of fewer different times than `few`."""
    why = "the names say saturation recovery"
    if len(np.unique(scan.times)) < few:
        return Choice(signal_model("t1_sr"), f"{why}, taken to be full")
    model = signal_model("t1_ir3")._replace(crosses_zero=False)
    return Choice(model, f"{why}, of an efficiency of about 0.5; any TR")


def one_readout(scan: Scan, choice: Choice, *, named: bool = False) -> Choice:
    """A choice of one readout, with a doubt where that is not what the scan has.

    Args:
        scan: Its sequence is read.
        choice: So far.
        named: Whether the model is asked for, which tells gradient echoes apart that
            may follow one inversion or several.
    """
    sequence, name = scan.protocol.sequence, choice.model.name
    doubt = choice.doubt
    if sequence == "SR" and name == "t1_ir":
        doubt = (
            "the names say saturation recovery, but t1_ir is for a full inversion. "
            "Leave predict.model open, or say t1_sr"
        )
    elif "t1star" in choice.model.parameters:
        return choice
    elif sequence in READOUTS:
        doubt = (
            f"a {sequence} measurement, but {name} is for one readout after each "
            "inversion: the map is T1*, which is shorter than T1. Leave predict.model "
            "open"
        )
    elif sequence == "IRGRE" and not named:
        more = (
            "gradient echoes at several inversion times in one series; if they follow "
            "one inversion this is a Look-Locker measurement, and T1 comes out too "
            "short. Say predict.model=t1_look_locker then, else "
            f"--config.predict.model={name}"
        )
        doubt = f"{doubt}; {more}" if doubt else more
    return choice._replace(doubt=doubt)


def any_inversion(scan: Scan, why: str) -> Choice:
    """t1_ir3; where TR differs by image, with the TR of each.

    Args:
        scan: Its protocol is read.
        why: The reason so far.

    Raises:
        ValueError: A TR is not above the inversion time of its image.
    """
    model, known = signal_model("t1_ir3"), scan.protocol.repetition
    if len(known) < 2:
        return Choice(model, why)
    _check_above(scan, known)
    model = model._replace(
        basis=_recoveries_after,
        constants=(known,),
        to_parameters=_to_efficiency,
        from_parameters=_from_efficiency,
    )
    return Choice(model, f"{why}; with TR of each image: {_list(known)} s")


def full_inversion(scan: Scan, why: str) -> Choice:
    """t1_ir, with the term of TR where the scan knows one, or one for each image.

    Args:
        scan: Its protocol is read.
        why: The reason so far.

    Raises:
        ValueError: A TR is not above the inversion time of its image.
    """
    model, known = signal_model("t1_ir"), scan.protocol.repetition
    if len(known) > 1:
        _check_above(scan, known)
        model = model._replace(basis=_recovery_after, constants=(known,))
        return Choice(model, f"{why}; with exp(-TR/T1) of TR {_list(known)} s")
    repetition = _repetition(scan)
    if repetition is None:
        return Choice(model, f"{why}; TR is not known, and taken to be long")
    if repetition <= _latest(scan):  # a readout's, and not that of the inversions
        return Choice(
            model,
            f"{why}; TR {repetition:g} s is not above the longest inversion time, so "
            "not that of the inversions, which is taken to be long",
        )
    model = model._replace(basis=_recovery_after, constants=(float(repetition),))
    return Choice(model, f"{why}; with exp(-TR/T1) of TR {repetition:g} s")


def trained_inversion(scan: Scan) -> Choice:
    """t1_ir as a network has learnt it, and how far a TR that is known leads it astray.

    Raises:
        ValueError: The scan has several readouts after one inversion, a saturation, or
            times that differ by slice.
    """
    if scan.slice_times is not None:
        raise ValueError(
            f"{scan.path}: inversion times differ by slice; the network was trained "
            "for one list. Leave the checkpoint out"
        )
    if scan.protocol.sequence in (*READOUTS, "SR"):
        raise ValueError(
            f"{scan.path}: a {scan.protocol.sequence} measurement; the network was "
            "trained on full inversions with one readout each. Leave the checkpoint out"
        )
    known = scan.protocol.repetition
    repetition = min(known) if len(known) > 1 else _repetition(scan)
    model, why = signal_model("t1_ir"), "the network was trained on its signals"
    if repetition is None or repetition <= _latest(scan):
        return Choice(model, f"{why}: full inversions, long TR")
    short = 1 - _plain_fit(scan.times, repetition) / _LONG
    doubt = (
        f"the network was trained on full inversions at a long TR; at TR "
        f"{repetition:g} s a T1 of {_LONG:g} s comes out {100 * short:.0f} % short. "
        "Leave the checkpoint out: predict then fits any TR"
    )
    reason = f"{why}: full inversions, long TR; TR {repetition:g} s is not in it"
    return Choice(model, reason, doubt if short > _WRONG else "")


def _plain_fit(times: np.ndarray, repetition: float) -> float:
    """T1 in s that t1_ir finds in the curve of `_LONG` at a repetition time."""
    curve = 1 - 2 * np.exp(-times / _LONG) + np.exp(-repetition / _LONG)
    t1 = np.geomspace(0.05, 2 * _LONG, 4000)
    basis = 1 - 2 * np.exp(-times[:, None] / t1)
    explained = (curve @ basis) ** 2 / np.square(basis).sum(axis=0)
    return float(t1[np.argmax(explained)])


def _repetition(scan: Scan) -> float | None:
    known = scan.protocol.repetition
    return known[0] if len(known) == 1 else scan.repetition


def _latest(scan: Scan) -> float:
    return float((scan.times if scan.slice_times is None else scan.slice_times).max())


def _check_above(scan: Scan, repetition: tuple[float, ...]) -> None:
    times = scan.times if scan.slice_times is None else scan.slice_times.max(axis=0)
    for tr, ti in zip(repetition, times, strict=True):
        if tr <= ti:
            raise ValueError(
                f"{scan.path}: repetition times {repetition} s for inversion times "
                f"{times.tolist()} s; expected each above its own, the time "
                "between inversions (RepetitionTimePreparation)"
            )


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _recovery_after(rate, time, repetition):
    return (1 - 2 * jnp.exp(-time * rate) + jnp.exp(-repetition * rate),)


def _recoveries_after(rate, time, repetition):
    decay = jnp.exp(-time * rate)  # amplitudes s0 and c s0
    return -jnp.expm1(-time * rate), jnp.exp(-repetition * rate) - decay


def _to_efficiency(amplitudes, rate):
    s0, inverted = amplitudes
    return s0, 1 / rate, (1 + jnp.real(inverted / s0)) / 2


def _from_efficiency(s0, t1, efficiency):
    return (s0, (2 * efficiency.astype(s0.dtype) - 1) * s0), 1 / t1
