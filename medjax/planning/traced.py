"""FLOPs of a program as it is written, before any compiler or device."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def traced_flops(program: ClosedJaxpr | Jaxpr) -> float:
    """FLOPs of the matrix products that a program is sure to do, over all devices.

    A multiply-add counts as two. A scan counts each of its steps, of branches the
    cheapest one counts, and a loop that ends by what it computes counts nothing, such
    as that over the tokens of answers: so it is a bound from below, and does not depend
    on what is drawn. What is computed again in a backward pass counts again.

    Args:
        program: As `jax.jit(f).trace(...).jaxpr` or `jax.make_jaxpr` gives it.
    """
    inside = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return sum(_flops(one) for one in inside.eqns)


def _flops(one: JaxprEqn) -> float:
    name = one.primitive.name
    if name == "dot_general":
        (contracted, _), _ = one.params["dimension_numbers"]
        left = _shape(one.invars[0])
        return (
            2.0 * _count(_shape(one.outvars[0])) * _count(left[i] for i in contracted)
        )
    if name == "conv_general_dilated":
        weights = _shape(one.invars[1])
        features = weights[one.params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * _count(_shape(one.outvars[0])) * _count(weights) / features
    if name == "while":
        return 0.0
    if name == "cond":
        return min(traced_flops(branch) for branch in one.params["branches"])
    inner = sum(traced_flops(program) for program in _programs(one.params.values()))
    return inner * (one.params["length"] if name == "scan" else 1)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _count(sizes) -> float:
    return float(np.prod(list(sizes), dtype=np.float64))


def _programs(values) -> Iterator[Any]:
    """The programs among the parameters of an operation."""
    for value in values:
        if isinstance(value, ClosedJaxpr | Jaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _programs(value)
