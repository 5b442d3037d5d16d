"""Contrasts that differ in phase: found from the data, and fitted rightly."""

import json

import nibabel
import numpy as np
import pytest

from tests.recipes.qmri.phase_phantoms import (
    ECHOES,
    INSIDE,
    INVERSIONS,
    echoes,
    measure,
    recoveries,
)
from tests.recipes.qmri.test_predict import run

TURNS = np.random.default_rng(1).uniform(-3, 3, len(INVERSIONS))
LOW_RANK = "locally low rank, a phase for each contrast"


def scan(folder, images, key, times, **how):
    path = folder / "scan.npz"
    np.savez(path, kspace=measure(images, **how), **{key: times})
    return path


def found(folder, name):
    """Values inside the phantom, and how they were made."""
    where = folder / "predict" / "scan"
    sidecar = json.loads((where / f"{name}.json").read_text())
    values = nibabel.load(where / f"{name}.nii.gz").get_fdata()[..., 0]
    return values, sidecar["EstimationAlgorithm"]


def error(values, truth):
    """The median's, as a share, in each tissue; the larger."""
    tissues = [INSIDE & (truth == x) for x in np.unique(truth)]
    ratios = [np.median((values / truth)[one]) - 1 for one in tissues]
    return max(ratios, key=abs)


FULL = {"acceleration": 1}
NOISY = {"acceleration": 1, "snr": 20}
FOURTH = {"acceleration": 4, "snr": 20}


def iterate(names=("locally low rank", "subspace + wavelet")):
    return {f"methods__{name}__iterations": 80 for name in names}


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("offset", [20, 50])
@pytest.mark.parametrize("how", [FULL, NOISY, FOURTH])
def test_gradient_echoes_off_resonance(tmp_path, capsys, how, offset, curved):
    images, t2 = echoes(offset, curved=curved)
    path = scan(tmp_path, images, "te", ECHOES, **how)
    run(path, tmp_path, model="t2star", **iterate())
    values, method = found(tmp_path, "T2starmap")
    assert abs(error(values, t2)) < 0.02
    assert ("magnitudes" if how["acceleration"] == 1 else LOW_RANK) in method
    assert "contrasts differ in phase" in capsys.readouterr().out


@pytest.mark.parametrize("how", [FULL, NOISY, FOURTH])
def test_inversion_recovery_with_a_receiver_phase_by_contrast(tmp_path, how):
    images, t1 = recoveries(TURNS)
    run(scan(tmp_path, images, "ti", INVERSIONS, **how), tmp_path, arg="contrast=t1", **iterate())
    values, method = found(tmp_path, "T1map")
    assert abs(error(values, t1)) < 0.02
    assert ("magnitudes" if how["acceleration"] == 1 else LOW_RANK) in method
