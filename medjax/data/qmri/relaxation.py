"""What simulated tissues are made of, and the signals they give.

Relaxation times and proton densities are typical literature values at 3 T (compare
Wansapura et al., JMRI 1999, and Stanisz et al., MRM 2005, for grey and white matter;
lesions are MS-like: between grey matter and fluid). They set the scene of a simulation
and are no reference for a patient.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

TISSUES = ("gm", "wm", "csf", "lesion")  # the order of the axis R
T1 = (1.35, 0.85, 4.2, 1.30)  # s
T2 = (0.090, 0.070, 1.5, 0.140)  # s
PD = (0.82, 0.70, 1.0, 0.84)  # of water's

CONTRASTS = ("t2", "t1")


class Mixture(NamedTuple):
    """How much of each of R tissues is in a pixel, and what each is like there.

    The rest of a pixel, 1 - the sum of its fractions, gives no signal.
    """

    fractions: Float[np.ndarray, "R H W"]  # 0 to 1, with a sum of 1 at most
    t1: Float[np.ndarray, "R H W"]  # s
    t2: Float[np.ndarray, "R H W"]  # s
    pd: Float[np.ndarray, "R H W"]  # of water's


def mixture_signals(
    mixture: Mixture, contrast: str, times: Float[np.ndarray, "E"]
) -> Float[np.ndarray, "E H W"]:
    """Signals summed over tissues, not of a mean relaxation rate.

    t2: sum_r f_r PD_r exp(-TE / T2_r);  t1: sum_r f_r PD_r (1 - 2 exp(-TI / T1_r)),
    signed. So pixels of two tissues decay with two exponentials, as real ones do.

    Args:
        mixture: What is in each pixel; a pixel without tissue gives 0.
        contrast: Which of the two formulas is used, "t2" or "t1".
        times: The E echo times TE or inversion times TI in s, 0 or more.

    Raises:
        ValueError: The contrast is unknown.
    """
    if contrast not in CONTRASTS:
        raise ValueError(f"contrast {contrast!r}: expected one of {CONTRASTS}")
    scale = mixture.fractions * mixture.pd
    relaxation = mixture.t2 if contrast == "t2" else mixture.t1
    rate = 1 / relaxation
    signals = np.empty((len(times), *scale.shape[1:]), scale.dtype)
    for e, time in enumerate(times.astype(scale.dtype)):
        decay = np.exp(-time * rate)
        decay = decay if contrast == "t2" else 1 - 2 * decay
        signals[e] = (scale * decay).sum(axis=0)
    return signals
