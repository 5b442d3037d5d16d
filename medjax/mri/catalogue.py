"""Signal models by name: linear in amplitudes, non-linear in one rate.

    S(t) = sum_k a_k phi_k(t, R),   R = 1 / T

Which there are, and their formulas, is in the table of `signal_model`.

Times are seconds, flip angles a radians, s0 and offset in the unit of the image. A full
inversion has efficiency 1; with a repetition time TR, 1 - 2 e exp(-t/T1) + exp(-TR/T1)
has the shape of t1_ir3 as well.

t1_look_locker is for several readouts after one inversion (Look-Locker, MOLLI), which
pull the recovery to s0 T1*/T1, at the rate 1/T1*. With A - B exp(-t/T1*) it is

    T1 = T1* (B/A - 1),   s0 = B - A

(Deichmann and Haase 1992, J Magn Reson 96:608; Messroghli et al. 2004, Magn Reson Med
52:141). That holds for a full inversion (one of efficiency e gives T1 (2 e - 1)) and
for readouts of small angles, evenly spaced from the inversion on. Spoiled echoes leave
+0.2 % at 5 degrees, +0.5 % at 8, +1.8 % at 15, and +1.3 % at 5 where the first of them
comes four spacings late. Balanced readouts of MOLLI 5(3)3 at 35 degrees leave -8 % at
T1 = 1 s and T2 = 45 ms, -1 % at T2 = 250 ms.

t1_vfa is the spoiled gradient echo, without T2*; its TR may differ between angles.
"""

import math
import numbers
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from medjax.checks import check_static
from medjax.mri.epg import epg_model
from medjax.mri.model import SignalModel


def _decay(rate, time):
    return (jnp.exp(-time * rate),)


def _offset_recovery(rate, time):
    # Not (1, exp): those are parallel to the last digits where t R is small.
    recovered = -jnp.expm1(-time * rate)
    return jnp.ones_like(recovered), recovered


def _inversion(rate, time):
    return (1 - 2 * jnp.exp(-time * rate),)


def _recovery(rate, time):
    return (-jnp.expm1(-time * rate),)


def _ernst(rate, angle, repetition_time):
    recovered = -jnp.expm1(-repetition_time * rate)  # 1 - E without cancellation
    turned = 2 * jnp.sin(angle / 2) ** 2  # 1 - cos(a), likewise
    return (jnp.sin(angle) * recovered / (turned + jnp.cos(angle) * recovered),)


def _offset(amplitudes, rate):
    first, recovered = amplitudes
    return -recovered, 1 / rate, first + recovered


def _from_offset(s0, t2, offset):
    return (s0 + offset, -s0), 1 / t2


def _efficiency(amplitudes, rate):
    first, recovered = amplitudes
    s0 = first + recovered
    return s0, 1 / rate, jnp.real(recovered / (2 * s0))


def _correction(amplitudes, rate):
    first, recovered = amplitudes  # A - B, the signal at time 0; B
    t1star = 1 / rate
    return -first, t1star, t1star * jnp.real(-first / (first + recovered))


def _from_correction(s0, t1star, t1):
    return (-s0, s0 + s0 * (t1star / t1).astype(s0.dtype)), 1 / t1star


def _from_efficiency(s0, t1, efficiency):
    recovered = 2 * efficiency.astype(s0.dtype) * s0
    return (s0 - recovered, recovered), 1 / t1


T2 = SignalModel(
    name="t2",
    parameters=("s0", "t2"),
    units=("image", "s"),
    basis=_decay,
    bounds=(1e-3, 10.0),
    longest=5.0,
    exponential=True,
)
T2STAR = T2._replace(
    name="t2star", parameters=("s0", "t2star"), bounds=(1e-4, 10), longest=1
)
T2_OFFSET = T2._replace(
    name="t2_offset",
    parameters=("s0", "t2", "offset"),
    units=("image", "s", "image"),
    basis=_offset_recovery,
    to_parameters=_offset,
    from_parameters=_from_offset,
    exponential=False,
)
T1_IR = SignalModel(
    name="t1_ir",
    parameters=("s0", "t1"),
    units=("image", "s"),
    basis=_inversion,
    bounds=(1e-2, 20.0),
    longest=60.0,
    crosses_zero=True,
)
T1_IR3 = T1_IR._replace(
    name="t1_ir3",
    parameters=("s0", "t1", "efficiency"),
    units=("image", "s", "1"),
    basis=_offset_recovery,
    to_parameters=_efficiency,
    from_parameters=_from_efficiency,
)
T1_LOOK_LOCKER = T1_IR._replace(
    name="t1_look_locker",
    parameters=("s0", "t1star", "t1"),
    units=("image", "s", "s"),
    basis=_offset_recovery,
    to_parameters=_correction,
    from_parameters=_from_correction,
)
T1_SR = T1_IR._replace(name="t1_sr", basis=_recovery, crosses_zero=False)

T2_EPG = epg_model()

MODELS = {
    m.name: m
    for m in (T2, T2STAR, T2_OFFSET, T2_EPG, T1_IR, T1_IR3, T1_LOOK_LOCKER, T1_SR)
}


def vfa_model(repetition_time: float | Sequence[float]) -> SignalModel:
    """The model t1_vfa at a repetition time, or at one for each flip angle.

        S(a) = s0 sin(a) (1 - E) / (1 - cos(a) E),   E = exp(-TR/T1)

    The parameters are s0, in the unit of the image, and t1 in seconds. The model's
    "times" are flip angles a in radians, 0 to pi. RF spoiling is taken as perfect, and
    T2* is not modelled.

    Args:
        repetition_time: Seconds, above 0 and at most 10 (more looks like milliseconds):
            a Python number for all flip angles, or as many as there are, in their
            order. Static.

    Returns:
        A record of functions and numbers for `fit_map`, `signal` and
        `cramer_rao_bound`; models of equal repetition times are equal.

    Raises:
        ValueError: a repetition time that is not positive, not in seconds, no number or
            traced; an empty list of them.
    """
    check_static("vfa_model", repetition_time=repetition_time)
    several = isinstance(repetition_time, Sequence | np.ndarray)
    given = [*repetition_time] if several else [repetition_time]
    real = all(isinstance(t, numbers.Real) and not isinstance(t, bool) for t in given)
    given = [float(t) for t in given] if real else []
    if not given or not all(0 < t <= 10 for t in given):
        raise ValueError(
            f"repetition time {repetition_time}: expected 0 to 10 seconds, one for all "
            "flip angles or one for each; divide milliseconds by 1000"
        )
    return T1_SR._replace(
        name="t1_vfa",
        basis=_ernst,
        longest=math.pi,
        constants=(tuple(given) if several else given[0],),
    )


def signal_model(
    name: str,
    *,
    repetition_time: float | Sequence[float] | None = None,
    t1: float | None = None,
) -> SignalModel:
    """A model by its name. One of your own is a `SignalModel`.

    Args:
        name: One of

            ==============  ======================================  ==================
            name            signal at time t (flip angle a)         parameters
            ==============  ======================================  ==================
            t2, t2star      s0 exp(-t/T)                            s0, t2 (t2star)
            t2_offset       s0 exp(-t/T) + offset                   s0, t2, offset
            t2_epg          echoes of a train: `signal_t2_epg`      s0, t2, angle
            t1_ir           s0 (1 - 2 exp(-t/T1))                   s0, t1
            t1_ir3          s0 (1 - 2 efficiency exp(-t/T1))        s0, t1, efficiency
            t1_look_locker  s0 (Ts/T1 - (1 + Ts/T1) exp(-t/Ts))     s0, t1star, t1
            t1_sr           s0 (1 - exp(-t/T1))                     s0, t1
            t1_vfa          s0 sin a (1 - E) / (1 - E cos a)        s0, t1
            ==============  ======================================  ==================

            with E = exp(-TR/T1) and Ts = t1star. Times and time constants are in
            seconds, angles in radians; s0 and offset have the unit of the image,
            efficiency has none; angle is that of the refocusing pulses.
        repetition_time: TR in seconds, above 0 and at most 10, one for all flip angles
            or one for each; for t1_vfa, and for it alone.
        t1: T1 that t2_epg assumes, in seconds, above 0 and at most 20; for it alone.
            None = 1. A wrong one moves T2 little: see docs/mri.md.

    Returns:
        A record of functions and numbers: hashable, equal to any other of that name
        (and numbers), and it can be pickled.

    Raises:
        ValueError: an unknown name, a repetition time missing or without a use, a T1
            without one, or one of the two outside its range, no number or traced.
    """
    known = [*MODELS, "t1_vfa"]
    if name not in known:
        raise ValueError(f"model {name!r}: expected one of {', '.join(known)}")
    if t1 is not None and name != "t2_epg":
        raise ValueError(f"model {name} has no t1 of its own; t2_epg assumes one")
    if (repetition_time is None) == (name == "t1_vfa"):
        verb = "needs" if repetition_time is None else "has no"
        raise ValueError(f"model {name} {verb} repetition_time")
    if t1 is not None:
        return epg_model(t1)
    return MODELS[name] if repetition_time is None else vfa_model(repetition_time)
