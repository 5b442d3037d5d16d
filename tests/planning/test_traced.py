"""FLOPs of programs as written equal those of the compiled ones, but where they end."""

import jax
import jax.numpy as jnp
import pytest

from medjax.planning.costs import count_costs, step_phase
from medjax.planning.hlo import parse_program
from medjax.planning.traced import traced_flops
from tests.planning.programs import text_of

X, W = ((32, 64), jnp.float32), ((7, 64, 64), jnp.float32)


def flops_of(function, *shapes):
    return traced_flops(
        jax.jit(function).trace(*(jax.ShapeDtypeStruct(*x) for x in shapes)).jaxpr
    )


def layers(x, w):
    return jnp.sum(jax.lax.scan(lambda c, w: (jnp.sin(c @ w), None), x, w)[0])


def remembering(x, w):
    block = jax.checkpoint(lambda c, w: jnp.sin(c @ w))
    return jnp.sum(jax.lax.scan(lambda c, w: (block(c, w), None), x, w)[0])


@pytest.mark.parametrize(
    "function", [layers, jax.grad(layers, 1), jax.grad(remembering, (0, 1))]
)
def test_compiled_programs_do_as_many(function):
    # the one device of no mesh: text_of holds every array whole
    work = count_costs(parse_program(text_of(function, X, W)), step_phase)
    compiled = sum(costs.flops for costs in work.phases.values())
    assert flops_of(function, X, W) == compiled


def test_a_forward_pass_is_known_by_hand_and_recomputing_counts_again():
    forward = 2 * 32 * 64 * 64 * 7
    assert flops_of(layers, X, W) == forward
    assert flops_of(jax.grad(layers, (0, 1)), X, W) == 3 * forward
    assert flops_of(jax.grad(remembering, (0, 1)), X, W) == 4 * forward


def test_convolutions_and_the_cheapest_branch():
    def convolve(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID")

    shapes = ((2, 3, 9, 8), jnp.float32), ((5, 3, 3, 2), jnp.float32)
    # 2 x 5 x 7 x 7 outputs of 3 x 3 x 2 products
    assert flops_of(convolve, *shapes) == 2 * (2 * 5 * 7 * 7) * (3 * 3 * 2)

    def either(x):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ x, lambda: x @ x @ x)

    assert flops_of(either, ((16, 16), jnp.float32)) == 2 * 16**3


def test_a_loop_that_ends_by_what_it_computes_counts_nothing():
    def loop(x):
        return jax.lax.while_loop(lambda c: jnp.sum(c) < 3.0, lambda c: c @ c, x @ x)

    assert flops_of(loop, ((16, 16), jnp.float32)) == 2 * 16**3
