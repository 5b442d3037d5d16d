"""A check from loading to the exit: problems are collected, written down and told."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax

from medjax.data.batches import Parts
from medjax.data.lists.reading import Reading, SpoiltList, check_reading
from medjax.recipes.policy.check_report import Report, left_out, write_check
from medjax.recipes.policy.findings import DOUBT, LISTED, STOP, Finding, say
from medjax.recipes.policy.privacy import make_clean
from medjax.recipes.policy.setup import Setup
from medjax.runtime.stages import Stage

Made = TypeVar("Made")


class Checked(NamedTuple):
    """How a check of one source is done, and what its files are called."""

    name: str  # of the files: "check"
    source: str  # the data's path or name
    identify: bool  # whether files may name patients and folders


def finish_check(
    checked: Checked, workdir: Path, parts: Parts | None, report: Report
) -> list[str]:
    """Write a check down, and tell what was found.

    Args:
        checked: What was checked.
        workdir: Gets the files, from process 0.
        parts: The data, None where it could not be read.
        report: What was found.

    Returns:
        What makes a run doubtful, a line a kind.

    Raises:
        ValueError: Something would stop a run; every kind of it is told, with 20 lines
            at most.
    """
    name = Path(checked.source).name or checked.source
    page = workdir / f"{checked.name}.html"
    if jax.process_index() == 0:
        clean = make_clean(parts, checked.source, identify=checked.identify)
        write_check(workdir, checked.name, report, source=name, clean=clean)
        print(f"{name}: the check is in {page}", flush=True)  # noqa: T201
    found = [f for f in report.findings if f.weight == STOP]
    stops = [say(finding, LISTED) for finding in found]
    doubts = [say(f) for f in report.findings if f.weight == DOUBT]
    if stops:
        every = f"see {page}"
        if any(len(finding.lines) > LISTED for finding in found):
            every += f"; every line is in {page.with_suffix('.json')}"
        raise ValueError(
            "\n".join([f"{name} would stop a run", *stops, *doubts, every])
        )
    return doubts


def load_all(
    make: Callable[[Mapping[str, str]], Made], readers: str, on_bad: str
) -> tuple[Made, list[Finding]]:
    """Data with its wrong lines left out; where a reader must be chosen, of all.

    Args:
        make: Given changes of the section `data`, it loads the data.
        readers: As the config says.
        on_bad: Likewise.

    Returns:
        What was made, and that a choice of readers is missing.

    Raises:
        ValueError: Anything else that `make` refuses; `on_bad` is an unknown word.
    """
    check_reading(Reading(on_bad=on_bad))
    changes = {"on_bad": "drop"}
    try:
        return make(changes), []
    except ValueError as error:
        if readers or "data.readers" not in str(error):
            raise
        found = [Finding("several readers", STOP, (str(error),))]
        return make(changes | {"readers": "union"}), found


def examined(
    examine: Callable[[Setup, Sequence[Finding]], Report],
    setup: Setup,
    findings: Sequence[Finding],
) -> Report:
    """The report of an examination; what cannot be shown to the policy is a finding.

    Args:
        examine: `examine_boxes` or `examine_classes`.
        setup: Data, policy and encoding of the run.
        findings: What was found already.
    """
    try:
        return examine(setup, findings)
    except (ValueError, OSError) as error:
        return unread(error, findings)


def stage_findings(make: Callable[[], Sequence[Stage]]) -> list[Finding]:
    """What would stop the stages of a run before their first step, or is strange.

    Args:
        make: Makes the stages.
    """
    strange: list[str] = []
    try:
        for stage in make():
            if stage.check is not None:
                strange += stage.check() or ()
    except (ValueError, OSError) as error:
        return [Finding("a stage does not begin", STOP, (str(error),))]
    doubts = Finding("rewards that are strange", DOUBT, tuple(strange))
    return [doubts] if strange else []


def unread(error: Exception, findings: Sequence[Finding] = ()) -> Report:
    """The report of data that could not be read, or not shown to the policy.

    Args:
        error: Why.
        findings: What was found before.
    """
    told = [Finding("the data cannot be used", STOP, (str(error),))]
    if isinstance(error, SpoiltList) and error.dropped:
        told.append(left_out(error.dropped, STOP))
    return Report({}, (), {}, [*told, *findings])
