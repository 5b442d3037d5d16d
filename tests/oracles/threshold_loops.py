"""MedLoc-R1's scheduler with two deques, after the words of the paper."""

import collections
import math


def step_size(tau, s):
    if s.rule == 0:
        d1, d2, d3 = s.steps
        b1, b2 = s.step_bounds
        eps = 1e-9
        return d1 - (d1 - d2) * (tau >= b1 - eps) - (d2 - d3) * (tau >= b2 - eps)
    u = min(max((tau - s.start) / (s.target - s.start), 0.0), 1.0)
    if s.rule == 1:
        return s.steps[0] * (1 - u)
    return s.steps[0] / 2 * (1 + math.cos(math.pi * u))


def raised(tau, s):
    new = tau + max(step_size(tau, s), s.min_step)
    return s.target if new > s.target - s.snap - 1e-9 else new


def stage(tau, bounds):
    return sum(tau >= b - 1e-9 for b in bounds)


def run(steps, s, *, recount=False, groups=False):
    """steps: list of [(group of IoUs), ...]. Returns tau after each step and raises."""
    window = collections.deque(maxlen=s.window)  # of (hits as earned, IoUs)
    tau, taus, raises = s.start, [], []
    for k, prompts in enumerate(steps):
        flat = [[v for group in prompts for v in group]]
        for ious in prompts if groups else flat:
            if ious:
                window.append((sum(v >= tau for v in ious) / len(ious), ious))
        rates = [
            sum(v >= tau for v in ious) / len(ious) if recount else earned
            for earned, ious in window
        ]
        if len(window) == s.window:
            n = len(window)
            rate = math.fsum(rates) / n
            deviation = math.sqrt(math.fsum((r - rate) ** 2 for r in rates) / n)
            margin = math.fsum(math.fsum(i) / len(i) for _, i in window) / n - tau
            at = stage(tau, s.stage_bounds)
            # A sum of hits in another order may miss the bound by rounding.
            passed = (
                (not s.check_hit_rate or rate >= s.hit_rates[at] - 1e-6)
                and (not s.check_deviation or deviation <= s.deviations[at] + 1e-6)
                and (not s.check_margin or margin >= s.margin - 1e-6)
            )
            if passed and tau < s.target - 1e-6:
                new = raised(tau, s)
                raises.append((k, tau, new, rate, deviation, margin))
                tau = new
                for _ in range(s.window - int(s.window * s.keep)):
                    window.popleft()
        taus.append(tau)
    return taus, raises
