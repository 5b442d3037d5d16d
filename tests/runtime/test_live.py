"""The page of a running training: when it is written, and that it changes nothing."""

import itertools

import jax
import numpy as np
import pytest

from medjax.runtime.errors import NonFiniteStep
from medjax.runtime.live import (
    Budget,
    Live,
    add_page,
    live_pages,
    running_line,
    stopped_line,
    what_is_due,
)
from tests.runtime import toy_system as toy
from tests.runtime.test_loop import assert_same, rows, run


class Recorder:
    """A page that remembers what it was told, and may fail."""

    def __init__(self, error=None):
        self.told, self.error = [], error

    def write(self, folder, *, state, reload, figures):
        if self.error is not None:
            raise self.error
        self.told.append(("write", state, reload, figures))

    def mark(self, folder, *, state, reload):
        self.told.append(("mark", state, reload))

    def live(self, **options):
        return Live(self.write, self.mark, **options)


ALWAYS = {"every": 0.0, "share": 1e9}


def test_a_page_is_due_after_a_minute_if_it_is_cheap():
    live, budget = Recorder().live(), Budget(began=1000.0, last=1000.0)
    assert what_is_due(live, budget, 1059.0) == ""
    assert what_is_due(live, budget, 1060.0) == "words"  # 0.6 s may be taken
    assert what_is_due(live, budget, 1199.0) == "words"
    assert what_is_due(live, budget, 1200.0) == "figures"  # 2 s, as they may take
    dear = budget._replace(words=1.0)
    assert what_is_due(live, dear, 1099.0) == ""
    assert what_is_due(live, dear, 1100.0) == "words"


def test_what_pages_take_stays_a_hundredth_of_the_time():
    # words take 0.05 s and figures 1.5 s, in a training of two hours
    live, budget = Recorder().live(), Budget(0.0, 0.0)
    taken = {"words": [], "figures": []}
    for now in np.arange(0.0, 7200.0, 7.0):
        what = what_is_due(live, budget, now)
        if what:
            took = {"words": 0.05, "figures": 1.5}[what]
            budget = add_page(budget, what, began=now, ended=now + took)
            taken[what].append(now)
            assert budget.spent <= 0.01 * (now + took)
    assert np.diff(sorted(sum(taken.values(), []))).min() >= 60
    assert np.diff(taken["figures"]).max() < 240  # curves every few minutes
    assert len(taken["words"] + taken["figures"]) > 90


def test_the_lines_say_how_far_it_is():
    assert running_line(40, 300, "10:00") == (
        "Still running: step 40 of 300, written at 10:00. The page is rewritten every "
        "minute or two and reloads itself; one that is much older belongs to a "
        "training that was killed."
    )
    assert stopped_line(40, 300, "10:00", "Interrupted") == (
        "Stopped after step 40 of 300 (Interrupted), written at 10:00. The same "
        "command goes on from the newest checkpoint."
    )


def test_results_are_bitwise_those_without_a_page(tmp_path):
    page = Recorder()
    plain = run(tmp_path / "plain", evaluate=lambda _: {"a": 1.0}, evaluate_every=4)
    shown = run(tmp_path / "shown", evaluate=lambda _: {"a": 1.0}, evaluate_every=4,
                live=page.live(**ALWAYS))  # fmt: skip
    assert_same(plain, shown)
    for name in ("metrics", "eval"):
        assert rows(tmp_path / "plain", name) == rows(tmp_path / "shown", name)
    kinds = [told[0] for told in page.told]
    # before the first step, each of six, and after the evaluation amid them alone:
    # that at the end writes the last page
    assert kinds.count("write") == 6 and kinds.count("mark") == 2
    assert [x[1].split(",")[0] for x in page.told if x[0] == "write"] == [
        f"Still running: step {n} of 6" for n in range(1, 7)
    ]
    assert all(told[2] > 0 for told in page.told)  # each page is looked at again


def test_without_an_evaluation_the_last_page_is_no_running_one(tmp_path):
    page = Recorder()
    run(tmp_path, live=page.live(**ALWAYS))
    assert page.told[-1] == ("write", "", 0, True)
    again = Recorder()
    run(tmp_path, live=again.live(**ALWAYS))  # nothing is left to train
    assert again.told == []


def test_a_training_that_fails_is_not_shown_as_running(tmp_path):
    page = Recorder()
    with pytest.raises(NonFiniteStep):
        run(tmp_path, system=toy.build(nan_at=3), live=page.live(**ALWAYS))
    kind, line, reload = page.told[-1]
    assert kind == "mark" and reload == 0
    assert line.startswith("Stopped after step 3 of 6 (NonFiniteStep), written at ")


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("no font")])
def test_a_page_that_cannot_be_written_is_told_of_once(tmp_path, capsys, error):
    page = Recorder(error)
    run(tmp_path, live=page.live(**ALWAYS))
    told = capsys.readouterr().err
    assert told.count("cannot be written") == 1 and str(error) in told
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_process_0_alone_writes(tmp_path, monkeypatch):
    page, clock = Recorder(), itertools.count()
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    pages = live_pages(page.live(**ALWAYS), tmp_path, steps=3, tell=print,
                       clock=lambda: next(clock))  # fmt: skip
    pages.step(1)
    pages.mark(1)
    pages.finish()
    assert pages.leave(ValueError, ValueError(), None) is False
    assert page.told == []
