"""An echo train by the extended phase graph, in half steps and complex float64 states.

Written from Weigel 2015 (J Magn Reson Imaging 41:266), equations 15 and 18: excitation
along x, refocusing pulses of phase 0 about x, and relaxation and dephasing by one unit
between pulse and echo.
"""

import numpy as np


def echoes(t2, angle, spacing, count, *, t1=1.0):
    """[count] amplitudes for a magnetisation of 1; times in s, the angle in radians."""
    plus, minus, stored = np.zeros((3, 2 * count + 3), complex)
    plus[0] = minus[0] = 1
    cos, sin = np.cos(angle / 2) ** 2, np.sin(angle / 2) ** 2
    turn = 1j * np.sin(angle)
    pulse = np.array(
        [[cos, sin, -turn], [sin, cos, turn], [-turn / 2, turn / 2, np.cos(angle)]]
    )
    decay, recovery = np.exp(-spacing / 2 / t2), np.exp(-spacing / 2 / t1)

    def wait(plus, minus, stored):
        stored = recovery * stored
        stored[0] += 1 - recovery
        plus, minus = np.roll(decay * plus, 1), np.roll(decay * minus, -1)
        minus[-1] = 0
        plus[0] = np.conj(minus[0])
        return plus, minus, stored

    found = []
    for _ in range(count):
        plus, minus, stored = wait(plus, minus, stored)
        plus, minus, stored = wait(*(pulse @ np.stack([plus, minus, stored])))
        found.append(minus[0])
    assert np.abs(np.imag(found)).max() < 1e-12
    return np.real(found)
