"""The page of a stage while it trains: the words so far, tables, curves, pictures."""

from functools import partial
from pathlib import Path

from medjax.recipes.policy.task import Story, StoryFn, TellFn
from medjax.runtime.live import Live


def live_page(
    name: str, *, words: StoryFn | None = None, tell: tuple[TellFn, ...] = ()
) -> Live:
    """How a stage is shown while it trains.

    Args:
        name: The stage's, which the page is called by.
        words: About its training so far; None says nothing.
        tell: Tables about its training so far.
    """
    return Live(write=partial(_write, name, words, tell), mark=_mark)


def _write(
    name: str,
    words: StoryFn | None,
    tell: tuple[TellFn, ...],
    folder: Path,
    *,
    state: str,
    reload: int,
    figures: bool,
) -> None:
    from medjax.report.live import newest_tables, write_live_report

    step, tables = newest_tables(folder)
    story = Story() if words is None else words(folder)
    lines = story.lines
    if step:
        lines += (
            f"Scores and pictures of answers are of the evaluation at step {step}.",
        )
    told = [table for one in tell if (table := one(folder)) is not None]
    write_live_report(
        folder,
        title=name,
        tables=[*tables, *told],
        story=lines,
        doubts=story.doubts,
        state=state,
        reload=reload,
        figures=figures,
    )


def _mark(folder: Path, *, state: str, reload: int) -> None:
    from medjax.report.live import mark_report

    mark_report(folder, state=state, reload=reload)
