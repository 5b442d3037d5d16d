"""What a report says of a training: what holds a raise, what watchdogs found."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.recipes.policy.training_tables import (
    raise_table,
    speed_table,
    watchdog_table,
)
from medjax.rl import init_threshold, piecewise_schedule, update_threshold
from medjax.runtime.watchdogs import Limits, Watchdogs

SCHEDULE = piecewise_schedule()._replace(window=4)


def trained(folder, ious, schedule=SCHEDULE):
    """The rows that a stage writes whose steps have these mean IoUs."""
    state, rows = init_threshold(schedule), []
    for n, iou in enumerate(ious):
        state, info = update_threshold(state, jnp.full((2, 4), iou), schedule)
        named = {f"window_{k}": np.asarray(x).tolist() for k, x in info.items()}
        rows.append({"step": n + 1} | named)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text)
    return rows


def test_the_conditions_that_hold_a_raise_are_named(tmp_path):
    # all hit at tau 0.3: the margin 0.05 of 0.1 alone holds it
    trained(tmp_path, [0.35] * 6)
    table = raise_table(SCHEDULE, tmp_path)
    assert table.title.endswith("tau = 0.3 after step 6: margin")
    assert table.header[-1] == "failed, of 6 steps since"
    assert table.rows == (
        ("window full", "4 entries", "full", "50%"),
        ("hit rate", "0.8 or more", "1", "0%"),
        ("deviation", "0.2 or less", "0", "0%"),
        ("margin", "0.1 or more", "0.05", "100%"),
    )


def test_only_what_the_schedule_asks_for_since_the_last_raise(tmp_path):
    schedule = SCHEDULE._replace(check_margin=False, check_deviation=False)
    rows = trained(tmp_path, [0.35] * 4 + [0.2] * 4, schedule)
    assert [row["window_raised"] for row in rows].index(True) == 3
    table = raise_table(schedule, tmp_path)
    assert [row[0] for row in table.rows] == ["window full", "hit rate"]
    assert "tau = 0.45 after step 8: hit rate" in table.title
    assert table.header[-1] == "failed, of 4 steps since"
    assert table.rows[1] == ("hit rate", "0.8 or more", "0", "100%")


def test_nothing_is_said_at_the_target_or_without_a_threshold(tmp_path):
    assert raise_table(SCHEDULE, tmp_path) is None
    schedule = SCHEDULE._replace(target=0.45)
    trained(tmp_path, [0.9] * 8, schedule)
    assert raise_table(schedule, tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "tau": 0.5}\n')
    assert raise_table(SCHEDULE, tmp_path) is None


@pytest.mark.parametrize("entropy", [0.01, 1.0])
def test_the_watchdogs_findings_are_a_table(tmp_path, entropy):
    rows = [{"step": n + 1, "entropy": entropy} for n in range(3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text)
    table = watchdog_table(Watchdogs(Limits(window=3), {}), tmp_path)
    if entropy == 1.0:
        assert table is None
        return
    row = ("entropy [nat / token]", "below 0.05", "1", "3, to the end", "0.01")
    assert table.rows == (row,)


def test_the_speed_is_told_as_medians_and_what_is_not_known_is_left_out(tmp_path):
    assert speed_table(tmp_path) is None
    path = tmp_path / "speed.jsonl"
    row = '{{"step": {}, "seconds": {}, "tokens_per_second_chip": {}}}\n'
    path.write_text(row.format(2, 4.0, 50) + row.format(3, 2, 100))
    table = speed_table(tmp_path)
    assert table.title == "speed: medians of 2 steps"
    assert table.rows == (("seconds a step", "3"), ("tokens a second and chip", "75"))
    path.write_text(row.format(2, 1.0, 2857.6))
    assert speed_table(tmp_path).rows[1][1] == "2,858"
    path.write_text('{"step": 2, "seconds": 1, "mfu": 0.4321}\n')
    (last,) = speed_table(tmp_path).rows[1:]
    assert last == ("share of the chips' peak (MFU)", "43.2%")
