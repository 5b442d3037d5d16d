"""What a person is told of the maps."""

import json

import numpy as np
import pytest

from medjax.mri.fit import FitStatus
from medjax.mri.signal import signal_model
from medjax.recipes.puq_summary import Seen, summarise

T2 = signal_model("t2")


def test_a_summary_counts_what_has_signal():
    value = np.array([[0.1, 0.2], [np.nan, 0.5]])
    sigma = np.array([[0.01, np.nan], [np.nan, 0.03]])
    status = np.array([[0, FitStatus.AT_BOUND], [FitStatus.NOT_CONVERGED, 0]])
    bright = np.array([[True, True], [True, False]])
    found = summarise([Seen(value, sigma, status, bright)], T2)
    assert found["voxels"] == 3 and found["failed"] == 1
    assert found["median_ms"] == pytest.approx(150)
    assert found["median_sigma_ms"] == pytest.approx(10)
    assert found["share_at_bounds"] == pytest.approx(1 / 3)


def test_a_summary_of_nothing_is_json():
    nothing = np.full((2, 2), np.nan)
    status = np.full((2, 2), FitStatus.NO_SIGNAL)
    found = summarise([Seen(nothing, nothing, status, np.zeros((2, 2), bool))], T2)
    assert found["voxels"] == 0 and found["median_ms"] is None
    json.dumps(found, allow_nan=False)
