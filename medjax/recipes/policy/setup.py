"""What stages that train a policy are made from: a run's setup, a stage's options."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from medjax.data.batches import Encoding, Parts
from medjax.recipes.policy.opened import Policy
from medjax.recipes.policy.task import Evaluation, Task
from medjax.runtime.watchdogs import Limits
from medjax.systems.optimizer import OptimizerOptions
from medjax.systems.policy.advantages import Advantages
from medjax.systems.policy.learner import Loss


class Setup(NamedTuple):
    """What all stages of a run about one kind of answers have in common."""

    task: Task
    parts: Parts
    policy: Policy
    encoding: Encoding
    evaluation: Evaluation
    seed: int  # of data and splits
    workdir: Path  # where a stage finds the evaluation of the one before

    @property
    def answer_length(self) -> int:
        """Tokens of the longest right answer with its stop token, rounded up."""
        return max(self.encoding.buckets.answer)


class Supervised(NamedTuple):
    """A section of the config: training on written answers."""

    steps: int  # 0 leaves a warm start out
    batch: int  # pictures, over all processes
    questions: int  # about each
    optim: OptimizerOptions


class Sampling(NamedTuple):
    """A section of the config: how completions are drawn, see `Decoding`."""

    temperature: float
    top_k: int | None = None
    top_p: float | None = None


class Revisit(NamedTuple):
    """A section of the config: how often pictures that teach nothing are drawn."""

    visits: int = 0  # in a row that taught nothing, after which it is; 0: all alike
    keep: float = 0.25  # probability that such a picture is drawn all the same
    candidates: int = 2  # pictures that come for each that a step takes


class Exploration(NamedTuple):
    """A section of the config: GRPO on sampled answers, whatever they are about."""

    steps: int
    batch: int  # pictures, over all processes
    questions: int  # about each
    group: int  # completions of each prompt
    max_tokens: int  # of a completion; 0: as many as the longest right answer
    sampling: Sampling
    advantages: Advantages
    reward_weights: Mapping[str, float]
    python_rewards: Mapping[str, str]  # name -> "FILE.py:NAME"
    loss: Loss
    iterations: int
    accumulate: int
    optim: OptimizerOptions
    patience: int | None = 50  # steps without a group that has a signal; see `Watch`
    revisit: Revisit = Revisit()
    watchdogs: Limits = Limits()  # what is told while it happens, and stops nothing
    audit: str = "off"  # on: a line of JSON is written of each completion


def without_idle_cap(options: Exploration, policy: Policy) -> Exploration:
    """The options without a cap on importance weights where nothing is to be weighed.

    Args:
        options: Their `loss.importance_cap` is for a sampler of another dtype.
        policy: One whose sampler casts nothing samples by its own numbers, to rounding.
    """
    if policy.sampler is not None and not policy.sampler.exact:
        return options
    return options._replace(loss=options.loss._replace(importance_cap=None))
