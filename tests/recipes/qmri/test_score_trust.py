"""Intervals of an evaluation: which voxels are judged, and what tables hold."""

import numpy as np
import pytest

from medjax.data.qmri.invivo import INVIVO
from medjax.mri.catalogue import signal_model
from medjax.recipes.qmri.score_trust import (
    PROBABILITIES,
    Judged,
    interval_table,
    judged_voxels,
    noise_bounds,
    trust_curves,
    trust_sheets,
)
from medjax.systems.puq.network import Quantity
from tests.recipes.qmri.test_score import SIZE, record

QUANTITY = Quantity(signal_model("t2"), (0.0, 0.05, 0.1), (0.01, 2.0))
OPTIONS = {"limit": 2.0, "tissue_below": 0.2}


def judged():
    """Two simulated slices at two rates and a measured one, intervals of +- 10 %."""
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.05, 0.4, (3, SIZE, SIZE))
    reference[0, 0, 0], reference[0, 0, 1] = np.nan, 2.0
    value = reference * rng.uniform(0.8, 1.2, reference.shape)
    spread = np.linspace(-0.1, 0.1, len(PROBABILITIES))[:, None, None]
    quantiles = [one * (1 + spread) for one in value]
    records = [record(1, 0), record(2, 1)._replace(acceleration=4.0), record(INVIVO, 2)]
    roi = [np.ones((SIZE, SIZE), bool)] * 3
    sigma = [0.05 * one for one in value]
    return Judged(records, roi, list(reference), list(value), sigma, quantiles)


def test_what_has_no_reference_or_was_cut_off_is_not_judged():
    found = judged_voxels(judged(), in_vivo=False, **OPTIONS)
    assert len(found.reference) == 2 * SIZE**2 - 2
    assert list(found.parts) == ["all", "tissue", "fluid", "R 4", "R 6"]
    assert (found.parts["tissue"] == (found.reference < 0.2)).all()
    assert found.parts["R 4"].sum() == SIZE**2
    assert found.quantiles.shape == (len(PROBABILITIES), len(found.reference))
    measured = judged_voxels(judged(), in_vivo=True, **OPTIONS)
    assert list(measured.parts) == ["all", "tissue", "fluid"]
    only = judged()
    only = Judged(*(list(x)[:2] for x in only))
    assert judged_voxels(only, in_vivo=True, **OPTIONS) is None


def test_the_table_holds_coverage_by_level_and_part():
    voxels = judged_voxels(judged(), in_vivo=False, **OPTIONS)
    table = interval_table(voxels, title="joint TV")
    assert table.header[:4] == ("", "voxels", "50 %", "80 %")
    rows = {row[0]: row for row in table.rows}
    assert set(rows) == set(voxels.parts)
    low, high = voxels.quantiles[[1, -2]]  # of 95 %
    inside = (low <= voxels.reference) & (voxels.reference <= high)
    assert float(rows["all"][5]) == pytest.approx(inside.mean(), abs=1e-3)
    assert float(rows["all"][-2]) == pytest.approx(
        1e3 * np.median(high - low), abs=0.06
    )


def test_figures_are_made_of_the_chosen_slices_and_of_all():
    one = judged()
    voxels = judged_voxels(one, in_vivo=False, **OPTIONS)
    bounds = noise_bounds(one, QUANTITY, limit=2.0)
    assert sum(map(len, bounds)) == len(voxels.reference)
    assert all((b > 0).all() for b in bounds)
    known = {"joint TV": one, "unrolled": one}
    sheets = trust_sheets(known, {"worst": 1}, contrast="t2")
    assert list(sheets) == ["trust_worst"]
    titles = [axis.get_title() for axis in sheets["trust_worst"].axes]
    assert [x for x in titles if x in known] == list(known)  # a row each
    figure = trust_curves(voxels, method="joint TV", bounds=bounds)
    curves = figure.axes[0].get_legend().get_texts()
    assert [text.get_text() for text in curves] == list(voxels.parts)
    assert len(figure.axes[2].lines) == 3  # tissue, fluid, noise alone
