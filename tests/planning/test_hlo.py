"""Programs are read as they run: loops by their trips, fusions inside them."""

import jax
import jax.numpy as jnp
import pytest

from medjax.planning.hlo import array_types, parse_program, visits
from tests.planning.programs import text_of

X = ((16, 16), jnp.float32)


def body_times(text):
    """How often the bodies of loops run, those of fusions aside."""
    program = parse_program(text)
    return sorted(v.times for v in visits(program) if v.loops and not v.fused)


def test_a_scan_runs_its_body_as_often_as_it_is_long():
    def scan(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c @ c), None), x, length=11)[0]

    assert 11 in body_times(text_of(scan, X))


def test_loops_in_loops_multiply():
    def inner(c, _):
        return jax.lax.scan(lambda c, _: (jnp.sin(c @ c), None), c, length=5)[0], None

    def outer(x):
        return jax.lax.scan(inner, x, length=3)[0]

    assert 15 in body_times(text_of(outer, X))


def test_a_loop_that_may_end_early_counts_to_its_bound():
    def loop(x):
        def unfinished(carry):
            return (carry[0] < 9) & (jnp.sum(carry[1]) < 1e6)

        def body(carry):
            return carry[0] + 1, jnp.sin(carry[1] @ carry[1])

        return jax.lax.while_loop(unfinished, body, (jnp.int32(0), x))[1]

    assert max(body_times(text_of(loop, X))) == 9


def test_a_loop_that_ends_by_what_it_computes_runs_once_and_is_named():
    def loop(x):
        return jax.lax.while_loop(lambda c: jnp.sum(c) < 3.0, lambda c: c @ c, x)

    inside = [v for v in visits(parse_program(text_of(loop, X))) if v.loops]
    assert {v.times for v in inside} == {1}
    assert all("while" in v.uncounted[0] for v in inside)


def test_branches_run_as_often_as_is_said():
    def either(x):
        return jax.lax.cond(x[0, 0] > 0, lambda: jnp.sin(x @ x), lambda: x @ x.T @ x)

    def share(name):
        return {"branch_0_fun": 0.75, "branch_1_fun": 0.25}.get(name.split("/")[-2], 1)

    program = parse_program(text_of(either, X))
    assert {1} == {v.times for v in visits(program)}
    assert {1, 0.75, 0.25} == {v.times for v in visits(program, share)}


CONDITION = """HloModule m, num_partitions=4

%body (p: (s32[], s32[])) -> (s32[], s32[]) {
  %p = (s32[]{:T(128)}, s32[]{:T(128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %n = s32[]{:T(128)} get-tuple-element(%p), index=1
  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%i, %two)
  ROOT %t = (s32[]{:T(128)}, s32[]{:T(128)}) tuple(%next, BOUND)
}

%cond (q: (s32[], s32[])) -> pred[] {
  %q = (s32[]{:T(128)}, s32[]{:T(128)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%q), index=0
  %m = s32[]{:T(128)} get-tuple-element(%q), index=1
  ROOT %lt = pred[]{:T(512)} compare(%j, %m), direction=LT
}

ENTRY %main () -> (s32[], s32[]) {
  %one = s32[]{:T(128)} constant(1)
  %ten = s32[]{:T(128)} constant(10)
  %start = (s32[]{:T(128)}, s32[]{:T(128)}) tuple(%one, %ten)
  ROOT %w = (s32[]{:T(128)}, s32[]{:T(128)}) while(%start), condition=%cond, body=%body
}
"""


def test_a_bound_in_the_state_counts_if_the_body_leaves_it():
    kept = CONDITION.replace("BOUND", "%n")
    # 1, 3, 5, 7, 9
    assert body_times(kept) == [5]
    (inside,) = (
        v for v in visits(parse_program(CONDITION.replace("BOUND", "%next"))) if v.loops
    )
    assert inside.uncounted == ("w",)


def test_the_number_of_devices_is_read_and_an_entry_is_asked_for():
    assert parse_program(CONDITION.replace("BOUND", "%n")).partitions == 4
    with pytest.raises(ValueError, match="no ENTRY"):
        parse_program("HloModule m")


def test_types_have_sizes_and_memories():
    tuple_type = "(bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/s4[5], f32[])"
    first, second, third = array_types(tuple_type)
    assert (first.size, second.size, third.size) == (12, 3, 4)
    assert (first.in_hbm, second.in_hbm) == (False, True)
    (odd,) = array_types("f3[2]")
    with pytest.raises(ValueError, match="an array of f3"):
        _ = odd.size
