"""What is chosen for a scan, and what is refused because it does not belong to it."""

import numpy as np
import pytest

from medjax.data.scans.formats import open_scan
from medjax.mri.catalogue import signal_model
from medjax.recipes.qmri.calibrated import shipped
from medjax.recipes.qmri.options import Predict, read_definition
from medjax.recipes.qmri.plan import FULL, make_plan
from medjax.recipes.qmri.setup import make_estimator
from medjax.recipes.qmri.trained import Trained
from medjax.recipes.sections import read_section
from medjax.systems.puq.network import Quantity
from tests.recipes.puq_smoke import sections, toy_slices


@pytest.fixture(scope="module")
def kspace():
    return toy_slices(limit=1, acceleration=2.0)[0]  # 8 lines outside the centre


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
    found = plan(path, kspace)
    assert found.name == "joint TV, t2 posterior" and found.trusted
    assert plan(path, kspace, fit="plain").name == "joint TV, t2 fit"
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
    with pytest.raises(ValueError, match="'ols': expected one of posterior, plain"):
        plan(tmp_path / "a.npz", kspace, trained=network_of(tmp_path), fit="ols")


def test_a_network_without_a_calibration_has_no_posterior(
    kspace, tmp_path, monkeypatch
):
    def but_networks(contrast, reconstruction):
        none = tmp_path / "none.json"
        return none if reconstruction == "network" else shipped(contrast, "joint TV")

    monkeypatch.setattr("medjax.recipes.qmri.plan.shipped", but_networks)
    with pytest.raises(ValueError, match="for the network of .* none is calibrated"):
        trained = network_of(tmp_path)
        plan(tmp_path / "a.npz", kspace, trained=trained, fit="posterior")


def test_the_first_slice_with_signal_decides(kspace, tmp_path):
    full = np.where(kspace == 0, 1, kspace)
    for measured, name in (
        (kspace, "joint TV, t2 posterior"),
        (full, f"{FULL}, t2 fit"),
    ):
        stack = np.concatenate([np.zeros_like(measured), measured])
        assert plan(tmp_path / "a.npz", stack).name == name
    for method in ("", "CG-SENSE"):
        with pytest.raises(ValueError, match=r"a.npz: k-space .* is 0 everywhere"):
            plan(tmp_path / "a.npz", 0 * stack, method=method)


def test_too_few_lines_to_hold_out_fall_back_by_name(kspace, tmp_path):
    columns = kspace.any((0, 2, 3))  # [E, W]
    width = columns.shape[-1]
    outer = np.abs(np.arange(width) - width // 2) > width // 8
    thin = kspace.copy()
    thin[:, 1, ..., np.flatnonzero(columns[1] & outer)[1:]] = 0
    assert columns[1].sum() > (thin[0, 1, 0].any(0)).sum() > 4
    found = plan(tmp_path / "a.npz", thin)
    assert found.name == "subspace + wavelet, t2 fit" and not found.trusted
    (note,) = found.notes
    assert "in place of joint TV" in note and "contrast 1 has" in note
    with pytest.raises(ValueError, match="'joint TV' chooses its weight from lines"):
        plan(tmp_path / "a.npz", thin, method="joint TV")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"quantiles": (0.0, 0.975)},
            r"predict.quantiles \(0.0, 0.975\): expected two",
        ),
        ({"quantiles": (0.025, 0.4)}, "one on each side of 0.5"),
        ({"quantiles": (2.5, 97.5)}, "between 0 and 1"),
        ({"label_names": "a.tsv"}, "names of what"),
        ({"labels": "a.nii", "replicas": 3}, "replicas 3: expected at least 8"),
        ({"fit": "puq"}, "of a network's images, and no network"),
        ({"fit": "posterior", "method": "CG-SENSE"}, "CG-SENSE none is calibrated"),
        ({"calibration": "nowhere.json"}, "nowhere.json: no such file"),
    ],
)
def test_what_makes_no_interval_is_refused(kspace, tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        plan(tmp_path / "a.npz", kspace, **changes)
