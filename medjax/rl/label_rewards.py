"""Rewards of labels and grades, as arrays: one number a completion, no text.

A label is a class index, -1 where none could be read; grades of ordinal classes are
consecutive, so that indices differ by as much as grades do (`label_forms` checks it).
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from medjax.checks import check_arrays, check_flags, check_integers
from medjax.masked import at_least_float32
from medjax.rl.text.label_set_text import ParsedLabelSets
from medjax.rl.text.label_text import ParsedLabels

GRADE_RULES = ("sixteenth", "tenth", "power", "gaussian", "quartic", "exact")


def label_reward(
    label: Int[Array, "*batch"], target: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """1[label = target], 0 where no label was read.

    Args:
        label: Class index read from each completion, -1 for none: `ParsedLabels.label`.
        target: The right class of each completion, of the same shape. A target below 0
            is never reached.

    Returns:
        float32 of the same shape.

    Raises:
        ValueError: shapes that differ, or numbers that are no integers.
    """
    check_arrays("label_reward", label=(label, "*N", int), target=(target, "*N", int))
    # as int32: a difference of unsigned numbers would wrap round
    label, target = label.astype(jnp.int32), target.astype(jnp.int32)
    return at_least_float32((label == target) & (label >= 0))


def fuzzy_grade_reward(
    grade: Int[Array, "*batch"],
    target: Int[Array, "*batch"],
    table: Float[Array, "D"] | Sequence[float],
) -> Float[Array, "*batch"]:
    """table[|grade - target|], VRFT-Aug's multi-grade fuzzy reward.

    The table is data: a sweep over tables is a vmap.

    Args:
        grade: Class index read from each completion; below 0, no grade, earns 0.
            Answers out of range are not read as grades in the first place.
        target: The right class of each completion, of the same shape. A target below 0
            is never reached, nor nearly.
        table: What a difference of 0, 1, ... D - 1 grades earns, as `grade_table` makes
            it, at least one number; a larger difference earns 0. A tuple or a list will
            do. Its values are not looked at, see `check_grade_table`.

    Returns:
        float32 of the shape of `grade`.

    Raises:
        ValueError: shapes that differ, grades that are no integers, or an empty table.
    """
    values = jnp.asarray(table, jnp.float32)
    check_arrays(
        "fuzzy_grade_reward",
        grade=(grade, "*N", int),
        target=(target, "*N", int),
        table=(values, "D", float),
    )
    if not values.shape[0]:
        raise ValueError("fuzzy_grade_reward: table: expected a number; found none")
    grade, target = grade.astype(jnp.int32), target.astype(jnp.int32)
    distance = jnp.abs(grade - target)
    known = (grade >= 0) & (target >= 0)
    # a sum over the table and no look-up, which a mesh with Explicit axes refuses
    values = values.reshape((1,) * distance.ndim + (-1,))
    differences = jnp.arange(values.size, dtype=jnp.int32).reshape(values.shape)
    chosen = known[..., None] & (distance[..., None] == differences)
    return jnp.sum(jnp.where(chosen, values, 0), axis=-1)


def label_format_reward(
    parsed: ParsedLabels | ParsedLabelSets,
    *,
    min_words: int,
    min_bytes: int = 0,
    require_label: bool,
) -> Float[Array, "*batch"]:
    """1 for a well-formed completion that reasons before it answers, else 0.

    Well formed is `<think>..</think><answer>..</answer>` with nothing but white space
    around and between, each tag once.

    Args:
        parsed: What `parse_labels` or `parse_label_sets` read, with any leading axes;
            the reward has them.
        min_words: The fewest words that the reasoning, which stands between the think
            tags, must hold; 0 or less asks for none. 1 or more keeps a negative
            recitation weight from being earned by an empty think block. A word is a
            longest run of digits, letters and other bytes above 127, as `split_words`
            counts them: spaces, underscores and ASCII's punctuation separate words, so
            "T2-weighted" has two, and each Chinese, Japanese or Korean character
            is one. A word that is repeated counts each time.
        min_bytes: The fewest bytes of the reasoning in UTF-8, white space included; 0
            or less asks for none.
        require_label: Also asks for a readable answer. VLM-R1's format of choices does
            not; that of boxes does. Static.

    Returns:
        1 or 0, float32 with the leading axes of `parsed`.

    Raises:
        ValueError: a traced `require_label`.
    """
    check_flags("label_format_reward", require_label=require_label)
    length = parsed.think[..., 1] - parsed.think[..., 0]
    right = parsed.well_formed & (parsed.think_words >= min_words)
    right &= length >= min_bytes
    if require_label:
        right &= parsed.parsed
    return at_least_float32(right)


def grade_table(rule: str, classes: int) -> tuple[float, ...]:
    """Reward by difference d = 0 ... classes - 1, for `fuzzy_grade_reward`.

    The paper's own table is not public; 0.0625 and 1/10 are both told of d = 2, and the
    value at d = 1 is what matters after normalisation in the group.

    ===========  ==========================
    "sixteenth"  1, 0.25, 0.0625, 0, ...
    "tenth"      1, 0.25, 0.1, 0, ...
    "power"      4^-d
    "gaussian"   2^-(d^2)
    "quartic"    max(0, 1 - d / 4)^4
    "exact"      1, 0, ...: no partial credit
    ===========  ==========================

    Args:
        rule: One of the names above.
        classes: How many grades there are, an integer of 1 or more; so long is the
            table, with zeros behind what the rule names.

    Returns:
        Python floats that start at 1 and never rise.

    Raises:
        ValueError: an unknown rule, or fewer than one class.
    """
    if rule not in GRADE_RULES:
        raise ValueError(f"rule {rule!r}: expected one of {', '.join(GRADE_RULES)}")
    start = {"sixteenth": (1, 0.25, 0.0625), "tenth": (1, 0.25, 0.1), "exact": (1,)}
    value = {
        "power": lambda d: 4.0**-d,
        "gaussian": lambda d: 2.0 ** -(d**2),
        "quartic": lambda d: max(0.0, 1 - d / 4) ** 4,
    }
    check_integers("grade_table", classes=(classes, 1, None))
    table = start.get(rule) or [value[rule](d) for d in range(classes)]
    return check_grade_table(table[:classes], classes)


def check_grade_table(table: Sequence[float], classes: int) -> tuple[float, ...]:
    """The table with `classes` entries, zeros behind those given.

    Args:
        table: What a difference of 0, 1, ... grades earns; at most `classes` finite
            numbers that never rise, the first above 0 and none below it.
        classes: How many grades there are, 1 or more.

    Returns:
        Python floats, one for each difference that `classes` classes can have.

    Raises:
        ValueError: a table that is empty, longer than there are classes, not finite,
            negative, all 0, or larger at a larger difference: its best answer would
            not be the right one.
    """
    values = [float(value) for value in table]
    if not 1 <= len(values) <= classes:
        raise ValueError(
            f"grade table of {len(values)} values: expected 1 to {classes}, one for "
            f"each difference that {classes} classes can have"
        )
    falling = all(a >= b for a, b in zip(values[:-1], values[1:], strict=True))
    if not all(map(math.isfinite, values)) or not falling or values[-1] < 0:
        raise ValueError(
            f"grade table {values}: expected finite values that do not rise with the "
            "difference and are not negative"
        )
    if values[0] == 0:
        raise ValueError(f"grade table {values}: the right answer must earn something")
    return (*values, *[0.0] * (classes - len(values)))
