"""The words at the head of an evaluation's page follow from its scores."""

import numpy as np

from medjax.recipes.qmri.score_story import score_story

NAN = float("nan")


def rows(nrmse, tissue, coverage):
    names = ("nrmse", "tissue_ms", "coverage")
    return [dict(zip(names, x, strict=True)) for x in zip(nrmse, tissue, coverage,
                                                          strict=True)]  # fmt: skip


SCORES = {
    "plain": rows([0.3, 0.5, 0.9], [4.0, 6.0, 9.0], [NAN, NAN, NAN]),
    "wide": rows([0.2, 0.2, 0.8], [3.0, NAN, 9.0], [0.99, 0.98, 0.95]),
    "own": rows([0.1, 0.5, 0.7], [5.0, 5.0, 8.0], [0.5, 0.7, 0.95]),
}


def test_the_best_and_the_runs_own_are_named_and_coverage_is_judged():
    lines = score_story(SCORES, np.array([True, True, False]))
    assert [line.removeprefix("Simulated subjects: ") for line in lines] == [
        "least NRMSE by wide, 0.2000; own, which the run stands for, "
        "0.3000 (means over slices).",
        "least error in tissue by wide, 3.00 ms; own, which the run "
        "stands for, 5.00 ms (means over slices).",
        "95 % intervals are too narrow (share of references inside) of own (0.600).",
        "95 % intervals are too wide (share of references inside) of wide (0.985).",
        "In vivo: least NRMSE by own, 0.7000 (means over slices).",
        "In vivo: least error in tissue by own, 8.00 ms (means over slices).",
        "In vivo: 95 % intervals hold (share of references inside) of wide (0.950), "
        "own (0.950).",
    ]


def test_without_measured_slices_and_intervals_nothing_is_said_of_them():
    lines = score_story({"plain": SCORES["plain"]}, np.ones(3, bool))
    assert lines == [
        "Simulated subjects: NRMSE of plain 0.5667 (means over slices).",
        "Simulated subjects: error in tissue of plain 6.33 ms (means over slices).",
    ]
