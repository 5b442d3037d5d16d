"""Which signal model echo times are fitted with, and why."""

import math

from medjax.data.scans.formats import Scan
from medjax.mri.catalogue import signal_model
from medjax.mri.epg import echo_numbers
from medjax.recipes.qmri.choice import Choice

FEW = 4  # echoes: fewer leave s0, T2 and angle no misfit to show


def nominal_refocusing(scan: Scan) -> float:
    """The refocusing angle of the protocol in radians; 180 degrees where it has none.

    Args:
        scan: Its protocol is read.
    """
    return scan.protocol.refocusing_angle or math.pi


def echo_times(scan: Scan, *, mapped: bool) -> Choice:
    """t2_epg, t2star or t2, by what the sidecars say of the echoes.

    Gradient echoes decay with T2*. Images of a spin-echo train are of t2_epg: they hold
    stimulated echoes, which lengthen T2 (80 to 94.5 ms at 120 degrees). Its echoes are
    evenly spaced from the excitation on, four of them or more, or three where a map
    says the angle. All else is of t2, and k-space of spin echoes too: its subspaces and
    networks are of decays. What alternates from echo to echo then makes its maps
    doubtful; so are those of k-space that is called a train, and of a train with too
    few echoes, or with gaps, which need not alternate (80 ms of echoes at 20 and 40
    ms come out as 131 ms at 150 degrees).

    Args:
        scan: Its times and protocol are read.
        mapped: Whether there is a map of B1+.
    """
    if scan.protocol.sequence in ("GRE", "MEGRE"):
        return Choice(signal_model("t2star"), "gradient echoes decay with T2*")
    if scan.protocol.sequence != "MESE":
        return Choice(signal_model("t2"), "echo times: one decay")
    if scan.kind != "images":
        doubt = (
            "the names say a spin-echo train, whose stimulated echoes lengthen T2; say "
            "--config.predict.model=t2_epg, or t2 where all pulses refocus by 180 "
            "degrees"
        )
        return Choice(signal_model("t2"), "k-space of echo times: one decay", doubt)
    uneven = _one_decay("a spin-echo train at uneven times: one decay")
    try:
        numbers = sorted(set(echo_numbers(scan.times)))
    except ValueError:
        return uneven
    count = len(numbers)
    if (
        numbers[-1] - numbers[0] != count - 1
    ):  # a time that is wrong would be fitted too
        return uneven
    if count < FEW - mapped:
        return _one_decay(
            f"{count} echoes of a train are too few for t2_epg: one decay"
        )
    return echo_train(scan, "a spin-echo train has stimulated echoes", mapped=mapped)


def _one_decay(why: str) -> Choice:
    """t2 of what is known to be a spin-echo train, which has stimulated echoes."""
    doubt = (
        "a spin-echo train that t2_epg cannot be fitted to: stimulated echoes make T2 "
        "wrong unless all pulses refocus by 180 degrees. Give all echoes of the train, "
        "or say --config.predict.model=t2 where it has none"
    )
    return Choice(signal_model("t2"), why, doubt)


def echo_train(scan: Scan, why: str, *, mapped: bool) -> Choice:
    """t2_epg at the scan's echoes.

    Args:
        scan: Its times and protocol are read.
        why: Begins the reason.
        mapped: Whether a map of B1+ says the refocusing angle, which is fitted else.

    Raises:
        ValueError: Its times are not those of an evenly spaced train.
    """
    try:
        echoes = echo_numbers(scan.times)
    except ValueError as error:
        raise ValueError(f"{scan.path}: {error}") from error
    model = signal_model("t2_epg")._replace(echoes=echoes)
    nominal = f"{math.degrees(nominal_refocusing(scan)):g} degrees"
    if scan.protocol.refocusing_angle is None:
        nominal += ", as the file says none"
    angle = f"that of predict.b1 times {nominal}" if mapped else "fitted"
    return Choice(
        model,
        f"{why}; T1 taken as {model.constants[0]:g} s, the refocusing angle {angle}"
        + ("" if mapped else f" (TB1map is relative to {nominal})"),
    )
