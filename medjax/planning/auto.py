"""A mesh that fits a policy, from numbers alone: sizes, batch, bytes, memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medjax.planning.layout import divided
from medjax.planning.meshes import factored

# Steps of 3B, 7B and 32B that were compiled (tests/planning/test_auto.py) needed up to
# 1.34 times what is estimated here; the rest is for those that were not.
MARGIN = 1.5


class ArrayAxes(NamedTuple):
    """An array of a policy: its shape, and a logical name (or None) for each axis."""

    shape: tuple[int, ...]
    names: tuple[str | None, ...]


class Widths(NamedTuple):
    """What the activations of a policy are large by."""

    layers: int
    width: int
    mlp: int
    kv_width: int  # key-value heads times the size of one
    vocab: int
    vision_layers: int
    vision_width: int


class Load(NamedTuple):
    """What one step works on, over all devices."""

    contexts: int  # pictures
    accumulate: int  # parts that a step takes them in, one after the other
    answers: int  # of a picture
    prompt: int  # tokens of a picture and its question
    answer: int  # tokens of an answer
    patches: int  # of a picture
    scored: int  # positions of an answer that are scored at a time
    drawn: bool  # whether answers are drawn by the policy
    recomputed: bool  # whether a layer's hidden units are computed again, or all kept


class ParameterBytes(NamedTuple):
    """Bytes for each parameter."""

    kept: int  # in its dtype
    optimizer: int
    reference: int  # of the policy that a KL term is measured to; 0: none
    computed: int  # in the dtype that is computed in
    # whether it is trained, and so has a gradient; not beside an adapter, whose own few
    # parameters are left to the margin
    trained: bool = True


class Estimate(NamedTuple):
    """Bytes of one device: of the state, and what either half of a step adds to it."""

    state: float
    rollout: float
    learner: float

    @property
    def needed(self) -> float:
        """At the worst moment, with a margin for what is not counted."""
        return MARGIN * (self.state + max(self.rollout, self.learner))


class Choice(NamedTuple):
    """A mesh, and why it is this one."""

    sizes: dict[str, int]
    estimate: Estimate
    fits: bool  # or is not known not to
    reason: str


Rules = Mapping[str, Sequence[str]]


def held(arrays: Sequence[ArrayAxes], rules: Rules, sizes: Mapping[str, int]) -> float:
    """How many parameters one device holds.

    Args:
        arrays: All of a policy.
        rules: See `divided`; they name every axis.
        sizes: Likewise.
    """
    return sum(
        np.prod(array.shape, dtype=float)
        / np.prod([divided(x, rules, sizes) for x in array.names if x is not None])
        for array in arrays
    )


def undivided(
    arrays: Sequence[ArrayAxes], rules: Rules, sizes: Mapping[str, int]
) -> str | None:
    """The first axis of an array that a mesh does not divide, for a person.

    Args:
        arrays: All of a policy.
        rules: See `divided`.
        sizes: Likewise.
    """
    for array in arrays:
        for size, name in zip(array.shape, array.names, strict=False):
            parts = 1 if name is None else divided(name, rules, sizes)
            if size % parts:
                return f"{name} of {size} on {parts} devices"
    return None


def cache_bytes(
    widths: Widths,
    tokens: int,
    computed: int,
    *,
    rules: Rules,
    sizes: Mapping[str, int],
) -> float:
    """Bytes of the keys and values that one device holds of some tokens.

    Args:
        widths: Of the policy.
        tokens: Of all devices together; a prompt that answers share counts once.
        computed: Bytes of a number.
        rules: The mesh axes of each logical axis, nothing cut (`fit_rules`).
        sizes: The devices along each mesh axis.
    """
    parts = divided("batch", rules, sizes) * divided("kv_heads", rules, sizes)
    return 2 * widths.layers * widths.kv_width * computed * tokens / parts


def estimate_bytes(
    arrays: Sequence[ArrayAxes],
    widths: Widths,
    load: Load,
    kinds: ParameterBytes,
    *,
    rules: Rules,
    rollout_rules: Rules,
    sizes: Mapping[str, int],
) -> Estimate:
    """What one device of a mesh holds in a step.

    The state is counted; of the rest what grows with the policy and the batch is, in
    bytes: the cast copy of the parameters and the caches of a rollout; gradients, a
    layer's input kept for each layer, one layer's hidden units, and the scores of a
    learner. `Estimate.needed` has a margin for all else.

    Args:
        arrays: All parameters.
        widths: Of the activations.
        load: Of a step.
        kinds: Bytes for each parameter.
        rules: The mesh axes of each logical axis, nothing cut (`fit_rules`).
        rollout_rules: Likewise, of a rollout.
        sizes: The devices along each mesh axis.
    """
    own = held(arrays, rules, sizes)
    state = own * (kinds.kept + kinds.optimizer + kinds.reference)
    parts = divided("batch", rules, sizes)
    contexts = load.contexts / parts
    tokens = load.prompt + load.answers * load.answer  # of a picture
    rollout = 0.0
    if load.drawn:
        where = {"rules": rollout_rules, "sizes": sizes}
        rollout = held(arrays, **where) * kinds.computed
        rollout += cache_bytes(widths, load.contexts * tokens, kinds.computed, **where)
    together = contexts / load.accumulate
    gradients = own * kinds.kept * (2 if load.accumulate > 1 else 1) * kinds.trained
    inputs = tokens * widths.layers * widths.width
    inputs += load.patches * widths.vision_layers * widths.vision_width
    hidden = 3 * widths.mlp / divided("mlp", rules, sizes) + 2 * widths.width
    hidden *= 1 if load.recomputed else widths.layers
    scores = load.answers * load.scored * widths.vocab / divided("vocab", rules, sizes)
    learner = (
        gradients
        + own * kinds.computed
        + together * inputs * kinds.computed
        + together * tokens * hidden * 2 * kinds.computed  # and their gradients
        + together * scores * 3 * 4  # float32: scores, softmax, gradient
    )
    return Estimate(state, rollout, learner)


def choose_sizes(
    wanted: Mapping[str, int],
    count: int,
    *,
    refuse: Callable[[Mapping[str, int]], str | None],
    estimate: Callable[[Mapping[str, int]], Estimate],
    memory: float | None,
) -> Choice:
    """The mesh that divides a policy least of those that fit.

    The last axis is kept as small as it can be, then the one before it: what `model`
    divides is sent in every layer, what `fsdp` divides once for each kernel, what
    `data` divides once a step.

    Args:
        wanted: The sizes by axis; -1 is chosen here.
        count: How many devices there are.
        refuse: Says of sizes why they will not do, None where they will.
        estimate: What a device holds.
        memory: Bytes of a device; None: not known, and the first that will do is taken.

    Raises:
        ValueError: No mesh will do; what is wrong with each is told.
    """
    names = list(wanted)
    every = [
        dict(zip(names, sizes, strict=True))
        for sizes in sorted(factored(count, len(names)), key=lambda x: x[::-1])
    ]
    every = [x for x in every if all(wanted[n] in (-1, x[n]) for n in names)]
    passed: list[str] = []
    least: Choice | None = None
    for sizes in every:
        why = refuse(sizes)
        if why is not None:
            passed.append(f"{_words(sizes)}: {why}")
            continue
        found = estimate(sizes)
        fits = memory is None or bool(found.needed <= memory)
        choice = Choice(sizes, found, fits, passed[-1] if passed else "")
        if fits:
            return choice
        passed.append(f"{_words(sizes)}: about {_gib(found.needed)} GiB a device")
        if least is None or found.needed < least.estimate.needed:
            least = choice
    if least is not None:
        return least
    raise ValueError(
        f"no mesh of {count} devices will do of {dict(wanted)}: "
        + ("; ".join(passed) or "the sizes do not multiply to that number")
    )


def choice_line(choice: Choice, memory: float | None) -> str:
    """What was chosen and why, for a person.

    Args:
        choice: Of `choose_sizes`.
        memory: Of a device, as there.
    """
    found = choice.estimate
    told = f"mesh chosen: {_words(choice.sizes)}; about {_gib(found.needed)} GiB"
    told += " a device" if memory is None else f" of {_gib(memory)} a device"
    told += (
        f" (state {_gib(found.state)}, rollout {_gib(found.rollout)} or learner "
        f"{_gib(found.learner)}, times {MARGIN})"
    )
    if memory is None:
        told += "; how much there is is not known"
    elif not choice.fits:
        told += "; IT MAY NOT FIT, and no other mesh needs less: --mode=plan tells"
    if choice.reason:
        told += f"; passed over: {choice.reason}"
    return told


def _words(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g}"
