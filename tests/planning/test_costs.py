"""Costs of programs that are known by hand, and of hand-written instructions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.planning.costs import (
    count_costs,
    group_size,
    moved_bytes,
    product_flops,
    step_phase,
)
from medjax.planning.hlo import parse_program, visits
from tests.planning.programs import text_of


def costs_of(text):
    return count_costs(parse_program(text), step_phase).phases


def flops_of(text):
    return sum(costs.flops for costs in costs_of(text).values())


def test_a_product_in_a_scan_counts_each_trip_and_one_device():
    def scan(x, w):
        return jax.lax.scan(lambda c, w: (jnp.sin(c @ w), None), x, w)[0]

    x, w = ((32, 64), jnp.float32, "data"), ((7, 64, 64), jnp.float32)
    assert flops_of(text_of(scan, x, w)) == 2 * 32 * 64 * 64 * 7 / 2


def test_a_gradient_costs_three_forward_products_where_both_sides_have_one():
    def loss(x, w):
        return jnp.sum(jnp.sin(x @ w))

    x, w = ((32, 64), jnp.float32), ((64, 16), jnp.float32)
    gradient = jax.grad(loss, (0, 1))
    assert flops_of(text_of(gradient, x, w)) == 3 * 2 * 32 * 64 * 16


@pytest.mark.parametrize(
    ("out", "kind", "expected"),
    [
        # each of 4 holds a partial sum of [32, 16] floats
        ((), "all-reduce", 2 * 32 * 16 * 4 * 3 / 4),
        # each holds [32, 4] of it and sends them to 3 others
        (None, "all-gather", 32 * 4 * 4 * 3),
    ],
)
def test_wire_of_a_collective_of_known_size(out, kind, expected):
    if kind == "all-reduce":
        x, w = ((32, 64), jnp.float32, None, "model"), ((64, 16), jnp.float32, "model")
        text = text_of(lambda x, w: x @ w, x, w, out=out)
    else:
        x = ((32, 16), jnp.float32, None, "model")
        text = text_of(lambda x: jnp.sin(x) * 1.5, x, out=())
    (costs,) = [c for c in costs_of(text).values() if c.wire]
    assert dict(costs.wire) == {kind: expected}
    assert costs.sent == expected


def test_a_collective_in_a_loop_is_sent_at_each_trip():
    def scan(x, w):
        def layer(x, w):
            return jnp.sin(x @ w), None  # x divided, w divided: partial sums

        return jax.lax.scan(layer, x, w)[0]

    x = ((32, 64), jnp.float32, None, "model")
    w = ((5, 64, 64), jnp.float32, None, "model")
    one = sum(
        c.sent for c in costs_of(text_of(scan, x, ((1, *w[0][1:]), *w[1:]))).values()
    )
    five = sum(c.sent for c in costs_of(text_of(scan, x, w)).values())
    assert one > 0
    # what gathers the result stands outside the loop, and is a small part
    assert 4 * one < five < 6 * one


def test_a_product_in_a_loop_of_unknown_length_is_told():
    def loop(x):
        return jax.lax.while_loop(lambda c: jnp.sum(c) < 3.0, lambda c: c @ c, x)

    def harmless(x):
        return jax.lax.while_loop(lambda c: jnp.sum(c) < 3.0, lambda c: c + 1, x)

    x = ((16, 16), jnp.float32)
    work = count_costs(parse_program(text_of(loop, x)), step_phase)
    assert sum(c.flops for c in work.phases.values()) == 2 * 16**3
    assert ["while" in name for name in work.uncounted] == [True]
    work = count_costs(parse_program(text_of(harmless, x)), step_phase)
    assert work.uncounted == ()


CONVOLUTION = """HloModule m

ENTRY %main () -> f32[] {
  %x = f32[LEFT]{3,2,1,0} parameter(0)
  %w = f32[RIGHT]{3,2,1,0} parameter(1)
  ROOT %c = f32[OUT]{3,2,1,0} convolution(%x, %w), LABELS
}
"""


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 2), (1, 0))])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 3])
def test_a_convolution_counts_the_pairs_that_meet(padding, stride, dilation):
    x, w = (2, 9, 8, 3), (3, 2, 3, 5)

    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            padding,
            lhs_dilation=(dilation, 1),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, w))
    text = jax.jit(convolve).lower(*shapes).compile().as_text()
    inside = parse_program(text).computations
    (one,) = [
        (o, c) for c in inside.values() for o in c.values() if o.opcode == "convolution"
    ]
    # an input of ones and weights of ones give the number of pairs
    ones = convolve(np.ones(x, np.float32), np.ones(w, np.float32))
    assert product_flops(*one) == 2 * float(ones.sum())


def test_products_that_a_tpu_writes_as_convolutions():
    text = CONVOLUTION.replace("LEFT", "16,32,64,1").replace("RIGHT", "16,64,8,1")
    window = (
        "window={size=16x1 stride=15x1 lhs_dilate=16x1}, dim_labels=0bf1_0io1->0bf1"
    )
    text = text.replace("OUT", "16,32,8,1").replace("LABELS", window)
    inside = parse_program(text).computations["main"]
    # a batch of 16 products of [32, 64] and [64, 8]
    assert product_flops(inside["c"], inside) == 16 * 2 * 32 * 64 * 8


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups={{0,1,2},{3,4,5}}", 3),
        ("replica_groups={}", 8),
        ("replica_groups=mesh['data'=2,'model'=4] {'model'}", 4),
        ("replica_groups=mesh['a'=1,'b'=4,'c'=2], device_ids=([2,4]T(1,0)) {'b'}", 4),
        ("replica_groups=mesh['a'=8] {'a':(2)2}", 2),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", 8),
    ],
)
def test_groups_are_read_in_each_of_their_spellings(groups, size):
    text = f"""HloModule m, num_partitions=8

ENTRY %main () -> f32[] {{
  %x = f32[4]{{0}} parameter(0)
  ROOT %r = f32[4]{{0}} all-reduce(%x), channel_id=1, {groups}, to_apply=%add
}}
"""
    one = parse_program(text).computations["main"]["r"]
    assert group_size(one, 8) == size


def test_groups_that_cannot_be_read_are_refused():
    text = CONVOLUTION.replace("LABELS", "replica_groups=somehow")
    one = parse_program(text.replace("OUT", "4")).computations["main"]["c"]
    with pytest.raises(ValueError, match="replica_groups cannot be read"):
        group_size(one, 8)


def moved(text):
    program = parse_program(text)
    entry = next(v for v in visits(program) if v.computation == program.entry)
    inside = program.computations[program.entry]
    return {name: moved_bytes(one, entry, program) for name, one in inside.items()}


TRAFFIC = """HloModule m

%fused (a: f32[8,64], i: s32[]) -> f32[8,64] {
  %a = f32[8,64]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %row = f32[1,64]{1,0} dynamic-slice(%a, %i, %zero), dynamic_slice_sizes={1,64}
  %new = f32[1,64]{1,0} sine(%row)
  ROOT %u = f32[8,64]{1,0} dynamic-update-slice(%a, %new, %i, %zero)
}

ENTRY %main () -> f32[8,64] {
  %x = f32[8,64]{1,0} parameter(0)
  %k = s32[] constant(3)
  %near = f32[8,64]{1,0:S(1)} copy(%x)
  %plain = f32[8,64]{1,0} sine(%near)
  %view = f32[512]{0} bitcast(%plain)
  ROOT %f = f32[8,64]{1,0} fusion(%plain, %k), kind=kLoop, calls=%fused
}
"""


def test_memory_traffic_counts_slices_and_leaves_out_what_lies_on_the_chip():
    found = moved(TRAFFIC)
    whole, row = 8 * 64 * 4, 64 * 4
    assert found["near"] == whole  # read, and written to memory on the chip
    assert found["plain"] == whole  # written alone
    assert found["view"] == 0
    assert found["f"] == 2 * row + 4  # a row read and written, and the index


@pytest.mark.parametrize(
    ("name", "loops", "phase"),
    [
        ("jit(step)/learner/transpose(jvp(model))/dot", (), "learner"),
        ("jit(step)/rollout/model/dot", (), "prefill"),
        ("jit(step)/rollout/decode/while/body/dot", (), "decode"),
        ("", ("jit(step)/rollout/decode/while", "body/while"), "decode"),
        ("body/dot", ("jit(step)/learner/while",), "learner"),
        ("jit(step)/isfinite", (), "other"),
    ],
)
def test_phases_are_told_by_names(name, loops, phase):
    assert step_phase(name, loops) == phase
