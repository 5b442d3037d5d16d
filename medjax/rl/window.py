"""The window of the moving threshold: its entries, and what they say together.

An entry is the hit rate and the mean IoU of one step, or of one group, and its raw IoUs
where hit rates are to be counted again. `threshold.py` decides by it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from medjax.masked import marked, masked_mean
from medjax.rl.rewards import threshold_reward

NO_SAMPLE = -2.0  # below every IoU and GIoU: of a completion that does not count


class RaiseLog(NamedTuple):
    """The numbers that caused each raise; raise k stands in slot k mod R."""

    step: Int[Array, "R"]  # update at which tau rose, from 0; -1 = empty, 0 beside it
    tau_before: Float[Array, "R"]
    tau_after: Float[Array, "R"]
    hit_rate: Float[Array, "R"]
    deviation: Float[Array, "R"]
    margin: Float[Array, "R"]


class ThresholdState(NamedTuple):
    """The scheduler's carry: window (newest entry last), counters and log.

    A tree of float32 and int32 arrays, each with a buffer of its own, so that it can be
    donated. It may be saved leaf by leaf, by `numpy.savez` or otherwise, and goes on
    from NumPy's arrays as they were read.
    """

    tau: Float[Array, ""]
    hit_rates: Float[Array, "W"]  # of each entry, as earned
    ious: Float[Array, "W"]  # mean IoU of each entry
    samples: Float[Array, "W S"] | None  # raw IoUs of each entry, -2 = none
    count: Int[Array, ""]  # filled entries
    step: Int[Array, ""]  # updates so far
    raises: Int[Array, ""]
    log: RaiseLog


def window_statistics(
    state: ThresholdState,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """(hit rate, its deviation, mean IoU) over the window's filled entries.

    Every entry counts alike, whatever number of completions it was made of. The hit
    rates are those the entries were pushed with, or, where the state keeps raw IoUs,
    are counted again with the current tau.

    The deviation (ddof 0) is that of the entries' hit rates, not of 0/1 rewards (our
    reading: those have 0.4 at a hit rate of 0.8, so that S = 0.2 could never pass).

    Args:
        state: The carry; its leaves may be NumPy's. All three numbers are 0 for an
            empty window, and NaN while an entry with a NaN is in it.

    Returns:
        Three scalars, float32.
    """
    state = jax.tree.map(jnp.asarray, state)
    rates = state.hit_rates
    if state.samples is not None:
        kept = state.samples != NO_SAMPLE
        rates = masked_mean(threshold_reward(state.samples, state.tau), kept, axis=-1)
    size = rates.shape[0]
    filled = jnp.arange(size, dtype=jnp.int32) >= size - state.count
    rate = masked_mean(rates, filled)
    deviation = jnp.sqrt(masked_mean((rates - rate) ** 2, filled))
    return rate, deviation, masked_mean(state.ious, filled)


def push_step(
    state: ThresholdState,
    iou: Float[Array, "B G"],
    counts: Bool[Array, "B G"],
    *,
    entries: str,
    axes: tuple[str, ...],
) -> ThresholdState:
    """The state with a step's entries at the end of its window, the oldest gone.

    Args:
        state: The carry before the step, whose `tau` the answers were judged by.
        iou: Of every completion of the step, 0 to 1; 0 where it does not count.
        counts: Where a completion counts. An entry without any is not pushed.
        entries: "step" pushes one entry for all completions, "group" one a prompt.
        axes: Those of `shard_map` that the prompts are spread over, in their order; ()
            for none.

    Raises:
        ValueError: another word, or a state that keeps another number of raw IoUs than
            this step has.
    """
    kept = state.samples is not None
    new = _entries(iou, counts, state.tau, entries, axes, keeps_samples=kept)
    return _push(state, *new)


def _entries(
    iou: Float[Array, "B G"],
    counts: Bool[Array, "B G"],
    tau: Float[Array, ""],
    entries: str,
    axes: tuple[str, ...],
    *,
    keeps_samples: bool,
) -> tuple[
    Float[Array, "E"], Float[Array, "E"], Float[Array, "E S"] | None, Bool[Array, "E"]
]:
    """Hit rate, mean IoU, raw IoUs and validity of the entries one step makes."""
    if entries not in ("step", "group"):
        raise ValueError(
            f"update_threshold: entries {entries!r}: expected 'step' or 'group'"
        )
    step = entries == "step"

    def mean(x: Float[Array, "B G"]) -> Float[Array, "E"]:
        if step:
            return masked_mean(x, counts, axis_name=axes)[None]
        return _whole(masked_mean(x, counts, axis=-1), axes)

    count = marked(counts, jnp.float32, axis=None if step else 1)
    some = jax.lax.psum(count, axes)[None] if step else _whole(count, axes)
    samples = None
    if keeps_samples:
        samples = _whole(jnp.where(counts, iou, NO_SAMPLE), axes)
        samples = samples.reshape(1, -1) if step else samples
    # A NaN IoU makes its entry's hit rate NaN, which can never justify a raise.
    return mean(threshold_reward(iou, tau)), mean(iou), samples, some > 0


def _whole(x: Float[Array, "B *S"], axes: tuple[str, ...]) -> Float[Array, "D *S"]:
    """The rows of all devices, one device's behind the other's, on each of them.

    A sum over devices of which each fills its own rows: unlike what `all_gather` gives,
    its result is known to be the same everywhere.
    """
    if axes:
        place = jax.lax.axis_index(axes)
        places = jnp.arange(jax.lax.axis_size(axes), dtype=place.dtype)
        own = (places == place).reshape(-1, *[1] * x.ndim)
        whole = jax.lax.psum(jnp.where(own, x[None], 0), axes)
        return whole.reshape(-1, *x.shape[1:])
    lying = jax.typeof(x).sharding
    if any(lying.spec):  # on a mesh with Explicit axes: as the window lies
        return jax.sharding.reshard(x, NamedSharding(lying.mesh, PartitionSpec()))
    return x


def _push(
    state: ThresholdState,
    hit_rates: Float[Array, "E"],
    ious: Float[Array, "E"],
    samples: Float[Array, "E S"] | None,
    valid: Bool[Array, "E"],
) -> ThresholdState:
    """Append the valid entries in order; what no longer fits leaves at the front."""
    size, kept = state.hit_rates.shape[0], state.samples
    if kept is not None and samples is not None and kept.shape[1] != samples.shape[1]:
        raise ValueError(
            f"update_threshold: state: keeps {kept.shape[1]} raw IoUs an entry, this "
            f"step has {samples.shape[1]}: init_threshold(samples={samples.shape[1]}) "
            "or 0"
        )
    rank = jnp.concatenate(
        [jnp.ones((size,), jnp.int32), jnp.where(valid, 2, 0).astype(jnp.int32)]
    )
    order = jnp.argsort(rank, stable=True)[-size:]  # invalid, then old, then new

    def push(old: Float[Array, "W *S"], new: Float[Array, "E *S"]) -> Array:
        return jnp.concatenate([old, new])[order]

    added = jnp.sum(valid, dtype=jnp.int32)
    return state._replace(
        hit_rates=push(state.hit_rates, hit_rates),
        ious=push(state.ious, ious),
        samples=None if samples is None else push(kept, samples),
        count=jnp.minimum(state.count + added, size),
    )
