"""Parameters in half precision that learn: a float32 copy, or rounding by chance.

A bfloat16 number has 8 bits: an update below 1/512 of the weight is lost when the sum
is rounded to nearest, and so is the next one, however many there are. Of weights around
0.02, at a learning rate of 1e-6, hardly one moves.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from medjax.types import Key, Params

HALF = ("refuse", "master", "stochastic")


class MasterState(NamedTuple):
    """Of `with_master`."""

    master: Params  # float32: what the parameters would be if they were not rounded
    inner: optax.OptState


class RoundingState(NamedTuple):
    """Of `with_stochastic_rounding`."""

    count: Int[Array, ""]  # updates so far; decides the next one's noise
    inner: optax.OptState


def apply_updates(params: Params, updates: Params) -> Params:
    """The parameters after an update, each in its own dtype.

    The sum is made in the update's dtype, which may be wider: the optimisers here give
    half-precision parameters float32 updates that lead to the number meant, but for a
    rounding of 2^-24 of the larger of the two.

    Args:
        params: Arrays of floating point.
        updates: The same tree, in dtypes as wide or wider.
    """
    return jax.tree.map(
        lambda p, u: (p.astype(u.dtype) + u).astype(p.dtype), params, updates
    )


def refuse_half(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """An optimiser that does not move parameters in half precision.

    Its state can be made for them, so that such a policy is evaluated.

    Args:
        inner: It gets what is float32 or wider.

    Raises:
        ValueError: By `update`: a gradient has fewer than 32 bits.
    """

    def update(
        updates: Params, state: optax.OptState, params: Params | None = None
    ) -> tuple[Params, optax.OptState]:
        half = {str(x.dtype) for x in jax.tree.leaves(updates) if x.dtype.itemsize < 4}
        if half:
            raise ValueError(
                f"the trained parameters are {', '.join(sorted(half))}, in which an "
                "update below 1/512 of a weight is lost when it is rounded: at usual "
                "rates nothing would be learnt. Choose optim.half=master, a float32 "
                "copy beside them (4 bytes a parameter more), or stochastic, rounding "
                "by chance; or policy.param_dtype=float32"
            )
        return inner.update(updates, state, params)

    return optax.GradientTransformation(inner.init, update)


def with_master(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Keep a float32 copy of the parameters, which `inner` moves.

    After each update the parameters are that copy, rounded to nearest: they are those
    of a float32 run with the same gradients. The state is 4 bytes a parameter larger.

    Args:
        inner: It gets gradients and parameters in float32.
    """

    def init(params: Params) -> MasterState:
        master = widen(params)
        return MasterState(master, inner.init(master))

    def update(
        updates: Params, state: MasterState, params: Params | None = None
    ) -> tuple[Params, MasterState]:
        moves, after = inner.update(widen(updates), state.inner, state.master)
        master = jax.tree.map(jnp.add, state.master, moves)
        leading = jax.tree.map(
            lambda m, p: m.astype(p.dtype).astype(m.dtype) - p.astype(m.dtype),
            master,
            params,
        )
        return leading, MasterState(master, after)

    return optax.GradientTransformation(init, update)


def with_stochastic_rounding(
    inner: optax.GradientTransformation, key: Key
) -> optax.GradientTransformation:
    """Round each updated bfloat16 parameter up or down by chance, right in the mean.

    Of the two neighbours the nearer is the likelier: up with the probability
    (x - low) / (high - low) (Zamirai et al. 2020, "Revisiting BFloat16 Training").
    float32 is not rounded.

    Args:
        inner: It gets gradients and parameters in float32.
        key: One typed key. The noise depends on it, on the number of the update and on
            the parameter's place in the tree, and on no mesh.

    Raises:
        ValueError: By `init`: a parameter is float16, which is no truncated float32.
    """

    def init(params: Params) -> RoundingState:
        if any(x.dtype == jnp.float16 for x in jax.tree.leaves(params)):
            raise ValueError(
                "optim.half=stochastic: a parameter is float16; only bfloat16 is "
                "rounded so, choose master"
            )
        return RoundingState(jnp.zeros((), jnp.int32), inner.init(widen(params)))

    def update(
        updates: Params, state: RoundingState, params: Params | None = None
    ) -> tuple[Params, RoundingState]:
        wide = widen(params)
        moves, after = inner.update(widen(updates), state.inner, wide)
        places, tree = jax.tree.flatten(params)
        now = jax.random.fold_in(key, state.count)
        keys = tree.unflatten([jax.random.fold_in(now, n) for n in range(len(places))])

        def lead(key: Array, p: Array, old: Array, move: Array) -> Array:
            if p.dtype != jnp.bfloat16:
                return move
            return round_by_chance(key, old + move) - old

        leading = jax.tree.map(lead, keys, params, wide, moves)
        return leading, RoundingState(state.count + 1, after)

    return optax.GradientTransformation(init, update)


def round_by_chance(key: Array, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """float32 numbers that bfloat16 has, each a neighbour of `x`, which is their mean.

    A bfloat16 is the upper half of a float32: 16 random bits are added to the lower
    half, which is then cut off.

    Args:
        key: One typed key; consumed.
        x: float32. What is not finite stays.
    """
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
    cut = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), x.dtype)
    return jnp.where(jnp.isfinite(x), cut, x)


def protected(
    inner: optax.GradientTransformation, half: str, key: Key | None
) -> optax.GradientTransformation:
    """An optimiser that does what was chosen about parameters in half precision.

    Args:
        inner: For float32.
        half: "refuse", "master" or "stochastic".
        key: For "stochastic", see `with_stochastic_rounding`; the others use none.

    Raises:
        ValueError: `half` is something else, or "stochastic" without a key.
    """
    if half not in HALF:
        raise ValueError(f"optim.half {half!r}: expected one of {', '.join(HALF)}")
    if half == "stochastic":
        if key is None:
            raise ValueError("optim.half='stochastic': expected `key`, a typed key")
        return with_stochastic_rounding(inner, key)
    return with_master(inner) if half == "master" else refuse_half(inner)


def widen(tree: Any) -> Any:  # noqa: ANN401
    """Half-precision arrays of a tree in float32; others as they are.

    Args:
        tree: Arrays of floating point.
    """
    return jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype.itemsize < 4 else x, tree
    )
