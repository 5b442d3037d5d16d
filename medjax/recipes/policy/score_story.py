"""What an evaluation of a policy showed, in words: gains with their intervals."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from medjax.evals.gains import Gain, paired_gains
from medjax.evals.tables import group_intervals
from medjax.recipes.policy.beside import RUN
from medjax.recipes.policy.scoring import NO_IMAGE
from medjax.recipes.policy.task import Evaluation
from medjax.recipes.policy.words import joined


class Rated(NamedTuple):
    """The number by which contenders are compared, an entry an answer."""

    metric: str  # its name, such as "A@0.5", of which higher is better
    contenders: Mapping[str, Float[np.ndarray, "N"]]  # the policy's is the first
    groups: Shaped[np.ndarray, "N"]  # whose answers are resampled together
    over: str  # what a group is, in the plural


def score_story(
    rated: Rated, before: Collection[str], evaluation: Evaluation
) -> list[str]:
    """What the policy gained by its training, whom it beats, and whether it looks.

    An interval of a difference that contains 0 shows no difference, and is said to show
    none; it does not show that there is none.

    Args:
        rated: All contenders on the same questions.
        before: Which of them are earlier evaluations; those that are not in `rated` are
            passed over.
        evaluation: How intervals are made.
    """
    own, *others = rated.contenders
    ours, metric = rated.contenders[own], rated.metric
    level = f"{100 * evaluation.level:g} %"
    count = len(np.unique(rated.groups))
    if not len(ours) or np.isnan(ours).all():
        return []
    if count < 2:
        return [
            f"{metric} is {np.nanmean(ours):.3f}; all answers are of one of the "
            f"{rated.over}, so that no interval and no difference can be shown."
        ]
    gains = paired_gains(
        ours,
        {name: rated.contenders[name] for name in others},
        rated.groups,
        **evaluation.resampling,
    )
    gains = {name: gain for name, gain in gains.items() if not np.isnan(gain.ours)}
    blank = gains.pop(f"{NO_IMAGE}{own}", None)
    apart = (
        RUN,
        NO_IMAGE,
    )  # other policies, though they are remembered as earlier ones
    earlier = {
        name: gain
        for name, gain in gains.items()
        if name in before and not name.startswith(apart)
    }
    lines = [_training(metric, name, gain, level) for name, gain in earlier.items()]
    if not lines:
        drawn = evaluation.resampling
        value = group_intervals({metric: ours}, rated.groups, **drawn)[metric]
        lines = [
            f"{metric} is {value.value:.3f} ({level} interval {value.low:.3f} to "
            f"{value.high:.3f})."
        ]
    rest = {name: gain for name, gain in gains.items() if name not in earlier}
    lines += _others(own, metric, rest, level)
    if blank is not None:
        lines.append(_blank(metric, blank, level))
    lines.append(
        f"Intervals are over {count} {rated.over}: another seed of the training is not "
        "in them."
    )
    return lines


def _training(metric: str, name: str, gain: Gain, level: str) -> str:
    """The course of the score since an earlier evaluation."""
    verb = {1: "rose", 0: "went", -1: "fell"}[gain.verdict]
    before, after = f"{gain.theirs:.3f}", f"{gain.ours:.3f}"
    line = f"{metric} {verb} from {before} ({name}) to {after}"
    if before == after and not gain.verdict:
        line = f"{metric} is {after}, as before it ({name})"
    return f"{line}: {_interval(gain, level)}."


def _others(
    own: str, metric: str, gains: Mapping[str, Gain], level: str
) -> Sequence[str]:
    """Whom it beats, whom it does not, and who is better; a sentence each."""
    heads = {
        1: f"By {metric} {own} beats",
        0: f"By {metric} {own} does not beat",
        -1: f"By {metric} {own} is worse than",
    }
    lines = []
    for verdict, head in heads.items():
        named = [
            f"{_quoted(name)} ({gain.ours:.3f} against {gain.theirs:.3f}: "
            f"{_interval(gain, level)})"
            for name, gain in gains.items()
            if gain.verdict == verdict
        ]
        if named:
            lines.append(f"{head} {joined(named)}.")
    return lines


def _quoted(name: str) -> str:
    return f"'{name}'" if ":" in name or "," in name else name


def _blank(metric: str, gain: Gain, level: str) -> str:
    line = f"Asked the same about blank pictures it has {metric} {gain.theirs:.3f}"
    if gain.verdict > 0:
        return f"{line}; the pictures gain it {_interval(gain, level)}."
    shown = "nothing shows that it reads the pictures"
    return f"{line}; {shown}: {_interval(gain, level)}."


def _interval(gain: Gain, level: str) -> str:
    """`+0.200, 95 % interval +0.110 to +0.290`, and whether it shows a difference."""
    value, low, high = (f"{x:+.3f}" for x in gain.difference)
    shown = "" if gain.verdict else "no difference shown, "
    return f"{shown}{value}, {level} interval {low} to {high}"
