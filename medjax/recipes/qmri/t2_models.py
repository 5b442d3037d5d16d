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
    doubtful.

    Args:
        scan: Its times and protocol are read.
        mapped: Whether there is a map of B1+.
    """
    if scan.protocol.sequence in ("GRE", "MEGRE"):
        return Choice(signal_model("t2star"), "gradient echoes decay with T2*")
    if scan.protocol.sequence != "MESE" or scan.kind != "images":
        return Choice(signal_model("t2"), "echo times: one decay")
    uneven = Choice(signal_model("t2"), "a spin-echo train at uneven times: one decay")
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
        why = f"{count} echoes of a train are too few for t2_epg: one decay"
        return Choice(signal_model("t2"), why)
    return echo_train(scan, "a spin-echo train has stimulated echoes", mapped=mapped)


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
