"""What systems that learn from sampled completions share: the whole step but rewards.

One step is one program: sample G completions of each prompt, score them, normalise the
rewards within the group, take a clipped policy gradient step. Rewards in Python split
it in two programs: sampling, and the rest.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from medjax.rl.visits import init_visits
from medjax.sharding import optimizer_axes
from medjax.systems.policy.advantages import Advantages, check_advantages
from medjax.systems.policy.earning import Carry, Scored, earn, reward_metrics
from medjax.systems.policy.host_rewards import (
    HostRewards,
    ScoredBatch,
    score_on_host,
)
from medjax.systems.policy.learner import Teaching, divide, policy_step
from medjax.systems.policy.revisits import (
    Candidates,
    ChooseFn,
    Picked,
    Revisits,
    choose,
    note_visits,
)
from medjax.systems.policy.trace import make_trace
from medjax.types import (
    Decoding,
    EvaluateFn,
    Key,
    Params,
    PolicyBatch,
    PolicyModel,
    Rollout,
    Sampler,
    System,
    TrainState,
)

StartFn = Callable[[Params], Carry]  # of the reference
ScoreFn = Callable[
    [Any, Any, Rollout, Int[Array, ""]], Scored
]  # (carry, batch, ., step)


class Step(NamedTuple):
    """How a policy explores, and how it learns from what came of it."""

    group: int  # G completions a prompt
    decoding: Decoding
    advantages: Advantages
    reward_weights: Mapping[str, float]  # of every reward, the host's too
    teaching: Teaching
    revisits: Revisits | None = None  # which pictures are taken; None: all that come
    # what completions are drawn by; None: the policy itself
    sampler: Sampler | None = None
    # metrics["trace"] says of every completion what became of it: see `Trace`
    audit: bool = False


class Explorer(NamedTuple):
    """The parts that an exploring system is put together from."""

    model: PolicyModel
    optimizer: optax.GradientTransformation
    start: StartFn
    score: ScoreFn
    step: Step

    @property
    def has_reference(self) -> bool:
        """Whether the loss measures a KL term to the initial policy."""
        return self.step.teaching.loss.beta != 0


def build(
    explorer: Explorer, evaluate: EvaluateFn, host_rewards: HostRewards | None = None
) -> System:
    """The system that samples, scores and learns.

    A step samples G completions of each prompt (`explore`), scores them, normalises in
    the group and moves the policy by `grpo_loss` (`learn`).

    Args:
        explorer: Its `start` makes the carry from the reference, and its `score` says
            what completions earn: (carry, batch, rollout, step) -> Scored.
        evaluate: Becomes `System.evaluate`; training does not call it.
        host_rewards: Rewards in Python: (batch, rollout, step, carry) as NumPy arrays
            on the host, the carry without its reference -> {name: HostReward}. They
            split the step in two compiled programs; None leaves it one.

    Raises:
        ValueError: What `check_advantages` refuses.
    """
    check_advantages(explorer.step.advantages)
    axes = state_axes(explorer)
    start, adapter = partial(init, explorer), explorer.model.adapter
    if host_rewards is None:
        step = partial(update, explorer)
        return System(start, step, evaluate, axes, adapter=adapter)
    prepare = partial(
        _prepare,
        explorer,
        jax.jit(partial(choose, explorer.step.revisits)),
        jax.jit(partial(explore, explorer)),
        host_rewards,
    )
    step = partial(update_scored, explorer)
    return System(start, step, evaluate, axes, prepare, adapter)


def init(explorer: Explorer, key: Key, params: Params | None = None) -> TrainState:
    """The state before the first step, of random parameters or those given.

    Args:
        explorer: Model, optimiser, rewards and options of the step; bound by `build`.
        key: One typed key, consumed where parameters are drawn and else not read.
        params: The policy to start from; None draws one.

    Returns:
        The parameters, a fresh state of the optimiser, step 0 and the carry, which
        holds a copy of the parameters that are trained where the loss has a KL term.
    """
    params = explorer.model.init(key) if params is None else params
    trained, _ = divide(explorer.model, params)
    reference = jax.tree.map(jnp.copy, trained) if explorer.has_reference else ()
    step = jnp.zeros((), jnp.int32)
    opt_state = explorer.optimizer.init(trained)
    return TrainState(params, opt_state, step, _carry(explorer, reference))


def state_axes(explorer: Explorer) -> TrainState:
    """Logical axis names of the state, a PartitionSpec in place of each array.

    Nothing is computed. The carry is held whole by every device, but for the reference,
    which is spread as the parameters are, those that are trained.

    Args:
        explorer: Model, optimiser, rewards and options of the step; bound by `build`.
    """
    model = explorer.model
    axes, _ = divide(model, model.axes)
    shapes, _ = divide(model, jax.eval_shape(model.init, jax.random.key(0)))
    carry = jax.eval_shape(lambda: _carry(explorer, ()))
    replicated = jax.tree.map(lambda _: PartitionSpec(), carry)
    return TrainState(
        model.axes,
        optimizer_axes(explorer.optimizer, shapes, axes),
        PartitionSpec(),
        replicated._replace(reference=axes if explorer.has_reference else ()),
    )


def explore(
    explorer: Explorer, params: Params, batch: PolicyBatch, key: Key
) -> Rollout:
    """G completions of each of the batch's B prompts.

    Args:
        explorer: G, the decoding and the sampler are those of its `step`.
        params: The policy that samples.
        batch: Its prompts and sample ids are read.
        key: One typed key, consumed. The noise of a completion depends on it, on the
            sample id and on the place in the group.

    Returns:
        Tokens, masks and log-probabilities, [B, G, T] each.
    """
    model, sampler = explorer.model, explorer.step.sampler
    if sampler is not None:
        model, params = sampler.model, sampler.lay_out(params)
    return model.sample(
        params,
        model.prefill(params, batch.prompt),
        batch.sample_id,
        key,
        group=explorer.step.group,
        decoding=explorer.step.decoding,
    )


def learn(
    explorer: Explorer,
    state: TrainState,
    batch: PolicyBatch,
    rollout: Rollout,
    host: Mapping[str, Float[Array, "B G"]],
    host_scored: Mapping[str, Bool[Array, "B G"]],
    picked: Picked | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """The step after sampling: score, normalise in the group, update the policy.

    Args:
        explorer: Model, optimiser, rewards and options of the step; bound by `build`.
        state: The policy that sampled, and what it carries.
        batch: B prompts; rows that are not valid teach nothing and count in no metric.
        rollout: G completions of each prompt, sampled under `state.params`.
        host: Rewards that were given in Python, by name; {} where there are none.
        host_scored: By the same names, where each could score the completion.
        picked: What the batch was chosen from, where pictures are not visited alike;
            metrics then have the shares of `note_visits`.

    Returns:
        The state after the step, its number raised by 1, and metrics: those of
        `policy_step`, of the system, of each reward as reward_NAME, and what the groups
        hold (`hit_rate`, `parse_rate`, `length` in tokens, groups_NAME). `fault_NAME`
        is the id of a sample that counts for which the reward NAME is NaN or, weighed
        or not, beyond 1e18; -1 where there is none. With `step.audit` `trace` is a
        `Trace` of the completions.
    """
    step = explorer.step
    scored = explorer.score(state.aux, batch, rollout, state.step)
    earned = earn(
        step.advantages, step.reward_weights, scored, batch.valid, host, host_scored
    )
    params, opt_state, step_metrics = policy_step(
        explorer.model,
        explorer.optimizer,
        state.params,
        state.opt_state,
        state.aux.reference if explorer.has_reference else None,
        batch.prompt,
        rollout._replace(mask=rollout.mask & batch.valid[:, None, None]),
        earned.advantages,
        teaching=step.teaching,
    )
    metrics: dict[str, Any] = {
        **step_metrics,
        **reward_metrics(
            step.advantages, step.reward_weights, batch, rollout, scored, earned
        ),
    }
    if step.audit:
        metrics["trace"] = make_trace(batch, rollout, scored, earned)
    aux = scored.aux
    if picked is not None and step.revisits is not None:
        visits, shares = note_visits(
            step.revisits,
            state.aux.visits,
            picked,
            earned.rewards,
            host_scored,
            floor=step.advantages.floor,
        )
        aux, metrics = aux._replace(visits=visits), metrics | shares
    return TrainState(params, opt_state, state.step + 1, aux), metrics


def update(
    explorer: Explorer,
    state: TrainState,
    batch: PolicyBatch | Candidates,
    key: Key,
) -> tuple[TrainState, dict[str, Array]]:
    """The whole step in one program: `explore`, then `learn`.

    Args:
        explorer: Model, optimiser, rewards and options of the step; bound by `build`.
        state: The state before the step; it may be donated.
        batch: B prompts with their targets, or the pictures that they are chosen from.
        key: One typed key, consumed; it draws the completions, and chooses pictures.

    Returns:
        The state after the step, and the metrics of `learn`.
    """
    batch, picked, key = choose(explorer.step.revisits, state.aux, batch, key)
    with jax.named_scope("rollout"):  # names by which profiles and plans tell phases
        rollout = explore(explorer, state.params, batch, key)
    with jax.named_scope("learner"):
        return learn(explorer, state, batch, rollout, {}, {}, picked)


def update_scored(
    explorer: Explorer, state: TrainState, scored: ScoredBatch, key: Key
) -> tuple[TrainState, dict[str, Array]]:
    """The second half of a split step: `learn` from what `score_on_host` made.

    Args:
        explorer: Model, optimiser, rewards and options of the step; bound by `build`.
        state: The state that the completions were sampled under.
        scored: The batch, its completions and the rewards given in Python.
        key: Not used: what there was to draw is drawn.

    Returns:
        The state after the step, and the metrics of `learn`.
    """
    del key  # what there was to draw is drawn
    batch, rollout, rewards, places, picked = scored
    return learn(explorer, state, batch, rollout, rewards, places, picked)


def _carry(explorer: Explorer, reference: Params) -> Carry:
    """What the system starts with, and the visits to pictures if they are counted."""
    carry, revisits = explorer.start(reference), explorer.step.revisits
    if revisits is None:
        return carry
    return carry._replace(visits=init_visits(revisits.pictures))


def _prepare(
    explorer: Explorer,
    chooser: ChooseFn,
    sampler: Callable[[Params, Any, Key], Rollout],
    host_rewards: HostRewards,
    state: TrainState,
    batch: PolicyBatch | Candidates,
    key: Key,
) -> ScoredBatch:
    """The first half of a split step: choose if pictures are chosen, sample, score."""
    if explorer.step.revisits is None:
        return score_on_host(sampler, host_rewards, state, batch, key)
    batch, picked, key = chooser(state.aux, batch, key)
    scored = score_on_host(sampler, host_rewards, state, batch, key)
    return scored._replace(picked=picked)
