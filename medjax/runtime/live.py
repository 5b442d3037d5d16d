"""The page of a training while it goes on: when it is written, and what it says of it.

The page is made from the files of the run's folder alone, so nothing of the training is
read, waited for or changed. Words are cheap and figures are not: both are written only
when what all writing took so far, and what it would take now, is a small share of the
training's time.
"""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import jax

RELOAD = 30  # s between two looks of a browser at a page that is rewritten
# What a function that draws may raise, and a training goes on without: a full disk, a
# font that is broken, a file that somebody else changed.
FAILURES = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class WritePage(Protocol):
    """Writes a stage's page from the files in its folder."""

    def __call__(self, folder: Path, *, state: str, reload: int, figures: bool) -> None:
        """The page is replaced as a whole.

        Args:
            folder: The stage's, with what it has written so far.
            state: A line that says how far the training is.
            reload: Seconds after which a browser looks again; 0: never.
            figures: Whether curves are drawn anew; those that are there are shown else.
        """
        ...


class MarkPage(Protocol):
    """Says of a page that is there how far its training is; nothing else changes."""

    def __call__(self, folder: Path, *, state: str, reload: int) -> None:
        """Without a page nothing is done.

        Args:
            folder: The stage's.
            state: A line that takes the place of an earlier one; "" takes it away.
            reload: Seconds after which a browser looks again; 0: never.
        """
        ...


class Live(NamedTuple):
    """How a stage is shown while it trains."""

    write: WritePage
    mark: MarkPage
    every: float = 60.0  # s: the least time between two pages
    share: float = 0.01  # of the training's time: the most that pages take


class Budget(NamedTuple):
    """What pages took so far, in seconds."""

    began: float  # on a clock, as `last` is
    last: float  # the end of the last page, at first that of the beginning
    spent: float = 0.0
    words: float = 0.1  # what the last page without new figures took, at first a guess
    figures: float = 2.0  # likewise with new figures


class Pages(NamedTuple):
    """What the loop tells the page of a stage."""

    step: Callable[[int], None]  # so many steps are done, and their rows are written
    mark: Callable[[int], None]  # so many are done, and the page there is not the last
    finish: Callable[[], None]  # nothing else writes a page after the last step
    # as `ExitStack.push` takes it: a training that fails is not shown as running
    leave: Callable[
        [type[BaseException] | None, BaseException | None, TracebackType | None], bool
    ]


def what_is_due(live: Live, budget: Budget, now: float) -> str:
    """What is to be written: "figures", "words", or "" where no page is due.

    Args:
        live: Says how often a page may be written, and what it may take.
        budget: What pages took so far.
        now: On the clock of the budget.
    """
    if now - budget.last < live.every:
        return ""
    left = live.share * (now - budget.began) - budget.spent
    if budget.figures <= left:
        return "figures"
    return "words" if budget.words <= left else ""


def add_page(budget: Budget, what: str, *, began: float, ended: float) -> Budget:
    """The budget after one more page.

    Args:
        budget: What it was.
        what: "words" or "figures".
        began: On the clock of the budget.
        ended: Likewise.
    """
    took = ended - began
    spent = budget._replace(last=ended, spent=budget.spent + took)
    return spent._replace(**{what: took})


def running_line(step: int, steps: int, written: str) -> str:
    """What a page says of a training that goes on.

    Args:
        step: Steps done.
        steps: Steps in all.
        written: The time, as a person reads it.
    """
    return (
        f"Still running: step {step} of {steps}, written at {written}. The page is "
        "rewritten every minute or two and reloads itself; one that is much older "
        "belongs to a training that was killed."
    )


def stopped_line(step: int, steps: int, written: str, error: str) -> str:
    """What a page says of a training that ended before its last step.

    Args:
        step: Steps done.
        steps: Steps in all.
        written: The time, as a person reads it.
        error: The kind of what ended it.
    """
    return (
        f"Stopped after step {step} of {steps} ({error}), written at {written}. The "
        "same command goes on from the newest checkpoint."
    )


def live_pages(
    live: Live | None,
    folder: Path,
    *,
    steps: int,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Pages:
    """Functions that write the page of a stage when it is due; process 0 alone does.

    A page that cannot be written is told of once, and then none is any more: a training
    does not end for want of a picture of it.

    Args:
        live: How the page is written; None writes none.
        folder: The stage's.
        steps: How many there are in all.
        tell: Gets a line for the person who watches.
        clock: Seconds, rising.
    """
    if live is None or jax.process_index() != 0:
        return Pages(lambda _: None, lambda _: None, lambda: None, lambda *_: False)
    budget, done = Budget(clock(), clock()), 0
    on, written, running = True, False, False

    def attempt(write: Callable[[], None]) -> None:
        nonlocal on
        try:
            write()
        except FAILURES as error:
            on = False
            tell(
                f"warning: the page of the running training cannot be written "
                f"({type(error).__name__}: {error}); training goes on without it"
            )

    def step(number: int) -> None:
        nonlocal budget, done, written, running
        done, now = number, clock()
        what = what_is_due(live, budget, now) if on else ""
        if not what:
            return
        state = running_line(done, steps, _now())
        how = {"state": state, "reload": RELOAD, "figures": what == "figures"}
        attempt(lambda: live.write(folder, **how))
        budget = add_page(budget, what, began=now, ended=clock())
        written = running = on

    def mark(number: int) -> None:
        nonlocal done, running
        done = number
        if on:
            state = running_line(done, steps, _now())
            attempt(lambda: live.mark(folder, state=state, reload=RELOAD))
            running = on

    def finish() -> None:
        if on and written:
            attempt(lambda: live.write(folder, state="", reload=0, figures=True))

    def leave(
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        del error, trace
        if on and running and kind is not None:
            state = stopped_line(done, steps, _now(), kind.__name__)
            attempt(lambda: live.mark(folder, state=state, reload=0))
        return False

    return Pages(step, mark, finish, leave)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z")
