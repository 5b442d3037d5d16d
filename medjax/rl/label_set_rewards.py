"""Rewards of sets of labels, as arrays: one number a completion, no text.

A set is a row of C marks, True for each class that is named. `read` says whether a
completion names a set at all: one that does not earns 0, while "none" is a set, the
empty one, and right where nothing is shown.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.checks import check_arrays
from medjax.masked import at_least_float32

SET_RULES = ("f1", "exact", "labels")


def label_set_f1(
    shown: Bool[Array, "*N C"], target: Bool[Array, "*N C"], read: Bool[Array, "*N"]
) -> Float[Array, "*N"]:
    """2 |A and B| / (|A| + |B|) of a set named and the true one; both empty 1.

    Args:
        shown: The classes that each completion names: `ParsedLabelSets.shown`.
        target: The true ones, of the same shape.
        read: Whether a set could be read: `ParsedLabelSets.parsed`; if not it earns 0.

    Returns:
        float32 from 0 to 1. One of the sets alone being empty is 0.

    Raises:
        ValueError: shapes that differ, or arrays that are not boolean.
    """
    _check("label_set_f1", shown, target, read)
    both = jnp.sum(shown & target, axis=-1, dtype=jnp.int32)
    sizes = jnp.sum(shown, axis=-1, dtype=jnp.int32)
    sizes += jnp.sum(target, axis=-1, dtype=jnp.int32)
    share = at_least_float32(2 * both) / at_least_float32(jnp.maximum(sizes, 1))
    return jnp.where(read, jnp.where(sizes == 0, 1.0, share), 0.0)


def label_set_exact(
    shown: Bool[Array, "*N C"], target: Bool[Array, "*N C"], read: Bool[Array, "*N"]
) -> Float[Array, "*N"]:
    """1 where the set named is the true one, else 0; also 0 where none was read.

    Args:
        shown: The classes that each completion names.
        target: The true ones, of the same shape.
        read: Whether a set could be read.

    Returns:
        1 or 0, float32.

    Raises:
        ValueError: shapes that differ, or arrays that are not boolean.
    """
    _check("label_set_exact", shown, target, read)
    return at_least_float32(read & (shown == target).all(axis=-1))


def label_accuracy(
    shown: Bool[Array, "*N C"], target: Bool[Array, "*N C"], read: Bool[Array, "*N"]
) -> Float[Array, "*N"]:
    """Share of the C classes that are rightly named or rightly left out.

    Where most classes are rare, "none" earns nearly 1 for any picture: `label_set_f1`
    has no such way out.

    Args:
        shown: The classes that each completion names, C being 1 or more.
        target: The true ones, of the same shape.
        read: Whether a set could be read; if not it earns 0.

    Returns:
        float32 from 0 to 1.

    Raises:
        ValueError: shapes that differ, no classes, or arrays that are not boolean.
    """
    _check("label_accuracy", shown, target, read)
    if not shown.shape[-1]:
        raise ValueError("label_accuracy: shown: expected a class; found none")
    right = jnp.sum(shown == target, axis=-1, dtype=jnp.int32)
    return jnp.where(read, at_least_float32(right) / shown.shape[-1], 0.0)


def label_set_reward(
    rule: str,
    shown: Bool[Array, "*N C"],
    target: Bool[Array, "*N C"],
    read: Bool[Array, "*N"],
) -> Float[Array, "*N"]:
    """The reward of that name.

    ========  ==================
    "f1"      `label_set_f1`
    "exact"   `label_set_exact`
    "labels"  `label_accuracy`
    ========  ==================

    Args:
        rule: One of the names above; static.
        shown: The classes that each completion names.
        target: The true ones, of the same shape.
        read: Whether a set could be read.

    Returns:
        float32 from 0 to 1: 0 where `read` is False, else 1 where both sets are equal,
        also where both are empty.

    Raises:
        ValueError: an unknown rule, flags that are not of bool, shapes that do not fit
            each other, or no class (C = 0) for "labels".
    """
    rewards = {"f1": label_set_f1, "exact": label_set_exact, "labels": label_accuracy}
    if rule not in rewards:
        raise ValueError(f"rule {rule!r}: expected one of {', '.join(SET_RULES)}")
    return rewards[rule](shown, target, read)


def _check(name: str, shown: Array, target: Array, read: Array) -> None:
    check_arrays(
        name,
        shown=(shown, "*N C", bool),
        target=(target, "*N C", bool),
        read=(read, "*N", bool),
    )
