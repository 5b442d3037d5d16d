"""What is chosen for a scan, and what is refused because it does not belong to it."""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.mri.catalogue import signal_model
from medjax.recipes.qmri.options import Predict, read_definition
from medjax.recipes.qmri.plan import FULL, make_plan
from medjax.recipes.qmri.setup import make_estimator
from medjax.recipes.qmri.trained import Trained
from medjax.recipes.sections import read_section
from medjax.systems.puq.network import Quantity
from tests.recipes.puq_smoke import sections, toy_slices


@pytest.fixture(scope="module")
def kspace():
    return toy_slices(limit=1)[0]


def plan(path, kspace, key="te", trained=None, **changes):
    times = np.array([0.05, 0.1, 0.3, 1.0])
    np.savez(path, kspace=kspace, tr=0.02, **{key: times})
    scan = open_scan(path)
    quantity = Quantity(signal_model("t2"), tuple(times.tolist()), (0.01, 2.0))
    chosen = sections(**{f"predict__{k}": v for k, v in changes.items()})
    options = read_section(Predict, "predict", chosen["predict"])
    contrast = chosen["data"]["contrast"]
    return make_plan(scan, quantity, trained, contrast=contrast, options=options)


def test_the_method_is_the_default_the_named_or_none(kspace, tmp_path):
    path = tmp_path / "a.npz"
    assert plan(path, kspace).name == "subspace + wavelet, t2 fit"
    assert plan(path, kspace, method="CG-SENSE").name == "CG-SENSE, t2 fit"
    assert plan(path, np.where(kspace == 0, 1, kspace)).name == f"{FULL}, t2 fit"


@pytest.mark.parametrize(
    ("key", "way"),
    [("ti", "choose a config with contrast=t1, or name"), ("fa", "; name")],
)
def test_a_subspace_of_another_contrast_is_refused(kspace, tmp_path, key, way):
    rest = "without a subspace: CG-SENSE, locally low rank, zero-filled"
    with pytest.raises(ValueError, match=f"{way} a predict.method {rest}"):
        plan(tmp_path / "a.npz", kspace, key)
    plan(tmp_path / "a.npz", kspace, key, method="CG-SENSE")


def network_of(folder, contrast="t2", times=(0.05, 0.1, 0.3, 1.0), stage="fit"):
    (folder / "checkpoints").mkdir()
    config = sections(f"contrast={contrast}", data__times=tuple(times))
    estimator = make_estimator(read_definition(config))
    return Trained(folder / "checkpoints", stage, contrast, estimator)


@pytest.mark.parametrize(
    ("contrast", "times"), [("t1", [0.05, 0.1, 0.3, 1.0]), ("t2", [0.05, 0.1, 0.3])]
)
def test_a_network_of_other_times_is_refused(kspace, tmp_path, contrast, times):
    trained = network_of(tmp_path, contrast, times)
    with pytest.raises(ValueError, match=f"trained for {contrast} .*data.times"):
        plan(tmp_path / "a.npz", kspace, trained=trained)


def test_a_fit_that_was_not_trained_is_refused(kspace, tmp_path):
    trained = network_of(tmp_path, stage="reconstruction")
    for fit in ("weighted", "puq"):
        with pytest.raises(ValueError, match="name the run's folder.*fit=plain"):
            plan(tmp_path / "a.npz", kspace, trained=trained, fit=fit)
    with pytest.raises(FileNotFoundError, match="no finished checkpoint"):
        plan(tmp_path / "a.npz", kspace, trained=trained, fit="plain")


def test_an_unknown_fit_is_refused(kspace, tmp_path):
    with pytest.raises(ValueError, match="'ols': expected one of plain, weighted, puq"):
        plan(tmp_path / "a.npz", kspace, trained=network_of(tmp_path), fit="ols")


def test_the_first_slice_with_signal_decides(kspace, tmp_path):
    full = np.where(kspace == 0, 1, kspace)
    for measured, name in ((kspace, "subspace + wavelet"), (full, FULL)):
        stack = np.concatenate([np.zeros_like(measured), measured])
        assert plan(tmp_path / "a.npz", stack).name == f"{name}, t2 fit"
    for method in ("", "CG-SENSE"):
        with pytest.raises(ValueError, match=r"a.npz: k-space .* is 0 everywhere"):
            plan(tmp_path / "a.npz", 0 * stack, method=method)
