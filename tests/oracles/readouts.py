"""Magnetisation after one inversion, read out again and again: Bloch in float64."""

import numpy as np


def look_locker(t1, *, angle, repetition, first, count, efficiency=1.0):
    """Times in s and signals of ideally spoiled gradient echoes."""
    mz, times, signals = 1 - 2 * efficiency, [], []
    mz = 1 + (mz - 1) * np.exp(-first / t1)
    for n in range(count):
        times.append(first + n * repetition)
        signals.append(mz * np.sin(angle))
        mz = 1 + (mz * np.cos(angle) - 1) * np.exp(-repetition / t1)
    return np.array(times), np.array(signals)


def molli(t1, t2, *, angle, repetition, echoes, beat, efficiency=1.0):
    """Times in s and signals of MOLLI 5(3)3, balanced readouts once a heartbeat.

    Each readout begins with half the angle and ends by flipping back; its signal is
    that of the echo in the middle. Three heartbeats pass before the second inversion.
    """
    half = np.diag(np.exp(-repetition / 2 / np.array([t2, t1])))

    def rest(m, matrix):
        return matrix @ m + np.array([0, 1 - matrix[1, 1]])

    def turn(m, a):
        return np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) @ m

    def wait(m, time):
        decay = np.exp(-time / np.array([t2, t1]))
        return np.array([0.0, 1 + (m[1] - 1) * decay[1]])

    length = echoes * repetition
    m, times, signals = np.array([0.0, 1.0]), [], []
    for first, images, recovery in ((0.1, 5, 3), (0.18, 3, 0)):
        m = wait(np.array([0.0, m[1] * (1 - 2 * efficiency)]), first - length / 2)
        for n in range(images):
            m = rest(turn(m, angle / 2), half)
            for echo in range(echoes):
                sign = 1 if echo % 2 else -1
                m = turn(m, sign * angle)
                m = rest(m, half)
                if echo == echoes // 2:
                    signals.append(sign * m[0])
                m = rest(m, half)
            m = turn(m, (1 if echoes % 2 else -1) * angle / 2)
            times.append(first + n * beat)
            beats = 1 + (recovery if n == images - 1 else 0)
            m = wait(m, beats * beat - length)
    order = np.argsort(times)
    return np.array(times)[order], np.array(signals)[order]
