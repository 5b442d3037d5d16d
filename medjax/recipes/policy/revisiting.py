"""How a run about pictures draws those less often that teach nothing any more."""

from collections.abc import Mapping
from functools import partial

import grain
import numpy as np

from medjax.data.orders import shuffled
from medjax.recipes.policy.setup import Exploration, Setup
from medjax.systems.policy.revisits import Candidates, Revisits
from medjax.types import PolicyBatch

RIGHT = ("accuracy", "grade")  # rewards for right answers, as the systems name them


def make_revisits(
    setup: Setup, options: Exploration, weights: Mapping[str, float]
) -> Revisits | None:
    """How a step chooses its pictures; None where all are visited alike.

    Args:
        setup: How many pictures the training part has.
        options: Its section `revisit`, and how many pictures a step takes.
        weights: Of every reward. A visit teaches where a reward for right answers that
            has a weight differs within a group.

    Raises:
        ValueError: A number is out of its range, or no reward for right answers has a
            weight.
    """
    name, (visits, keep, count) = "train.grpo.revisit", options.revisit
    if visits < 0:
        raise ValueError(
            f"{name}.visits={visits}: expected visits in a row that taught nothing, 1 "
            "or more, or 0 to draw all pictures alike"
        )
    if not 0 <= keep < 1:
        raise ValueError(
            f"{name}.keep={keep}: expected a probability from 0 to below 1, as with 1 "
            "nothing is drawn less often"
        )
    if count < 2:
        raise ValueError(
            f"{name}.candidates={count}: expected 2 or more pictures for each that a "
            "step takes, or there is nothing to choose from"
        )
    if visits == 0:
        return None
    rewards = tuple(reward for reward in RIGHT if weights.get(reward))
    if not rewards:
        raise ValueError(
            f"{name}.visits={visits}: none of the rewards {', '.join(RIGHT)} has a "
            "weight, so no picture is all right or all wrong; give one a weight, or "
            "set visits=0"
        )
    return Revisits(setup.parts.train.count, options.batch, visits, keep, rewards)


def as_candidates(
    source: grain.IterDataset, setup: Setup, options: Exploration, *, seed: int
) -> grain.IterDataset:
    """The batches with the number of each context's picture in the training part.

    Args:
        source: Of `training_batches` with the same seed.
        setup: How many pictures the training part has.
        options: How many questions a context has.
        seed: What decided the order of the pictures.
    """
    order = shuffled(setup.parts.train.count, seed)
    return source.map(partial(_number, order, options.questions))


def _number(order: grain.MapDataset, questions: int, batch: PolicyBatch) -> Candidates:
    """A draw's index stands in its sample ids, and its picture in the order."""
    draws = np.asarray(batch.sample_id)[::questions] // questions
    picture = [order[int(index)] for index in draws]
    return Candidates(batch, np.array(picture, np.int32))
