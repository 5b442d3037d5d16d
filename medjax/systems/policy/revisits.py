"""Which pictures of a step are visited: those that teach nothing any more, less often.

A step is given more pictures than it takes. What it takes is a function of the pictures
that came, of its key and of the visits so far, which the state carries: a resumed run
takes the same ones.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from medjax.masked import at_least_float32, marks
from medjax.rl.signal import has_signal
from medjax.rl.visits import VisitState, is_settled, pick_prompts, update_visits
from medjax.types import Key, PolicyBatch


class Revisits(NamedTuple):
    """How pictures are chosen, see `pick_prompts`."""

    pictures: int  # P of the training part
    size: int  # M that a step takes, of all processes
    visits: int  # in a row without a signal, after which a picture is settled
    keep: float  # probability that a settled one is taken all the same
    rewards: tuple[str, ...]  # for right answers: a visit teaches where one differs


class Candidates(NamedTuple):
    """More pictures than a step takes."""

    batch: PolicyBatch  # of C contexts
    picture: Int[Array, "C"]  # number of each in the training part, 0 to P - 1


class Visited(Protocol):
    """A carry that counts visits."""

    @property
    def visits(self) -> VisitState | tuple[()]:
        """To each picture; () where all are visited alike."""
        ...


class Picked(NamedTuple):
    """The pictures that a step takes, and those that it chose from."""

    batch: PolicyBatch  # of M contexts
    picture: Int[Array, "M"]
    candidates: Int[Array, "C"]


# (carry, batch or candidates, key) -> batch, what it was chosen from, another key
ChooseFn = Callable[[Any, Any, Key], tuple[PolicyBatch, Picked | None, Key]]


def choose(
    revisits: Revisits | None,
    carry: Visited,
    given: PolicyBatch | Candidates,
    key: Key,
) -> tuple[PolicyBatch, Picked | None, Key]:
    """The batch that a step takes, what it was chosen from, and a key for the rest.

    Args:
        revisits: How pictures are chosen; None takes the batch as it came, and hands
            the key on as it is.
        carry: Its visits decide.
        given: What came.
        key: One typed key, consumed.

    Raises:
        ValueError: Candidates where nothing is chosen, or a batch where it should be.
    """
    if not isinstance(given, Candidates):
        if revisits is None:
            return given, None, key
    elif revisits is not None:
        choosing, key = jax.random.split(key)
        picked = pick(revisits, carry.visits, given, choosing)
        return picked.batch, picked, key
    raise ValueError(
        f"{type(given).__name__} with revisits {'on' if revisits else 'off'}: expected "
        "Candidates where pictures are chosen, and a batch where not"
    )


def pick(
    revisits: Revisits,
    visits: VisitState | tuple[()],
    given: Candidates,
    key: Key,
) -> Picked:
    """The batch that a step takes of its candidates.

    Args:
        revisits: How they are chosen.
        visits: Of all pictures, before this step.
        given: C contexts with all their questions.
        key: One typed key, consumed.
    """
    places = pick_prompts(
        VisitState(*visits),
        given.picture,
        key,
        size=revisits.size,
        visits=revisits.visits,
        keep=revisits.keep,
    )
    contexts = given.picture.shape[0]

    def take(x: Array) -> Array:
        x = jnp.asarray(x)
        grouped = x.reshape(contexts, x.shape[0] // contexts, *x.shape[1:])
        return grouped[places].reshape(-1, *x.shape[1:])

    batch = jax.tree.map(take, given.batch)
    return Picked(batch, jnp.asarray(given.picture)[places], given.picture)


def note_visits(
    revisits: Revisits,
    visits: VisitState | tuple[()],
    picked: Picked,
    rewards: Mapping[str, Float[Array, "B G"]],
    scored: Mapping[str, Bool[Array, "B G"]],
    *,
    floor: float,
) -> tuple[VisitState, dict[str, Array]]:
    """The visits after a step, and what it took of what it was given.

    A visit teaches where within some group of its questions a reward for right answers
    differs; whether the format does is not asked.

    Args:
        revisits: It names the rewards.
        visits: Of all pictures, before this step.
        picked: What the step took.
        rewards: By name, of every completion of the batch.
        scored: By name, where a reward could score a completion.
        floor: A deviation within a group of at most this is a tie.

    Returns:
        The visits, and metrics: `settled`, the share of the candidates that had taught
        nothing over their last visits; `passed_over`, the share that for this was not
        taken; `revisited`, the share of those taken that are settled.
    """
    valid, visits = picked.batch.valid, VisitState(*visits)
    differs = jnp.zeros(valid.shape, bool)
    for name in revisits.rewards:
        reward = at_least_float32(rewards[name])
        places = marks(scored.get(name), reward.shape) & valid[:, None]
        differs = differs | has_signal(reward, floor=floor, valid=places)
    shape = (picked.picture.shape[0], -1)
    new = update_visits(
        visits,
        picked.picture,
        jnp.any(differs.reshape(shape), axis=1),
        valid=jnp.any(valid.reshape(shape), axis=1),
    )

    def settled(pictures: Int[Array, "N"]) -> Float[Array, ""]:
        found = is_settled(visits, pictures, visits=revisits.visits)
        return jnp.sum(found.astype(jnp.float32))

    given, taken = settled(picked.candidates), settled(picked.picture)
    return new, {
        "settled": given / picked.candidates.shape[0],
        "passed_over": (given - taken) / picked.candidates.shape[0],
        "revisited": taken / revisits.size,
    }
