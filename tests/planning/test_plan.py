"""A plan's numbers are the costs over the chip's peaks, and the memory decides."""

import json

import pytest

from medjax.planning.chips import GIB, parse_topology
from medjax.planning.costs import Costs
from medjax.planning.plan import (
    Memory,
    Plan,
    plan_lines,
    plan_row,
    refuse_plans,
    step_seconds,
)

V5E = parse_topology("v5e:4x4")  # 197 TFLOP/s, 819 GB/s, 200 GB/s
COSTS = {
    # seconds of arithmetic, memory, wire: 1, 0.5, 0.25
    "learner": Costs(197e12, 409.5e9, {"all-gather": 30e9, "all-reduce": 20e9}),
    # 0.1, 2, 0
    "decode": Costs(19.7e12, 1638e9, {}),
}


def plan(**changes):
    values = {
        "stage": "grpo",
        "topology": V5E,
        "mesh": {"data": 1, "fsdp": 16, "model": 1},
        "shapes": "16x4, 16",
        "programs": 1,
        "contexts": 1.0,
        "tokens": 4800,
        "memory": Memory(1, 2, 3, 4, 5, 6, 10 * GIB),
        "needed": 10 * GIB,
        "costs": COSTS,
        "uncounted": (),
        "price": 1.5,
        "lower_seconds": 12.0,
        "compile_seconds": 34.0,
    }
    return Plan(**(values | changes))


def test_phases_follow_each_other_and_each_waits_for_its_slowest_part():
    assert step_seconds(plan()) == pytest.approx(1.0 + 2.0)


def test_caches_are_told_where_answers_are_drawn():
    assert "caches" not in "".join(plan_lines(plan()))
    memory = Memory(1, 2, 3, 4, 5, 6, 10 * GIB, cache=2.5 * GIB)
    assert "caches among them 2.5" in "".join(plan_lines(plan(memory=memory)))
    assert plan_row(plan(memory=memory))["memory_bytes"]["cache"] == 2.5 * GIB


def test_a_row_is_json_and_has_rates_and_the_price():
    row = json.loads(json.dumps(plan_row(plan())))
    assert row["fits"] and row["chips"] == 16
    assert row["step_seconds_least"] == pytest.approx(3.0)
    # 4,800 tokens in 3 s on 16 chips
    assert row["tokens_a_second_and_chip_most"] == pytest.approx(100.0)
    # 3,000 s of 16 chips at 1.5 an hour
    assert row["price_of_1000_steps_least"] == pytest.approx(3000 / 3600 * 16 * 1.5)
    assert row["phases"]["learner"]["seconds"]["wire"] == pytest.approx(0.25)
    assert row["memory_bytes"]["optimizer"] == 2


def test_without_a_price_nothing_costs_anything():
    row = plan_row(plan(price=0.0))
    assert row["price_of_1000_steps_least"] is None
    assert not any("cost" in line for line in plan_lines(plan(price=0.0)))


def test_lines_tell_the_same():
    text = "\n".join(plan_lines(plan()))
    assert "16 v5e chips (data 1, fsdp 16, model 1)" in text
    assert "peak 10 of 15.75 GiB: fits" in text
    assert "at least 3 s" in text and "100 tokens/s/chip" in text
    assert "0.833 h and cost at least 20" in text
    assert "wire GB: all-gather 30, all-reduce 20" in text


def test_what_does_not_fit_is_refused_with_its_knobs():
    large = plan(needed=17 * GIB, costs={}, knobs=("turn this",))
    refuse_plans([plan()])
    with pytest.raises(ValueError, match="17 GiB a chip, v5e has 15.75; turn this"):
        refuse_plans([plan(), large])
    row = plan_row(large)
    assert not row["fits"] and row["step_seconds_least"] is None
    assert "DOES NOT FIT" in "\n".join(plan_lines(large))


def test_loops_that_count_once_are_told():
    told = plan(uncounted=("jit(step)/while",))
    assert any("jit(step)/while" in line for line in plan_lines(told))
    assert plan_row(told)["loops_counted_once"] == ["jit(step)/while"]
