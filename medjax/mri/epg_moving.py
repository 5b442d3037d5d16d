"""A derivative of an echo train's fit that loops of jax before 0.12 do not drop.

Differentiated twice inside `scan` or `lax.map`, they take a `custom_jvp` for the
function in it and leave out the rule. The rule of a primitive stays.
"""

from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Bool, Float

from medjax.mri.epg_steps import Point, implicit_move, train_gradient
from medjax.mri.model import SignalModel
from medjax.mri.varpro import Weighted, gate

_derived_p = Primitive("value_with_derivative")


def _value(value: Array, other: Array) -> Array:
    """The value, whose derivative is that of `other`."""
    del other
    return value


_derived_p.def_impl(_value)
_derived_p.def_abstract_eval(_value)
batching.defbroadcasting(_derived_p)
mlir.register_lowering(_derived_p, mlir.lower_fun(_value, multiple_results=False))


def _derived_jvp(
    primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Any]:
    return _derived_p.bind(*primals), tangents[1]


ad.primitive_jvps[_derived_p] = _derived_jvp


def moving_point(
    model: SignalModel, found: Bool[Array, "*N"], point: Point, data: Weighted
) -> tuple[Float[Array, "*N"], Float[Array, "*N"]]:
    """u and x as they are, with the first derivative that `implicit_point` gives them.

    Its rule is one Newton step's: nothing of it is computed where no derivative is.

    Args:
        model: One with a train and with its `echoes`.
        found: Of `implicit_point`, like the others.
        point: Its u, and its x where that is free, are constants.
        data: Of `prepare_samples`.
    """
    fixed, still = jax.lax.stop_gradient((data, point))
    u, x = gate(found, still.log_rate), gate(found, still.x)
    change = train_gradient(model, u, x, gate(found, data))
    given = point.x - still.x
    move, turn = implicit_move(model, found, still, fixed, change, given)
    return _derived_p.bind(still.log_rate, move), _derived_p.bind(still.x, turn)
