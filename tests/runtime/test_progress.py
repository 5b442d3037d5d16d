import io
import time

import pytest

from medjax.runtime.progress import clock, progress, progress_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_line_shows_what_is_asked_for_and_known():
    metrics = {"tau": 0.45, "loss": 1.23456, "tokens": 300.0, "sizes": [1, 2]}
    line = progress_line(
        "grpo", 12, 400, metrics, show=("tau", "kl", "loss", "sizes"), seconds=1.5
    )
    assert line == (
        "grpo 12/400 | tau 0.45 | loss 1.23 | 1.50 s/step | 200 tokens/s | ETA 9:42"
    )
    skipped = progress_line("a", 1, 0, {"skipped": 3}, show=(), seconds=0.5)
    assert skipped == "a 1/? | skipped 3 | 0.50 s/step"
    idle = progress_line("a", 9, 0, {"idle": 7}, show=(), seconds=0.5)
    assert idle == "a 9/? | no signal for 7 | 0.50 s/step"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (600, "10:00"), (3725, "1:02:05")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_plain_lines_come_every_interval_and_at_the_end():
    stream = io.StringIO()
    with progress(
        "p", first=0, total=50, show=(), stream=stream, interval=30.0
    ) as report:
        for step in range(1, 51):
            report.step(step, {})
    lines = stream.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["p 1/50", "p 50/50"]


def test_a_terminal_gets_one_line_that_is_overwritten():
    stream = Terminal()
    with progress("p", first=0, total=3, show=(), stream=stream) as report:
        report.step(1, {})
        report.note("here")
        report.step(3, {})
    text = stream.getvalue()
    assert text.count("\n") == 2 and text.endswith("\n")
    assert text.startswith("\rp 1/3") and "\rp: here" in text


def test_something_moves_while_busy():
    stream = io.StringIO()
    with progress(
        "p", first=0, total=3, show=(), stream=stream, interval=0.02
    ) as report:
        with report.busy("compiling"):
            time.sleep(0.2)
    lines = stream.getvalue().splitlines()
    assert len(lines) > 3
    assert lines[0] == "p: compiling" and lines[-1].startswith("p: compiling took 0.")
