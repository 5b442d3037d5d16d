"""Prompts that teach nothing any more are drawn less often."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from medjax.checks import FLAGS, check_arrays, check_integers, check_key, check_ranges

_MOST = 1 << 30  # an idle prompt stays idle, and its count does not overflow


class VisitState(NamedTuple):
    """How often in a row each of P prompts taught nothing; P integers, to be saved."""

    idle: Int[Array, "P"]  # visits in a row, up to the last, without a signal


def init_visits(count: int) -> VisitState:
    """The state before the first visit: no prompt has been idle.

    Args:
        count: P, how many prompts there are, a Python integer of 1 or more.

    Returns:
        Of each prompt the number of idle visits in a row, `idle` [P], int32: zeros.

    Raises:
        ValueError: another number, or a traced one.
    """
    check_integers("init_visits", count=(count, 1, None))
    return VisitState(jnp.zeros((count,), jnp.int32))


def pick_prompts(
    state: VisitState,
    candidates: Int[Array, "C"],
    key: Array,
    *,
    size: int,
    visits: int,
    keep: float,
) -> Int[Array, "M"]:
    """The places of the M candidates that are visited, rising.

    A candidate whose last `visits` visits all taught nothing is settled, and is passed
    over with probability 1 - keep. The first M of the others are taken; where there are
    fewer, the first of those that were passed over fill up.

    Args:
        state: Of all P prompts, before the visit.
        candidates: Numbers of C prompts, 0 to P - 1, in the order in which they came;
            one may come twice. Another number is not refused and counts as not settled.
        key: One typed key (`jax.random.key`), consumed.
        size: M, static, 1 to C; C is 1 or more.
        visits: 1 or more, static.
        keep: The probability, 0 to 1, with which a settled candidate is visited all the
            same; static. 0 still lets it fill up.

    Returns:
        M different places among the candidates, 0 to C - 1, int32.

    Raises:
        ValueError: shapes, dtypes or numbers that do not fit, an old key or several.
    """
    check_key("pick_prompts", key=key)
    check_arrays(
        "pick_prompts",
        idle=(state.idle, "P", int),
        candidates=(candidates, "C", int),
    )
    count = candidates.shape[0]
    check_integers("pick_prompts", size=(size, 1, count), visits=(visits, 1, None))
    check_ranges("pick_prompts", keep=(keep, 0, 1))
    passed = is_settled(state, candidates, visits=visits)
    passed = passed & (jax.random.uniform(key, (count,), jnp.float32) >= keep)
    order = jnp.argsort(passed, stable=True)[:size]
    return jnp.sort(order).astype(jnp.int32)


def is_settled(
    state: VisitState, prompts: Int[Array, "C"], *, visits: int
) -> Bool[Array, "C"]:
    """Whether the last `visits` visits to each prompt all taught nothing.

    Args:
        state: Of all P prompts.
        prompts: Numbers of some of them, 0 to P - 1, in any order; one may stand there
            twice, or none. Another number is not refused and counts as not settled.
        visits: How many visits in a row must have taught nothing, a Python integer
            (static) of 1 or more.

    Returns:
        One flag a number in `prompts`; False for a prompt of fewer visits.

    Raises:
        ValueError: shapes or dtypes that do not fit, or `visits` that is traced, below
            1 or no integer.
    """
    check_arrays("is_settled", idle=(state.idle, "P", int), prompts=(prompts, "C", int))
    check_integers("is_settled", visits=(visits, 1, None))
    idle = (
        jnp.asarray(state.idle)
        .at[prompts]
        .get(mode="fill", fill_value=0, wrap_negative_indices=False)
    )
    return idle >= visits


def update_visits(
    state: VisitState,
    prompts: Int[Array, "M"],
    signal: Bool[Array, "M"],
    *,
    valid: Bool[Array, "M"] | None = None,
) -> VisitState:
    """The state after M visits: one more idle visit, or none in a row any more.

    Args:
        state: Of all P prompts, before the visits.
        prompts: Their numbers, 0 to P - 1. One that was visited twice in the step is no
            longer idle if one of the visits taught something, and has two idle visits
            more otherwise. Another number is not refused, and changes nothing.
        signal: Whether the visit taught something: some answers were better than
            others. Bool, or an integer that is not 0, as `valid`.
        valid: False for a visit that only fills the batch and changes nothing; None
            stands for True.

    Returns:
        The state of all P prompts, `idle` in int32: those that were not visited are as
        they were.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    check_arrays(
        "update_visits",
        idle=(state.idle, "P", int),
        prompts=(prompts, "M", int),
        signal=(signal, "M", FLAGS),
        valid=(valid, "M", FLAGS),
    )
    idle = jnp.asarray(state.idle).astype(jnp.int32)
    counts = jnp.ones(prompts.shape, bool) if valid is None else valid.astype(bool)
    zero = jnp.zeros_like(idle)
    # An index below 0 would count from the end.
    where = zero.at[jnp.where(prompts < 0, idle.shape[0], prompts)]
    visited = where.add(counts.astype(jnp.int32), mode="drop")
    taught = where.add((counts & signal.astype(bool)).astype(jnp.int32), mode="drop")
    idle = jnp.minimum(idle, _MOST) + visited
    return VisitState(jnp.where(taught > 0, 0, idle))
